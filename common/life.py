"""One life of the process: both bots put together and run, until something ends it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import aiohttp

from common import identity
from common.bots import Bot, Services, installed_bots
from common.clock import Clock
from common.config.schema import Adminbot, Auditbot, Config, passphrase_of
from common.crypto.bundles import KeyBundles
from common.crypto.helpers import Helpers
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceGoneError, DeviceKeysDifferError, SessionRef
from common.crypto.recovery import set_up
from common.crypto.secure_backup import SecureBackup
from common.crypto.sharing import ShareWith
from common.crypto.verification_board import VerificationBoard
from common.crypto.verifier import Verifier
from common.crypto.wire import Wire
from common.database.pool import Database
from common.errors import TransientError
from common.feeds.device import KEY_KINDS, DeviceKeys
from common.feeds.keys import KeyFeed
from common.feeds.timeline import TimelineFeed
from common.homeserver.client import AdminClient
from common.homeserver.sender import SenderRequests
from common.ids import DeviceId
from common.inbox.consumer import Consumer, Effect, Handler, Prepare, Retries
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal
from common.inbox.store import Reader, StoredInbox
from common.matrix.client import (
    CLIENT,
    Access,
    MatrixClient,
    MatrixError,
    connect,
    segment,
)
from common.matrix.media import Media
from common.matrix.messenger import Messenger
from common.membership.keeper import Keeper
from common.membership.schedule import notify_every
from common.telemetry.log import Log
from common.telemetry.metrics import Metrics

log = Log("run")

AUDIT_KINDS = (EntryKind.EVENT, EntryKind.GRAPH, EntryKind.RECEIPT)
"""What auditbot reads."""

KEEP_ENTRIES_MS = 24 * 3600 * 1000
"""How long the inbox keeps what everybody has dealt with, for a look after a fault."""

PRUNE_SECONDS = 600.0
LONGEST_WAIT_SECONDS = 10.0

_T = TypeVar("_T")


@dataclass
class Readiness:
    """Whether start-up is finished, for the health check."""

    ready: bool = False


@dataclass(frozen=True)
class Assembled:
    """One bot with everything that makes it work."""

    bot: Bot
    client: MatrixClient
    feed: KeyFeed
    events: Consumer
    verifier: Verifier
    backup: SecureBackup
    bundles: KeyBundles


@dataclass
class Process:
    """One life of the process: from setting the accounts up until something ends it."""

    config: Config
    clock: Clock
    database: Database
    inbox: StoredInbox
    session: aiohttp.ClientSession
    readiness: Readiness
    metrics: Metrics
    helpers: Helpers

    async def run(self) -> None:
        """Set up, waiting for a homeserver that is away, then run until cancelled."""
        sender = identity.account(self.config, self.config.appservice.sender_localpart)
        api = connect(
            homeserver_url=self.config.homeserver.url,
            as_token=self.config.appservice.as_token,
            sender=sender,
            session=self.session,
            admin_url=self.config.homeserver.admin_url,
        )
        self.metrics.sources, self.metrics.asked = (), ()
        reconnected, sweep_now = Signal(), Signal()
        admin_account = await self._patiently(partial(self._accounts, api))
        admin = AdminClient(admin_account, sender=SenderRequests(admin_account, sender))
        clients: list[MatrixClient] = []
        keeper = Keeper(
            bots=clients,
            admin=admin,
            settings=self.config.rooms,
            server_name=self.config.homeserver.server_name,
            database=self.database,
            clock=self.clock,
            sweep_now=sweep_now,
            deputy=MatrixClient(api, sender),
        )
        names = self._enabled()
        bots = [
            # One feed speaks for all: an outage is one outage.
            await self._patiently(
                partial(
                    self._assemble,
                    name,
                    api,
                    admin,
                    keeper,
                    reconnected if name == names[-1] else Signal(),
                )
            )
            for name in names
        ]
        clients += [bot.client for bot in bots]
        await self._patiently(keeper.start)
        schedule = notify_every(self.config.rooms.sweep_interval_seconds, sweep_now)
        try:
            await self._work(api, bots, keeper, reconnected)
        finally:
            schedule.shutdown(wait=False)

    async def _work(
        self,
        api: Access,
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
            interval_seconds=self.config.feeds.reconcile_interval_seconds,
            reconnected=reconnected,
            push_behind=Signal(),
            on_invited=keeper.ask_for,
            graph="auditbot" in self._enabled(),
            receipts="auditbot" in self._enabled() and self.config.auditbot.receipts,
        )
        readers = [
            Reader(each.reader, each.kinds, each.recipient)
            for each in (membership, *(bot.events for bot in bots))
        ]
        readers += [
            Reader(f"keys:{bot.client.user_id}", KEY_KINDS, bot.client.user_id) for bot in bots
        ]
        async with asyncio.TaskGroup() as group:
            for bot in bots:
                group.create_task(bot.feed.run())
                group.create_task(bot.events.run())
                group.create_task(bot.bot.run())
                group.create_task(bot.verifier.run())
                group.create_task(bot.backup.run(bot.bot.keys_arrived))
                group.create_task(bot.bundles.run(Media(bot.client), bot.bot.keys_arrived))
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

    async def _accounts(self, api: Access) -> MatrixClient:
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
            adminbot, self.database, self.config.homeserver.registration_shared_secret
        )
        return adminbot

    async def _assemble(
        self, name: str, api: Access, admin: AdminClient, keeper: Keeper, reconnected: Signal
    ) -> Assembled:
        settings = self._settings(name)
        account = MatrixClient(api, identity.account(self.config, settings.localpart))
        device_id = await identity.ensure_device(
            account, self.database, self.clock, name=f"Steward {settings.displayname}"
        )
        client = account.with_device(device_id)
        crypto = CryptoMachine(
            database=self.database,
            client=client,
            clock=self.clock,
            pickle_key=self.config.encryption.pickle_key,
            one_time_keys=self.config.encryption.one_time_keys,
            session_cache=self.config.encryption.session_cache,
            passphrase=passphrase_of(self.config, name),
            share_with=ShareWith(self.config.encryption.share_keys_with),
            helpers=self.helpers,
        )
        self.metrics.sources = (*self.metrics.sources, crypto.samples)
        try:
            await set_up(crypto, client, self.database, self.config.encryption.pickle_key)
        except DeviceKeysDifferError as error:
            # The database is a new or an older one. Clients refuse a device whose keys change.
            await identity.forget_device(self.database, self.clock, account.user_id)
            raise DeviceGoneError(str(error)) from error
        bot = installed_bots()[name](
            Services(
                config=self.config,
                clock=self.clock,
                database=self.database,
                inbox=self.inbox,
                client=client,
                crypto=crypto,
                messenger=Messenger(client, crypto),
                admin=admin,
                keeper=keeper,
                metrics=self.metrics,
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
        async def keys_arrived(sessions: frozenset[SessionRef]) -> None:
            crypto.backup.woken.notify()
            await bot.keys_arrived(sessions)

        keys = DeviceKeys(
            crypto=crypto,
            make_consumer=partial(
                self._consumer,
                f"keys:{client.user_id}",
                KEY_KINDS,
                recipient=client.user_id,
            ),
            on_sessions=keys_arrived,
            retries=Retries(self.clock),
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
            for entry in entries:
                if entry.kind is EntryKind.EVENT:
                    crypto.verification_mail.put_event(entry.body)
            return await bot.handle(entries)

        kinds = AUDIT_KINDS if name == "auditbot" else (EntryKind.EVENT,)
        # Its own entries too: what only the archive missed is given to it alone.
        events = self._consumer(name, kinds, handle, recipient=client.user_id, prepare=bot.prepare)
        verifier = self._verifier(client, crypto)
        return Assembled(bot, client, feed, events, verifier, crypto.backup, crypto.bundles)

    def _verifier(self, client: MatrixClient, crypto: CryptoMachine) -> Verifier:
        app, config = self.config.appservice, self.config
        names = (app.sender_localpart, config.adminbot.localpart, config.auditbot.localpart)
        return Verifier(
            client.user_id,
            mail=crypto.verification_mail,
            own_keys=crypto.own_keys,
            wire=Wire(client),
            rooms=client,
            messenger=Messenger(client, crypto),
            bots=[identity.account(config, name) for name in names],
            board=VerificationBoard(client.user_id, self.database, self.clock),
            clock=self.clock,
        )

    def _consumer(
        self,
        reader: str,
        kinds: Sequence[EntryKind],
        handle: Handler,
        *,
        recipient: str = "",
        prepare: Prepare | None = None,
    ) -> Consumer:
        return Consumer(
            reader, kinds, handle, self.inbox, self.database, self.clock, recipient, prepare
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

    async def _ping(self, api: Access, push_behind: Signal) -> None:
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

    async def _prune(self, readers: Sequence[Reader]) -> None:
        while True:
            with suppress(TransientError):
                await self.inbox.prune(
                    readers, older_than_ms=self.clock.now_ms() - KEEP_ENTRIES_MS
                )
            await asyncio.sleep(PRUNE_SECONDS)
