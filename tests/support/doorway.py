"""A reverse proxy in front of a homeserver that lets only some paths through, and counts them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


@dataclass
class Doorway:
    """Passes requests below ``prefix`` on to ``target`` and answers 404 to all others.

    ``answered`` are those that the target answered; it may be away. ``instead`` may answer a request, by its method and path, in the target's place.
    """

    prefix: str
    target: str = ""
    instead: Callable[[str, str], web.Response | None] = lambda method, path: None
    passed: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        self._session = aiohttp.ClientSession(auto_decompress=True)
        # Steward's long polls would keep a stop waiting.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.Response:
        assert self._session is not None
        if not request.path.startswith(self.prefix):
            self.refused.append(request.path)
            return web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404)
        if (instead := self.instead(request.method, request.path)) is not None:
            return instead
        self.passed.append(request.path)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        try:
            async with self._session.request(
                request.method,
                URL(self.target + request.raw_path, encoded=True),
                headers=headers,
                data=await request.read(),
            ) as answer:
                back = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
                self.answered.append(request.path)
                return web.Response(status=answer.status, body=await answer.read(), headers=back)
        except aiohttp.ClientError:
            return web.json_response({"errcode": "M_UNKNOWN"}, status=502)
