"""auditbot on a real database with a scripted decryption and known rooms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from auditbot.bot import create_bot
from auditbot.lines import opened
from auditbot.spool import spool_of
from common.bots import Bot, Services
from common.clock import Clock
from common.config.bot_settings import RetentionClass
from common.config.schema import S3, Appservice, Auditbot, Config, Encryption, Homeserver
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.waiting import wait_for
from common.errors import TransientError
from common.homeserver.errors import NotFoundError
from common.homeserver.synapse.room_content import FetchEvent
from common.inbox.port import Entry
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixError
from tests.unit.auditbot.builders import ScriptedDecryption, StoppedClock

AUDITBOT = "@auditbot:example.org"


@dataclass
class KnownRooms:
    """Answers for rooms as the homeserver would."""

    states: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    user_id: str = AUDITBOT

    async def state(self, room_id: str) -> list[dict[str, Any]]:
        self.asked.append(room_id)
        if room_id not in self.states:
            raise MatrixError(403, "M_FORBIDDEN", "You are not in the room.")
        return self.states[room_id]


@dataclass
class NothingKept:
    """A homeserver's administration that has no event any more, or those that it is given."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Raised one after the other, the last one for ever."""
    poison: str = ""
    """An event that it fails on."""

    async def read(self, request: FetchEvent) -> dict[str, Any]:
        self.asked.append(request.event)
        if self.failures:
            raise self.failures.pop(0) if len(self.failures) > 1 else self.failures[0]
        if request.event == self.poison:
            raise TransientError("It fails on this event.")
        if request.event not in self.events:
            raise NotFoundError(404, "M_NOT_FOUND", "Event not found")
        return self.events[request.event]


@dataclass
class World:
    """auditbot on a database; ``restart`` gives a new one, as a new process would have."""

    database: Database
    directory: Path
    clock: Clock
    crypto: ScriptedDecryption = field(default_factory=ScriptedDecryption)
    rooms: KnownRooms = field(default_factory=KnownRooms)
    destination: str | None = ""
    max_age: float = 300
    recipients: tuple[str, ...] = ()
    erasable: bool | Literal["day", "person"] = False
    seal: str = "segments"
    session_keys: bool = False
    ciphertext: bool = True
    compression: str = "zstd"
    media: bool = True
    scanner: str | None = None
    keep_infected: bool = True
    s3: S3 = field(default_factory=S3)
    keep_days: int | None = None
    classes: tuple[RetentionClass, ...] = ()
    recover_redacted: bool = True
    admin: NothingKept = field(default_factory=NothingKept)
    approvers: tuple[str, ...] = ()
    approvals_needed: int = 0

    @property
    def config(self) -> Config:
        destination = self.destination
        if destination == "":
            destination = f"file:{self.directory / 'archive'}"
        return Config(
            homeserver=Homeserver(url="http://127.0.0.1:1", server_name="example.org"),
            appservice=Appservice(as_token=Secret("a"), hs_token=Secret("b")),
            encryption=Encryption(pickle_key=Secret("c")),
            auditbot=Auditbot(
                destination=destination,
                segment_max_age_seconds=self.max_age,
                age_recipients=self.recipients,
                erasable=self.erasable,
                seal=self.seal,
                session_keys=self.session_keys,
                ciphertext=self.ciphertext,
                compression=self.compression,
                media=self.media,
                media_scanner=self.scanner,
                keep_infected=self.keep_infected,
                s3=self.s3,
                keep_days=self.keep_days,
                retention_classes=self.classes,
                recover_redacted=self.recover_redacted,
                approvers=self.approvers,
                approvals_needed=self.approvals_needed,
            ),
        )

    def restart(self) -> Bot:
        services = Services(
            config=self.config,
            clock=self.clock,
            database=self.database,
            inbox=StoredInbox(self.database, self.clock),
            client=cast(Any, self.rooms),
            crypto=cast(Any, self.crypto),
            messenger=cast(Any, None),
            admin=cast(Any, self.admin),
            keeper=cast(Any, None),
        )
        return create_bot(services)

    def advance(self, milliseconds: int) -> None:
        """Let time pass on a clock that stands."""
        self.clock = StoppedClock(self.clock.now_ms() + milliseconds)

    async def give(self, bot: Bot, batch: Sequence[Entry]) -> None:
        effect = await bot.handle(batch)
        async with self.database.transaction() as connection:
            await effect(connection)

    async def until(self, question: str) -> None:
        """Wait until the database answers yes."""

        async def says_yes() -> bool:
            return bool(await self.database.fetchval(question))

        await wait_for(says_yes, 60, question)

    async def records(self) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT audit_lines.* FROM audit_lines JOIN audit_stream ON stream = id"
            " ORDER BY started_ms, stream, last_seq"
        )
        spool = spool_of(self.config.encryption.pickle_key)
        return [msgspec.json.decode(line) for row in rows for line in opened(row, spool)]

    async def events(self, kind: str = "event") -> list[dict[str, Any]]:
        return [record for record in await self.records() if record["kind"] == kind]
