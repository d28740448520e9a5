"""The server itself: its version."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import HttpGet, Json, Permission


class ServerVersion(msgspec.Struct, frozen=True):
    """Which Synapse this is."""

    server_version: str


@dataclass(frozen=True)
class GetServerVersion:
    """``GET /_synapse/admin/v1/server_version``; needs no rights."""

    permission: ClassVar = Permission.PUBLIC

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_synapse/admin/v1/server_version")

    def read_response(self, body: Json) -> ServerVersion:
        """Return the version."""
        return msgspec.convert(body, ServerVersion)
