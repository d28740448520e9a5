"""What a command may be handed, besides the reading half of the administration API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.engine.actor import Caller
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command
from adminbot.engine.step import OwnReader
from common.checks import Finding
from common.config.schema import Config
from common.config.secret import Secret
from common.homeserver.port import AdminReader
from common.ids import EventId, RoomId, UserId
from common.servercheck.findings import Report, Support
from common.servercheck.names import ServerName


@dataclass(frozen=True)
class HealthReport:
    """How Steward is doing; counts of this moment."""

    version: str
    up_seconds: float
    commands_waiting: int
    commands_unreadable: int
    entries_set_aside: int
    database: str


class Health(Protocol):
    """Where ``status`` looks."""

    async def report(self) -> HealthReport:
        """Return the figures of this moment."""
        ...

    def now_ms(self) -> int:
        """Return the time of this machine in milliseconds."""
        ...

    def seconds(self) -> float:
        """Return seconds on a clock that never jumps; only differences mean anything."""
        ...


@dataclass(frozen=True)
class Available:
    """The commands that the caller may run here, and all there are."""

    here: Catalogue
    all: Catalogue


@dataclass(frozen=True)
class Quoted:
    """The message that a command is a reply to, read by us where it was encrypted."""

    event: EventId
    room: RoomId
    sender: UserId
    content: Mapping[str, Any]


class Reading(Protocol):
    """Messages of rooms that adminbot is in; needs ``Permission.READ_CONTENT``."""

    async def message(self, room: RoomId, event_id: EventId) -> Quoted | None:
        """Return a message; ``None`` if it is gone, or no one here can read it."""
        ...

    async def opened(
        self, room: RoomId, event_id: EventId, sender: UserId, content: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the content of an encrypted event, ``None`` if it cannot be read or trusted."""
        ...


class Attached(Protocol):
    """What a command was sent with: it is a reply to something, or a file's caption."""

    async def quoted(self) -> Quoted | None:
        """Return the message that is replied to; ``None`` if there is none or it is unreadable."""
        ...

    def replied_to(self) -> EventId | None:
        """Return which message is replied to, readable or not."""
        ...

    def of_file(self) -> EventId | None:
        """Return the message with the file: this one if it is a caption, or the one replied to."""
        ...

    async def file(self, *, most_bytes: int, of: EventId | None = None) -> bytes | None:
        """Return the file that the command captions or replies to; ``None`` if there is none.

        ``of``: the file of another message of this chat.

        Raises:
            UserError: it is larger than ``most_bytes``, or another than its message says.
        """
        ...


class Doctor(Protocol):
    """What ``steward doctor`` finds out."""

    async def findings(self) -> Sequence[Finding]:
        """Examine homeserver and machine; takes some seconds."""
        ...


class Dice(Protocol):
    """Chance, for what nobody must guess."""

    def password(self) -> Secret:
        """Return a new password, easy to type and hard to guess (at least 100 bits)."""
        ...

    def token(self, length: int = 16) -> str:
        """Return a new random word of letters and digits, at least 5.9 bits each."""
        ...


class Checks(Protocol):
    """How a homeserver looks from outside."""

    async def check(self, name: ServerName) -> Report:
        """Return what there is to say about a server; takes half a minute at worst.

        Raises:
            UserError: others are being checked just now
        """
        ...

    async def support(self, name: ServerName) -> Support | None:
        """Return whom to write to about a server, if it says so."""
        ...


@dataclass(frozen=True)
class Settings:
    """What a command may know of the configuration. Never to be shown whole: it holds secrets."""

    config: Config


SUPPLIES: frozenset[type] = frozenset(
    {
        AdminReader,
        Attached,
        Available,
        Caller,
        Checks,
        Dice,
        Doctor,
        Health,
        OwnReader,
        Reading,
        Settings,
    }
)
"""Every type of supply there is. Nothing here can change anything."""

_MESSAGE = ("GET /_matrix/client/v3/rooms/<room>/event/<event>",)

CALLS: Mapping[type, Mapping[str, tuple[str, ...]]] = {
    Attached: {
        "quoted": _MESSAGE,
        "file": (*_MESSAGE, "GET /_matrix/client/v1/media/download/<server>/<media>"),
    },
    Checks: {
        "check": (
            "GET /.well-known/matrix/<file>, of that server",
            "GET /_matrix/client/<path>, of that server",
            "GET /_matrix/federation/v1/version, of that server",
            "GET /_matrix/key/v2/server, of that server",
        ),
        "support": ("GET /.well-known/matrix/support, of that server",),
    },
    Doctor: {
        "findings": (
            "GET /_matrix/client/versions",
            "GET /_matrix/client/v3/account/whoami",
            "GET /_matrix/client/v3/login",
            "POST /_matrix/client/v1/appservice/<id>/ping",
            "GET /_synapse/admin/v1/server_version",
            "GET /_synapse/admin/v1/users/<user_id>/admin",
            "PUT /_synapse/admin/v1/send_server_notice/<txn>",
        )
    },
    Reading: {"message": _MESSAGE},
}
"""What the methods of a supply call, for the table of what commands call."""


def check(catalogue: Catalogue) -> None:
    """Refuse a catalogue in which a command wants to be handed anything else."""
    for command in catalogue:
        _check(command)


def _check(command: Command) -> None:
    for name, type_ in command.supplies.items():
        if type_ not in SUPPLIES:
            raise TypeError(f"{command.name}: “{name}” can be neither argument nor supply")
