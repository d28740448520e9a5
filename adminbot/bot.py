"""The bot that takes commands; the only module here that constructs things.

The promise: a command that the homeserver gave us is answered once, after a crash too. What
was recognised is written down in the transaction that moves the cursor; what is written down
is carried out by ``run``.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from adminbot.alarms import Alarms
from adminbot.audit_trail import AuditTrail
from adminbot.commands import catalogue
from adminbot.dispatch import Dispatcher
from adminbot.engine.intake import Surroundings
from adminbot.engine.supply import HealthReport
from adminbot.facts import Facts
from adminbot.intake import DirectChats, Intake
from adminbot.replies import Replies
from adminbot.store import Store
from adminbot.worker import Worker
from common.bots import Services
from common.clock import Clock
from common.crypto.port import SessionRef
from common.database.pool import Connection, Database
from common.ids import UserId
from common.inbox.consumer import Effect
from common.inbox.port import Entry


@dataclass(frozen=True)
class AdminBot:
    """The bot, as ``common.bots.Bot`` describes it."""

    intake: Intake
    worker: Worker
    alarms: Alarms
    database: Database

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Recognise commands and confirmations; the effect writes them down."""
        batch = await self.intake.sort(entries)

        async def effect(connection: Connection) -> None:
            await self.intake.keep(connection, batch)

        return effect

    async def keys_arrived(self, sessions: Collection[SessionRef]) -> None:
        """Read commands that had to wait for these room keys."""
        await self.intake.read_again(sessions)

    async def run(self) -> None:
        """Answer until cancelled; first tell what happened to the bots themselves."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.alarms.tell())
            group.create_task(self.worker.run())


@dataclass(frozen=True)
class OwnHealth:
    """The figures that ``status`` shows."""

    store: Store
    database: Database
    clock: Clock
    started: float

    async def report(self) -> HealthReport:
        """Return the figures of this moment."""
        waiting, unreadable = await self.store.counts()
        set_aside = await self.database.fetchval("SELECT COUNT(*) FROM inbox_set_aside")
        return HealthReport(
            version=version("matrix-steward"),
            up_seconds=self.clock.monotonic() - self.started,
            commands_waiting=max(0, waiting - 1),  # without the one that asks
            commands_unreadable=unreadable,
            entries_set_aside=int(set_aside),
            database="PostgreSQL" if self.database.is_postgres else "SQLite",
        )


def create_bot(services: Services) -> AdminBot:
    """Put adminbot together."""
    config, clock = services.config, services.clock
    server_name = config.homeserver.server_name
    me, bots = services.client.user_id, _own_accounts(services)
    commands = catalogue()
    max_age_ms = int(config.adminbot.max_command_age_seconds * 1000)
    store = Store(services.database, clock)
    facts = Facts(
        services.admin, me, bots, config.adminbot.server_admins, config.adminbot.control_rooms
    )
    dispatcher = Dispatcher(
        catalogue=commands,
        facts=facts,
        admin=services.admin,
        store=store,
        trail=AuditTrail(services.database, clock),
        replies=Replies(services.messenger, services.client),
        health=OwnHealth(store, services.database, clock, clock.monotonic()),
        clock=clock,
        server_name=server_name,
    )
    around = Surroundings(
        server_name=server_name,
        own=bots,
        prefixes=config.adminbot.prefixes,
        first_words=commands.first_words,
        now_ms=0,
        max_age_ms=max_age_ms,
    )
    intake = Intake(
        services.crypto, DirectChats(facts), store, clock, around, woken=asyncio.Event()
    )
    worker = Worker(dispatcher, intake, store, clock, max_age_ms)
    alarms = Alarms(services.database, services.messenger, config.adminbot.control_rooms)
    return AdminBot(intake, worker, alarms, services.database)


def _own_accounts(services: Services) -> frozenset[UserId]:
    config = services.config
    names = (
        config.adminbot.localpart,
        config.auditbot.localpart,
        config.appservice.sender_localpart,
    )
    return frozenset(UserId(f"@{name}:{config.homeserver.server_name}") for name in names)
