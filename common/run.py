"""The process: everything is put together here, started, and stopped in order."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import uvloop
from aiohttp import web

from common import identity
from common.appservice.receiver import Receiver
from common.appservice.tally import Tally
from common.clock import SystemClock
from common.config.schema import Config
from common.crypto.helpers import Helpers
from common.database.migrations import upgrade_table
from common.database.only_one import only_one
from common.database.pool import Database, sqlite_file_of
from common.errors import StartOverError, StewardError, TransientError, UserError
from common.inbox.file import open_inbox_file
from common.inbox.port import Source
from common.inbox.space import Space
from common.inbox.store import StoredInbox
from common.life import Process, Readiness
from common.matrix.client import open_session
from common.memory import set_thresholds
from common.reload import Reload
from common.telemetry.log import Log, configure_logging
from common.telemetry.metrics import Metrics, serving

log = Log("run")

_SUPPORT_DOCUMENT = "SELECT value FROM admin_memory WHERE name = 'support-contact'"
"""What adminbot's “contact set” wrote."""

START_OVER_SECONDS = 1.0


def main(config: Config, read: Callable[[], Config]) -> int:
    """Run until a signal comes; return the exit status. ``read`` reads the configuration anew."""
    configure_logging(config.logging.level, as_json=config.logging.json)
    gc.freeze()  # what was imported stays
    set_thresholds()
    uvloop.run(_until_signal(Reload(config, read)))
    return 0


async def _until_signal(reload: Reload) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload.ask)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve(reload))
            await stop.wait()
            log.info("stopping")
            serving.cancel()
    except* StewardError as group_of_errors:
        # One sentence for the person at the terminal: what went wrong first.
        raise _first(group_of_errors) from group_of_errors


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def serve(reload: Reload) -> None:
    """Listen, set the accounts up, and run both bots until cancelled."""
    async with only_one(reload.config.database.url.reveal()):
        await _serve(reload)


async def _serve(reload: Reload) -> None:
    config = reload.config
    clock = SystemClock()
    database = Database(
        config.database.url.reveal(),
        upgrade_table(),
        max_connections=config.database.max_connections,
    )
    await database.start()
    try:
        async with (
            open_session() as session,
            open_inbox_file(config.database.url.reveal(), database, clock) as entries,
        ):
            file = sqlite_file_of(config.database.url.reveal())
            space = Space(
                None if file is None else file.parent,
                config.database.min_free_bytes,
                database,
                clock,
            )
            inbox = StoredInbox(database, clock, space, entries=entries)
            readiness, metrics = Readiness(), Metrics()
            tally = Tally(database, clock)
            await tally.begin(await inbox.newest_position_of(Source.TRANSACTION))
            async with (
                _listening(config, inbox, readiness, database, tally),
                serving(metrics, config.metrics.listen_host, config.metrics.listen_port),
                Helpers(config.encryption.helper_processes) as helpers,
            ):
                while True:
                    process = Process(
                        reload.config, clock, database, inbox, session, readiness, metrics, helpers
                    )
                    try:
                        await _until_changed(process, reload, tally)
                    except* StartOverError as why:
                        log.error("starting over", reason=_first(why))
                    readiness.ready = False
                    await asyncio.sleep(START_OVER_SECONDS)
    finally:
        await database.stop()


async def _until_changed(process: Process, reload: Reload, tally: Tally) -> None:
    """Run until there is another configuration; what the homeserver pushes meanwhile is kept."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(process.run())
        counting = group.create_task(tally.run())
        await reload.changed()
        running.cancel()
        counting.cancel()


@asynccontextmanager
async def _listening(
    config: Config, inbox: StoredInbox, readiness: Readiness, database: Database, tally: Tally
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
        support=partial(database.fetchval, _SUPPORT_DOCUMENT),
        tally=tally,
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
        with suppress(TransientError):
            await tally.save()


async def _listen(runner: web.AppRunner, config: Config) -> None:
    host, port = config.appservice.listen_host, config.appservice.listen_port
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UserError(
            f"Steward cannot listen on {host} port {port} ({error.strerror or error}). Is it "
            "running already? Otherwise change appservice.listen_host or listen_port."
        ) from error
