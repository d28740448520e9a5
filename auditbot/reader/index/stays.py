"""In which rooms somebody was, when, and what they could read there.

Found in the records of memberships, and in the lists of who was in a room, which are all that
tells of people who came before the archive's record of the room begins and never said anything.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from auditbot.reader.index.library import Json, Library, detail_of
from auditbot.reader.index.memberships import Change, Memberships, RoomHistory
from auditbot.reader.index.query import Known
from auditbot.reader.index.schema import KINDS
from auditbot.reader.layout import server_of
from auditbot.reader.read import Period

_AUDIENCE, _EVENT = KINDS.index("audience"), KINDS.index("event")
_PLAIN_ID = re.compile(r"[A-Za-z0-9._=/+:@-]+")
"""An ID that stands in JSON as it is, also in JSON within JSON."""
_FOR_EVER = 2**63


@dataclass(frozen=True, slots=True)
class Stay:
    """A time for which somebody was a member of a room.

    Args:
        first: the number of the record that says that they came, 0 if they were there before
        last: that of the one that says that they went
        from_ms: when they came; ``None`` if they were there before the record of the room begins
        to_ms: when they went; ``None`` if they were there still when the index ends
        ended: how it ended: ``leave``, ``ban`` or another membership; empty if it did not
    """

    first: int
    last: int
    from_ms: int | None
    to_ms: int | None
    ended: str = ""

    def meets(self, period: Period) -> bool:
        """Return whether a part of it is in a period."""
        start, end = period.bounds
        return (self.from_ms is None or self.from_ms < end) and (
            self.to_ms is None or self.to_ms >= start
        )


@dataclass
class Shared:
    """A room that somebody was in, or was invited to, as one server's archive has it."""

    room: Known
    server: str | None
    stays: list[Stay] = field(default_factory=list)
    """Those of the period that was asked for."""
    ever: list[Stay] = field(default_factory=list)
    """All of them: who comes later may read what was said before."""
    invites: list[Change] = field(default_factory=list)
    sealed: int = 0
    """How many changes of membership cannot be opened here."""
    has_written: bool = False
    """Whether they did something in it in the period."""
    evidence: list[int] = field(default_factory=list)
    """The numbers of the records that say so."""

    def could_read(self, record: int, visibility: object) -> bool:
        """Return whether they could read what has this number, then or later."""
        if any(stay.first < record < stay.last for stay in self.ever):
            return True
        later = any(stay.first > record for stay in self.ever)
        if visibility in {"shared", "world_readable"}:
            return later
        if visibility == "invited" and later:
            before = [one for one in self.invites if one.record < record]
            ended = [stay.last for stay in self.ever if stay.last < record]
            return bool(before) and before[-1].record > max(ended, default=-1)
        return False


def stays(library: Library, user_id: str, period: Period) -> list[Shared]:
    """Return the rooms that somebody was in, or was invited to, in a period; by their names.

    This looks through every list of members and every membership of the archive.
    """
    memberships = Memberships(library)
    found: list[Shared] = []
    mentioned = _mentioned(library, user_id)
    wrote = _wrote(library, user_id, period)
    for place in {**mentioned, **dict.fromkeys(wrote, 0)}:
        room, server = place
        history = memberships.of(room.name, server)
        shared = _shared(room, server, history, user_id, mentioned.get(place, 0))
        shared.stays = [stay for stay in shared.ever if stay.meets(period)]
        start, end = period.bounds
        shared.has_written = place in wrote
        is_asked = any(start <= one.moment_ms < end for one in shared.invites)
        if shared.stays or is_asked or shared.has_written or shared.sealed:
            found.append(shared)
    return sorted(found, key=lambda one: (one.room.label or one.room.name, one.room.name))


_Place = tuple[Known, str | None]
"""A room in the archive of a server."""


def _mentioned(library: Library, user_id: str) -> dict[_Place, int]:
    """Return the rooms whose records name somebody, with the first list that has them, or 0."""
    rows = library.connection.execute(
        f"SELECT record.id, kind, {_ROOM} WHERE kind = ? OR kind = ? AND type ="  # noqa: S608  # words of ours
        " (SELECT id FROM name WHERE text = 'm.room.member') ORDER BY record.id",
        (_AUDIENCE, _EVENT),
    ).fetchall()
    by_id = {row[0]: row for row in rows}
    needle = user_id.encode() if _PLAIN_ID.fullmatch(user_id) else b""
    found: dict[_Place, int] = {}
    for record_id, line in library.lines(by_id):
        if needle not in line:
            continue
        _, kind, *room = by_id[record_id]
        record = next(library.stored([record_id])).record
        if kind == _AUDIENCE and _lists(record, user_id):
            place = _place(room)
            found[place] = found.get(place) or record_id
        elif kind == _EVENT and record.get("state_key") == user_id:
            found.setdefault(_place(room), 0)
    return found


def _wrote(library: Library, user_id: str, period: Period) -> set[_Place]:
    rows = library.connection.execute(
        f"SELECT DISTINCT {_ROOM} WHERE sender = (SELECT id FROM name WHERE text = ?)"  # noqa: S608  # words of ours
        " AND kind = ? AND received_ms >= ? AND received_ms < ?",
        (user_id, _EVENT, *period.bounds),
    )
    return {_place(row) for row in rows}


_ROOM = (
    "room.id, name.text, room.label, room.alias, room.is_direct, object.key FROM record"
    " JOIN object ON object.id = record.object JOIN name ON name.id = record.room"
    " LEFT JOIN room ON room.id = record.room"
)


def _place(row: Sequence[Any]) -> _Place:
    room_id, name, label, alias, is_direct, key = row
    return Known(room_id or 0, name, label, 0, 0, 0, alias, bool(is_direct)), server_of(key)


def _lists(record: Json, user_id: str) -> bool:
    """Return whether a list of members has somebody who is in the room."""
    detail = detail_of(record)
    people = detail.get("members") or detail.get("added")
    return isinstance(people, list) and any(
        isinstance(one, dict)
        and one.get("user_id") == user_id
        and one.get("membership") != "invite"
        for one in people
    )


def _shared(
    room: Known, server: str | None, history: RoomHistory, user_id: str, listed: int
) -> Shared:
    own = [change for change in history.changes if change.user_id == user_id]
    shared = Shared(room, server, sealed=history.sealed, evidence=[one.record for one in own])
    shared.invites = [change for change in own if change.membership == "invite"]
    inside: Change | None = None
    is_inside = False
    if listed and (not own or listed < own[0].record):
        is_inside = True
        shared.evidence.insert(0, listed)
    for change in own:
        if change.membership == "join":
            # Who was there before, and only now sends a name, did not come now.
            inside, is_inside = (inside, True) if is_inside else (change, True)
        elif is_inside:
            shared.ever.append(_stay(inside, change))
            inside, is_inside = None, False
    if is_inside:
        shared.ever.append(_stay(inside, None))
    return shared


def _stay(came: Change | None, went: Change | None) -> Stay:
    return Stay(
        came.record if came else 0,
        went.record if went else _FOR_EVER,
        came.moment_ms if came else None,
        went.moment_ms if went else None,
        went.membership if went else "",
    )
