"""Whose invitations the homeserver refuses: account data of adminbot that Steward's module reads.

See ``common.synapse_invite_blocks``. Nothing of it works where the module does not run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg
from common.ids import UserId

DATA_TYPE = "org.matrix-steward.invite_blocks"
_PATH = "/_matrix/client/v3/user/{}/account_data/{}"


class InviteBlock(msgspec.Struct, frozen=True):
    """Who blocked it, when (milliseconds), and why."""

    by: UserId
    at_ms: int
    reason: str = ""


class _Held(msgspec.Struct, frozen=True):
    blocks: Mapping[str, InviteBlock] = {}


class _Refused(msgspec.Struct, frozen=True):
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class ReadInviteBlocks:
    """``GET /_matrix/client/v3/user/<me>/account_data/<type>``; ``NotFoundError`` before the first."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_PATH, self.user, DATA_TYPE))

    def read_response(self, body: Json) -> Mapping[str, InviteBlock]:
        """Return the blocks by user ID, server name or pattern."""
        return msgspec.convert(body, _Held).blocks


@dataclass(frozen=True)
class WriteInviteBlocks:
    """``PUT /_matrix/client/v3/user/<me>/account_data/<type>``: all that are to be from now on."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    user: UserId
    blocks: Mapping[str, Any]
    sentence: Msg

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT", path=path(_PATH, self.user, DATA_TYPE), body={"blocks": self.blocks}
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return self.sentence


@dataclass(frozen=True)
class ListRefusedInviters:
    """``GET /_synapse/client/steward/v1/invite_blocks``: whom it refuses now, by our module.

    ``UnsupportedError`` where the homeserver does not run the module, or an older one.
    """

    permission: ClassVar = Permission.VIEW

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_synapse/client/steward/v1/invite_blocks")

    def read_response(self, body: Json) -> tuple[str, ...]:
        """Return the entries."""
        return msgspec.convert(body, _Refused).blocks
