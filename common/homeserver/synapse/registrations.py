"""Who came with which registration token, and whether people may register at all."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import HttpGet, Json, Permission
from common.ids import UserId


class _CameWith(msgspec.Struct, frozen=True):
    digest: str | None = None


class _Validity(msgspec.Struct, frozen=True):
    valid: bool


@dataclass(frozen=True)
class CameWith:
    """``GET /_synapse/client/steward/v1/came_with``, which Steward's Synapse module offers.

    Known for two days (``common.synapse_registrations``); ``UnsupportedError`` without the module.
    """

    permission: ClassVar = Permission.VIEW

    user: UserId | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {} if self.user is None else {"user": self.user}
        return HttpGet(path="/_synapse/client/steward/v1/came_with", query=query)

    def read_response(self, body: Json) -> str | None:
        """Return the SHA-256 of the token, ``None`` where there was none."""
        return msgspec.convert(body, _CameWith).digest


@dataclass(frozen=True)
class IsTokenValid:
    """``GET /_matrix/client/v1/register/m.login.registration_token/validity``.

    ``NotAllowedError`` where nobody may register (``enable_registration``).
    """

    # Anybody may ask it, without an account.
    permission: ClassVar = Permission.PUBLIC

    token: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        where = "/_matrix/client/v1/register/m.login.registration_token/validity"
        return HttpGet(path=where, query={"token": self.token})

    def read_response(self, body: Json) -> bool:
        """Return whether somebody could register with it."""
        return msgspec.convert(body, _Validity).valid
