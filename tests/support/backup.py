"""Secure Backup as a test sees it: the command line, the homeserver's side, our database."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import vodozemac

from common.clock import SystemClock
from common.config.load import load_text
from common.config.schema import Config
from common.crypto.port import KeySource, SessionRef
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.sealing import Sealer
from common.database.pool import Database
from common.demo.steward import StewardProcess
from common.ids import UserId
from common.matrix.client import MatrixClient, connect, open_session
from tests.support.databases import open_database

SECRETS = (
    "m.cross_signing.master",
    "m.cross_signing.self_signing",
    "m.cross_signing.user_signing",
    "m.megolm_backup.v1",
)


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


async def steward_command(steward: StewardProcess, *words: str, given: str = "") -> Said:
    """Run one subcommand beside a Steward, with its configuration."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "common.cli", *words, "--config", str(steward.config_path)),
        cwd=steward.directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate(given.encode())
    return Said(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def steward_running(
    steward: StewardProcess, *words: str, until: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Give a subcommand that has printed a line with this text."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "common.cli", *words, "--config", str(steward.config_path)),
        cwd=steward.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while until not in (line := (await process.stdout.readline()).decode()):
                assert line, "it ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def passphrase_of(steward: StewardProcess, bot: str) -> tuple[str, str]:
    """Return passphrase and recovery key of a bot, as the command shows them."""
    said = await steward_command(steward, "passphrase", bot, "--force")
    assert said.status == 0, said.err
    lines = [line.strip() for line in said.out.splitlines()]
    passphrase = next(line for line in lines if line.startswith("passphrase "))
    recovery_key = next(line for line in lines if line.startswith("recovery key "))
    return (
        passphrase.removeprefix("passphrase ").strip(),
        recovery_key.removeprefix("recovery key ").strip(),
    )


@asynccontextmanager
async def acting_as(steward: StewardProcess, user: UserId) -> AsyncIterator[MatrixClient]:
    """Give a client that acts as a bot beside Steward."""
    config = config_of(steward)
    async with open_session() as session:
        api = connect(
            homeserver_url=config.homeserver.url,
            as_token=config.appservice.as_token,
            sender=UserId(f"@_steward:{config.homeserver.server_name}"),
            session=session,
        )
        yield MatrixClient(api, user)


def config_of(steward: StewardProcess) -> Config:
    return load_text(steward.config_path.read_text(), "the test's configuration")


async def account_data(bot: MatrixClient, event_type: str) -> dict[str, Any]:
    path = f"/_matrix/client/v3/user/{quote(bot.user_id)}/account_data/{quote(event_type)}"
    return await bot.request("GET", path)


async def backup_version(bot: MatrixClient) -> dict[str, Any]:
    return await bot.request("GET", "/_matrix/client/v3/room_keys/version")


async def on_the_server(bot: MatrixClient) -> dict[str, Any]:
    """Return everything of Secure Backup and identity that the homeserver has."""
    default = await account_data(bot, "m.secret_storage.default_key")
    names = (f"m.secret_storage.key.{default['key']}", *SECRETS)
    version = await backup_version(bot)
    keys = await bot.request(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {bot.user_id: []}}
    )
    return {
        "default": default,
        "backup": {name: version[name] for name in ("version", "algorithm", "auth_data")},
        "published": keys,
        **{name: await account_data(bot, name) for name in names},
    }


@asynccontextmanager
async def database_of(steward: StewardProcess) -> AsyncIterator[Database]:
    async with open_database(config_of(steward).database.url.reveal()) as database:
        yield database


async def add_sessions(steward: StewardProcess, bot: UserId, refs: Sequence[SessionRef]) -> None:
    """Put made-up room keys into a Steward's database; the session IDs are made here."""
    store = RoomKeyStore(bot, Sealer(config_of(steward).encryption.pickle_key), SystemClock())
    keys = []
    for ref in refs:
        group = vodozemac.GroupSession()
        inbound = vodozemac.InboundGroupSession(group.session_key)
        name = SessionRef(ref.room_id, group.session_id)
        keys.append(RoomKey(name, "@x:y", ref.session_id, "k", KeySource.DIRECT, inbound))
    async with database_of(steward) as database, database.transaction() as conn:
        for start in range(0, len(keys), 500):
            await store.add(conn, keys[start : start + 500])
