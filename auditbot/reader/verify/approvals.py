"""Whether officers approved what was deleted on purpose: removals and erasures."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import msgspec

from auditbot.reader.documents import Erasure, Removal
from auditbot.reader.parse import parse
from auditbot.reader.verify.findings import Findings
from common.approvals import Approved, approvers_of, digest_of, parse_plan, people
from common.officers import OfficerKey

_SLACK_MS = 3_600_000
"""By how much later than its plan allows a document may be written, which was begun in time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose approvals there have to be: so many of these officers, for all since a moment."""

    officers: tuple[OfficerKey, ...] = ()
    number: int = 0
    since_ms: int = 0


NOBODY = Wanted()
"""Nobody has to have approved anything."""


@dataclass
class Approvals:
    """What was approved, and by whom."""

    documents: int = 0
    without: int = 0
    """Documents that nobody approved."""
    by: Counter[OfficerKey] = field(default_factory=Counter)

    def take(
        self,
        key: str,
        body: bytes,
        stated: Removal | Erasure,
        wanted: Wanted,
        findings: Findings,
    ) -> None:
        """Take a validly signed removal or erasure up; tell what is wrong with its approvals."""
        who: Collection[OfficerKey] = ()
        if stated.approved is None:
            self.without += 1
        else:
            try:
                who = _approvers(body, stated)
            except ValueError as error:
                findings.wrong("approval", key, f"It was not approved as it says: {error}.")
            else:
                self.documents += 1
                self.by.update(who)
        counting = [one for one in wanted.officers if one in who]
        if len(counting) < wanted.number and stated.created_ms >= wanted.since_ms:
            by = f"only by {people(counting)}" if counting else "by none of those that you named"
            findings.wrong(
                "not_approved",
                key,
                f"What it deleted was approved {by}; {wanted.number} have to.",
            )


def _approvers(body: bytes, stated: Removal | Erasure) -> list[OfficerKey]:
    """Return who approved exactly what a document lists.

    Raises:
        ValueError: nobody did; the words say why.
    """
    approved = msgspec.convert(stated.approved, type=Approved)
    plan = parse_plan(approved.plan.encode())
    who = approvers_of(plan, approved.approvals)
    if stated.type != {"retention": "steward.removal", "erasure": "steward.erasure"}[plan.act]:
        raise ValueError("the plan is of another act")
    if plan.server_name != stated.server_name:
        raise ValueError("the plan is of another server")
    if digest_of(parse(body)) not in {one.sha256 for one in plan.documents}:
        raise ValueError("the plan is not of what it lists")
    if not plan.made_ms <= stated.created_ms <= plan.expires_ms + _SLACK_MS:
        raise ValueError("the plan had not been made, or had expired")
    return who
