"""Who could read a message: who was in its room, and who could read it later.

The later ones depend on the room's history visibility when the message was sent (Matrix
specification, client-server API, “Room History Visibility”): with ``shared`` and
``world_readable`` whoever joins later, with ``invited`` whoever was invited at that time, once
they join; with ``joined`` nobody. All in the order in which the homeserver told of it, and as far
as the archive knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from auditbot.reader.conversation import Message
from auditbot.reader.index.library import Library
from auditbot.reader.index.memberships import BOTS, Change, Memberships, RoomHistory, people_of
from auditbot.reader.layout import server_of
from auditbot.reader.render.words import named, one_line
from auditbot.reader.times import counted, moment

Json = dict[str, Any]

MOST_NAMED = 200
"""People who could read something later that are named for one set; the others are counted."""
_OPEN = frozenset({"shared", "world_readable"})
_VISIBILITIES = frozenset({"shared", "world_readable", "invited", "joined"})


@dataclass(frozen=True, slots=True)
class Counts:
    """How many could read a message; ``None`` where the archive does not tell.

    People and bots are told apart, so that no bot counts as a reader.
    """

    people: int | None = None
    bots: int | None = None
    later_people: int | None = None
    later_bots: int | None = None
    invited_people: int | None = None


NOT_COUNTED = Counts()


@dataclass
class Audiences:
    """Who could read what, each set of readers numbered once."""

    library: Library
    zone: tzinfo = UTC
    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    lists: list[Json] = field(default_factory=list)
    _same: dict[tuple[object, ...], int] = field(default_factory=dict)
    _counts: list[Counts] = field(default_factory=list)
    _members: dict[str, list[Json] | None] = field(default_factory=dict)
    _people: dict[tuple[str, str, bool, bool], Json] = field(default_factory=dict)
    _joined: dict[int, Json] = field(default_factory=dict)
    _memberships: Memberships = field(init=False)

    def __post_init__(self) -> None:
        self._memberships = Memberships(self.library)

    def number(self, message: Message) -> int | None:
        """Return the number of a message's readers."""
        record = message.record
        audience_id = record.get("audience_id")
        if not isinstance(audience_id, str):
            return None
        first = message.first or next(iter(message.records), None)
        place = first.id if first else 0
        visibility = str(record.get("history_visibility"))
        server = server_of(first.key) if first else None
        room_id = str(record.get("room_id") or "")
        # Of every room: its events also say which of its members are bots.
        history, at = self._memberships.of(room_id, server), 0
        if visibility in _OPEN:
            # Only what changes who could read it begins another set.
            at = history.joins_before(place)
        elif visibility == "invited":
            at = history.place(place)
        key = (audience_id, room_id, server, visibility, at)
        if key not in self.numbers:
            found, counts = self._found(message, audience_id, visibility, _At(history, at, place))
            # A member whose first event is a new name looks like one who joined: the same set.
            same = (
                *key[:-1],
                found["later_words"],
                found["sealed"],
                *map(_named, found["later"]),
                *map(_named, found["invited"]),
            )
            if same not in self._same:
                self._counts.append(counts)
                self.lists.append({"number": len(self.lists) + 1, **found})
                self._same[same] = len(self.lists)
            self.numbers[key] = self._same[same]
        return self.numbers[key]

    def words(self, message: Message) -> str | None:
        """Return by how many a message could be read, and by whom besides, later."""
        number = self.number(message)
        if number is None:
            return None
        found = self.lists[number - 1]
        return f"{found['words']}{found['later_words']}"

    def counts(self, message: Message) -> Counts:
        """Return how many could read a message."""
        number = self.number(message)
        return NOT_COUNTED if number is None else self._counts[number - 1]

    def _found(
        self, message: Message, audience_id: str, visibility: str, where: "_At"
    ) -> tuple[Json, Counts]:
        history = where.history
        listed = self._listed(message, audience_id)
        members = None if listed is None else [self._member(one, history.bots) for one in listed]
        count = message.record.get("audience_count")
        inside, asked = people_of(listed or ())
        if listed is None:
            now = history.now(history.place(where.record))
            inside = {user for user, one in now.items() if one.membership == "join"}
        joined = history.joined_after(where.at, inside) if visibility in _OPEN else []
        invited = self._invited(where, inside, asked) if visibility == "invited" else []
        bots = sum(one.user_id in history.bots for one in joined)
        is_known = visibility in _VISIBILITIES
        known = Counts(
            *_split(members),
            len(joined) - bots if is_known else None,
            bots if is_known else None,
            sum(not one["bot"] for one in invited) if is_known else None,
        )
        later = [self._later(one, history.bots) for one in joined[:MOST_NAMED]]
        asked_to = invited[:MOST_NAMED]
        found = {
            "id": audience_id,
            "count": count,
            "words": _counted(members, count, known),
            "members": members,
            "visibility": visibility if is_known else "",
            "later": later,
            "later_more": len(joined) - len(later),
            "later_words": _later_words(visibility, known, len(invited)),
            "invited": asked_to,
            "invited_more": len(invited) - len(asked_to),
            "sealed": history.sealed if visibility not in {"joined", "None"} else 0,
            "records": [number for one in (*later, *asked_to) for number in one["records"]],
        }
        return found, known

    def _listed(self, message: Message, audience_id: str) -> list[Json] | None:
        if audience_id not in self._members:
            before = message.records[0].id if message.records else 0
            found = self.library.members(audience_id, before)
            if found is None and message.record.get("audience_count") == 0:
                found = []  # nobody has to be listed
            self._members[audience_id] = found
        return self._members[audience_id]

    def _member(self, member: Mapping[str, Any], bots: set[str]) -> Json:
        # The same people stand in one set after the other.
        user_id = str(member.get("user_id") or "?")
        is_bot = member.get("kind") in BOTS or user_id in bots
        key = (
            user_id,
            str(member.get("name") or ""),
            member.get("membership") == "invite",
            is_bot,
        )
        if key not in self._people:
            user_id, name, is_invited, _ = key
            self._people[key] = {
                "user_id": one_line(user_id),
                "name": one_line(name),
                # A name in brackets could go on as if it were another person.
                "words": named(user_id, name),
                "invited": is_invited,
                "bot": is_bot,
            }
        return self._people[key]

    def _later(self, change: Change, bots: set[str]) -> Json:
        if change.record not in self._joined:
            self._joined[change.record] = {
                "user_id": one_line(change.user_id or "?"),
                "name": one_line(change.name),
                "words": named(change.user_id, change.name),
                "bot": change.user_id in bots,
                "when": moment(change.moment_ms, self.zone),
                "joined": moment(change.moment_ms, self.zone),
                "records": [change.record],
            }
        return self._joined[change.record]

    def _invited(self, where: "_At", inside: set[str], asked: set[str]) -> list[Json]:
        """Return who was invited then, and when they joined."""
        history = where.history
        now = history.now(where.at)
        found = []
        for user, change in now.items():
            if change.membership == "invite" and user not in inside:
                join = history.first_join(user, change.record)
                found.append(
                    {
                        **self._later(change, history.bots),
                        "joined": moment(join.moment_ms, self.zone) if join else "",
                        "records": [change.record, *([join.record] if join else [])],
                    }
                )
        for user in sorted(asked - now.keys()):
            # Invited before the archive's record of the room: only a list of its members says so.
            join = history.first_join(user, where.record)
            found.append(
                {
                    "user_id": one_line(user),
                    "name": "",
                    "words": named(user, None),
                    "bot": user in history.bots,
                    "when": "",
                    "joined": moment(join.moment_ms, self.zone) if join else "",
                    "records": [join.record] if join else [],
                }
            )
        return found


@dataclass(frozen=True, slots=True)
class _At:
    """A place in a room's history.

    Args:
        history: the room's
        at: after how many joins, or changes of any kind, of those that matter
        record: before which record
    """

    history: RoomHistory
    at: int
    record: int


def _named(person: Json) -> tuple[str, ...]:
    return person["user_id"], person["when"], person["joined"]


def _split(members: list[Json] | None) -> tuple[int | None, int | None]:
    if members is None:
        return None, None
    inside = [member for member in members if not member["invited"]]
    bots = sum(bool(member["bot"]) for member in inside)
    return len(inside) - bots, bots


def _counted(members: list[Json] | None, count: object, known: Counts) -> str:
    """Return how many people and how many bots were in a room; Steward's own are bots."""
    if members is None:
        return counted(count, "member") if isinstance(count, int) else "a set of members"
    return _told(known.people or 0, known.bots or 0)


def _told(people: int, bots: int) -> str:
    some = counted(people, "person", "people") if people else "nobody"
    return f"{some} and {counted(bots, 'bot')}" if bots else some


def _later_words(visibility: str, known: Counts, invited: int) -> str:
    later_people, later_bots = known.later_people or 0, known.later_bots or 0
    many = _told(later_people, later_bots) if later_people or later_bots else "nobody so far"
    match visibility:
        case "shared":
            return f", and whoever joined later ({many})"
        case "world_readable":
            return f", and anybody, member or not ({many} joined later)"
        case "invited":
            people = known.invited_people or 0
            return f", and whoever was invited then, once they join ({_told(people, invited - people)})"
        case _:
            return ""
