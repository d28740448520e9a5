"""The bot that takes commands; the only module here that constructs things.

The promise: a command that the homeserver gave us is answered once, after a crash too. What
was recognised is written down in the transaction that moves the cursor; what is written down
is carried out by ``run``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from zoneinfo import ZoneInfo

from adminbot.acting import Acting
from adminbot.activity import Activity
from adminbot.alarms import AdminChats, Alarms
from adminbot.arrivals import TokenArrivals
from adminbot.attached import AttachedTo
from adminbot.audit_trail import AuditTrail
from adminbot.bridging.work import BridgeWork, bridge_work
from adminbot.chance import SystemDice
from adminbot.commands import all_reports, catalogue
from adminbot.commands.protect import own_accounts
from adminbot.dispatch import Dispatcher
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.codec import Codec
from adminbot.engine.intake import Surroundings
from adminbot.engine.supply import Checks, Dice, Doctor, Health, Settings
from adminbot.execution import Execution
from adminbot.exporting import Exporting
from adminbot.facts import Facts
from adminbot.granting import Granting
from adminbot.intake import DirectChats, Intake
from adminbot.jobs import Jobs
from adminbot.known import known_types
from adminbot.later import Later
from adminbot.log_room import LogRoom
from adminbot.messages import Messages
from adminbot.newcomers import Newcomers
from adminbot.outages import Outages
from adminbot.own.later import DoLater
from adminbot.own_health import OwnDoctor, OwnHealth
from adminbot.own_records import OwnRecords
from adminbot.perform import performers
from adminbot.perform_more import more_performers
from adminbot.perform_rooms import RoomPerformers
from adminbot.perform_server import dismissing, server_performers
from adminbot.progress import Showing
from adminbot.registration_watch import RegistrationWatch
from adminbot.replies import Replies
from adminbot.report_watch import ReportWatch
from adminbot.room_export import RoomExport
from adminbot.room_watch import RoomWatch
from adminbot.scheduler import Scheduler
from adminbot.seen_from import SeenFrom
from adminbot.server_acts import ServerActs
from adminbot.storage_watch import StorageWatch
from adminbot.store import Store
from adminbot.telling import Telling
from adminbot.token_watch import TokenWatch
from adminbot.worker import Worker
from common.bots import Services
from common.clock import Clock
from common.config.schema import Config
from common.crypto.port import SessionRef
from common.crypto.sealing import Sealer
from common.database.pool import Connection
from common.i18n import SOURCE, languages
from common.ids import RoomId, UserId
from common.inbox.consumer import Effect, Prepare
from common.inbox.port import Entry
from common.matrix.media import Media
from common.servercheck.check import ServerCheck
from common.servercheck.internet import SafeInternet

Standing = Callable[[], Coroutine[None, None, None]]
Look = Callable[[Sequence[Entry]], Awaitable[Effect]]


@dataclass(frozen=True)
class AdminBot:
    """The bot, as ``common.bots.Bot`` describes it.

    ``standing`` is what it does unasked. ``looking`` looks at every event besides the intake;
    its effects belong to the same transaction.
    """

    intake: Intake
    worker: Worker
    standing: Sequence[Standing]
    looking: Sequence[Look] = ()
    prepare: Prepare | None = None

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Recognise commands and confirmations; the effect writes them down.

        Who else looks, looks first: what is overheard depends on it.
        """
        effects = [await look(entries) for look in self.looking]
        batch = await self.intake.sort(entries)

        async def effect(connection: Connection) -> None:
            await self.intake.keep(connection, batch)
            for each in effects:
                await each(connection)

        return effect

    async def keys_arrived(self, sessions: Collection[SessionRef]) -> None:
        """Read commands that had to wait for these room keys."""
        await self.intake.read_again(sessions)

    async def run(self) -> None:
        """Answer until cancelled, and do the standing work."""
        async with asyncio.TaskGroup() as group:
            for work in self.standing:
                group.create_task(work())
            group.create_task(self.worker.run())


@dataclass(frozen=True)
class _Ground:
    """What everything else stands on."""

    services: Services
    catalogue: Catalogue
    bots: frozenset[UserId]
    facts: Facts
    store: Store
    trail: AuditTrail
    records: OwnRecords
    telling: Telling
    codec: Codec
    sealer: Sealer
    later: Later
    acts: ServerActs
    bridges: BridgeWork
    exporting: Exporting


def create_bot(services: Services) -> AdminBot:
    """Put adminbot together."""
    config, clock, database = services.config, services.clock, services.database
    ground = _ground(services)
    max_age_ms = int(config.adminbot.max_command_age_seconds * 1000)
    around = Surroundings(
        server_name=config.homeserver.server_name,
        own=ground.bots,
        prefixes=config.adminbot.prefixes,
        first_words=ground.catalogue.first_words,
        now_ms=0,
        max_age_ms=max_age_ms,
    )
    in_rooms = RoomWatch(
        database, ground.telling, clock, ground.bots, config.homeserver.server_name
    )
    intake = Intake(
        services.crypto,
        DirectChats(ground.facts),
        ground.store,
        clock,
        around,
        woken=asyncio.Event(),
        overhearing=in_rooms,
    )
    dispatcher = _dispatcher(ground)
    worker = Worker(dispatcher, intake, ground.store, clock, max_age_ms, ground.telling)
    activity = Activity(
        database, clock, services.admin, config.homeserver.server_name, ground.bots
    )
    scheduler = Scheduler(database, clock, ground.store, intake.woken)
    standing = (*_standing(ground), activity.run, scheduler.run, in_rooms.run)

    async def look(entries: Sequence[Entry]) -> Effect:
        return activity.look(entries)

    return AdminBot(intake, worker, standing, (look, in_rooms.look_at, ground.bridges.look))


def _ground(services: Services) -> _Ground:
    config, clock, database = services.config, services.clock, services.database
    bots, admin = own_accounts(config), services.admin
    trail, records = AuditTrail(database, clock), OwnRecords(database)
    facts = Facts(
        admin,
        services.client.user_id,
        bots,
        config.adminbot.server_admins,
        _admin_rooms(config),
    )
    telling = Telling(
        messenger=services.messenger,
        client=services.client,
        facts=facts,
        admin=admin,
        records=records,
        database=database,
        clock=clock,
        default_language=config.adminbot.language,
        secrets_kept_ms=int(config.adminbot.secrets_kept_seconds * 1000),
    )
    codec, sealer = Codec(known_types()), Sealer(config.encryption.pickle_key)
    exporting = Exporting(admin, database, sealer, telling, clock)
    about_rooms = RoomPerformers(
        admin, Media(services.client), bots, config.homeserver.server_name
    )
    speaking = {
        **performers(telling),
        **Acting(telling, admin, services.client, clock).performers(),
        **about_rooms.by_kind(),
        **Granting(admin, records).performers(),
        **exporting.performers(),
        **dismissing(services.keeper, services.client.user_id),
    }
    later = Later(
        database=database,
        clock=clock,
        codec=codec,
        sealer=sealer,
        trail=trail,
        admin=admin,
        records=records,
        performers=speaking,
        telling=telling,
    )
    return _Ground(
        services=services,
        catalogue=catalogue(),
        bots=bots,
        facts=facts,
        store=Store(database, clock),
        trail=trail,
        records=records,
        telling=telling,
        codec=codec,
        sealer=sealer,
        later=later,
        acts=ServerActs(admin, records),
        bridges=bridge_work(services, telling, bots),
        exporting=exporting,
    )


def _dispatcher(ground: _Ground) -> Dispatcher:
    services = ground.services
    config, clock, database = services.config, services.clock, services.database
    replies = Replies(ground.telling)
    jobs = Jobs(database, clock, ground.codec, ground.sealer)
    return Dispatcher(
        catalogue=ground.catalogue,
        facts=ground.facts,
        admin=services.admin,
        store=ground.store,
        trail=ground.trail,
        replies=replies,
        clock=clock,
        server_name=config.homeserver.server_name,
        execution=Execution(
            jobs=jobs,
            trail=ground.trail,
            admin=services.admin,
            records=ground.records,
            performers={
                **ground.later.performers,
                **server_performers(ground.acts, services.keeper),
                **more_performers(services.admin, clock),
                **RoomExport(services.admin, ground.telling).performers(),
                DoLater: ground.later.write_down,
                **ground.bridges.performers,
            },
            reports=all_reports(),
            clock=clock,
        ),
        showing=Showing(replies, jobs, clock),
        attach=partial(
            AttachedTo,
            messages=Messages(services.admin, services.crypto, database),
            files=Media(services.client),
        ),
        reading=partial(Messages, crypto=services.crypto, database=database),
        supplies={
            Health: OwnHealth(ground.store, database, clock, clock.monotonic()),
            Dice: SystemDice(),
            Checks: _checks(config, clock),
            Settings: Settings(config),
            Doctor: OwnDoctor(config, clock),
        },
        two_person=config.adminbot.two_person,
        zone=ZoneInfo(config.adminbot.time_zone),
    )


def _standing(ground: _Ground) -> list[Standing]:
    """Return what is done unasked; first tell what happened to the bots themselves."""
    services = ground.services
    settings, clock, database = services.config.adminbot, services.clock, services.database
    room = settings.trust_and_safety_room
    chats = AdminChats(database, services.admin, ground.facts, ground.bots, settings.server_admins)
    alarms = Alarms(
        database,
        services.messenger,
        settings.control_rooms,
        chats.find,
        languages().get(settings.language, SOURCE),
    )
    watch = ReportWatch(
        services.admin,
        Messages(services.admin, services.crypto, database),
        ground.records,
        ground.telling,
        clock,
        None if room is None else RoomId(room),
    )
    arrivals = TokenArrivals(
        database,
        clock,
        services.admin,
        ground.records,
        ground.acts,
        ground.telling,
        ground.telling.facts,
    )
    newcomers = Newcomers(database, clock, services.admin, ground.records, ground.acts, arrivals)
    registrations = RegistrationWatch(
        database, ground.records, services.admin, ground.telling, clock
    )
    outages = Outages(database, ground.telling)
    tokens = TokenWatch(database, ground.records, services.admin, ground.telling, clock)
    standing = [
        alarms.tell,
        ground.bridges.run,
        ground.later.run,
        watch.run,
        newcomers.run,
        tokens.run,
        registrations.run,
        ground.exporting.run,
        outages.run,
        StorageWatch(database, clock, services.admin).run,
        SeenFrom(database, clock, services.admin, ground.bots, settings.seen_from_days).run,
    ]
    if settings.log_room is not None:
        follower = LogRoom(RoomId(settings.log_room), ground.records, ground.telling)
        standing.append(follower.run)
    return standing


def _checks(config: Config, clock: Clock) -> ServerCheck:
    networks = tuple(ip_network(each) for each in config.adminbot.check_networks)
    return ServerCheck(SafeInternet(exceptions=networks), clock)


def _admin_rooms(config: Config) -> tuple[str, ...]:
    settings = config.adminbot
    reports = settings.trust_and_safety_room
    return tuple(dict.fromkeys([*settings.control_rooms, *([reports] if reports else [])]))
