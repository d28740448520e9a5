"""The only door to the administration API: rights checked, errors named, retries bounded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import msgspec

from common.config.secret import Secret
from common.errors import TransientError
from common.homeserver.errors import (
    BeyondGrantError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    StrangeAnswerError,
    UnsupportedError,
)
from common.homeserver.port import (
    EVERYTHING,
    AdminReader,
    AdminWriter,
    ChangeRequest,
    Grant,
    Json,
    ReadRequest,
    T,
)
from common.i18n import t
from common.matrix.client import MatrixError

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0


class Requests(Protocol):
    """What is needed of ``common.matrix.client.MatrixClient``."""

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request; raise ``MatrixError`` or ``TransientError``."""
        ...


Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class AdminClient:
    """The administration API as one account, within one grant.

    ``on_behalf_of`` narrows the grant to what a person holds, so that a command which declared
    too little still cannot act. ``sender`` makes the calls that must carry no ``user_id`` (see
    ``HttpGet.by_sender``); None means that the client's carry none.
    """

    client: Requests
    grant: Grant = EVERYTHING
    sleep: Sleep = asyncio.sleep
    sender: Requests | None = None

    async def read(self, request: ReadRequest[T]) -> T:
        """Ask; repeated a few times while the homeserver is away or overloaded."""
        self._check(request)
        call = request.to_http()
        via = self.sender if call.by_sender and self.sender is not None else self.client
        body = await self._send(
            partial(via.request, "GET", call.path, None, query=call.query), repeat=True
        )
        return _typed(request.read_response, body, call.path)

    async def change(self, request: ChangeRequest[T]) -> T:
        """Do; repeated only where doing it twice is the same as doing it once."""
        self._check(request)
        call = request.to_http()
        body = await self._send(
            partial(
                self.client.request,
                call.method,
                call.path,
                _revealed(call.body),
                query=call.query,
            ),
            repeat=request.idempotent,
        )
        return _typed(request.read_response, body, call.path)

    def on_behalf_of(self, grant: Grant) -> AdminReader:
        """Return the reading half within a grant; it has no method that changes anything."""
        return _Reader(replace(self, grant=grant))

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half within a grant, for the executor of confirmed plans."""
        return replace(self, grant=grant)

    def _check(self, request: ReadRequest[object] | ChangeRequest[object]) -> None:
        if not self.grant.allows(request):
            raise BeyondGrantError(request.permission.value)

    async def _send(self, request: Callable[[], Awaitable[Json]], *, repeat: bool) -> Json:
        wait_seconds = FIRST_WAIT_SECONDS
        attempts = ATTEMPTS if repeat else 1
        while True:
            attempts -= 1
            try:
                return await request()
            except MatrixError as error:
                raise _named(error) from error
            except TransientError as error:
                asked_ms = error.retry_after_ms
                asked = wait_seconds if asked_ms is None else max(asked_ms, 0) / 1000
                # Asking again before the time that was named would only be refused again.
                if attempts <= 0 or asked > LONGEST_WAIT_SECONDS:
                    raise
                await self.sleep(asked)
                wait_seconds = wait_seconds * 2


@dataclass(frozen=True)
class _Reader:
    """An ``AdminReader`` and nothing else."""

    _admin: AdminClient

    async def read(self, request: ReadRequest[T]) -> T:
        """Ask within the grant."""
        return await self._admin.read(request)


def _typed(read_response: Callable[[Json], T], body: object, path: str) -> T:
    try:
        return read_response(body if isinstance(body, dict) else {"": body})
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise StrangeAnswerError(
            t(
                "The homeserver's answer to {path} has an unknown shape: {error}",
                path=path,
                error=error,
            )
        ) from error


def _revealed(body: Mapping[str, object]) -> Json:
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in body.items()
    }


def _named(error: MatrixError) -> RefusedError:
    kind = {
        "M_UNRECOGNIZED": UnsupportedError,
        "M_NOT_FOUND": NotFoundError,
        "M_FORBIDDEN": NotAllowedError,
    }.get(error.errcode, NotFoundError if error.status == _NOT_FOUND else RefusedError)
    return kind(error.status, error.errcode, error.message)


# Synapse says M_UNKNOWN with this status where a row is missing, e.g. of a profile.
_NOT_FOUND = 404
