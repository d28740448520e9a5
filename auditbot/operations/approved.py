"""What officers approved of a deletion: whether they had to, and how the archive says that they did."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from auditbot.operations.desk import Desk
from common.approvals import Approved
from common.errors import UserError
from common.officers import parse_officer_key


def check_needed(desk: Desk, approved: Approved | None) -> None:
    """Refuse what has to be approved, and was not.

    Raises:
        UserError: it was not.
    """
    needed = desk.config.auditbot.approvals_needed
    if needed and approved is None:
        raise UserError(
            f"Nothing was deleted: {needed} of auditbot.approvers must approve it first. Write the "
            "plan of it with --plan FILE, have “steward audit approve FILE” run by each of them on "
            "their own machine, and give what that writes with --approval, once for each."
        )


def changed(what: Sequence[str]) -> UserError:
    """Return that the plan is not what would be done now."""
    return UserError(
        "Nothing was deleted: the plan that was approved is not what would be done now; other are "
        f"{', '.join(what)}. Make a new plan with --plan FILE, and have that approved."
    )


def said(approved: Approved | None) -> dict[str, Any]:
    """Return what a document says of the approvals."""
    return {} if approved is None else {"approved": msgspec.to_builtins(approved)}


def said_briefly(approved: Approved | None) -> dict[str, Any]:
    """Return what a record says of them."""
    if approved is None:
        return {}
    names = [parse_officer_key(one.key).name for one in approved.approvals]
    digest = hashlib.sha256(approved.plan.encode()).hexdigest()
    return {"approved_by": names, "plan_sha256": digest}
