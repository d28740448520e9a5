"""A real IRC server (ngIRCd, of Debian) on loopback, and people who talk on it."""

import asyncio
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from common.demo.process import LOOPBACK, Child, Program, ServerError
from common.demo.servers import free_port
from common.demo.waiting import wait_for

_DEADLINE_SECONDS = 60.0

_CONFIG = """\
[Global]
    Name = irc.steward.localhost
    Info = of the tests
    Listen = {host}
    Ports = {port}
    MotdPhrase = "of the tests"
[Limits]
    MaxConnectionsIP = 0
    MaxJoins = 0
    MaxNickLength = 30
[Options]
    DNS = no
    Ident = no
    PAM = no
    SyslogFacility = local1
"""


class IrcServer:
    """ngIRCd; use it with ``async with``."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("ngircd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            raise ServerError("The program “ngircd” is missing: apt-get install ngircd")
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "ngircd.conf"
        config.write_text(_CONFIG.format(host=LOOPBACK, port=self.port))
        self.child = Child(
            Program(
                name="ngIRCd",
                command=[program, "--nodaemon", "--config", str(config)],
                log=directory / "ngircd.log",
                directory=directory,
                ports=[self.port],
            )
        )

    async def __aenter__(self) -> Self:
        await self.child.start()
        await self.child.wait_until_ready(self._answers, 60)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.child.stop()

    async def person(self, nick: str = "") -> "IrcPerson":
        """Connect somebody; close them, or use them with ``async with``."""
        return await IrcPerson.connect(self.port, nick or f"irc{secrets.token_hex(3)}")

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        return True


class IrcPerson:
    """Somebody on IRC: what they say, and every line they were sent."""

    def __init__(
        self, nick: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.nick = nick
        self.lines: list[str] = []
        self._reader, self._writer = reader, writer
        self._reading = asyncio.create_task(self._read())  # noqa: TID251  # ends with close()

    @classmethod
    async def connect(cls, port: int, nick: str) -> Self:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        person = cls(nick, reader, writer)
        person.say(f"NICK {nick}")
        person.say(f"USER {nick} 0 * :{nick}")
        await person.wait_for(lambda line: " 001 " in line, "the welcome")
        return person

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()

    def say(self, line: str) -> None:
        """Send one line of the protocol."""
        self._writer.write(f"{line}\r\n".encode())

    async def join(self, channel: str) -> None:
        """Enter a channel."""
        self.say(f"JOIN {channel}")
        await self.wait_for(
            lambda line: " 366 " in line and channel in line, f"being in {channel}"
        )

    def message(self, channel: str, text: str) -> None:
        """Say something in a channel."""
        self.say(f"PRIVMSG {channel} :{text}")

    async def wait_for_message(self, channel: str, containing: str) -> str:
        """Wait until somebody has said this in a channel; return the line."""
        return await self.wait_for(
            lambda line: f"PRIVMSG {channel} " in line and containing in line,
            f"“{containing}” in {channel}",
        )

    async def wait_for(self, wanted: Callable[[str], bool], what: str) -> str:
        """Wait for a line like this."""

        def found() -> str | None:
            return next((line for line in self.lines if wanted(line)), None)

        line = await wait_for(found, _DEADLINE_SECONDS, f"{what} for {self.nick} on IRC")
        assert line is not None
        return line

    async def _read(self) -> None:
        while line := await self._reader.readline():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if text.startswith("PING"):
                self.say(text.replace("PING", "PONG", 1))
            self.lines.append(text)
