"""From the old NEB bots to Hookshot: what they followed, where, and what takes its place; pure.

Source: Go-NEB (archived 2023): the services ``rssbot`` and ``github-webhook`` as its
``/admin/getService`` returns and its database keeps them, and the room state
``m.room.bot.options``. What an RSS bot follows is in no room's state: without an export of its
services it cannot be known.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adminbot.bridges.hookshot import feed, repository
from common.errors import UserError
from common.i18n import t
from common.ids import RoomId, UserId

OPTIONS = "m.room.bot.options"
MOST_BYTES = 8 * 2**20
MOST_ROWS = 5_000
LONGEST = 255

_OLD_BOT = re.compile(r"@_neb_(rssbot|github)_[^:\s]{0,200}:\S+")
_DOES = {"rssbot": "feed", "github": "repository"}
"""What each sort of old bot follows."""

# Go-NEB's names of GitHub's events, and Hookshot's; the others have no twin.
_EVENTS = {
    "push": "push",
    "pull_request": "pull_request",
    "issues": "issue",
    "release": "release",
}


@dataclass(frozen=True)
class Export:
    """What an export says: per room the feeds, and the repositories with their events.

    ``done_by`` are the bots whose services it holds, by room and what they follow; an empty name
    where a service does not say whose it is.
    """

    feeds: Mapping[RoomId, tuple[str, ...]]
    repositories: Mapping[RoomId, Mapping[str, tuple[str, ...]]]
    done_by: Mapping[tuple[RoomId, str], frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class OldRoom:
    """A room with old bots in it; ``options`` is its ``m.room.bot.options``, if any.

    ``trouble`` is why nothing can be set up there, ``remark`` what to know beforehand.
    """

    room: RoomId
    bots: tuple[UserId, ...]
    options: tuple[Mapping[str, Any], ...] = ()
    feeds_here: frozenset[str] = frozenset()
    repositories_here: frozenset[str] = frozenset()
    trouble: str | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Move:
    """One thing to take over; ``trouble`` is why it cannot be."""

    room: RoomId
    kind: str
    what: str
    here_already: bool = False
    trouble: str | None = None
    remark: str | None = None
    lost_events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Migration:
    """Everything that was found. ``unknown`` are rooms with a bot that followed we know not what."""

    moves: tuple[Move, ...]
    unknown: tuple[OldRoom, ...]
    rooms: tuple[OldRoom, ...]
    done_by: Mapping[tuple[RoomId, str], frozenset[str]]

    @property
    def feeds(self) -> tuple[Move, ...]:
        """The feeds that can be set up."""
        return tuple(
            move
            for move in self.moves
            if move.kind == "feed" and not move.here_already and move.trouble is None
        )

    @property
    def repositories(self) -> tuple[Move, ...]:
        """The repositories that somebody with access has to connect."""
        return tuple(
            move
            for move in self.moves
            if move.kind == "repository" and not move.here_already and move.trouble is None
        )

    def replaced(self, room: OldRoom, bot: UserId) -> bool:
        """Say whether everything that a bot did in a room stands at Hookshot by now.

        Each bot is judged by what its own sort follows: what one of them did says nothing of the
        others. Of several bots of a sort the export has to say which of them it is about.
        """
        does = _does(bot)
        moves = [move for move in self.moves if (move.room, move.kind) == (room.room, does)]
        if not moves or not all(move.here_already for move in moves):
            return False
        named = self.done_by.get((room.room, does), frozenset())
        alone = sum(_does(each) == does for each in room.bots) == 1
        return bot in named or (alone and named <= {""})


def is_old_bot(user: str) -> bool:
    """Say whether an account is one of the old bots."""
    return _OLD_BOT.fullmatch(user) is not None


def _does(bot: str) -> str:
    found = _OLD_BOT.fullmatch(bot)
    return "" if found is None else _DOES[found[1]]


def read_export(data: bytes) -> Export:
    """Return what an export of Go-NEB's services says; ``UserError`` if it is none."""
    feeds: dict[RoomId, list[str]] = {}
    repositories: dict[RoomId, dict[str, tuple[str, ...]]] = {}
    done_by: dict[tuple[RoomId, str], set[str]] = {}
    for service in _services(data):
        config = _mapping(service.get("Config") or service.get("config"))
        bot = service.get("UserID") or service.get("user_id")
        match service.get("Type") or service.get("type"):
            case "rssbot":
                kind, rooms = "feed", _read_feeds(config, feeds)
            case "github-webhook":
                kind, rooms = "repository", _read_repositories(config, repositories)
            case _:
                continue
        for room in rooms:
            done_by.setdefault((room, kind), set()).add(bot if isinstance(bot, str) else "")
    if not feeds and not repositories:
        raise UserError(t("The file names no feed and no repository that a NEB bot followed."))
    return Export(
        {room: tuple(urls) for room, urls in feeds.items()},
        repositories,
        {what: frozenset(bots) for what, bots in done_by.items()},
    )


def _services(data: bytes) -> list[Mapping[str, Any]]:
    if len(data) > MOST_BYTES:
        raise UserError(t("The export is too large."))
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UserError(t("The file is no JSON export of NEB's services.")) from None
    services = found if isinstance(found, list) else [found]
    return [service for service in services[:MOST_ROWS] if isinstance(service, dict)]


def migration(rooms: Iterable[OldRoom], export: Export | None) -> Migration:
    """Return what has to be moved, what stands already, and what is not known."""
    known = tuple(sorted(rooms, key=lambda one: one.room))
    moves: list[Move] = []
    unknown: list[OldRoom] = []
    for room in known:
        found = [*_feeds_of(room, export), *_repositories_of(room, export)]
        moves.extend(found)
        if {_does(bot) for bot in room.bots} - {move.kind for move in found}:
            unknown.append(room)
    return Migration(tuple(moves), tuple(unknown), known, export.done_by if export else {})


def _feeds_of(room: OldRoom, export: Export | None) -> list[Move]:
    moves = []
    for url in export.feeds.get(room.room, ()) if export else ():
        trouble = room.trouble
        try:
            feed(url)
        except UserError as error:
            trouble = str(error)
        moves.append(Move(room.room, "feed", url, url in room.feeds_here, trouble, room.remark))
    return moves


def _repositories_of(room: OldRoom, export: Export | None) -> list[Move]:
    wanted = dict(export.repositories.get(room.room, {})) if export else {}
    for options in room.options:
        name = _mapping(options.get("github")).get("default_repo")
        if isinstance(name, str):
            wanted.setdefault(name, ())
    moves = []
    for name, events in wanted.items():
        try:
            org, repo = repository(name)
        except UserError as error:
            # It did something here that nothing takes the place of: its bot stays.
            moves.append(Move(room.room, "repository", name[:LONGEST], trouble=str(error)))
            continue
        lost = tuple(event for event in events if event not in _EVENTS)
        full = f"{org}/{repo}"
        moves.append(
            Move(
                room.room,
                "repository",
                full,
                full in room.repositories_here,
                room.trouble,
                room.remark,
                lost,
            )
        )
    return moves


def _read_feeds(config: Mapping[str, Any], into: dict[RoomId, list[str]]) -> set[RoomId]:
    """Read a service's feeds; return the rooms that it serves."""
    served: set[RoomId] = set()
    for url, settings in _mapping(config.get("feeds")).items():
        rooms = _mapping(settings).get("rooms")
        for room in rooms if isinstance(rooms, list) else []:
            if isinstance(room, str) and room.startswith("!"):
                urls = into.setdefault(RoomId(room), [])
                served.add(RoomId(room))
                if url not in urls and len(urls) < MOST_ROWS:
                    urls.append(str(url))
    return served


def _read_repositories(
    config: Mapping[str, Any], into: dict[RoomId, dict[str, tuple[str, ...]]]
) -> set[RoomId]:
    """Read a service's repositories; return the rooms that it serves."""
    rooms = _mapping(config.get("Rooms") or config.get("rooms"))
    served: set[RoomId] = set()
    for room, settings in rooms.items():
        repos = _mapping(_mapping(settings).get("Repos") or _mapping(settings).get("repos"))
        for name, each in repos.items():
            events = _mapping(each).get("Events") or _mapping(each).get("events") or []
            kept = tuple(event for event in events if isinstance(event, str))
            into.setdefault(RoomId(room), {})[str(name)] = kept
            served.add(RoomId(room))
    return served


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
