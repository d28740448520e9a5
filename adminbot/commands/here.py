"""What commands in rooms look at first: who has which power, what is set, who is meant."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from adminbot.commands.protect import refuse, why_never
from adminbot.engine.actor import Caller
from adminbot.engine.lend import lend_act
from adminbot.engine.link import parse_link
from adminbot.engine.supply import Settings
from adminbot.engine.text import joined
from common.errors import UserError
from common.homeserver.errors import NotAllowedError, NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import GetRoom, GetRoomState, GetStateEvent, RoomDetails
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId, parse_user_id
from common.matrix.power import RoomPowers

MOST_NAMED = 3
MOST_ASKED_ONE_BY_ONE = 20
_LIKE_A_PERSON = re.compile(r"@\S+|\S*[*?]\S*:\S*|\S*\*\S*")


async def room_here(admin: AdminReader, room: RoomId) -> RoomDetails:
    """Return a room of this server, or raise a ``UserError``."""
    try:
        return await admin.read(GetRoom(room))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None


async def state_in(admin: AdminReader, room: RoomId, type_: str) -> Mapping[str, Any] | None:
    """Return the content of a piece of state without a key, ``None`` if there is none."""
    return (await all_state_in(admin, room, type_)).get("")


async def all_state_in(
    admin: AdminReader, room: RoomId, type_: str
) -> Mapping[str, Mapping[str, Any]]:
    """Return the contents of a kind of state by key."""
    try:
        events = await admin.read(GetRoomState(room, type_))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None
    return {event.state_key: event.content for event in events}


async def powers_in(admin: AdminReader, room: RoomId) -> RoomPowers:
    """Return who has which power."""
    try:
        creations = await admin.read(GetRoomState(room, "m.room.create"))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None
    if not creations:
        raise UserError(t("This server does not know {room} well enough yet.", room=room))
    levels = await state_in(admin, room, "m.room.power_levels")
    return RoomPowers(levels, creations[0].sender, creations[0].content)


async def memberships_in(admin: AdminReader, room: RoomId) -> Mapping[UserId, str]:
    """Return everybody with a membership: “join”, “invite”, “knock”, “leave” or “ban”."""
    found = await all_state_in(admin, room, "m.room.member")
    return {UserId(user): str(content.get("membership", "")) for user, content in found.items()}


async def memberships_of(
    admin: AdminReader, room: RoomId, users: Sequence[UserId]
) -> Mapping[UserId, str]:
    """Return the memberships of a few people, without asking for everybody's."""
    if len(users) > MOST_ASKED_ONE_BY_ONE:
        return await memberships_in(admin, room)
    found: dict[UserId, str] = {}
    for user in users:
        try:
            event = await admin.read(GetStateEvent(room, "m.room.member", user))
        except NotFoundError:
            continue
        except NotAllowedError:
            # We are not in there ourselves; the administration API tells it all the same.
            return await memberships_in(admin, room)
        found[user] = str(event.content.get("membership", ""))
    return found


def own_power_for(caller: Caller, *acts: str) -> None:
    """Refuse what somebody's own power in the room does not suffice for."""
    refuse(lend_act(caller, *acts))


@dataclass(frozen=True)
class Meant:
    """Whom words mean: single people, patterns for many, and the words after them."""

    people: tuple[UserId, ...]
    patterns: tuple[str, ...]
    rest: str | None

    @property
    def several(self) -> bool:
        """Whether more than one person may be meant."""
        return bool(self.patterns) or len(self.people) > 1

    def among(self, candidates: Iterable[UserId]) -> tuple[UserId, ...]:
        """Return who is meant, patterns resolved; each once, in order."""
        matched = [
            user
            for user in candidates
            if any(_matches(user, pattern) for pattern in self.patterns)
        ]
        return tuple(dict.fromkeys((*self.people, *matched)))


def whom(line: Sequence[str | None], settings: Settings) -> Meant:
    """Read whom a line means: people first, then a reason.

    The first word is a person whatever it looks like; those after it as long as they begin with
    “@”, are mentions, or hold a “*”.
    """
    words = [word for word in line if word]
    names = [_name(word) for word in words]
    count = 1
    while count < len(words) and _LIKE_A_PERSON.fullmatch(names[count]):
        count += 1
    people: list[UserId] = []
    patterns: list[str] = []
    for name in names[:count]:
        if "*" in name or "?" in name:
            patterns.append(name.lower())
        else:
            people.append(person(name, settings))
    rest = " ".join(words[count:]) or None
    return Meant(tuple(dict.fromkeys(people)), tuple(patterns), rest)


def person(word: str, settings: Settings) -> UserId:
    """Read one person: a mention, a full user ID or a local name."""
    name = _name(word)
    if ":" not in name:
        name = f"@{name.removeprefix('@')}:{settings.config.homeserver.server_name}"
    return parse_user_id(name)


def not_protected(settings: Settings, users: Iterable[UserId]) -> None:
    """Refuse to touch accounts that are always left alone."""
    for user in users:
        refuse(why_never(settings.config, user))


def named(users: Sequence[UserId]) -> Msg:
    """Return a few people by name, or how many there are."""
    if len(users) <= MOST_NAMED:
        return joined(users)
    return n("{count} person", "{count} people", len(users))


def typed_name(details: RoomDetails) -> str:
    """Return the word by which somebody confirms that they mean this room."""
    return details.canonical_alias or details.room_id


def _name(word: str) -> str:
    link = parse_link(word)
    return link.target if link else word


def _matches(user: UserId, pattern: str) -> bool:
    lowered = user.lower()
    if ":" in pattern:
        return fnmatchcase(lowered, pattern if pattern[:1] in "@*" else f"@{pattern}")
    return fnmatchcase(lowered.partition(":")[0][1:], pattern.removeprefix("@"))
