"""Decrypting in other processes: vodozemac holds Python's lock, so threads would gain nothing.

The promise kept: a helper is only ever faster. It has no database and makes no check; what it does
not answer, for whatever reason, is read by whoever asked.
"""

import asyncio
import itertools
import secrets
import sys
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import vodozemac

from common.config.environment import environment
from common.crypto import helper_process
from common.crypto.helper_process import KEY_BYTES, LENGTH_BYTES, Request
from common.telemetry.log import Log

ANSWER_SECONDS = 30.0
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What a helper may need to find Python's own parts."""
MOST_SESSIONS = 4096
"""Sessions that a helper keeps; fewer than are asked for at once are never forgotten."""

log = Log("crypto.helpers")


class Asked(NamedTuple):
    """A message, and the session to read it with."""

    session: vodozemac.InboundGroupSession
    session_id: str
    ciphertext: str


class Helpers:
    """A number of such processes; each session has its own among them."""

    def __init__(self, count: int) -> None:
        self._helpers = [_Helper() for _ in range(count)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for helper in self._helpers:
            await helper.stop()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._helpers)

    @property
    def processes(self) -> list[int]:
        """The process IDs of those that were started."""
        return [helper.pid for helper in self._helpers if helper.pid is not None]

    async def read(self, asked: Sequence[Asked]) -> list[bytes | None]:
        """Return what these messages say, ``None`` for what is to be read here."""
        shares: dict[int, list[int]] = {}
        for place, one in enumerate(asked):
            share = zlib.crc32(one.session_id.encode("utf-8", "replace")) % self.count
            shares.setdefault(share, []).append(place)
        found: list[bytes | None] = [None] * len(asked)

        async def ask(share: int, places: list[int]) -> None:
            answers = await self._helpers[share].read([asked[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer

        async with asyncio.TaskGroup() as group:
            for share, places in shares.items():
                group.create_task(ask(share, places))
        return found


@dataclass
class _Helper:
    """One process, started when it is first asked, and anew when it ended."""

    _process: asyncio.subprocess.Process | None = None
    _key: bytes = b""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _kept: "OrderedDict[int, tuple[int, vodozemac.InboundGroupSession]]" = field(
        default_factory=OrderedDict
    )
    """The sessions it has, by identity; they are held here, so that it stays theirs."""

    @property
    def pid(self) -> int | None:
        """Return the process's ID if there is one."""
        return None if self._process is None else self._process.pid

    async def read(self, asked: Sequence[Asked]) -> Sequence[bytes | None]:
        """Return what these messages say, ``None`` for what was not answered."""
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._answers(await self._started(), asked)
            except (OSError, EOFError, TimeoutError, msgspec.MsgspecError) as error:
                log.warning("a helper process ended: it is started again", reason=error)
                self._end()
                return [None] * len(asked)
            except BaseException:
                # It would go on to answer what nobody waits for.
                self._end()
                raise

    async def stop(self) -> None:
        """End the process, and wait until it has."""
        process = self._process
        self._end()
        if process is not None:
            await process.wait()

    def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None
        self._kept.clear()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            self._key = secrets.token_bytes(KEY_BYTES)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the working directory is not for it
                helper_process.__file__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # what ends us at a terminal is not for it
                # Secrets may stand in the rest of ours.
                env={name: text for name, text in environment().items() if name in _ENVIRONMENT},
            )
            if self._process.stdin is not None:
                self._process.stdin.write(self._key)
        return self._process

    async def _answers(
        self, process: asyncio.subprocess.Process, asked: Sequence[Asked]
    ) -> list[bytes | None]:
        new: list[tuple[int, str]] = []
        messages = [(self._number(one.session, new), one.ciphertext) for one in asked]
        forget: list[int] = []
        while len(self._kept) > max(MOST_SESSIONS, len(asked)):
            forget.append(self._kept.popitem(last=False)[1][0])
        request = msgspec.msgpack.encode(Request(new, messages, forget))
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        process.stdin.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
        await process.stdin.drain()
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        answers = msgspec.msgpack.decode(
            await process.stdout.readexactly(length), type=list[bytes | None]
        )
        if len(answers) != len(asked):
            raise EOFError("not every message was answered")
        return answers

    def _number(self, session: vodozemac.InboundGroupSession, new: list[tuple[int, str]]) -> int:
        found = self._kept.get(id(session))
        if found is not None:
            self._kept.move_to_end(id(session))
            return found[0]
        number = next(self._numbers)
        self._kept[id(session)] = (number, session)
        new.append((number, session.pickle(self._key)))
        return number
