"""The trust & safety contact of this server, and the public document that names it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import UserId

NAME = "support-contact"
"""Under this name the public document stands in ``admin_memory``; ``common.run`` serves it."""


@dataclass(frozen=True)
class Contact:
    """Whom to write to about trust & safety: by e-mail, by Matrix, or both."""

    email: str | None = None
    user: UserId | None = None
    page: str | None = None


@dataclass(frozen=True)
class ReadContact:
    """The contact as it was set; ``None`` if it never was."""

    permission: ClassVar = Permission.PUBLIC

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT value FROM admin_memory WHERE name = $1", (NAME,))

    def read_rows(self, rows: Sequence[Row]) -> Contact | None:
        """Return the contact."""
        if not rows:
            return None
        document = json.loads(rows[0]["value"])
        one: dict[str, str] = next(iter(document.get("contacts", [])), {})
        user = one.get("matrix_id")
        return Contact(
            email=one.get("email_address"),
            user=None if user is None else UserId(user),
            page=document.get("support_page"),
        )


@dataclass(frozen=True)
class SetContact:
    """Name the contact in the public document, or take the document away."""

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    contact: Contact | None

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        if self.contact is None:
            return (Statement("DELETE FROM admin_memory WHERE name = $1", (NAME,)),)
        document = json.dumps(well_known(self.contact), sort_keys=True)
        return (
            Statement(
                "INSERT INTO admin_memory (name, value) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (NAME, document),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        if self.contact is None:
            return t("Name no trust & safety contact any more")
        names = [each for each in (self.contact.email, self.contact.user) if each]
        return t(
            "Name {contact} as trust & safety contact, for everybody", contact=" / ".join(names)
        )


def well_known(contact: Contact) -> dict[str, Any]:
    """Return the document of ``/.well-known/matrix/support`` (Matrix 1.10, MSC1929)."""
    one: dict[str, str] = {"role": "m.role.security"}
    if contact.email is not None:
        one["email_address"] = contact.email
    if contact.user is not None:
        one["matrix_id"] = contact.user
    document: dict[str, Any] = {"contacts": [one, {**one, "role": "m.role.admin"}]}
    if contact.page is not None:
        document["support_page"] = contact.page
    return document
