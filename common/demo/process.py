"""Child processes that never outlive us and whose output is kept for the day they fail."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.demo.waiting import wait_for
from common.errors import StewardError

LOOPBACK = "127.0.0.1"

_LAUNCHER = Path(__file__).with_name("launch.py")
_TAIL_BYTES = 16_384


class ServerError(StewardError):
    """A child process did not start, or ended by itself."""


class Running(Protocol):
    """A process that was started, as :class:`asyncio.subprocess.Process` shows it."""

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group, too."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit status, if it has ended; minus a signal's number if that ended it."""
        ...

    async def wait(self) -> int:
        """Wait until it ends, and return its exit status."""
        ...

    def send_signal(self, signal: int) -> None:
        """Send it a signal."""
        ...


async def _spawn(program: "Program") -> Running:
    """Start a program in a session of its own."""
    with program.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *program.launch_command(),
            cwd=program.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run and where its output goes.

    ``user`` makes it run as another system user (only root may ask for that); ``log`` receives
    standard output and error, appended over restarts; ``ports`` are the TCP ports on loopback
    that it will listen on; ``start`` is how it is started, in a session of its own.
    """

    name: str
    command: Sequence[str]
    log: Path
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    ports: Sequence[int] = ()
    start: Callable[["Program"], Awaitable[Running]] = _spawn

    def launch_command(self) -> list[str]:
        """Return the command that ties the program's life to this process, then runs it."""
        order = {
            "parent": os.getpid(),
            "user": self.user,
            "environment": dict(self.environment),
            "command": list(self.command),
        }
        return [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order)]

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class Child:
    """A program that can be started, asked to stop, killed, and started again.

    It runs in a session of its own, so that Ctrl-C reaches only us and we stop it in order; if
    we are killed, the kernel kills it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: Running | None = None
        for port in program.ports:
            weakref.finalize(self, _reserve(port).close)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def returncode(self) -> int | None:
        """The exit status of the last run, if it has ended."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start the program; it must not be running."""
        if self.running:
            raise ServerError(f"{self.program.name} is running already.")
        self._process = await self.program.start(self.program)

    async def wait_until_ready(
        self, is_ready: Callable[[], Awaitable[bool]], deadline_seconds: float
    ) -> None:
        """Wait until the program answers.

        Raises:
            ServerError: it ended, or was not ready in time; with the end of its log.
        """

        async def ready_or_ended() -> bool:
            return not self.running or await is_ready()

        name = self.program.name
        try:
            await wait_for(ready_or_ended, deadline_seconds, name)
        except TimeoutError:
            raise ServerError(
                f"{name} was not ready within {deadline_seconds:g} s. The end of its log:\n"
                f"{self.program.tail()}"
            ) from None
        if not self.running:
            raise ServerError(
                f"{name} ended with status {self.returncode}. The end of its log:\n"
                f"{self.program.tail()}"
            )

    async def wait(self, deadline_seconds: float) -> int:
        """Wait until it ends by itself and return its exit status."""
        if self._process is None:
            raise ServerError(f"{self.program.name} was never started.")
        async with asyncio.timeout(deadline_seconds):
            return await self._process.wait()

    async def stop(
        self, *, grace_seconds: float = 5, request: signal.Signals = signal.SIGTERM
    ) -> None:
        """Ask it to end, then make it; does nothing if it has ended."""
        process = self._process
        if process is None or not self.running:
            return
        process.send_signal(request)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await process.wait()
        finally:
            await _kill_group(process)  # also what it left behind

    async def kill(self) -> None:
        """End it and whatever it started with SIGKILL, as a power cut would."""
        if self._process is not None and self.running:
            await _kill_group(self._process)


def _reserve(port: int) -> socket.socket:
    """Keep ``free_ports`` from giving away a port while its server is not up.

    Linux lets a server listen on a port that another socket is merely bound to if both set
    SO_REUSEADDR, as servers do; a bind without it fails.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reservation.bind((LOOPBACK, port))
    except OSError as error:
        reservation.close()
        raise ServerError(f"TCP port {port} is in use.") from error
    return reservation


async def _kill_group(process: Running) -> None:
    with contextlib.suppress(ProcessLookupError):  # the whole group may have gone
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
