"""Synapse and Steward without importing them anew for each start, which is most of a start's CPU."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from common.demo.process import Child, Program, Running, ServerError

_SCRIPT = Path(__file__).with_name("fork_server.py")

# What each imports until it is up, if that is run as a program.
_IMPORTED = {
    "synapse.app.homeserver": ("synapse.app.homeserver",),
    "common.cli": ("common.cli", "common.run", "adminbot.bot", "auditbot.bot"),
}


def start_by_fork(child: Child) -> None:
    """Let a child, whose command is ``python -m MODULE …``, be started by a fork from now on."""
    child.program = replace(child.program, start=_fork)


class _ForkServer:
    """A process that has imported modules, and forks."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        # A socket that keeps the borders of messages.
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Program(
            name="fork server",
            # Without its own folder among the places of modules: that has a “web” and an “s3”.
            command=[sys.executable, "-P", str(_SCRIPT), *modules],
            log=Path(os.devnull),
            directory=Path.cwd(),
        )
        with theirs:
            self._process = subprocess.Popen(program.launch_command(), stdin=theirs.fileno())

    def order(self, program: Program) -> tuple[int, int]:
        """Start a program; return its process id, and from what its exit status will be read."""
        _, _, module, *words = program.command
        order = {
            "directory": str(program.directory),
            "environment": {**os.environ, **program.environment},  # noqa: TID251  # as a child has it
            "module": module,
            "words": words,
        }
        reading, writing = os.pipe()
        with program.log.open("ab") as log:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [log.fileno(), writing])
        os.close(writing)
        process = os.read(reading, 32)
        if not process:
            os.close(reading)
            raise ServerError(f"The fork server of {module} ended.")
        return int(process), reading


@cache
def _server(process: int, modules: tuple[str, ...]) -> _ForkServer:
    """Return this process's server for these modules; it ends when this process does."""
    return _ForkServer(modules)


class _Forked:
    """What :class:`asyncio.subprocess.Process` is for a child that we started ourselves."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._report = report
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(report, self._hear)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, signal: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal)

    def _hear(self) -> None:
        asyncio.get_running_loop().remove_reader(self._report)
        said = os.read(self._report, 32)
        os.close(self._report)
        # Without a word: the server has gone, and with it whatever it started.
        self.returncode = int(said) if said else -signal.SIGKILL
        self._ended.set()


async def _fork(program: Program) -> Running:
    server = _server(os.getpid(), _IMPORTED.get(program.command[2], ()))
    return _Forked(*server.order(program))
