"""The only door to the administration API: rights checked, errors named, retries bounded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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
from common.matrix.client import MatrixError

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 5.0


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
    too little still cannot act.
    """

    client: Requests
    grant: Grant = EVERYTHING
    sleep: Sleep = asyncio.sleep

    async def read(self, request: ReadRequest[T]) -> T:
        """Ask; repeated a few times while the homeserver is away or overloaded."""
        self._check(request)
        call = request.to_http()
        body = await self._send("GET", call.path, None, call.query, repeat=True)
        return _typed(request.read_response, body, call.path)

    async def change(self, request: ChangeRequest[T]) -> T:
        """Do; repeated only where doing it twice is the same as doing it once."""
        self._check(request)
        call = request.to_http()
        body = await self._send(
            call.method, call.path, _revealed(call.body), {}, repeat=request.idempotent
        )
        return _typed(request.read_response, body, call.path)

    def on_behalf_of(self, grant: Grant) -> AdminReader:
        """Return the reading half within a grant; it has no method that changes anything."""
        return _Reader(AdminClient(self.client, grant, self.sleep))

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half within a grant, for the executor of confirmed plans."""
        return AdminClient(self.client, grant, self.sleep)

    def _check(self, request: ReadRequest[object] | ChangeRequest[object]) -> None:
        if not self.grant.allows(request):
            raise BeyondGrantError(
                f"This needs the right “{request.permission.value}”, which you do not hold here."
            )

    async def _send(
        self, method: str, path: str, body: Json | None, query: Mapping[str, str], *, repeat: bool
    ) -> Json:
        wait_seconds = FIRST_WAIT_SECONDS
        attempts = ATTEMPTS if repeat else 1
        while True:
            attempts -= 1
            try:
                return await self.client.request(method, path, body, query=query)
            except MatrixError as error:
                raise _named(error) from error
            except TransientError as error:
                if attempts <= 0:
                    raise
                # 429 says how long to wait; the port may hand that on as an attribute.
                asked_ms = getattr(error, "retry_after_ms", None)
                asked = asked_ms / 1000 if isinstance(asked_ms, int) else wait_seconds
                await self.sleep(min(max(asked, 0.0), LONGEST_WAIT_SECONDS))
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)


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
            f"The homeserver's answer to {path} has an unknown shape: {error}"
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
    }.get(error.errcode, RefusedError)
    return kind(error.status, error.errcode, error.message)
