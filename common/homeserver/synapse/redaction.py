"""Hiding everything somebody wrote, which Synapse does in the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, Progress, path
from common.i18n import Msg, n, t
from common.ids import EventId, RoomId, UserId


class Redaction(msgspec.Struct, frozen=True):
    """How far it is; why single events could not be redacted, by their IDs."""

    status: Literal["scheduled", "active", "complete", "failed"]
    failed_redactions: Mapping[EventId, str] = {}
    error: str | None = None

    @property
    def progress(self) -> Progress:
        """The same as progress; Synapse does not count what is done."""
        match self.status:
            case "complete" if self.failed_redactions:
                said = n(
                    "{count} message could not be redacted.",
                    "{count} messages could not be redacted.",
                    len(self.failed_redactions),
                )
                return Progress(finished=True, said=said)
            case "complete":
                return Progress(finished=True)
            case "failed":
                return Progress(finished=True, failed=self.error or t("It does not say why."))
            case _:
                return Progress(finished=False)


class _RedactId(msgspec.Struct, frozen=True):
    redact_id: str


@dataclass(frozen=True, kw_only=True)
class RedactUser:
    """``POST /_synapse/admin/v1/user/<user_id>/redact``: messages and joins of a person.

    Without ``rooms`` in all rooms that they are in or banned from. ``limit`` is by room (Synapse:
    1000). ``as_admin`` redacts as the asking account, which must then have the power; otherwise
    as the person, if they are local. One such task at a time for a person (400).
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False

    user: UserId
    rooms: tuple[RoomId, ...] = ()
    reason: str | None = None
    limit: int | None = None
    as_admin: bool = False
    after_ms: int | None = None
    before_ms: int | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        options = {
            "reason": self.reason,
            "limit": self.limit,
            "after_ts": self.after_ms,
            "before_ts": self.before_ms,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/user/{}/redact", self.user),
            body={"rooms": list(self.rooms), "use_admin": self.as_admin, **given},
        )

    def read_response(self, body: Json) -> str:
        """Return the name of the task."""
        return msgspec.convert(body, _RedactId).redact_id

    def follow(self, task: str) -> "FollowRedaction":
        """Return the request that tells how far it is."""
        return FollowRedaction(task)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.rooms:
            return t("Redact what {user} wrote, in every room", user=self.user)
        return n(
            "Redact what {user} wrote, in {count} room",
            "Redact what {user} wrote, in {count} rooms",
            len(self.rooms),
            user=self.user,
        )


@dataclass(frozen=True)
class GetRedaction:
    """``GET /_synapse/admin/v1/user/redact_status/<redact_id>``."""

    permission: ClassVar = Permission.VIEW

    task: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path("/_synapse/admin/v1/user/redact_status/{}", self.task))

    def read_response(self, body: Json) -> Redaction:
        """Return how far it is; ``NotFoundError`` if Synapse has forgotten it."""
        return msgspec.convert(body, Redaction)


@dataclass(frozen=True)
class FollowRedaction:
    """``GET /_synapse/admin/v1/user/redact_status/<redact_id>`` as progress."""

    permission: ClassVar = Permission.VIEW

    task: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return GetRedaction(self.task).to_http()

    def read_response(self, body: Json) -> Progress:
        """Return how far it is."""
        return GetRedaction(self.task).read_response(body).progress
