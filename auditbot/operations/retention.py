"""``steward audit retention``: delete what is older than the policy, and say so for ever.

What goes (``auditbot.operations.over``) is announced first by a signed removal, its manifests stay,
and their tree hashes stand for what is gone.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditbot.ledger import Writing
from auditbot.operations.announced import Announced, Outcome, finish
from auditbot.operations.approved import changed, check_needed, said, said_briefly
from auditbot.operations.desk import Desk, Place, Statement, as_listed
from auditbot.operations.holds import Hold, active
from auditbot.operations.over import Gone, Survey, survey
from auditbot.operations.removing import left_of, let_stay, remove
from auditbot.pipeline.retention import DEFAULT
from common.approvals import Approved
from common.database.pool import Connection

_FOLDER = "removals/"
_MOST_OBJECTS = 5000
"""Objects in one removal; more make several."""


async def apply(
    desk: Desk, found: Survey, *, keep_days: int | None, approved: Approved | None = None
) -> str:
    """Delete what was found; return what to tell. Whatever interrupts it, it goes on by itself.

    Args:
        desk: the tools
        found: what goes
        keep_days: how long the default class is kept, ``None`` for ever
        approved: the plan of exactly this, with its approvals, if any are needed

    Raises:
        UserError: it was not approved, or is not what was approved any more.
        TransientError: a store is away; what was written down is tried again by itself.
        PermanentError: a store refuses a removal.
    """
    announced = Announced(desk, _FOLDER)
    parts = await parts_of(desk, found, announced)
    if parts:
        check_needed(desk, approved)
    others = 0
    if approved is not None:
        await _announce_exactly(desk, announced, parts, keep_days, approved)
    else:
        for place, part in parts:
            others += await _announce(desk, announced, place, part, keep_days)
    outcome = await carry_out(desk)
    outcome.check(
        {
            *(gone.key for day in found.free for gone in (*day.segments, *day.sessions)),
            *(gone.key for _, gone in found.media),
        }
    )
    if not others:
        return outcome.text
    return (
        f"{others:,} of these objects were announced by another command at the same moment, which "
        f"deletes them: this one wrote no second document of them.\n{outcome.text}"
    )


async def parts_of(
    desk: Desk, found: Survey, announced: Announced | None = None
) -> list[tuple[Place, "Going"]]:
    """Return what each removal would name, and at which place, without what is announced already."""
    announced = announced or Announced(desk, _FOLDER)
    known = await announced.names(desk.database)
    by_place: dict[Place, Going] = {}
    for day in found.free:
        going = by_place.setdefault(day.place, Going())
        going.segments += (gone for gone in day.segments if gone.key not in known)
        going.sessions += (gone for gone in day.sessions if gone.key not in known)
    for place, gone in found.media:
        if gone.key not in known:
            by_place.setdefault(place, Going()).media.append(gone)
    return [(place, part) for place, going in by_place.items() for part in going.parts()]


@dataclass
class Going:
    """What a removal names, or several."""

    segments: list[Gone] = field(default_factory=list)
    media: list[Gone] = field(default_factory=list)
    sessions: list[Gone] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        """Return the keys of its objects."""
        return {gone.key for gone in (*self.segments, *self.sessions, *self.media)}

    def entries(self) -> dict[str, list[dict[str, Any]]]:
        """Return its entries in a removal."""
        return {
            "objects": [gone.entry() for gone in self.segments],
            "sessions": [gone.entry() for gone in self.sessions],
            "media": [gone.entry() for gone in self.media],
        }

    def of(self, keys: Collection[str]) -> "Going":
        """Return what of it has one of these keys."""
        lists = (self.segments, self.media, self.sessions)
        return Going(*([gone for gone in some if gone.key in keys] for some in lists))

    def parts(self) -> Iterator["Going"]:
        """Yield it in parts for one removal each; the room keys in the last one."""
        count = max(len(self.segments), len(self.media), min(len(self.sessions), 1))
        for at in range(0, count, _MOST_OBJECTS):
            part = slice(at, at + _MOST_OBJECTS)
            sessions = self.sessions if at + _MOST_OBJECTS >= count else []
            yield Going(self.segments[part], self.media[part], sessions)


async def carry_out(desk: Desk, *, made_ms: range | None = None) -> Outcome:
    """Store the removals that were decided and delete what is left of what they name.

    What was interrupted and is held since waits until that is released.

    Args:
        desk: the tools
        made_ms: only what was decided in these moments
    """
    outcome, waiting = Outcome("objects were deleted"), 0

    async def act(place: Place, statement: Statement) -> bool:
        nonlocal waiting
        content = statement.content
        left = await left_of(desk.database, place, content)
        if statement.is_stored and left.is_nothing:
            return True
        watch = _Watch(desk, place, content)
        is_done = not await watch.is_held() and await remove(
            desk, place, statement, outcome, left=left, is_held=watch.is_held
        )
        if watch.was_held:
            await let_stay(desk, place, left)
        waiting += watch.was_held
        return is_done

    await finish(desk, _FOLDER, act, outcome, made_ms=made_ms)
    if waiting:
        outcome.waiting.append(
            f"{waiting:,} earlier removals that were interrupted wait: what they name is held "
            "since."
        )
    return outcome


@dataclass
class _Watch:
    """Whether something of a removal is held; looked up again whenever the holds are others."""

    desk: Desk
    place: Place
    content: Mapping[str, Any]
    was_held: bool = False
    _free_of: Sequence[Hold] = ()

    async def is_held(self) -> bool:
        """Return whether a hold came between the removal's decision and this moment."""
        holding = await active(self.desk)
        if holding and holding != self._free_of:
            self.was_held = await self._is_any_held()
        self._free_of = holding
        return self.was_held

    async def _is_any_held(self) -> bool:
        left = await left_of(self.desk.database, self.place, self.content)
        if not (left.objects or left.media):
            return False
        now = await survey(self.desk, keep_days=self.content["policy"]["keep_days"])
        free = {gone.key for day in now.free for gone in day.segments}
        free |= {gone.key for _, gone in now.media}
        return any(item["key"] not in free for item in (*left.objects, *left.media))


async def _announce(
    desk: Desk, announced: Announced, place: Place, going: Going, keep_days: int | None
) -> int:
    """Write down what is deleted; return of how many objects somebody else did so in between."""
    now_ms = desk.clock.now_ms()
    async with desk.database.transaction() as connection:
        # It locks the ledger: of two who delete the same at once, here or on two machines, the
        # second one waits and finds what the first one announced.
        writing = await desk.writing(connection)
        left = await left_of(connection, place, {"created_ms": now_ms, **going.entries()})
        others = await announced.names(connection)
        there = {item["key"] for item in (*left.objects, *left.media, *left.sessions)}
        new = going.of(there - others)
        if new.keys:
            await _write_down(desk, connection, writing, place, going=new, keep_days=keep_days)
            if writing is not None:
                await writing.write(connection)
    # An attachment may also be left out because somebody spoke of it in between.
    return len(going.keys & others | ({gone.key for gone in going.segments} - there))


async def _announce_exactly(
    desk: Desk,
    announced: Announced,
    parts: Sequence[tuple[Place, Going]],
    keep_days: int | None,
    approved: Approved,
) -> None:
    """Write down all that is deleted, as it was approved, or nothing.

    Raises:
        UserError: something of it is not as it was when that was compared with the plan.
    """
    now_ms = desk.clock.now_ms()
    async with desk.database.transaction() as connection:
        # As below: with the ledger locked nobody announces anything in between.
        writing = await desk.writing(connection)
        others = await announced.names(connection)
        for place, part in parts:
            left = await left_of(connection, place, {"created_ms": now_ms, **part.entries()})
            there = {item["key"] for item in (*left.objects, *left.media, *left.sessions)}
            if not part.keys <= there - others:
                raise changed(["the objects"])
        for place, part in parts:
            await _write_down(
                desk,
                connection,
                writing,
                place,
                going=part,
                keep_days=keep_days,
                approved=approved,
            )
        if writing is not None:
            await writing.write(connection)


async def _write_down(
    desk: Desk,
    connection: Connection,
    writing: Writing | None,
    place: Place,
    *,
    going: Going,
    keep_days: int | None,
    approved: Approved | None = None,
) -> None:
    document: dict[str, Any] = {
        "type": "steward.removal",
        "id": desk.new_id(),
        "created_ms": desk.clock.now_ms(),
        "actor": desk.actor,
        "reason": "retention",
        "policy": {"keep_days": keep_days, **_classes_of([*going.segments, *going.media])},
        **going.entries(),
        **said(approved),
    }
    there = place
    if writing is not None:
        there = await as_listed(connection, place, writing.stream)
    statement = await desk.state(connection, there, f"{_FOLDER}{document['id']}.json", document)
    if writing is not None:
        writing.control(
            actor=desk.actor,
            action="removal",
            detail={
                "document": statement.key,
                "destination": place.destination,
                "policy": document["policy"],
                "objects": len(going.segments),
                "records": sum(gone.records for gone in going.segments),
                "media": len(going.media),
                **said_briefly(approved),
            },
        )


def _classes_of(gone: Sequence[Gone]) -> dict[str, Any]:
    """Return what the classes of objects mean, the default one not among them."""
    found: dict[str, int | None] = {}
    for one in gone:
        for name, days in one.keeps.items():
            if name == DEFAULT:
                continue
            known = found.get(name, 0)
            found[name] = None if days is None or known is None else max(known, days)
    return {"classes": dict(sorted(found.items()))} if found else {}
