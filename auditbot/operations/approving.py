"""Plans of deletions for officers to approve, and the comparison of an approved one with today.

What is approved is done exactly, or not at all. Of ``retention`` a plan says as of which day it was
made, so that what is over a day later does not spoil it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from auditbot.operations import erasure, retention
from auditbot.operations.approved import changed, check_needed
from auditbot.operations.desk import Desk, Place, day_text, moment_text
from auditbot.operations.erasable import Found
from auditbot.operations.over import Survey
from auditbot.pipeline.segment import DAY_MS
from common.approvals import (
    LARGEST_APPROVAL,
    Approved,
    Document,
    Plan,
    Signed,
    approvers_of,
    count_of,
    digest_of,
    parse_approval,
    parse_plan,
    people,
)
from common.errors import UserError
from common.officers import OfficerKey, parse_officer_key

VALID_DAYS = 7
MOST_VALID_DAYS = 30
_MOST_LINES = 2000

What = dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Work:
    """What would be done; the fields are those of a plan."""

    act: str
    what: What
    reason: str
    counts: dict[str, int]
    lines: tuple[str, ...]
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A plan that enough officers approved."""

    plan: Plan
    approvals: tuple[Signed, ...]
    by: tuple[OfficerKey, ...]

    @property
    def as_of(self) -> int:
        """Return the day as of which it was made, counted since the epoch."""
        try:
            day = date.fromisoformat(str(self.plan.what.get("as_of")))
        except ValueError:
            return self.plan.made_ms // DAY_MS
        return (day - date(1970, 1, 1)).days


async def work_of_retention(desk: Desk, found: Survey, *, keep_days: int | None) -> Work:
    """Return what retention would delete, as a plan says it."""
    parts = await retention.parts_of(desk, found)
    going = [part for _, part in parts]
    counts = {
        "segments": sum(len(part.segments) for part in going),
        "records": sum(gone.records for part in going for gone in part.segments),
        "attachments": sum(len(part.media) for part in going),
        "room_keys": sum(len(part.sessions) for part in going),
        "bytes": sum(
            gone.size for part in going for gone in (*part.segments, *part.media, *part.sessions)
        ),
    }
    what: What = {"keep_days": keep_days, "as_of": day_text(found.today)}
    documents = tuple(_document(place, part.entries()) for place, part in parts)
    return Work("retention", what, "retention", counts, _lines(found.text()), documents)


async def work_of_erasure(desk: Desk, found: Found, *, what: What, reason: str) -> Work:
    """Return what an erasure would destroy, as a plan says it."""
    keys = await erasure.new_of(desk, found)
    counts = {"keys": len(keys), "records": sum(key.records for key in keys)}
    documents = tuple(
        _document(place, erasure.lists_of(theirs)) for place, theirs in erasure.by_place(keys)
    )
    return Work("erasure", what, reason, counts, _lines(found.text()), documents)


async def write_plan(desk: Desk, work: Work, path: Path, *, valid_days: int) -> str:
    """Write the plan of something into a new file; return what to tell.

    Raises:
        UserError: there is nothing to plan, or the file cannot be written.
    """
    if not work.documents:
        raise UserError("Nothing would be deleted, so there is nothing to approve.")
    now_ms = desk.clock.now_ms()
    plan = Plan(
        v=1,
        type="steward.plan",
        id=desk.new_id(),
        act="erasure" if work.act == "erasure" else "retention",
        server_name=desk.server_name,
        archive=await _archive(desk),
        made_ms=now_ms,
        expires_ms=now_ms + valid_days * DAY_MS,
        actor=desk.actor,
        reason=work.reason,
        what=work.what,
        counts=work.counts,
        lines=work.lines,
        documents=work.documents,
    )
    try:
        parse_plan(plan.body)
    except ValueError as error:
        raise UserError(
            f"This cannot be planned at once: {error}. Do a part of it first, with more days to keep."
        ) from None
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(plan.body)
    except FileExistsError:
        raise UserError(f"“{path}” is there already: take another name for the plan.") from None
    except OSError as error:
        raise UserError(f"“{path}” cannot be written: {error.strerror}.") from None
    needed = desk.config.auditbot.approvals_needed
    told = f"The plan is in “{path}”, good until {moment_text(plan.expires_ms)}."
    if not needed:
        return f"{told} Nobody has to approve it (auditbot.approvals_needed)."
    return (
        f"{told} {needed} of auditbot.approvers have to approve it, with “steward audit approve” on "
        "their own machines; what that writes is given with --apply --approval."
    )


def read_given(desk: Desk, paths: Sequence[Path]) -> Given | None:
    """Return the plan that is approved, ``None`` if none has to be.

    Raises:
        UserError: not enough officers approved it, or it has expired; nothing must be done.
    """
    settings = desk.config.auditbot
    if not paths:
        check_needed(desk, None)
        return None
    if not settings.approvals_needed:
        raise UserError(
            "There is nobody whose approval counts: auditbot.approvers and "
            "auditbot.approvals_needed say who that is. Leave --approval out, or set them."
        )
    texts, approvals = set[str](), []
    for path in paths:
        text, signed = _read(path)
        texts.add(text)
        approvals.append(signed)
    if len(texts) > 1:
        raise UserError("Nothing was deleted: the approvals are of different plans.")
    try:
        plan = parse_plan(texts.pop().encode())
        by = approvers_of(plan, approvals)
    except ValueError as error:
        raise UserError(f"Nothing was deleted: the plan is not approved: {error}.") from None
    _check_who(desk, by)
    if plan.expires_ms < desk.clock.now_ms():
        raise UserError(
            f"Nothing was deleted: the plan expired {moment_text(plan.expires_ms)}. Make a new one "
            "with --plan FILE."
        )
    return Given(plan, _one_each(approvals), tuple(by))


async def agreed(desk: Desk, given: Given | None, work: Work) -> Approved | None:
    """Return what the archive is told of the approvals, if any are needed.

    Raises:
        UserError: the plan is not what would be done now.
    """
    if given is None or not work.documents:
        return None  # what is announced already was approved then
    plan = given.plan
    compared = {
        "the act": (plan.act, work.act),
        "the server": (plan.server_name, desk.server_name),
        "the archive's signing key": (plan.archive, await _archive(desk)),
        "what was asked for": (plan.what, work.what),
        "the reason": (plan.reason, work.reason),
        "the objects": (plan.documents, work.documents),
    }
    if work.what.get("person") is None:
        # Somebody who goes on writing has more records by now, under the same keys.
        compared["the counts"] = (plan.counts, work.counts)
        compared["the words"] = (plan.lines, work.lines)
    if other := [name for name, (said, now) in compared.items() if said != now]:
        raise changed(other)
    return Approved(plan.body.decode(), given.approvals)


def _document(place: Place, lists: dict[str, list[dict[str, object]]]) -> Document:
    return Document(place.destination, count_of(lists), digest_of(lists))


def _lines(text: str) -> tuple[str, ...]:
    lines = text.splitlines()
    if len(lines) <= _MOST_LINES:
        return tuple(lines)
    return (*lines[:_MOST_LINES], f"… and {len(lines) - _MOST_LINES:,} more lines")


async def _archive(desk: Desk) -> str:
    async with desk.database.transaction() as connection:
        return (await desk.keys.current(connection, now_ms=desk.clock.now_ms())).key_id


def _read(path: Path) -> tuple[str, Signed]:
    try:
        with path.open("rb") as file:
            approval = parse_approval(file.read(LARGEST_APPROVAL + 1))
    except OSError as error:
        raise UserError(f"“{path}” cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"“{path}” is no approval: {error}.") from None
    return approval.plan, approval.signed


def _check_who(desk: Desk, by: Sequence[OfficerKey]) -> None:
    settings = desk.config.auditbot
    listed = [parse_officer_key(text) for text in settings.approvers]
    if strangers := [key for key in by if key not in listed]:
        raise UserError(
            f"Nothing was deleted: auditbot.approvers does not name {people(strangers)} with this key."
        )
    if len(by) < settings.approvals_needed:
        raise UserError(
            f"Nothing was deleted: {settings.approvals_needed} different approvers are needed, and "
            f"only {people(by)} approved this plan."
        )


def _one_each(approvals: Sequence[Signed]) -> tuple[Signed, ...]:
    """Return the first approval of each officer."""
    first: dict[str, Signed] = {}
    for one in approvals:
        first.setdefault(one.key, one)
    return tuple(first.values())
