"""A proxy in front of a real server that breaks what it is told to break, and nothing else."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from common.demo.process import LOOPBACK

_REASON = "Broken"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request.

    Args:
        status: answered instead of the server
        code: the S3 error code of that answer
        drop_request: the connection ends before the server hears of it
        drop_answer: the server does it, but its answer is lost
        damage: a byte of the body is changed on its way to the server
        cut_answer: the answer ends in the middle
        cut_body: its head is whole, and its body ends one byte before its end
        delay_seconds: before anything else
    """

    status: int = 0
    code: str = ""
    drop_request: bool = False
    drop_answer: bool = False
    damage: bool = False
    cut_answer: bool = False
    cut_body: bool = False
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a request when its fate is decided."""

    method: str
    path: str


Decide = Callable[[Request], Fault | None]


def _all_well(_: Request) -> Fault | None:
    return None


@dataclass
class FaultProxy:
    """Listens on loopback; ``decide`` says what happens to each request.

    ``name`` is no other one's, as its port may be after its end.
    """

    target: str
    name: str = field(default_factory=lambda: secrets.token_hex(6), kw_only=True)
    decide: Decide = _all_well
    requests: list[Request] = field(default_factory=list)
    bodies: list[tuple[Request, bytes]] = field(default_factory=list)
    """What was sent with requests that have a body, for whoever wants to know what left."""
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Return where it listens."""
        assert self._server is not None
        return f"http://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    def fail_next(self, count: int, fault: Fault, *, method: str = "PUT", part: str = "") -> None:
        """Break that many requests with this method and this in their path."""
        left = count

        def decide(request: Request) -> Fault | None:
            nonlocal left
            if left and request.method == method and part in request.path:
                left -= 1
                return fault
            return None

        self.decide = decide

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._one_request(reader, writer)
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        request = Request(method, path)
        self.requests.append(request)
        fault = self.decide(request) or Fault()
        await asyncio.sleep(fault.delay_seconds)
        if fault.drop_request:
            return
        if "100-continue" in headers.get("expect", ""):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(headers.get("content-length") or 0))
        if body:
            self.bodies.append((request, body))
        if fault.status:
            await self._refuse(writer, fault, empty=method == "HEAD")
            return
        if fault.damage and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        lines = self._altered(request, headers, lines, body)
        kept = [x for x in lines if x.partition(":")[0].lower() not in {"connection", "expect"}]
        sent = "\r\n".join([first, "Connection: close", *kept]).encode("latin-1")
        answer = await self._ask(sent + body)
        if fault.drop_answer:
            return
        writer.write(_cut(answer, fault))
        await writer.drain()

    def _altered(
        self, request: Request, headers: dict[str, str], lines: list[str], body: bytes
    ) -> list[str]:
        """Return the header lines that the server is sent."""
        return lines

    async def _ask(self, request: bytes) -> bytes:
        place = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    async def _refuse(self, writer: asyncio.StreamWriter, fault: Fault, *, empty: bool) -> None:
        body = f"<Error><Code>{fault.code}</Code><Message>{_REASON}</Message></Error>".encode()
        writer.write(
            f"HTTP/1.1 {fault.status} {_REASON}\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + (b"" if empty else body)
        )
        await writer.drain()


def _cut(answer: bytes, fault: Fault) -> bytes:
    if fault.cut_answer:
        return answer[: len(answer) - max(1, len(answer) // 4)]
    return answer[:-1] if fault.cut_body else answer
