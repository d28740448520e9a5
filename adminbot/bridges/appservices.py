"""Registrations of application services that we can read, without their secrets.

Source: Matrix specification v1.18, application service API, "Registration".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from adminbot.bridges.instance import bots_of, read_registration
from adminbot.bridges.load import read_file, read_yaml
from common.errors import ConfigError
from common.i18n import Msg, n
from common.ids import UserId

SHORT_TOKEN = 16
_HIDDEN = "••••"


class _Namespace(msgspec.Struct, frozen=True):
    regex: str
    exclusive: bool = True


class _Namespaces(msgspec.Struct, frozen=True):
    users: tuple[_Namespace, ...] = ()
    aliases: tuple[_Namespace, ...] = ()
    rooms: tuple[_Namespace, ...] = ()


class _File(msgspec.Struct, frozen=True):
    id: str
    as_token: str
    hs_token: str
    sender_localpart: str
    url: str | None = None
    rate_limited: bool = True
    namespaces: _Namespaces = _Namespaces()
    protocols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scope:
    """One namespace: ``what`` are users, addresses or rooms."""

    what: str
    expression: str
    exclusive: bool


@dataclass(frozen=True)
class Appservice:
    """A registration; of each token only how long it is, and of the address no secret in it."""

    id: str
    where: str
    url: str | None
    sender: UserId
    bots: tuple[UserId, ...]
    scopes: tuple[Scope, ...]
    protocols: tuple[str, ...]
    rate_limited: bool
    as_token_length: int
    hs_token_length: int


@dataclass(frozen=True)
class Unreadable:
    """A registration that is named, but cannot be used; ``why`` holds no secret."""

    where: str
    why: str


def read_appservices(paths: Iterable[str], server: str) -> tuple[Appservice | Unreadable, ...]:
    """Return what stands in some registration files; a faulty one hides no other."""
    found: list[Appservice | Unreadable] = []
    for path in paths:
        try:
            data = read_yaml(read_file(Path(path)), path)
            found.append(appservice(data, path, server))
        except ConfigError as error:
            found.append(Unreadable(path, str(error)))
    return tuple(found)


def appservice(data: Any, where: str, server: str) -> Appservice:
    """Return a registration; ``ConfigError`` says what is wrong with it."""
    registration = read_registration(data, where, server)
    try:
        file = msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where} is no registration: {error}.") from None
    scopes = tuple(
        Scope(what, each.regex, each.exclusive)
        for what, some in (
            ("users", file.namespaces.users),
            ("aliases", file.namespaces.aliases),
            ("rooms", file.namespaces.rooms),
        )
        for each in some
    )
    return Appservice(
        id=file.id,
        where=where,
        url=_shown(file.url) if file.url else None,
        sender=registration.sender,
        bots=bots_of(registration, server),
        scopes=scopes,
        protocols=file.protocols or (),
        rate_limited=file.rate_limited,
        as_token_length=len(file.as_token),
        hs_token_length=len(file.hs_token),
    )


def _shown(url: str) -> str:
    """Return an address without a name, a password or a key that may stand in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _HIDDEN
    _, at, host = parts.netloc.rpartition("@")
    asked = f"?{_HIDDEN}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{_HIDDEN if at else ''}{at}{host}{parts.path}{asked}"


def masked(length: int) -> Msg:
    """Return what may be said of a token."""
    if length < SHORT_TOKEN:
        return n(
            "•••• ({count} character: too short to be safe)",
            "•••• ({count} characters: too short to be safe)",
            length,
        )
    return n("•••• ({count} character)", "•••• ({count} characters)", length)
