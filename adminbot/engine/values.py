"""Words become values: one reader for each type that a command's parameter may have."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Literal, NewType, get_args, get_origin

from adminbot.engine.link import parse_link
from adminbot.engine.text import listed, nearest
from common.config.secret import Secret
from common.errors import UserError
from common.i18n import t
from common.ids import (
    EventId,
    RoomAlias,
    RoomId,
    UserId,
    parse_event_id,
    parse_room_alias,
    parse_room_id,
    parse_user_id,
)

Text = NewType("Text", str)
"""The rest of the line, as typed."""
ByteSize = NewType("ByteSize", int)
"""A number of bytes, as ``20M`` or ``1.5GiB``."""
Page = NewType("Page", int)
"""Which page of a long list, from 1."""
Csv = NewType("Csv", int)
"""Truthy where the list is wanted as comma-separated values."""

Rooms = NewType("Rooms", tuple[RoomId, ...])
"""Several rooms as an option: every word after it that can only mean a room."""

FIRST_PAGE = Page(1)
NO_ROOMS = Rooms(())
NO_CSV = Csv(0)


@dataclass(frozen=True)
class Setting:
    """Where and when a line is read: it gives short forms their meaning."""

    server_name: str
    now: datetime
    room: RoomId | None = None
    """The current room, if it is a shared one."""
    zone: tzinfo = UTC


Read = Callable[[str, Setting], object]


@dataclass(frozen=True)
class Kind:
    """A type of argument: its name in the usage line, and its reader."""

    name: str
    read: Read
    flag: bool = False
    """An option that needs no value."""
    rest: bool = False
    """Takes the rest of the line."""
    secret: bool = False
    """Never written down."""
    rooms: bool = False
    """As an option, takes each word that follows and can only mean a room."""
    implied_help: str = ""
    """The help text where the command gives none."""
    choices: tuple[str, ...] = ()
    """All the words there are for it, where they are few."""


@dataclass(frozen=True)
class RoomAddress:
    """A room given by its address; whoever runs the command asks which room that is."""

    alias: RoomAlias


def kind_of(annotation: object) -> Kind | None:
    """Return the kind of argument for a type annotation, ``None`` if there is none."""
    if get_origin(annotation) is Literal:
        return _choice(tuple(str(value) for value in get_args(annotation)), str)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _choice(tuple(member.value for member in annotation), annotation)
    return next((kind for type_, kind in _KINDS if type_ is annotation), None)


def looks_like_room(word: str) -> bool:
    """Say whether a word can only mean a room, or a room's address."""
    link = parse_link(word)
    if link and link.event:
        return False
    return (link.target if link else word)[:1] in {"!", "#"}


def _read_user(word: str, setting: Setting) -> UserId:
    link = parse_link(word)
    name = link.target if link else word
    if ":" not in name and not name.startswith(("!", "#", "$")):
        name = f"@{name.removeprefix('@')}:{setting.server_name}"
    return parse_user_id(name)


def _read_room(word: str, setting: Setting) -> RoomId | RoomAddress:
    link = parse_link(word)
    name = link.target if link else word
    if name.startswith("#"):
        full = name if ":" in name else f"{name}:{setting.server_name}"
        return RoomAddress(parse_room_alias(full))
    if not name.startswith("!"):
        raise UserError(
            t(
                "“{name}” is not a room; one looks like #lobby:{server} or !id.",
                name=name,
                server=setting.server_name,
            )
        )
    return parse_room_id(name)


def _read_rooms(words: str, setting: Setting) -> tuple[RoomId | RoomAddress, ...]:
    named = words.replace(",", " ").split()
    if not named:
        raise UserError(t("No room is named."))
    return tuple(dict.fromkeys(_read_room(word, setting) for word in named))


def _read_alias(word: str, setting: Setting) -> RoomAlias:
    link = parse_link(word)
    name = (link.target if link else word).removeprefix("#")
    return parse_room_alias(f"#{name}" if ":" in name else f"#{name}:{setting.server_name}")


def _read_event(word: str, setting: Setting) -> EventId:
    del setting
    link = parse_link(word)
    return parse_event_id(link.event if link and link.event else word)


def _read_int(word: str, setting: Setting) -> int:
    del setting
    if not re.fullmatch(r"[+-]?[0-9]{1,15}", word):
        raise UserError(t("“{word}” is not a whole number.", word=word))
    return int(word)


def _read_page(word: str, setting: Setting) -> Page:
    number = _read_int(word, setting)
    if not 1 <= number <= 10**9:
        raise UserError(t("“{word}” is not a page; the first is 1.", word=word))
    return Page(number)


def _read_yes_no(word: str, setting: Setting) -> bool:
    del setting
    match word.lower():
        case "yes" | "true" | "on":
            return True
        case "no" | "false" | "off":
            return False
        case _:
            raise UserError(t("“{word}” is neither yes nor no.", word=word))


def _read_csv(word: str, setting: Setting) -> Csv:
    return Csv(int(_read_yes_no(word, setting)))


_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
LONGEST_DURATION = timedelta(days=36_500)
_DURATION_PART = re.compile(r"([0-9]{1,6})(w|d|h|min|m|s)")


def _read_duration(word: str, setting: Setting) -> timedelta:
    del setting
    parts = _DURATION_PART.findall(word.lower())
    if not parts or "".join(number + unit for number, unit in parts) != word.lower():
        raise UserError(
            t("“{word}” is not a duration; one looks like 7d, 12h or 1h30m.", word=word)
        )
    span = timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))
    if span > LONGEST_DURATION:
        # No calendar has what lies so far ahead or behind.
        raise UserError(t("“{word}” is too long; a duration is at most 36500d.", word=word))
    return span


_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s?([kmgt]?)(ib|b)?")


def _read_size(word: str, setting: Setting) -> ByteSize:
    del setting
    match = _SIZE.fullmatch(word.lower())
    if match is None:
        raise UserError(
            t("“{word}” is not a size; one looks like 500k, 20M or 1.5GiB.", word=word)
        )
    base = 1000 if match[3] == "b" else 1024
    return ByteSize(int(float(match[1]) * base ** _POWERS[match[2]]))


def _read_date(word: str, setting: Setting) -> datetime:
    text = " ".join(word.lower().split())
    try:
        return _relative_date(text, setting) or _absolute_date(word.strip(), setting)
    except (ValueError, OverflowError):
        raise UserError(
            t(
                "“{word}” is not a date; one looks like 2026-12-01, “2026-12-01 09:00”, “in 2h” "
                "or “tomorrow 9:00”.",
                word=word,
            )
        ) from None


def _relative_date(text: str, setting: Setting) -> datetime | None:
    if text == "now":
        return setting.now
    if text.startswith("in "):
        try:
            return setting.now + _read_duration(text[3:].replace(" ", ""), setting)
        except UserError as error:
            raise ValueError from error
    day, _, clock = text.partition(" ")
    days = {"yesterday": -1, "today": 0, "tomorrow": 1}.get(day)
    if days is None:
        return None
    hour, minute = _clock(clock)
    local = setting.now.astimezone(setting.zone) + timedelta(days=days)
    return local.replace(hour=hour, minute=minute, second=0, microsecond=0).astimezone(UTC)


def _clock(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    match = re.fullmatch(r"([0-9]{1,2})(?::([0-9]{2}))?", text)
    if match is None:
        raise ValueError
    return int(match[1]), int(match[2] or 0)


def _absolute_date(text: str, setting: Setting) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=setting.zone)
    return moment.astimezone(UTC)


def _read_str(word: str, setting: Setting) -> str:
    del setting
    return word


def _read_secret(word: str, setting: Setting) -> Secret:
    del setting
    return Secret(word)


def _choice(values: tuple[str, ...], make: Callable[[str], object]) -> Kind:
    def read(word: str, setting: Setting) -> object:
        del setting
        if word.lower() not in values:
            likely = nearest(word, values, limit=1)
            if likely:
                raise UserError(
                    t(
                        "“{word}” is none of {values}; did you mean {likely}?",
                        word=word,
                        values=listed(values),
                        likely=likely[0],
                    )
                )
            raise UserError(t("“{word}” is none of {values}.", word=word, values=listed(values)))
        return make(word.lower())

    return Kind("|".join(values), read, choices=values)


_KINDS: tuple[tuple[object, Kind], ...] = (
    (UserId, Kind("user", _read_user)),
    (RoomId, Kind("room", _read_room)),
    (Rooms, Kind("rooms", _read_rooms, rooms=True)),
    (RoomAlias, Kind("address", _read_alias)),
    (EventId, Kind("event", _read_event)),
    (bool, Kind("yes|no", _read_yes_no, flag=True)),
    (int, Kind("number", _read_int)),
    (timedelta, Kind("duration", _read_duration)),
    (datetime, Kind("date", _read_date)),
    (ByteSize, Kind("size", _read_size)),
    (Text, Kind("text", _read_str, rest=True)),
    (str, Kind("word", _read_str)),
    (Secret, Kind("secret", _read_secret, secret=True)),
    (Page, Kind("number", _read_page, implied_help=t("which page of the list, from 1"))),
    (
        Csv,
        Kind(
            "yes|no",
            _read_csv,
            flag=True,
            implied_help=t("all of it, as a file of comma-separated values"),
        ),
    ),
)


FOR_PROGRAMS = Kind(
    "yes|no", _read_yes_no, flag=True, implied_help=t("all of it, as a file of JSON, for programs")
)
"""What every command that gives a list as a file also takes, as ``--json``."""


def typed_span(span: timedelta) -> str:
    """Return a span as it is typed, e.g. “1d12h”."""
    left = int(span.total_seconds())
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
