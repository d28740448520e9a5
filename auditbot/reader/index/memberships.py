"""Who came into a room when, in the order in which its homeserver told of it.

Read from the records of memberships, once for each room: what an event says of a room's members
is in no column of the index. A change of a name or picture is an event of the same type, and no
change of who is there.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from auditbot.reader.index.library import Json, Library, Stored
from auditbot.reader.index.schema import KINDS
from auditbot.reader.layout import server_of
from auditbot.reader.sealed import unopened

BOTS = frozenset({"bot", "appservice"})
"""The kinds of accounts that are no people; Steward's own are among them."""
_EVENT = KINDS.index("event")


@dataclass(frozen=True, slots=True)
class Change:
    """That somebody's membership of a room became another one.

    Args:
        record: the number of the event's record in the index
        user_id: whose
        name: what they called themselves then
        membership: ``join``, ``invite``, ``leave``, ``ban`` or ``knock``
        moment_ms: when it was received
    """

    record: int
    user_id: str
    name: str
    membership: str
    moment_ms: int


@dataclass
class RoomHistory:
    """A room's changes of membership as one server's archive has them."""

    changes: list[Change] = field(default_factory=list)
    joins: list[Change] = field(default_factory=list)
    bots: set[str] = field(default_factory=set)
    sealed: int = 0
    """How many events cannot be read, because their content is sealed or erased."""
    _records: list[int] = field(default_factory=list)
    _join_records: list[int] = field(default_factory=list)

    def add(self, stored: Stored, now: dict[str, str]) -> None:
        """Add an event; ``now`` is what everybody's membership was before it."""
        record = stored.record
        user_id = str(record.get("state_key") or "")
        if record.get("sender_kind") in BOTS and record.get("sender") == user_id:
            self.bots.add(user_id)
        if unopened(record) is not None:
            self.sealed += 1
            return
        content = _content(record)
        membership = str(content.get("membership") or "")
        if not membership or now.get(user_id) == membership:
            return
        now[user_id] = membership
        received = record.get("ts_received")
        moment_ms = received if isinstance(received, int) else 0
        name = str(content.get("displayname") or "")
        change = Change(stored.id, user_id, name, membership, moment_ms)
        self.changes.append(change)
        self._records.append(stored.id)
        if membership == "join":
            self.joins.append(change)
            self._join_records.append(stored.id)

    def place(self, record: int) -> int:
        """Return how many changes there were before a record."""
        return bisect_left(self._records, record)

    def joins_before(self, record: int) -> int:
        """Return how many joins there were before a record."""
        return bisect_left(self._join_records, record)

    def joined_after(self, joins: int, inside: Collection[str]) -> list[Change]:
        """Return the first join of each who came in later, after so many joins, in order.

        Args:
            joins: how many joins there were
            inside: who was in the room already
        """
        found: dict[str, Change] = {}
        for change in self.joins[joins:]:
            if change.user_id not in found and change.user_id not in inside:
                found[change.user_id] = change
        return list(found.values())

    def now(self, place: int) -> dict[str, Change]:
        """Return the last change of everybody after so many changes."""
        return {change.user_id: change for change in self.changes[:place]}

    def first_join(self, user_id: str, after: int) -> Change | None:
        """Return when somebody joined after a record, ``None`` if they did not."""
        start = bisect_right(self._join_records, after)
        return next((one for one in self.joins[start:] if one.user_id == user_id), None)


@dataclass
class Memberships:
    """The rooms' histories, each read when it is asked for."""

    library: Library
    _rooms: dict[tuple[str, str | None], RoomHistory] = field(default_factory=dict)

    def of(self, room_id: str, server: str | None) -> RoomHistory:
        """Return the history of a room as the archive of a server has it."""
        known = self._rooms.get((room_id, server))
        if known is None:
            self._rooms[room_id, server] = known = self._read(room_id, server)
        return known

    def _read(self, room_id: str, server: str | None) -> RoomHistory:
        rows = self.library.connection.execute(
            "SELECT record.id FROM record WHERE room = (SELECT id FROM name WHERE text = ?)"
            " AND type = (SELECT id FROM name WHERE text = 'm.room.member') AND kind = ?"
            " ORDER BY record.id",
            (room_id.encode("utf-8", "replace").decode(), _EVENT),
        ).fetchall()
        history, now = RoomHistory(), dict[str, str]()
        for stored in self.library.stored(row[0] for row in rows):
            if server_of(stored.key) == server:
                history.add(stored, now)
        return history


def people_of(members: Iterable[Json]) -> tuple[set[str], set[str]]:
    """Return who of an audience's list was in the room, and who was invited."""
    inside, invited = set[str](), set[str]()
    for member in members:
        target = invited if member.get("membership") == "invite" else inside
        target.add(str(member.get("user_id")))
    return inside, invited


def _content(record: Json) -> Json:
    try:
        event = json.loads(record.get("event_json") or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    content = event.get("content") if isinstance(event, dict) else None
    return content if isinstance(content, dict) else {}
