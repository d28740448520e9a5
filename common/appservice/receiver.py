"""The HTTP edge where the homeserver pushes to us: 200 only after the push is on disk.

Source: Matrix specification v1.18, application service API.
"""

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from aiohttp import hdrs, web

from common.appservice.tally import Tally
from common.appservice.transaction import (
    MalformedTransactionError,
    parse_transaction,
    printable,
)
from common.config.secret import Secret
from common.errors import PermanentError, TransientError
from common.ids import UserId
from common.inbox.port import Inbox
from common.telemetry.log import Log

log = Log("appservice")

SUPPORT_PATH = "/.well-known/matrix/support"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Receiver:
    """What the homeserver may ask of an application service.

    ``ready`` tells whether the process has finished starting; ``accounts`` are the user IDs
    that exist; ``max_body_bytes`` bounds a transaction. ``support`` returns the document that
    tells the world whom to write to, if there is one.
    """

    inbox: Inbox
    hs_token: Secret
    accounts: Collection[UserId]
    max_body_bytes: int
    ready: Callable[[], bool]
    support: Callable[[], Awaitable[str | None]] | None = None
    tally: Tally | None = None
    """Counts the transactions that were stored."""

    def application(self) -> web.Application:
        """Return the web application: v1 paths and a health check."""
        application = web.Application(
            client_max_size=self.max_body_bytes, middlewares=[self._only_the_homeserver]
        )
        prefix = "/_matrix/app/v1"
        application.add_routes(
            [
                web.put(f"{prefix}/transactions/{{txn_id}}", self.put_transaction),
                web.post(f"{prefix}/ping", self.ping),
                web.get(f"{prefix}/users/{{user_id}}", self.query_user),
                web.get(f"{prefix}/rooms/{{room_alias}}", self.query_room),
                web.get("/health", self.health),
                web.get(SUPPORT_PATH, self.well_known_support),
            ]
        )
        return application

    async def put_transaction(self, request: web.Request) -> web.Response:
        """Keep one push: durable when this answers 200; a repeat changes nothing."""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            log.error(
                "a transaction is larger than appservice.max_body_bytes; the homeserver will "
                "repeat it for ever: raise the limit",
                limit=self.max_body_bytes,
            )
            return _refuse(413, "M_TOO_LARGE", "larger than max_body_bytes")
        try:
            entries = parse_transaction(request.match_info["txn_id"], body)
        except MalformedTransactionError as error:
            log.warning("a transaction could not be parsed", size=len(body))
            return _refuse(400, "M_BAD_JSON", str(error))
        try:
            await self.inbox.append(entries)
        except (TransientError, PermanentError) as error:
            # The homeserver keeps the transaction and repeats it.
            log.error("a transaction could not be stored", reason=error)
            return _refuse(503, "M_UNKNOWN", "not stored, repeat it")
        if self.tally is not None:
            self.tally.count(printable(request.match_info["txn_id"]))
        return web.json_response({})

    async def well_known_support(self, _request: web.Request) -> web.Response:
        """Answer whom to write to (Matrix 1.10, "Well-known URIs"; public, as that demands)."""
        headers = {"Access-Control-Allow-Origin": "*"}
        document = None
        if self.support is not None:
            try:
                document = await self.support()
            except TransientError:
                return web.Response(status=503, headers=headers)
        if document is None:
            return web.Response(status=404, headers=headers)
        return web.Response(text=document, content_type="application/json", headers=headers)

    async def ping(self, _request: web.Request) -> web.Response:
        """Answer the homeserver's half of the ping that we asked for."""
        return web.json_response({})

    async def query_user(self, request: web.Request) -> web.Response:
        """Say whether an account of our namespace exists; all three are made at start."""
        if request.match_info["user_id"] in self.accounts:
            return web.json_response({})
        return _refuse(404, "M_NOT_FOUND", "no such account")

    async def query_room(self, _request: web.Request) -> web.Response:
        """Say that no room alias is ours."""
        return _refuse(404, "M_NOT_FOUND", "no such room")

    async def health(self, _request: web.Request) -> web.Response:
        """Say whether the process serves; for supervisors, so without a token."""
        if self.ready():
            return web.json_response({"status": "ok"})
        return web.json_response({"status": "starting"}, status=503)

    @web.middleware
    async def _only_the_homeserver(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Check the token before anything of the body is read."""
        if request.path in {"/health", SUPPORT_PATH}:
            return await handler(request)
        offered = _bearer(request)
        if offered is None:
            return _refuse(401, "M_UNAUTHORIZED", "no token in the Authorization header")
        if not self.hs_token.matches(offered):
            log.warning("a request with a wrong hs_token was refused", remote=request.remote or "")
            return _refuse(403, "M_FORBIDDEN", "wrong token")
        return await handler(request)


def _bearer(request: web.Request) -> bytes | None:
    """Return the one bearer token, ``None`` if there is none or more than one header."""
    headers = request.headers.getall(hdrs.AUTHORIZATION, [])
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    return token.encode("utf-8", "surrogateescape")


def _refuse(status: int, errcode: str, message: str) -> web.Response:
    # The connection is closed: an unread body must not be taken for the next request.
    response = web.Response(
        status=status,
        text=json.dumps({"errcode": errcode, "error": message}),
        content_type="application/json",
    )
    if status in {401, 403, 413}:
        response.force_close()
    return response
