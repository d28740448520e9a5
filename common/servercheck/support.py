"""The file in which a server says whom to write to.

Source: Matrix specification v1.18, client-server API, "GET /.well-known/matrix/support".
"""

from collections.abc import Mapping

from common.crypto.canonical import text_of
from common.servercheck.findings import Contact, Support
from common.servercheck.port import Fetched

_MOST_CONTACTS = 20


def support_of(file: Fetched) -> Support | None:
    """Return what the file says, or ``None`` if there is none or it says nothing."""
    content = file.json
    if content is None:
        return None
    listed = content.get("contacts")
    contacts = (
        [_contact(one) for one in listed[:_MOST_CONTACTS]] if isinstance(listed, list) else []
    )
    page = text_of(content, "support_page", longest=2000)
    found = Support(tuple(one for one in contacts if one is not None), page)
    return found if found != Support() else None


def _contact(value: object) -> Contact | None:
    if not isinstance(value, Mapping):
        return None
    role = text_of(value, "role")
    matrix_id, email = text_of(value, "matrix_id"), text_of(value, "email_address")
    if role is None or (matrix_id is None and email is None):
        return None
    return Contact(role, matrix_id, email)
