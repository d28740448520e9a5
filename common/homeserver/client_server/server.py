"""What the homeserver says of itself to clients.

Source: Matrix specification v1.18, client-server API, "Server discovery" and "Capabilities".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from common.homeserver.port import HttpGet, Json, Permission, path
from common.ids import UserId


class Versions(msgspec.Struct, frozen=True):
    """Versions of the specification, and features by the names their proposals gave them."""

    versions: tuple[str, ...]
    unstable_features: Mapping[str, bool] = {}


class RoomVersions(msgspec.Struct, frozen=True):
    """Versions a room may have (“stable” or “unstable”), and which new ones get."""

    default: str = "1"
    available: Mapping[str, str] = {}


class Profile(msgspec.Struct, frozen=True):
    """Name and picture of somebody; hostile."""

    displayname: str | None = None
    avatar_url: str | None = None


class RetentionRule(msgspec.Struct, frozen=True):
    """How old messages get; milliseconds, ``None`` where nothing is said."""

    min_lifetime: int | None = None
    max_lifetime: int | None = None


class LifetimeLimits(msgspec.Struct, frozen=True):
    """What a room's longest time is held to, whatever its own rule says; milliseconds."""

    min: int | None = None
    max: int | None = None


class _RetentionLimits(msgspec.Struct, frozen=True):
    max_lifetime: LifetimeLimits = LifetimeLimits()


class Retention(msgspec.Struct, frozen=True):
    """By which rules the homeserver deletes: its default, and what rooms' own are held to."""

    policies: Mapping[str, RetentionRule] = {}
    limits: _RetentionLimits = _RetentionLimits()


class _Capabilities(msgspec.Struct, frozen=True):
    capabilities: Mapping[str, Any]


@dataclass(frozen=True)
class GetVersions:
    """``GET /_matrix/client/versions``."""

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_matrix/client/versions")

    def read_response(self, body: Json) -> Versions:
        """Return the versions."""
        return msgspec.convert(body, Versions)


@dataclass(frozen=True)
class GetCapabilities:
    """``GET /_matrix/client/v3/capabilities``, as they are for the bot."""

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_matrix/client/v3/capabilities")

    def read_response(self, body: Json) -> Mapping[str, Any]:
        """Return the capabilities."""
        return msgspec.convert(body, _Capabilities).capabilities


@dataclass(frozen=True)
class GetRoomVersions:
    """``GET /_matrix/client/v3/capabilities``, of it which versions rooms may have."""

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return GetCapabilities().to_http()

    def read_response(self, body: Json) -> RoomVersions:
        """Return the versions."""
        found = GetCapabilities().read_response(body).get("m.room_versions", {})
        return msgspec.convert(found, RoomVersions)


@dataclass(frozen=True)
class GetClientWellKnown:
    """``GET /.well-known/matrix/client`` at the homeserver itself, not at its server name.

    ``NotFoundError`` or another refusal where something else serves it.
    """

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/.well-known/matrix/client")

    def read_response(self, body: Json) -> Mapping[str, Any]:
        """Return the file."""
        return body


@dataclass(frozen=True)
class GetRetention:
    """``GET /_matrix/client/unstable/org.matrix.msc1763/retention/configuration``.

    ``NotFoundError`` unless Synapse has retention on, and ``msc1763_enabled`` among its
    ``experimental_features``.
    """

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_matrix/client/unstable/org.matrix.msc1763/retention/configuration")

    def read_response(self, body: Json) -> Retention:
        """Return the rules."""
        return msgspec.convert(body, Retention)


@dataclass(frozen=True)
class GetProfile:
    """``GET /_matrix/client/v3/profile/<user>``; asks the other server about remote people."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_matrix/client/v3/profile/{}", self.user))

    def read_response(self, body: Json) -> Profile:
        """Return name and picture; ``NotFoundError`` if there is no such person."""
        return msgspec.convert(body, Profile)
