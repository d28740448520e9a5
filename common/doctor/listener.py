"""A listener that stands in for Steward while it is not running, for the homeserver's ping.

It answers the ping and nothing else: a transaction that it acknowledged would be lost.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from common.config.schema import Config
from common.doctor.api import reason
from common.errors import TransientError

PING_PATH = "/_matrix/app/v1/ping"


class PingListener:
    """Remembers whether the ping came, and with which token."""

    def __init__(self, config: Config) -> None:
        self._hs_token = config.appservice.hs_token
        self.was_reached = False
        self.saw_wrong_token = False

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method != "POST" or request.path != PING_PATH:
            # Not 404: the homeserver must keep what it wanted to deliver.
            return _refuse(503, "M_UNKNOWN", "Steward is not running")
        self.was_reached = True
        if not self._hs_token.matches(_token(request)):
            self.saw_wrong_token = True
            return _refuse(403, "M_FORBIDDEN", "wrong token")
        return web.json_response({})


def _token(request: web.Request) -> bytes:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _refuse(status: int, errcode: str, message: str) -> web.Response:
    return web.json_response({"errcode": errcode, "error": message}, status=status)


@asynccontextmanager
async def standing_in(config: Config) -> AsyncIterator[PingListener | None]:
    """Listen in Steward's place; yields None where something, Steward itself, does already.

    Raises:
        TransientError: nothing can listen at that address.
    """
    listener = PingListener(config)
    runner = web.AppRunner(listener.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        place = config.appservice.listen_host, config.appservice.listen_port
        try:
            await web.TCPSite(runner, *place).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise TransientError(reason(error)) from None
            taken = True
        else:
            taken = False
        yield None if taken else listener
    finally:
        await runner.cleanup()
