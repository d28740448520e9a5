"""``steward audit erase``: destroy what days hold, or what a person wrote, and keep the proof.

What is destroyed is a key, of a day or of content, never an object: sizes, hashes, counts, order
and tree stay as they were signed. It is announced first by a signed document, and refused where a
hold meets what would go; the refusal is recorded too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from auditbot.content_keys import end_keys, forget_content
from auditbot.day_keys import forget_day
from auditbot.ledger import Writing
from auditbot.media_queue import forget_of_content, forget_of_day
from auditbot.operations.announced import Announced, Outcome, finish, named
from auditbot.operations.approved import changed, check_needed, said, said_briefly
from auditbot.operations.desk import Desk, Place, Statement, as_listed, day_text
from auditbot.operations.erasable import (
    Found,
    KeyToErase,
    check_day,
    check_whole,
    of_days,
    of_person,
    still_held,
)
from auditbot.operations.holds import Hold, active
from auditbot.pipeline.segment import DAY_MS
from common.approvals import Approved
from common.database.pool import Connection, Database
from common.errors import PermanentError, TransientError, UserError

_FOLDER = "erasures/"


async def survey(desk: Desk, *, first_day: int, last_day: int, label: str | None = None) -> Found:
    """Find the keys of days, both ends included.

    Args:
        desk: the act's tools
        first_day: counted since the epoch
        last_day: the same
        label: only this retention class, where each has keys of its own

    Raises:
        UserError: a day cannot be erased, and why.
    """
    if last_day >= desk.clock.now_ms() // DAY_MS:
        raise UserError("A day can be erased once it is over (UTC).")
    return await of_days(desk, first_day, last_day, label)


async def survey_person(desk: Desk, person: str) -> Found:
    """Find the keys that what a person wrote is sealed to.

    Raises:
        UserError: it cannot be erased, and why.
    """
    return await of_person(desk, person)


async def apply(desk: Desk, found: Found, *, reason: str, approved: Approved | None = None) -> str:
    """Destroy the keys; return what to tell. Whatever interrupts it, it goes on by itself.

    Args:
        desk: the tools
        found: what goes
        reason: why
        approved: the plan of exactly this, with its approvals, if any are needed

    Raises:
        UserError: a hold keeps something of it, and that it was refused is recorded; or it was not
            approved, or is not what was approved any more.
        TransientError: a store is away; what was written down is tried again by itself.
        PermanentError: a store refuses the document.
    """
    if found.held_by:
        await _refuse(desk, found, reason)
        held = ", ".join(hold.id for hold in found.held_by)
        what = "what they wrote is" if found.person is not None else "the days are"
        raise UserError(f"Nothing was erased: {what} held ({held}). That is recorded.")
    announced = Announced(desk, _FOLDER)
    new = await new_of(desk, found, announced)
    if new:
        check_needed(desk, approved)
    others = await _announce(desk, announced, new, found, reason, approved=approved) if new else 0
    outcome = await carry_out(desk)
    outcome.check({key.key for key in found.keys})
    if not others:
        return outcome.text
    return (
        f"{others:,} of these keys were announced by another command at the same moment, which "
        f"destroys them: this one wrote no second document of them.\n{outcome.text}"
    )


async def new_of(desk: Desk, found: Found, announced: Announced | None = None) -> list[KeyToErase]:
    """Return those of the keys that no document announces already."""
    announced = announced or Announced(desk, _FOLDER)
    known = await announced.names(desk.database)
    return [key for key in found.keys if key.key not in known]


def by_place(keys: Sequence[KeyToErase]) -> list[tuple[Place, list[KeyToErase]]]:
    """Return the keys of each place, which one document names."""
    found: dict[Place, list[KeyToErase]] = {}
    for key in keys:
        found.setdefault(key.place, []).append(key)
    return list(found.items())


async def carry_out(desk: Desk, *, made_ms: range | None = None) -> Outcome:
    """Store the documents that were decided, and destroy what is left of the keys they name.

    What was interrupted and is held since waits until that is released.

    Args:
        desk: the tools
        made_ms: only what was decided in these moments
    """
    outcome = Outcome("keys were destroyed")

    async def act(place: Place, statement: Statement) -> bool:
        left = [
            item
            for item in named(statement.content)
            if not await _is_erased(desk.database, item["key"])
        ]
        if statement.is_stored and not left:
            return True
        return await _destroy(desk, place, statement, left, outcome)

    await finish(desk, _FOLDER, act, outcome, made_ms=made_ms)
    return outcome


async def _destroy(
    desk: Desk,
    place: Place,
    statement: Statement,
    left: Sequence[dict[str, Any]],
    outcome: Outcome,
) -> bool:
    """Store a document and destroy the keys that are left; return whether all of them are gone."""
    watch, before = _Watch(desk, left, outcome), outcome.troubles
    if await watch.is_held():
        return False
    async with desk.store(place) as store:
        if not statement.is_stored:
            await desk.publish(store, statement)
        for item in left:
            if await watch.is_held():
                return False
            try:
                await store.destroy(item["key"], item["version_id"])
            except (PermanentError, TransientError) as error:
                outcome.could_not(item["key"], error)
            else:
                outcome.done += 1
                await _forget(desk, item)
    return outcome.troubles == before


@dataclass
class _Watch:
    """Whether something of a document's keys is held; looked up again whenever the holds are others."""

    desk: Desk
    left: Sequence[dict[str, Any]]
    outcome: Outcome
    _free_of: Sequence[Hold] | None = None

    async def is_held(self) -> bool:
        """Return whether it is, and say so."""
        holding = await active(self.desk)
        if holding == self._free_of:
            return False
        held = await still_held(self.desk, self.left, holding)
        self.outcome.waiting += held
        self._free_of = None if held else holding
        return bool(held)


async def _is_erased(reader: Connection | Database, key: str) -> bool:
    """Return whether a key is known to be destroyed."""
    for table in ("audit_day_key", "audit_content_key"):
        state = await reader.fetchval(
            f"SELECT state FROM {table} WHERE object_key = $1",  # noqa: S608  # one of two words of our own
            key,
        )
        if state is not None:
            return bool(state == "erased")
    return False


async def _announce(
    desk: Desk,
    announced: Announced,
    new: Sequence[KeyToErase],
    found: Found,
    reason: str,
    *,
    approved: Approved | None = None,
) -> int:
    """Write down what is destroyed; return of how many keys somebody else did so in between.

    Args:
        desk: the tools
        announced: what documents named so far
        new: the keys that none of them named
        found: those and all others
        reason: why
        approved: the plan of exactly these keys, if there has to be one

    Raises:
        UserError: not all of what was approved can be announced now.
    """
    async with desk.database.transaction() as connection:
        # It locks the ledger: of two who erase the same at once, here or on two machines, the
        # second one waits and finds what the first one announced.
        writing = await desk.writing(connection)
        others = await announced.names(connection)
        keys = [
            key
            for key in new
            if key.key not in others and not await _is_erased(connection, key.key)
        ]
        if keys and found.person is not None:
            # With the ledger locked: nothing more is recorded of them before their keys end.
            await check_whole(desk, connection, found.person, found.keys)
        for stream, day in sorted({(key.stream, key.day) for key in keys if key.day is not None}):
            await check_day(desk, connection, stream, day)
        if approved is not None and len(keys) < len(new):
            raise changed(["the keys"])
        await _write_down(
            desk, connection, writing, keys, found=found, reason=reason, approved=approved
        )
    return len(new) - len(keys)


async def _write_down(
    desk: Desk,
    connection: Connection,
    writing: Writing | None,
    keys: Sequence[KeyToErase],
    *,
    found: Found,
    reason: str,
    approved: Approved | None,
) -> None:
    """Write down a document for each place: all of them, or none."""
    for place, theirs in by_place(keys):
        await end_keys(connection, [key.key for key in theirs if key.is_content])
        document = {**_document(desk, theirs, reason), **said(approved)}
        there = place
        if writing is not None:
            there = await as_listed(connection, place, writing.stream)
        statement = await desk.state(
            connection, there, f"erasures/{document['id']}.json", document
        )
        if writing is not None:
            writing.control(
                actor=desk.actor,
                action="erasure",
                detail={
                    "document": statement.key,
                    "destination": place.destination,
                    "reason": reason,
                    **_what(theirs, found),
                    "records": sum(key.records for key in theirs),
                    **said_briefly(approved),
                },
            )
    if writing is not None:
        await writing.write(connection)


def _document(desk: Desk, keys: Sequence[KeyToErase], reason: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": "steward.erasure",
        "id": desk.new_id(),
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": reason,
    }
    return {**document, **lists_of(keys)}


def lists_of(keys: Sequence[KeyToErase]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of keys in a document."""
    lists = {"day_keys": [key.entry() for key in keys if not key.is_content]}
    content = [key.entry() for key in keys if key.is_content]
    return {**lists, "content_keys": content} if content else lists


async def _refuse(desk: Desk, found: Found, reason: str) -> None:
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        if writing is not None:
            writing.control(
                actor=desk.actor,
                action="erasure_refused",
                detail={
                    "reason": reason,
                    **_what(found.keys, found),
                    "holds": [hold.id for hold in found.held_by],
                },
            )
            await writing.write(connection)


def _what(keys: Sequence[KeyToErase], found: Found) -> dict[str, Any]:
    """Return what is erased, as a record says it."""
    if found.person is not None:
        return {"person": found.person}
    said: dict[str, Any] = {"days": sorted({day_text(key.day or 0) for key in keys})}
    return said if found.label is None else {**said, "class": found.label}


async def _forget(desk: Desk, item: dict[str, Any]) -> None:
    async with desk.database.transaction() as connection:
        row = await connection.fetchrow(
            "SELECT stream, day FROM audit_day_key WHERE object_key = $1", item["key"]
        )
        if row is not None:
            stream, day = str(row["stream"]), int(row["day"])
            await forget_day(connection, stream, day)
            await forget_of_day(connection, stream, day)
        else:
            await forget_content(connection, item["key"])
            await forget_of_content(connection, item["stream"], item["key"])
