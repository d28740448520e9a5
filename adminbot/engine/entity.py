"""People, servers and rooms as rules name them, and which rules are about somebody.

In a rule “*” stands for any characters and “?” for one (Matrix specification, "Moderation policy
lists" and "m.room.server_acl"). The time that matching takes grows with the length alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from ipaddress import ip_address
from typing import Any

from adminbot.engine.link import parse_link
from common.errors import UserError
from common.i18n import t

LONGEST = 255
_USER = re.compile(r"@[\x21-\x39\x3b-\x7e]*:[A-Za-z0-9.\-\[\]:*?]+")
_SERVER = re.compile(r"[A-Za-z0-9.\-\[\]:*?]+")


class Kind(StrEnum):
    """What an entity is."""

    USER = "user"
    SERVER = "server"
    ROOM = "room"


@dataclass(frozen=True)
class Entity:
    """One of them, or a pattern for many."""

    kind: Kind
    name: str

    @property
    def server(self) -> str:
        """The server that it is, or is of; empty for a room of version 12."""
        return self.name if self.kind is Kind.SERVER else self.name.partition(":")[2]

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for many."""
        return self.kind is not Kind.ROOM and bool({"*", "?"} & set(self.name))


def parse_entity(word: str, server_name: str) -> Entity:
    """Return what a word names: a user ID, a server's name or a room, or a pattern for them."""
    link = parse_link(word)
    name = link.target if link else word
    if name.startswith("@"):
        full = name if ":" in name else f"{name}:{server_name}"
        if len(full) <= LONGEST and _USER.fullmatch(full):
            localpart, _, server = full.partition(":")
            return Entity(Kind.USER, f"{localpart}:{server.lower()}")
    elif name.startswith(("!", "#")):
        if len(name) <= LONGEST:
            return Entity(Kind.ROOM, name)
    elif len(name) <= LONGEST and _SERVER.fullmatch(name):
        return Entity(Kind.SERVER, name.lower())
    raise UserError(
        t(
            "“{word}” is none; one looks like @spam:example.org, example.org or *.example.org.",
            word=word,
        )
    )


def matches(rule: str, name: str) -> bool:
    """Say whether a rule's entity is about a name."""
    if len(rule) > LONGEST:
        return False
    # The expressions that fnmatch makes never try a * a second time; its sets of characters are
    # switched off: an IPv6 address stands in brackets.
    return re.match(translate(rule.lower().replace("[", "[[]")), name.lower()) is not None


def blocks(entry: str, entity: Entity) -> bool:
    """Say whether an entry of the list of blocked inviters is about somebody, or a server.

    A server may listen on many ports, each of which makes another name of it: an entry without a
    port is about all of them.
    """
    host = host_of(entity.server)
    without_port = entity.name.removesuffix(entity.server) + host
    return any(matches(entry, one) for one in (entity.name, entity.server, without_port, host))


def shut_out(acl: Mapping[str, Any], server: str) -> bool:
    """Say whether a room's ACL keeps a server out (specification, "m.room.server_acl")."""
    host = host_of(server)
    if acl.get("allow_ip_literals") is False and _is_ip(host):
        return True
    if any(matches(rule, host) for rule in _strings(acl.get("deny"))):
        return True
    return not any(matches(rule, host) for rule in _strings(acl.get("allow")))


def host_of(server: str) -> str:
    """Return a server's name without its port, which ACLs do not look at."""
    host, colon, port = server.rpartition(":")
    return host if colon and port.isascii() and port.isdecimal() else server


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
