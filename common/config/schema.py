"""Every setting Steward has, with its meaning, unit and default.

The example configuration and the reference page are generated from these structures, so the
description of a setting stands in exactly one place.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from common.config.bot_settings import S3, Adminbot, Auditbot, Bridges
from common.config.forms import (
    BYTES,
    Address,
    Port,
    Seconds,
)
from common.config.secret import Secret
from common.config.widgets import Widgets


class Homeserver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Matrix homeserver that Steward serves."""

    url: Annotated[
        Address,
        Meta(
            description="Where Steward reaches the client-server API.",
            examples=["http://127.0.0.1:8008"],
        ),
    ]
    server_name: Annotated[
        str,
        Meta(
            description="The homeserver's name: the part after the colon in user IDs.",
            examples=["example.org"],
            min_length=1,
        ),
    ]
    admin_url: Annotated[
        Address | None,
        Meta(
            description="Where the Synapse admin API is reached; unset means at url.",
            examples=["http://127.0.0.1:8008"],
        ),
    ] = None
    registration_shared_secret: Annotated[
        Secret | None,
        Meta(
            description=(
                "The homeserver's registration_shared_secret. With it Steward makes adminbot a "
                "server admin by itself; without it `steward doctor` prints the call to make."
            )
        ),
    ] = None


class Appservice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The application service: how the homeserver and Steward reach and recognise each other."""

    as_token: Annotated[
        Secret, Meta(description="Steward's token for the homeserver, as in the registration.")
    ]
    hs_token: Annotated[
        Secret, Meta(description="The homeserver's token for Steward, as in the registration.")
    ]
    id: Annotated[str, Meta(description="The registration's id.", min_length=1)] = "steward"
    listen_host: Annotated[str, Meta(description="Address to listen on.", min_length=1)] = (
        "127.0.0.1"
    )
    listen_port: Annotated[Port, Meta(description="TCP port to listen on.")] = 29350
    url: Annotated[
        Address | None,
        Meta(
            description=(
                "Where the homeserver reaches Steward; unset means listen_host and listen_port."
            ),
            examples=["http://127.0.0.1:29350"],
        ),
    ] = None
    sender_localpart: Annotated[
        str,
        Meta(
            description=(
                "Local part of the registration's sender, a silent third account: Synapse lets "
                "no sender call /sync, so it cannot be one of the bots."
            ),
            min_length=1,
        ),
    ] = "_steward"
    max_body_bytes: Annotated[
        int,
        Meta(
            description=(
                "Largest transaction accepted. A homeserver packs up to 100 events of "
                "64 KiB and repeats a refused transaction for ever, so keep this above 32 MiB."
            ),
            ge=32 * 2**20,
            extra=BYTES,
        ),
    ] = 64 * 2**20


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Steward keeps its own state."""

    url: Annotated[
        Secret,
        Meta(
            description=(
                "postgres://user:password@host/database for production, or sqlite:steward.db "
                "(relative to the working directory; sqlite:////absolute/path)."
            )
        ),
    ] = Secret("sqlite:steward.db")
    max_connections: Annotated[
        int, Meta(description="Most PostgreSQL connections at once.", ge=2)
    ] = 8
    min_free_bytes: Annotated[
        int,
        Meta(
            description=(
                "With less room on the disk of a SQLite database, the homeserver is asked to "
                "keep its events, so that what was accepted can still be stored."
            ),
            ge=0,
            extra=BYTES,
        ),
    ] = 256 * 2**20


class Encryption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End-to-end encryption of both bots' devices."""

    pickle_key: Annotated[
        Secret,
        Meta(
            description=(
                "Encrypts device keys and room keys at rest. Whoever loses it loses every room "
                "key in the database; keep a copy apart from the database."
            )
        ),
    ]
    one_time_keys: Annotated[
        int,
        Meta(
            description=(
                "One-time keys kept published for each bot's device, as far as the homeserver "
                "takes them (Synapse: 500). When all are claimed, the fallback key serves."
            ),
            ge=50,
            le=2_400,
        ),
    ] = 2000
    session_cache: Annotated[
        int, Meta(description="Megolm sessions held in memory for each bot.", ge=1)
    ] = 10_000
    helper_processes: Annotated[
        int,
        Meta(
            description=(
                "Further processes that decrypt for auditbot while it has a backlog. 0 is enough "
                "for some thousand encrypted messages a second; each takes a core while it works."
            ),
            ge=0,
            le=16,
        ),
    ] = 0
    share_keys_with: Annotated[
        str,
        Meta(
            description=(
                "Which devices can read what the bots write in encrypted rooms: all, or only "
                "those that their owners have verified (cross_signed); the others are told so."
            ),
            pattern="^(all|cross_signed)$",
            extra={"form": "all or cross_signed"},
        ),
    ] = "all"
    adminbot_passphrase: Annotated[
        Secret | None,
        Meta(
            description=(
                "Secure Backup passphrase of adminbot. Unset means that one is made at the first "
                "start and kept, sealed, in the database; `steward passphrase adminbot` shows it. "
                "Whoever has it can recover the bot's keys, and read with them, on any machine."
            )
        ),
    ] = None
    auditbot_passphrase: Annotated[
        Secret | None,
        Meta(
            description=(
                "Secure Backup passphrase of auditbot, likewise; `steward passphrase auditbot`. "
                "It opens every encrypted message: keep it apart from everything else."
            )
        ),
    ] = None


class Rooms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rooms the bots are to be in, and how they are kept there."""

    direct_chats: Annotated[
        bool,
        Meta(
            description="Whether the bots enter direct chats of people too; their own they enter always."
        ),
    ] = True
    federated: Annotated[
        bool, Meta(description="Whether the bots enter rooms created on other servers.")
    ] = True
    dismissal: Annotated[
        bool,
        Meta(
            description=(
                "Whether the admins of a room may have adminbot leave it (`bot leave`). auditbot "
                "stays, and both are in a new room that it is upgraded to."
            )
        ),
    ] = False
    sweep_interval_seconds: Annotated[
        Seconds, Meta(description="How often all rooms are checked.", gt=0)
    ] = 3600
    sweep_concurrency: Annotated[
        int, Meta(description="Rooms mended at the same time.", ge=1, le=32)
    ] = 4


class Feeds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The second feed, which finds what the homeserver's push lost."""

    reconcile_interval_seconds: Annotated[
        Seconds,
        Meta(description="How often the timelines are compared with the push.", gt=0),
    ] = 30


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Steward says about itself; never message text, never a secret."""

    level: Annotated[
        str,
        Meta(
            description="What is said: DEBUG, INFO, WARNING or ERROR.",
            pattern="^(DEBUG|INFO|WARNING|ERROR)$",
            extra={"form": "DEBUG, INFO, WARNING or ERROR"},
        ),
    ] = "INFO"
    json: Annotated[bool, Meta(description="One JSON object a line instead of text.")] = False


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures for Prometheus, at /metrics on an address of their own; no one's words, no secret."""

    listen_host: Annotated[
        str,
        Meta(
            description="Address to listen on; whoever reaches it can read the figures.",
            min_length=1,
        ),
    ] = "127.0.0.1"
    listen_port: Annotated[
        Port | None,
        Meta(description="TCP port to listen on; unset means off.", examples=[29351]),
    ] = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    homeserver: Annotated[Homeserver, Meta(description="The Matrix homeserver.")]
    appservice: Annotated[Appservice, Meta(description="The application service.")]
    encryption: Annotated[Encryption, Meta(description="End-to-end encryption.")]
    database: Annotated[DatabaseSettings, Meta(description="Steward's own state.")] = (
        DatabaseSettings()
    )
    adminbot: Annotated[Adminbot, Meta(description="The bot that takes commands.")] = Adminbot()
    auditbot: Annotated[Auditbot, Meta(description="The bot that archives.")] = Auditbot()
    rooms: Annotated[Rooms, Meta(description="Being in every room.")] = Rooms()
    feeds: Annotated[Feeds, Meta(description="The second feed.")] = Feeds()
    bridges: Annotated[Bridges, Meta(description="Bridges and integrations.")] = Bridges()
    logging: Annotated[Logging, Meta(description="Logs.")] = Logging()
    metrics: Annotated[MetricsSettings, Meta(description="Figures for Prometheus.")] = (
        MetricsSettings()
    )
    widgets: Annotated[Widgets, Meta(description="Conferences in rooms.")] = Widgets()


def passphrase_of(config: Config, bot: str) -> Secret | None:
    """Return the configured Secure Backup passphrase of “adminbot” or “auditbot”."""
    encryption = config.encryption
    return encryption.adminbot_passphrase if bot == "adminbot" else encryption.auditbot_passphrase


__all__ = [
    "S3",
    "Adminbot",
    "Appservice",
    "Auditbot",
    "Bridges",
    "Config",
    "DatabaseSettings",
    "Encryption",
    "Feeds",
    "Homeserver",
    "Logging",
    "MetricsSettings",
    "Rooms",
    "passphrase_of",
]
