"""Finding accounts, and what the homeserver knows of one besides its details."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, HttpGet, Json, Permission, path
from common.ids import RoomId, UserId


class Connection(msgspec.Struct, frozen=True):
    """From where an account was used; ``last_seen`` in milliseconds."""

    ip: str | None = None
    last_seen: int | None = None
    user_agent: str | None = None


class Pusher(msgspec.Struct, frozen=True):
    """Where notifications go; ``pushkey`` is the address for ``kind`` “email”."""

    app_id: str
    app_display_name: str | None = None
    device_display_name: str | None = None
    kind: str | None = None
    pushkey: str | None = None
    enabled: bool = True
    device_id: str | None = None


class AccountData(msgspec.Struct, frozen=True):
    """What clients keep for an account: by type, and by room and type. It is hostile."""

    global_: Mapping[str, Mapping[str, Any]] = msgspec.field(name="global")
    rooms: Mapping[RoomId, Mapping[str, Mapping[str, Any]]]


class _UserId(msgspec.Struct, frozen=True):
    user_id: UserId


class _Available(msgspec.Struct, frozen=True):
    available: bool


class _Session(msgspec.Struct, frozen=True):
    connections: tuple[Connection, ...] = ()


class _WhoisDevice(msgspec.Struct, frozen=True):
    sessions: tuple[_Session, ...] = ()


class _Whois(msgspec.Struct, frozen=True):
    devices: Mapping[str, _WhoisDevice]


class _Memberships(msgspec.Struct, frozen=True):
    memberships: Mapping[RoomId, str]


class _Pushers(msgspec.Struct, frozen=True):
    pushers: tuple[Pusher, ...]


class _AccountData(msgspec.Struct, frozen=True):
    account_data: AccountData


class _InviteCount(msgspec.Struct, frozen=True):
    invite_count: int


class _JoinCount(msgspec.Struct, frozen=True):
    cumulative_joined_room_count: int


class _Features(msgspec.Struct, frozen=True):
    features: Mapping[str, bool]


@dataclass(frozen=True)
class IsUsernameAvailable:
    """``GET /_synapse/admin/v1/username_available``.

    It answers yes or refuses: ``M_USER_IN_USE``, ``M_INVALID_USERNAME``, ``M_EXCLUSIVE``; see
    ``why_unavailable``.
    """

    permission: ClassVar = Permission.VIEW

    localpart: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(
            path="/_synapse/admin/v1/username_available", query={"username": self.localpart}
        )

    def read_response(self, body: Json) -> bool:
        """Return true."""
        return msgspec.convert(body, _Available).available


async def why_unavailable(admin: AdminReader, localpart: str) -> RefusedError | None:
    """Return the homeserver's reason against a name for a new account, or ``None``."""
    try:
        await admin.read(IsUsernameAvailable(localpart))
    except RefusedError as error:
        if error.errcode in {"M_USER_IN_USE", "M_INVALID_USERNAME", "M_EXCLUSIVE"}:
            return error
        raise
    return None


@dataclass(frozen=True)
class FindUserByExternalId:
    """``GET /_synapse/admin/v1/auth_providers/<provider>/users/<external_id>``."""

    permission: ClassVar = Permission.VIEW

    provider: str
    external_id: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = "/_synapse/admin/v1/auth_providers/{}/users/{}"
        return HttpGet(path=path(where, self.provider, self.external_id))

    def read_response(self, body: Json) -> UserId:
        """Return the account; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, _UserId).user_id


@dataclass(frozen=True)
class FindUserByThreepid:
    """``GET /_synapse/admin/v1/threepid/<medium>/users/<address>``; medium “email” or “msisdn”.

    Synapse keeps e-mail addresses in lower case and compares exactly.
    """

    permission: ClassVar = Permission.VIEW

    medium: str
    address: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = "/_synapse/admin/v1/threepid/{}/users/{}"
        return HttpGet(path=path(where, self.medium, self.address))

    def read_response(self, body: Json) -> UserId:
        """Return the account; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, _UserId).user_id


@dataclass(frozen=True)
class Whois:
    """``GET /_synapse/admin/v1/whois/<user_id>``: from where an account was used lately."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/whois/{}", self.user))

    def read_response(self, body: Json) -> tuple[Connection, ...]:
        """Return the connections; Synapse does not say to which device each belongs."""
        devices = msgspec.convert(body, _Whois, strict=False).devices.values()
        sessions = [session for device in devices for session in device.sessions]
        return tuple([one for session in sessions for one in session.connections])


@dataclass(frozen=True)
class GetMemberships:
    """``GET /_synapse/admin/v1/users/<user_id>/memberships``: every room, left ones too.

    Of remote people, only those rooms that this server is in.
    """

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/memberships", self.user))

    def read_response(self, body: Json) -> Mapping[RoomId, str]:
        """Return “join”, “invite”, “knock”, “leave” or “ban” by room."""
        return msgspec.convert(body, _Memberships).memberships


@dataclass(frozen=True)
class GetAccountData:
    """``GET /_synapse/admin/v1/users/<user_id>/accountdata``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/accountdata", self.user))

    def read_response(self, body: Json) -> AccountData:
        """Return what clients keep there."""
        return msgspec.convert(body, _AccountData).account_data


@dataclass(frozen=True)
class ListPushers:
    """``GET /_synapse/admin/v1/users/<user_id>/pushers``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/users/{}/pushers", self.user))

    def read_response(self, body: Json) -> tuple[Pusher, ...]:
        """Return where notifications go."""
        return msgspec.convert(body, _Pushers, strict=False).pushers


@dataclass(frozen=True)
class CountSentInvites:
    """``GET /_synapse/admin/v1/users/<user_id>/sent_invite_count``; ``since`` milliseconds."""

    permission: ClassVar = Permission.VIEW

    user: UserId
    since: int

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_synapse/admin/v1/users/{}/sent_invite_count", self.user)
        return HttpGet(path=where, query={"from_ts": str(self.since)})

    def read_response(self, body: Json) -> int:
        """Return how many invitations they sent."""
        return msgspec.convert(body, _InviteCount).invite_count


@dataclass(frozen=True)
class CountJoinedRooms:
    """``GET /_synapse/admin/v1/users/<user_id>/cumulative_joined_room_count``, ``since`` in ms."""

    permission: ClassVar = Permission.VIEW

    user: UserId
    since: int

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = path("/_synapse/admin/v1/users/{}/cumulative_joined_room_count", self.user)
        return HttpGet(path=where, query={"from_ts": str(self.since)})

    def read_response(self, body: Json) -> int:
        """Return how many rooms they joined, those they have left since included."""
        return msgspec.convert(body, _JoinCount).cumulative_joined_room_count


@dataclass(frozen=True)
class GetExperimentalFeatures:
    """``GET /_synapse/admin/v1/experimental_features/<user_id>``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/experimental_features/{}", self.user))

    def read_response(self, body: Json) -> Mapping[str, bool]:
        """Return whether each is switched on for this person, by its name, e.g. “msc3881”."""
        return msgspec.convert(body, _Features).features
