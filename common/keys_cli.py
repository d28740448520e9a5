"""``steward passphrase``, ``restore-keys`` and ``login-as``: a bot's keys, for a person.

What these print opens everything the bot can read, so it goes to a terminal only. Showing a
passphrase and making a log-in are written into adminbot's action log before they happen.
"""

import asyncio
import getpass
import json
import os
import pwd
import secrets
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from common import identity
from common.clock import SystemClock
from common.config.environment import environment
from common.config.schema import Config, passphrase_of
from common.config.secret import Secret
from common.crypto.backup_store import BackupStore, KeptStorage
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceKeysDifferError
from common.crypto.recovery import recover_identity
from common.crypto.sealing import Sealer
from common.crypto.secure_backup import Restored
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.errors import StewardError, TransientError, UserError
from common.matrix.client import CLIENT, MatrixClient, connect, open_session

_LONGEST_ADDRESS = 500
_LONGEST_DOCUMENT = 64 * 1024

_LOGIN_TOKENS = """\
{server} gives out no login tokens. Switch them on in homeserver.yaml and restart it:

login_via_existing_session:
  enabled: true
  require_ui_auth: false

An application service's account cannot pass an interactive check, so require_ui_auth must be
false; then every session on that homeserver can make a further one for its own account without
asking for the password again. If that is not wanted, set a password for {user} with the command
“user password” of adminbot or the admin API instead (with “logout_devices”: false, or the bot
loses its device).
"""


def main(arguments: Namespace, config: Config) -> int:
    """Carry one of the commands out."""
    bot: str = arguments.bot
    command: str = arguments.command
    if command == "restore-keys":
        asyncio.run(_restore_keys(config, bot))
        return 0
    if not sys.stdout.isatty() and not arguments.force:
        raise UserError(
            "This is shown on a terminal only, not written into a file or another program. Add "
            "--force if that is what you mean."
        )
    if command == "passphrase":
        asyncio.run(_show_passphrase(config, bot))
        return 0
    return asyncio.run(_log_in_as(config, bot, arguments.element.rstrip("/")))


@dataclass(frozen=True)
class _Desk:
    """What the commands work with: one bot's account, and our own database."""

    config: Config
    bot: str
    account: MatrixClient
    database: Database
    clock: SystemClock = field(default_factory=SystemClock)

    async def kept_storage(self) -> KeptStorage | None:
        """Return what our database knows of the bot's secret storage."""
        store = BackupStore(self.account.user_id, Sealer(self.config.encryption.pickle_key))
        async with self.database.transaction() as conn:
            return await store.storage(conn)


@asynccontextmanager
async def _desk(config: Config, bot: str) -> AsyncIterator[_Desk]:
    settings = config.adminbot if bot == "adminbot" else config.auditbot
    database = Database(config.database.url.reveal(), upgrade_table(), max_connections=2)
    await database.start()
    try:
        async with open_session() as session:
            api = connect(
                homeserver_url=config.homeserver.url,
                as_token=config.appservice.as_token,
                sender=identity.account(config, config.appservice.sender_localpart),
                session=session,
                admin_url=config.homeserver.admin_url,
            )
            user = identity.account(config, settings.localpart)
            yield _Desk(config, bot, MatrixClient(api, user), database)
    finally:
        await database.stop()


async def _show_passphrase(config: Config, bot: str) -> None:
    async with _desk(config, bot) as desk:
        kept = await desk.kept_storage()
        if kept is None:
            raise UserError(
                f"{bot} has no Secure Backup in this database yet: start Steward once, or run "
                f"“steward restore-keys {bot}” if its keys were made with another database."
            )
        async with _noted(desk, f"passphrase {bot}"):
            shown = kept.passphrase.reveal() if kept.passphrase else "(only the key is known)"
            sys.stdout.write(
                f"Secure Backup of {desk.account.user_id}\n\n"
                f"  passphrase    {shown}\n"
                f"  recovery key  {kept.key.recovery_key}\n\n"
                "Either of them opens every room key of this bot. Keep it where neither the\n"
                "database nor the homeserver is, and nobody who may not read everything.\n"
            )


async def _restore_keys(config: Config, bot: str) -> None:
    async with _desk(config, bot) as desk:
        if await desk.kept_storage() is None:
            entered = passphrase_of(config, bot)
            if entered is None:
                entered = await asyncio.to_thread(_ask, desk)
            await recover_identity(
                desk.account,
                database=desk.database,
                sealer=Sealer(config.encryption.pickle_key),
                entered=entered,
            )
            _say(f"The identity of {desk.account.user_id} is recovered.")
        else:
            _say(f"This database has the identity of {desk.account.user_id} already.")
        restored = await _set_up_and_restore(desk)
        _say(
            f"Version {restored.version} of the key backup holds {restored.found} room keys: "
            f"{len(restored.new)} are new or better than before, {restored.unusable} unusable."
        )
        _say("Start Steward now, or restart it: it then reads what was waiting for these keys.")


async def _set_up_and_restore(desk: _Desk) -> Restored:
    try:
        crypto = await _device(desk)
    except DeviceKeysDifferError:
        # Clients refuse a device whose keys change, so it gets a new one.
        await identity.forget_device(desk.database, desk.clock, desk.account.user_id)
        crypto = await _device(desk)
    _say(f"Its device {crypto.me.device_id} is signed. Restoring room keys …")
    return await crypto.backup.restore(_show_progress)


async def _device(desk: _Desk) -> CryptoMachine:
    """Return the encryption of the bot's device, set up and signed by its identity."""
    config = desk.config
    settings = config.adminbot if desk.bot == "adminbot" else config.auditbot
    device_id = await identity.ensure_device(
        desk.account, desk.database, desk.clock, name=f"Steward {settings.displayname}"
    )
    crypto = CryptoMachine(
        client=desk.account.with_device(device_id),
        database=desk.database,
        clock=desk.clock,
        pickle_key=config.encryption.pickle_key,
        one_time_keys=config.encryption.one_time_keys,
        session_cache=config.encryption.session_cache,
        passphrase=passphrase_of(config, desk.bot),
    )
    await crypto.set_up()
    return crypto


def _ask(desk: _Desk) -> Secret:
    """Read the passphrase: from a terminal without showing it, or the first line of input."""
    prompt = f"Passphrase or recovery key of {desk.account.user_id}: "
    text = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip():
        raise UserError(
            "No passphrase was given. Type it, send it to standard input, or set "
            f"encryption.{desk.bot}_passphrase."
        )
    return Secret(text.strip())


def _show_progress(done: int, total: int) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{done} of {total} room keys{chr(10) if done == total else ''}")
        sys.stdout.flush()
    elif done == total or done % 10_000 == 0:
        _say(f"{done} of {total} room keys")


async def _log_in_as(config: Config, bot: str, element: str) -> int:
    async with _desk(config, bot) as desk:
        user = desk.account.user_id
        if not await _gives_login_tokens(desk.account):
            sys.stderr.write(_LOGIN_TOKENS.format(server=config.homeserver.server_name, user=user))
            return 1
        async with _noted(desk, f"login-as {bot}"):
            answer = await _login_token(desk.account)
        public = await public_address(
            config.homeserver.server_name, config.homeserver.url, _fetch_json
        )
        sys.stdout.write(_instructions(desk, element, answer, public))
        return 0


async def public_address(
    server_name: str, own: str, fetch: Callable[[str], Awaitable[object]]
) -> str:
    """Return where clients reach the homeserver, which may not be where Steward does.

    Source: specification, client-server API, "Well-known URI".

    Args:
        server_name: the part after the colon in user IDs
        own: Steward's address of it, which is returned where no other is published
        fetch: gets and parses the document at an address; ``None`` if there is none
    """
    said = await fetch(f"https://{server_name}/.well-known/matrix/client")
    address = said.get("m.homeserver") if isinstance(said, dict) else None
    base = address.get("base_url") if isinstance(address, dict) else None
    if not isinstance(base, str) or not base.isascii() or not base.isprintable():
        return own
    is_address = len(base) <= _LONGEST_ADDRESS and base.startswith(("https://", "http://"))
    return base.rstrip("/") if is_address and " " not in base else own


async def _fetch_json(url: str) -> object:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(url) as response,
        ):
            if response.status != HTTPStatus.OK:
                return None
            return json.loads(await response.content.read(_LONGEST_DOCUMENT))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError):
        return None


async def _gives_login_tokens(account: MatrixClient) -> bool:
    answer = await account.request("GET", f"{CLIENT}/v3/capabilities")
    capability = answer.get("capabilities", {}).get("m.get_login_token", {})
    return capability.get("enabled") is True


async def _login_token(account: MatrixClient) -> dict[str, Any]:
    """``POST /login/get_token`` (specification, "Token-authenticated user login"; MSC3882)."""
    try:
        return await account.request("POST", f"{CLIENT}/v1/login/get_token", {})
    except TransientError as error:
        wait = error.retry_after_ms
        again = f" Try again in {wait / 1000:.0f} seconds." if wait is not None else ""
        raise UserError(
            f"The homeserver made no login token ({error}).{again} It makes one a minute for each "
            "account, and for an application service only with “require_ui_auth: false” below "
            "login_via_existing_session in homeserver.yaml."
        ) from error


def _instructions(desk: _Desk, element: str, answer: dict[str, Any], public: str) -> str:
    token = str(answer["login_token"])
    minutes = int(answer.get("expires_in_ms", 0)) / 60_000
    place = f"{element or 'https://YOUR-ELEMENT'}/?loginToken={token}"
    homeserver = json.dumps(public)
    return (
        f"One log-in as {desk.account.user_id}, good for {minutes:g} minutes, in Element Web:\n\n"
        f"1. Open {element or 'your Element Web'} in a private window. Element takes a token only\n"
        "   when it knows the homeserver: open the browser's console (F12) and enter (with another\n"
        "   address, if people reach the homeserver under another one)\n"
        f'     localStorage.setItem("mx_sso_hs_url", {homeserver})\n'
        "2. Open, in the same window,\n"
        f"     {place}\n"
        "3. When Element asks for the recovery key, enter the passphrase that\n"
        f"   “steward passphrase {desk.bot}” shows. Sign out when you are done, of this session\n"
        "   only: the other one is the bot's own.\n"
    )


@asynccontextmanager
async def _noted(desk: _Desk, command: str) -> AsyncIterator[None]:
    """Write an act at the terminal into adminbot's action log, before it and after it."""
    act = f"terminal-{secrets.token_hex(8)}"
    await _note(desk, act, "about to", command)
    try:
        yield
    except StewardError as error:
        await _note(desk, act, "failed", command, str(error))
        raise
    await _note(desk, act, "did", command)


async def _note(desk: _Desk, act: str, phase: str, command: str, detail: str = "") -> None:
    async with desk.database.transaction() as conn:
        await conn.execute(
            "INSERT INTO admin_action"
            " (event_id, phase, step, at_ms, room_id, sender, command, detail)"
            " VALUES ($1, $2, 0, $3, '', $4, $5, $6)",
            act,
            phase,
            desk.clock.now_ms(),
            f"terminal:{_operator()}",
            f"steward {command}",
            detail,
        )


def _operator() -> str:
    """Return who sits at the terminal, as far as the machine knows."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    through = environment().get("SUDO_USER", "")
    return f"{through} as {name}" if through else name


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
