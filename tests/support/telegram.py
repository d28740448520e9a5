"""A real mautrix-telegram, with a small Telegram data centre of ours or with none."""

import asyncio
import json
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from common.config.secret import Secret
from common.demo.process import LOOPBACK, Child, Program
from common.demo.servers import answers, free_port
from common.ids import UserId
from tests.support.heisenbridge import tool

PROGRAMS = Path(__file__).parents[1] / "bridges"
BOT_TOKEN = "2002:fake-bot-token"
RELAY_BOT, CAROL = 2002, 3003
GARDENERS, CYCLISTS = 4004, 5005
"""Groups: the relay bot is in the first, the person joins the second."""


class TelegramDataCentre:
    """One person with a telephone, and carol; use it with ``async with``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.control_port = free_port(), free_port()
        self.public_key = directory / "public.pem"
        private_key = directory / "private.pem"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private_key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        self.public_key.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
        )
        self.child = Child(
            Program(
                name="Telegram's data centre",
                command=[
                    str(tool("mautrix-telegram")),
                    str(PROGRAMS / "telegram_dc.py"),
                    str(self.port),
                    str(self.control_port),
                    str(private_key),
                ],
                log=directory / "telegram-dc.log",
                directory=directory,
                ports=[self.port, self.control_port],
            )
        )

    async def __aenter__(self) -> Self:
        await self.child.start()
        await self.child.wait_until_ready(self._listens, 120)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.child.stop()

    async def scan(self) -> int:
        """Scan the code that is shown; return how many log-ins waited for it."""
        return int((await self._do({"do": "scan"}))["waiting"])

    async def say(self, text: str) -> None:
        """Let carol write to the person."""
        await self._do({"do": "say", "text": text})

    async def sent(self) -> list[str]:
        """Return what was written to people on Telegram."""
        return list((await self._do({"do": "sent"}))["sent"])

    async def sent_by(self, who: int, where: int) -> list[str]:
        """Return what an account wrote to a person or group."""
        sent = (await self._do({"do": "sent"}))["sent_to"]
        return [text for by, to, text in sent if (by, to) == (who, where)]

    async def say_in(self, group: int, text: str) -> None:
        """Let carol write into a group."""
        await self._do({"do": "say in", "group": group, "text": text})

    async def join(self) -> None:
        """Let the person join a group at Telegram."""
        await self._do({"do": "join"})

    async def set_password(self, password: str | None) -> None:
        """Have a password asked for after the code was scanned, or not any more."""
        await self._do({"do": "password", "password": password})

    async def _do(self, order: dict[str, object]) -> Any:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.control_port)
        try:
            writer.write(json.dumps(order).encode() + b"\n")
            return json.loads(await reader.readline())
        finally:
            writer.close()

    async def _listens(self) -> bool:
        try:
            await self.sent()
        except OSError:
            return False
        return True


class MautrixTelegram:
    """The bridge; its registration file is there from the start.

    Without a data centre it is pointed at a port where nothing answers.
    """

    def __init__(
        self,
        directory: Path,
        homeserver_url: str,
        server_name: str,
        *,
        admin: UserId,
        centre: TelegramDataCentre | None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.bot = UserId(f"@telegrambot:{server_name}")
        self.tokens = Secret(secrets.token_urlsafe(32)), Secret(secrets.token_urlsafe(32))
        self.registration_path = directory / "registration.yaml"
        self.registration_path.write_text(json.dumps(self._registration(server_name)))
        config = directory / "config.yaml"
        config.write_text(
            json.dumps(self._config(directory, homeserver_url, server_name, admin, centre))
        )
        key = centre.public_key if centre else _unused_key(directory)
        self.child = Child(
            Program(
                name="mautrix-telegram",
                command=[
                    str(tool("mautrix-telegram")),
                    str(PROGRAMS / "telegram_launch.py"),
                    str(key),
                    "--config",
                    str(config),
                    "--registration",
                    str(self.registration_path),
                    "--no-update",
                ],
                log=directory / "bridge.log",
                directory=directory,
                ports=[self.port],
            )
        )

    async def __aenter__(self) -> Self:
        await self.child.start()
        await self.child.wait_until_ready(
            lambda: answers(f"{self.url}/_matrix/mau/live"), deadline_seconds=120
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.child.stop()

    def _registration(self, server_name: str) -> dict[str, object]:
        # As the bridge generates it: a random sender, the bot and the ghosts as namespaces.
        name = server_name.replace(".", "\\.")
        return {
            "id": "telegram",
            "url": self.url,
            "as_token": self.tokens[0].reveal(),
            "hs_token": self.tokens[1].reveal(),
            "sender_localpart": secrets.token_hex(16),
            "rate_limited": False,
            "namespaces": {
                "users": [
                    {"regex": f"^@telegram_.*:{name}$", "exclusive": True},
                    {"regex": f"^@telegrambot:{name}$", "exclusive": True},
                ],
                "aliases": [{"regex": f"^#telegram_.*:{name}$", "exclusive": True}],
                "rooms": [],
            },
        }

    def _config(
        self,
        directory: Path,
        homeserver_url: str,
        server_name: str,
        admin: UserId,
        centre: TelegramDataCentre | None,
    ) -> dict[str, object]:
        return {
            "homeserver": {
                "address": homeserver_url,
                "domain": server_name,
                "verify_ssl": False,
                "software": "standard",
            },
            "appservice": {
                "address": self.url,
                "hostname": LOOPBACK,
                "port": self.port,
                "database": f"sqlite:{directory / 'bridge.db'}",
                "id": "telegram",
                "bot_username": "telegrambot",
                "bot_avatar": "",
                "as_token": self.tokens[0].reveal(),
                "hs_token": self.tokens[1].reveal(),
                "provisioning": {"enabled": False},
                "ephemeral_events": False,
            },
            "bridge": {
                "username_template": "telegram_{userid}",
                "alias_template": "telegram_{groupname}",
                "displayname_template": "{displayname} (Telegram)",
                "command_prefix": "!tg",
                "permissions": {"*": "full", admin: "admin"},
                "sync_direct_chats": False,
                "relaybot": {"whitelist": []},
                "startup_sync": False,
                "encryption": {"allow": False, "default": False},
                "animated_sticker": {"target": "disable"},
            },
            "telegram": {
                "api_id": 12346,
                "api_hash": secrets.token_hex(16),
                "bot_token": BOT_TOKEN if centre else "disabled",
                "connection": {"timeout": 5, "retries": 2, "retry_delay": 1},
                "server": {
                    "enabled": True,
                    "dc": 2,
                    "ip": LOOPBACK,
                    "port": centre.port if centre else free_port(),
                },
            },
            "logging": {
                "version": 1,
                "formatters": {
                    "line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}
                },
                "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
                "loggers": {"mau": {"level": "DEBUG"}, "telethon": {"level": "INFO"}},
                "root": {"level": "INFO", "handlers": ["console"]},
            },
        }


def _unused_key(directory: Path) -> Path:
    path = directory / "public.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    return path
