"""What the homeserver does in the background: upkeep of its database, and tasks it was given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission
from common.i18n import Msg, t

Job = Literal["populate_stats_process_rooms", "regenerate_directory"]


class BackgroundUpdate(msgspec.Struct, frozen=True):
    """An update of the database that runs now."""

    name: str
    total_item_count: int
    total_duration_ms: float
    average_items_per_ms: float | None = None


class BackgroundUpdates(msgspec.Struct, frozen=True):
    """Whether updates may run, and which do, by the database's name."""

    enabled: bool
    current_updates: Mapping[str, BackgroundUpdate] = {}


class ScheduledTask(msgspec.Struct, frozen=True):
    """A task; ``timestamp_ms`` is when it was last touched, ``resource_id`` what it is about."""

    id: str
    action: str
    status: str
    timestamp_ms: int
    resource_id: str | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None


class _Enabled(msgspec.Struct, frozen=True):
    enabled: bool


class _Tasks(msgspec.Struct, frozen=True):
    scheduled_tasks: tuple[ScheduledTask, ...]


@dataclass(frozen=True)
class GetBackgroundUpdates:
    """``GET /_synapse/admin/v1/background_updates/status``."""

    permission: ClassVar = Permission.VIEW

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path="/_synapse/admin/v1/background_updates/status")

    def read_response(self, body: Json) -> BackgroundUpdates:
        """Return what runs."""
        return msgspec.convert(body, BackgroundUpdates, strict=False)


@dataclass(frozen=True)
class EnableBackgroundUpdates:
    """``POST /_synapse/admin/v1/background_updates/enabled``; forgotten when it restarts."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    enabled: bool

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/background_updates/enabled",
            body={"enabled": self.enabled},
        )

    def read_response(self, body: Json) -> bool:
        """Return whether updates may run now."""
        return msgspec.convert(body, _Enabled).enabled

    def describe(self) -> Msg:
        """Return what it does."""
        if self.enabled:
            return t("Let the homeserver's database updates run")
        return t("Pause the homeserver's database updates until it restarts")


@dataclass(frozen=True)
class StartBackgroundJob:
    """``POST /_synapse/admin/v1/background_updates/start_job``; 400 if it is queued already."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False

    job: Job

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/background_updates/start_job",
            body={"job_name": self.job},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.job == "regenerate_directory":
            return t("Build the directory of people anew")
        return t("Count the statistics of rooms anew")


@dataclass(frozen=True, kw_only=True)
class ResignEvents:
    """``POST /_synapse/admin/v1/background_updates/start_job`` of “event_resign”.

    Signs this server's own events anew, those signed with ``old_key`` and before ``before_ms``
    (milliseconds) if these are given. For after a signing key was lost.
    """

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False

    old_key: str | None = None
    before_ms: int | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/background_updates/start_job",
            body={
                "job_name": "event_resign",
                "old_key": self.old_key,
                "before_ts": self.before_ms,
            },
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Sign this server's own events anew")


@dataclass(frozen=True, kw_only=True)
class ListScheduledTasks:
    """``GET /_synapse/admin/v1/scheduled_tasks``: of one action, thing or status, or all."""

    permission: ClassVar = Permission.VIEW

    action: str | None = None
    resource: str | None = None
    status: Literal["scheduled", "active", "complete", "failed", "cancelled"] | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        options = {
            "action_name": self.action,
            "resource_id": self.resource,
            "status": self.status,
        }
        query = {name: value for name, value in options.items() if value is not None}
        return HttpGet(path="/_synapse/admin/v1/scheduled_tasks", query=query)

    def read_response(self, body: Json) -> tuple[ScheduledTask, ...]:
        """Return the tasks; there are no pages."""
        return msgspec.convert(body, _Tasks).scheduled_tasks
