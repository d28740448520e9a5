"""Who the people are that an ``audience_id`` stands for, said once a day and stream.

It is said when an event that is no membership change cites it. Between two such events every
membership change is a record of its own, so nothing is lost; a list for each of them would cost
the square of a crowd that joins. Where a room's people were listed whole already that day, only
what differs is said: in a large room somebody comes or goes all the time.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from auditbot.pipeline.line import Arrival
from auditbot.pipeline.record import AudienceBase, audience, class_of
from auditbot.pipeline.retention import DEFAULT
from auditbot.pipeline.room_state import RoomContext
from auditbot.pipeline.segment import DAY_MS
from auditbot.writing import Writing, audiences_seen, place_of
from common.database.pool import Connection

MOST_BASES = 256
"""Rooms whose last whole list is remembered; it shares its people with the rooms' cache."""
LEAST_PEOPLE = 20
"""Below this a whole list is as short as what differs."""


@dataclass
class Bases:
    """The last whole list of each room, over transactions; a forgotten one costs a whole list.

    A list is used only while the database holds its record under the same number, so that a
    transaction that was rolled back leaves nothing behind.
    """

    _lists: "OrderedDict[tuple[str, str], AudienceBase]" = field(default_factory=OrderedDict)

    def get(self, day: str, room_id: str) -> AudienceBase | None:
        """Return a room's last whole list of a day and stream."""
        return self._lists.get((day, room_id))

    def keep(self, day: str, room_id: str, base: AudienceBase) -> None:
        """Remember a room's whole list."""
        self._lists.pop((day, room_id), None)
        self._lists[day, room_id] = base
        while len(self._lists) > MOST_BASES:
            self._lists.popitem(last=False)


@dataclass
class Listed:
    """The lists of one transaction."""

    connection: Connection
    writing: Writing
    bases: Bases
    kinds: Mapping[str, str]
    """What is known of certain people: our own accounts."""
    _known: set[tuple[str, str]] = field(default_factory=set)
    _new: dict[str, int] = field(default_factory=dict)
    """Lists added in this transaction, by name, with their numbers."""

    async def look_up(self, days: Collection[str], rooms: Collection[RoomContext]) -> None:
        """Ask at once for what most of the events will cite."""
        by_class: dict[str, set[str]] = {}
        for room in rooms:
            if room.complete and room.joined:
                name = class_of(room, self.writing.policy)
                by_class.setdefault(name, set()).add(room.audience_id)
        for name, ids in by_class.items():
            for day in (_with_class(day, name) for day in days):
                found = await audiences_seen(self.connection, day, ids)
                self._known.update((day, id_) for id_ in found)

    async def add(self, day: str, arrival: Arrival, room: RoomContext, name: str) -> None:
        """Add the list of a room's people if it was not said that day.

        Args:
            day: the stream's day
            arrival: that of the event that cites the list
            room: the room
            name: the retention class of what cites it
        """
        if not room.complete or not room.joined:
            return
        id_ = room.audience_id
        # A list must not go before what cites it: another class has a list of its own.
        day = _with_class(day, name)
        if (day, id_) in self._known:
            return
        self._known.add((day, id_))
        if await audiences_seen(self.connection, day, [id_]):
            return
        base = await self._base(day, room)
        place = self.writing.place()
        record, whole = audience(room, place, arrival, base, self.kinds, retention_class=name)
        self.writing.add(record, name=id_, sub_key=day)
        self._new[f"{day} {id_}"] = place.seq
        if whole:
            base = AudienceBase(id_, place.seq, room.members)
            self.bases.keep(day, room.room_id, base)

    async def _base(self, day: str, room: RoomContext) -> AudienceBase | None:
        base = self.bases.get(day, room.room_id)
        if base is None or len(room.members) < LEAST_PEOPLE:
            return None
        seq = self._new.get(f"{day} {base.id}")
        if seq is None:
            seq = await place_of(self.connection, "audience", day, base.id)
        return base if seq == base.seq else None


def _with_class(day: str, name: str) -> str:
    return day if name == DEFAULT else f"{day}:{name}"


def day_name(writing: Writing, received_ms: int) -> str:
    """Return what tells a stream's day from others."""
    return f"{writing.stream}:{received_ms // DAY_MS}"
