"""The process: everything is put together here, started, and stopped in order."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import aiohttp
from aiohttp import web
from mautrix.appservice import AppServiceAPI

from common import identity
from common.appservice.receiver import Receiver
from common.bots import Bot, Services, installed_bots
from common.clock import Clock, SystemClock
from common.config.schema import Adminbot, Auditbot, Config
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceGoneError, DeviceKeysDifferError
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.errors import StewardError, TransientError, UserError
from common.feeds.device import KEY_KINDS, DeviceKeys
from common.feeds.keys import KeyFeed
from common.feeds.timeline import TimelineFeed
from common.homeserver.client import AdminClient
from common.ids import DeviceId
from common.inbox.consumer import Consumer, Effect, Handler
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal
from common.inbox.store import StoredInbox
from common.matrix.client import CLIENT, MatrixClient, MatrixError, connect, segment
from common.matrix.messenger import Messenger
from common.membership.keeper import Keeper
from common.membership.schedule import notify_every
from common.telemetry.log import Log, configure_logging

log = Log("run")

KEEP_ENTRIES_MS = 24 * 3600 * 1000
"""How long the inbox keeps what everybody has dealt with, for a look after a fault."""

PRUNE_SECONDS = 600.0
LONGEST_WAIT_SECONDS = 10.0

_T = TypeVar("_T")


def main(config: Config) -> int:
    """Run until a signal comes; return the exit status."""
    configure_logging(config.logging.level, as_json=config.logging.json)
    asyncio.run(_until_signal(config))
    return 0


async def _until_signal(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve(config))
            await stop.wait()
            log.info("stopping")
            serving.cancel()
    except* StewardError as group_of_errors:
        # One sentence for the person at the terminal: what went wrong first.
        raise _first(group_of_errors) from group_of_errors


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@dataclass
class Readiness:
    """Whether start-up is finished, for the health check."""

    ready: bool = False


async def serve(config: Config) -> None:
    """Listen, set the accounts up, and run both bots until cancelled."""
    clock = SystemClock()
    database = Database(
        config.database.url.reveal(),
        upgrade_table(),
        max_connections=config.database.max_connections,
    )
    await database.start()
    try:
        async with aiohttp.ClientSession() as session:
            inbox, readiness = StoredInbox(database, clock), Readiness()
            async with _listening(config, inbox, readiness):
                while True:
                    process = Process(config, clock, database, inbox, session, readiness)
                    try:
                        await process.run()
                    except* DeviceGoneError:
                        log.error("a device was deleted on the homeserver; starting over")
    finally:
        await database.stop()


@asynccontextmanager
async def _listening(
    config: Config, inbox: StoredInbox, readiness: Readiness
) -> AsyncIterator[None]:
    names = (
        config.appservice.sender_localpart,
        config.adminbot.localpart,
        config.auditbot.localpart,
    )
    receiver = Receiver(
        inbox=inbox,
        hs_token=config.appservice.hs_token,
        accounts=frozenset(identity.account(config, name) for name in names),
        max_body_bytes=config.appservice.max_body_bytes,
        ready=lambda: readiness.ready,
    )
    runner = web.AppRunner(receiver.application(), access_log=None)
    await runner.setup()
    try:
        await _listen(runner, config)
        log.info(
            "listening",
            host=config.appservice.listen_host,
            port=config.appservice.listen_port,
        )
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, config: Config) -> None:
    host, port = config.appservice.listen_host, config.appservice.listen_port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UserError(
            f"Steward cannot listen on {host} port {port} ({error.strerror or error}). Is it "
            "running already? Otherwise change appservice.listen_host or listen_port."
        ) from error


@dataclass(frozen=True)
class Assembled:
    """One bot with everything that makes it work."""

    bot: Bot
    client: MatrixClient
    feed: KeyFeed
    events: Consumer


@dataclass
class Process:
    """One life of the process: from setting the accounts up until something ends it."""

    config: Config
    clock: Clock
    database: Database
    inbox: StoredInbox
    session: aiohttp.ClientSession
    readiness: Readiness

    async def run(self) -> None:
        """Set up, waiting for a homeserver that is away, then run until cancelled."""
        api = connect(
            homeserver_url=self.config.homeserver.url,
            as_token=self.config.appservice.as_token,
            sender=identity.account(self.config, self.config.appservice.sender_localpart),
            session=self.session,
        )
        reconnected, sweep_now = Signal(), Signal()
        admin_account = await self._patiently(partial(self._accounts, api))
        admin = AdminClient(admin_account)
        names = self._enabled()
        bots = [
            # One feed speaks for all: an outage is one outage.
            await self._patiently(
                partial(
                    self._assemble,
                    name,
                    api,
                    admin,
                    reconnected if name == names[-1] else Signal(),
                )
            )
            for name in names
        ]
        keeper = Keeper(
            bots=[bot.client for bot in bots],
            admin=admin,
            settings=self.config.rooms,
            server_name=self.config.homeserver.server_name,
            database=self.database,
            clock=self.clock,
            sweep_now=sweep_now,
        )
        await self._patiently(keeper.start)
        schedule = notify_every(self.config.rooms.sweep_interval_seconds, sweep_now)
        try:
            await self._work(api, bots, keeper, reconnected)
        finally:
            schedule.shutdown(wait=False)

    async def _work(
        self,
        api: AppServiceAPI,
        bots: Sequence[Assembled],
        keeper: Keeper,
        reconnected: Signal,
    ) -> None:
        reader = bots[-1].client
        membership = self._consumer("membership", (EntryKind.EVENT,), keeper.handle)
        timelines = TimelineFeed(
            client=reader,
            inbox=self.inbox,
            database=self.database,
            clock=self.clock,
            interval_seconds=self.config.feeds.reconcile_interval_seconds,
            reconnected=reconnected,
            push_behind=Signal(),
            on_invited=keeper.ask_for,
        )
        readers = [membership.reader, *(bot.events.reader for bot in bots)]
        readers += [f"keys:{bot.client.user_id}" for bot in bots]
        async with asyncio.TaskGroup() as group:
            for bot in bots:
                group.create_task(bot.feed.run())
                group.create_task(bot.events.run())
                group.create_task(bot.bot.run())
            group.create_task(membership.run())
            group.create_task(keeper.run())
            group.create_task(timelines.run())
            group.create_task(
                self._after_outages(reconnected, keeper.sweep_now, timelines.push_behind)
            )
            group.create_task(self._ping(api, timelines.push_behind))
            group.create_task(self._prune(readers))
            self.readiness.ready = True
            log.info("running", bots=", ".join(bot.client.user_id for bot in bots))

    def _enabled(self) -> list[str]:
        """Return the bots to run, adminbot first: it leads into rooms, auditbot reads last."""
        found = installed_bots()
        return [name for name in sorted(found) if self._settings(name).enabled]

    def _settings(self, name: str) -> Adminbot | Auditbot:
        return self.config.adminbot if name == "adminbot" else self.config.auditbot

    async def _accounts(self, api: AppServiceAPI) -> MatrixClient:
        """Register the three accounts; return adminbot's, a server admin where possible."""
        sender = MatrixClient(
            api, identity.account(self.config, self.config.appservice.sender_localpart)
        )
        await identity.ensure_registered(sender)
        for name in ("adminbot", "auditbot"):
            settings = self._settings(name)
            client = MatrixClient(api, identity.account(self.config, settings.localpart))
            await identity.ensure_registered(client)
            await identity.ensure_profile(
                client, displayname=settings.displayname, avatar_url=settings.avatar_url
            )
        adminbot = MatrixClient(api, identity.account(self.config, self.config.adminbot.localpart))
        await identity.ensure_server_admin(
            adminbot, self.config.homeserver.registration_shared_secret
        )
        return adminbot

    async def _assemble(
        self, name: str, api: AppServiceAPI, admin: AdminClient, reconnected: Signal
    ) -> Assembled:
        settings = self._settings(name)
        account = MatrixClient(api, identity.account(self.config, settings.localpart))
        device_id = await identity.ensure_device(
            account, self.database, name=f"Steward {settings.displayname}"
        )
        client = account.with_device(device_id)
        crypto = CryptoMachine(
            database=self.database,
            client=client,
            clock=self.clock,
            pickle_key=self.config.encryption.pickle_key,
            one_time_keys=self.config.encryption.one_time_keys,
            session_cache=self.config.encryption.session_cache,
        )
        try:
            await crypto.set_up()
        except DeviceKeysDifferError as error:
            # The database is a new or an older one. Clients refuse a device whose keys change.
            await identity.forget_device(self.database, account.user_id)
            raise DeviceGoneError(str(error)) from error
        bot = installed_bots()[name](
            Services(
                config=self.config,
                clock=self.clock,
                database=self.database,
                client=client,
                crypto=crypto,
                messenger=Messenger(client, crypto),
                admin=admin,
            )
        )
        return self._joined_up(
            name=name,
            bot=bot,
            client=client,
            device_id=device_id,
            crypto=crypto,
            reconnected=reconnected,
        )

    def _joined_up(
        self,
        *,
        name: str,
        bot: Bot,
        client: MatrixClient,
        device_id: DeviceId,
        crypto: CryptoMachine,
        reconnected: Signal,
    ) -> Assembled:
        keys = DeviceKeys(
            crypto=crypto,
            make_consumer=partial(
                self._consumer,
                f"keys:{client.user_id}",
                KEY_KINDS,
                recipient=client.user_id,
            ),
            on_sessions=bot.keys_arrived,
        )
        feed = KeyFeed(
            client=client,
            device_id=device_id,
            inbox=self.inbox,
            database=self.database,
            settle=keys.settle,
            reconnected=reconnected,
        )
        keys.catch_up = feed.catch_up

        async def handle(entries: Sequence[Entry]) -> Effect:
            await keys.before(entries)
            return await bot.handle(entries)

        return Assembled(bot, client, feed, self._consumer(name, (EntryKind.EVENT,), handle))

    def _consumer(
        self,
        reader: str,
        kinds: Sequence[EntryKind],
        handle: Handler,
        *,
        recipient: str = "",
    ) -> Consumer:
        return Consumer(
            reader=reader,
            kinds=kinds,
            handle=handle,
            inbox=self.inbox,
            database=self.database,
            clock=self.clock,
            recipient=recipient,
        )

    async def _patiently(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a step of the start until the homeserver is there."""
        wait_seconds = 0.5
        while True:
            try:
                return await attempt()
            except TransientError as error:
                log.warning("the start waits", wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)

    async def _after_outages(
        self, reconnected: Signal, sweep_now: Signal, push_behind: Signal
    ) -> None:
        while True:
            await reconnected.changed(reconnected.count)
            sweep_now.notify()
            push_behind.notify()

    async def _ping(self, api: AppServiceAPI, push_behind: Signal) -> None:
        """Have the homeserver push now instead of waiting out its back-off.

        A ping that it can answer makes it retry (specification, ``POST
        /appservice/{id}/ping``). Three pings, because it may begin its back-off a moment after
        the first.
        """
        sender = MatrixClient(
            api, identity.account(self.config, self.config.appservice.sender_localpart)
        )
        while True:
            seen = push_behind.count
            for wait_seconds in (0.0, 1.0, 4.0):
                await asyncio.sleep(wait_seconds)
                try:
                    await sender.request(
                        "POST",
                        f"{CLIENT}/v1/appservice/{segment(self.config.appservice.id)}/ping",
                        {"transaction_id": f"steward-{self.clock.now_ms()}"},
                    )
                except (MatrixError, TransientError) as error:
                    log.error(
                        "the homeserver cannot reach Steward; `steward doctor` says what to mend",
                        reason=error,
                    )
            await push_behind.changed(seen)

    async def _prune(self, readers: Sequence[str]) -> None:
        while True:
            with suppress(TransientError):
                await self.inbox.prune(
                    readers, older_than_ms=self.clock.now_ms() - KEEP_ENTRIES_MS
                )
            await asyncio.sleep(PRUNE_SECONDS)
