"""The homeserver's APIs as one account, through mautrix's application-service requests."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import msgspec
from mautrix.api import Method, PathBuilder
from mautrix.appservice import AppServiceAPI
from mautrix.errors import MatrixConnectionError, MatrixRequestError
from mautrix.types import UserID
from mautrix.util.logging import TraceLogger
from yarl import URL

from common.config.secret import Secret
from common.errors import StewardError, TransientError
from common.ids import DeviceId, EventId, RoomId, UserId, server_of

Json = dict[str, Any]
"""A JSON object of the client-server API; every access to it must expect hostile content."""

CLIENT = "/_matrix/client"
ADMIN_API = "/_synapse/"


class MatrixError(StewardError):
    """The homeserver refused a request: the specification's "standard error response".

    ``status`` is the HTTP status, ``errcode`` e.g. ``M_FORBIDDEN`` (``""`` if it sent none).
    """

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode
        self.message = message


@dataclass(frozen=True)
class Access:
    """The application service's way to its homeserver: ``connect`` makes one.

    ``client_api`` and ``admin_api`` differ where the admin API has an address of its own.
    """

    client_api: AppServiceAPI
    admin_api: AppServiceAPI

    def to(self, path: str) -> AppServiceAPI:
        """Return the one that serves a path."""
        return self.admin_api if path.startswith(ADMIN_API) else self.client_api


class MatrixClient:
    """Requests in the name of one of the application service's accounts.

    Every method raises ``MatrixError`` where the homeserver says no and ``TransientError``
    where it cannot be reached, is overloaded or answers 5xx.
    """

    def __init__(self, api: Access, user_id: UserId, device_id: DeviceId | None = None) -> None:
        self._api = api
        self.user_id = user_id
        self.device_id = device_id

    def with_device(self, device_id: DeviceId) -> "MatrixClient":
        """Return a client that masquerades as the account's device (MSC4326)."""
        return MatrixClient(self._api, self.user_id, device_id)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session, for addresses that are not the homeserver's."""
        return self._api.client_api.session

    def acting_as(self, user: UserId, token: Secret) -> "MatrixClient":
        """Return a client of somebody else, through another registration that covers them."""
        api = connect(
            homeserver_url=str(self._api.client_api.base_url),
            as_token=token,
            # Nobody's: whoever is the sender of a registration would act as itself.
            sender=UserId(f"@_nobody:{server_of(user)}"),
            session=self.session,
        )
        return MatrixClient(api, user)

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> Json:
        """Send one request; ``path`` begins with a slash and is percent-encoded already."""
        parameters = dict(query or {})
        if self.device_id is not None:
            parameters["device_id"] = self.device_id
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = (
                    await self._api.to(path)
                    .user(UserID(self.user_id))
                    .request(
                        Method(method), PathBuilder(path), content=body, query_params=parameters
                    )
                )
        except MatrixRequestError as error:
            raise _refusal(error) from error
        except (MatrixConnectionError, TimeoutError, OSError, aiohttp.ClientError) as error:
            raise _away(method, path, error) from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # mautrix trips over an answer that is no JSON object, e.g. of a proxy in between, or
            # that somebody nested too deep for us.
            raise TransientError(
                f"The answer to {method} {path} could not be read ({type(error).__name__})."
            ) from error
        return cast(Json, answer)

    async def request_as_sender(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request as the registration's sender, without ``user_id``.

        Some endpoints of Synapse's admin API have a filter of that name, and would take the
        account that is acted as for it.
        """
        token = Secret(self._api.client_api.token)
        return await self.request_as(token, method, path, body, query=query)

    async def request_as(
        self,
        token: Secret | None,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request with another access token, or with none; nothing of it is logged."""
        headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        try:
            async with self._api.to(path).session.request(
                method,
                self._url(path),
                params=query,
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=60),
            ) as response:
                answer = await response.read()
                if response.status != _OK:
                    raise _refusal_of_bytes(response.status, answer)
                return cast(Json, msgspec.json.decode(answer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(method, path, error) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise TransientError(f"The answer to {method} {path} is no JSON.") from error

    async def get_bytes(
        self, path: str, *, query: Mapping[str, str], timeout_seconds: float, device: bool = True
    ) -> bytes:
        """GET and return the body as it came, for feeds whose bytes are evidence."""
        parameters = {**query, "user_id": self.user_id}
        if device and self.device_id is not None:
            parameters["device_id"] = self.device_id
        try:
            api = self._api.to(path)
            async with api.session.get(
                self._url(path),
                params=parameters,
                headers={"Authorization": f"Bearer {api.token}"},
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                body = await response.read()
                if response.status != _OK:
                    raise _refusal_of_bytes(response.status, body)
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _away("GET", path, error) from error

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        data: AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request and hand out the answer while it comes: for files of any size."""
        api = self._api.to(path)
        try:
            async with api.session.request(
                method,
                self._url(path),
                data=data,
                params={**(query or {}), "user_id": self.user_id},
                headers={**(headers or {}), "Authorization": f"Bearer {api.token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=120),
            ) as response:
                if response.status != _OK:
                    raise _refusal_of_bytes(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _away(method, path, error) from error

    def _url(self, path: str) -> URL:
        base = self._api.to(path).base_url
        return base.with_path(base.raw_path.rstrip("/") + path, encoded=True)

    async def send(self, room_id: RoomId, event_type: str, content: Json, txn_id: str) -> EventId:
        """Send a message event; the same ``txn_id`` sends it once only."""
        path = f"{CLIENT}/v3/rooms/{segment(room_id)}/send/{segment(event_type)}/{segment(txn_id)}"
        return EventId(str((await self.request("PUT", path, content))["event_id"]))

    async def put_state(
        self, room_id: RoomId, event_type: str, state_key: str, content: Json
    ) -> EventId:
        """Send a state event."""
        path = f"{CLIENT}/v3/rooms/{segment(room_id)}/state/{segment(event_type)}/{segment(state_key)}"
        return EventId(str((await self.request("PUT", path, content))["event_id"]))

    async def state_event(self, room_id: RoomId, event_type: str, state_key: str = "") -> Json:
        """Return the content of one state event as it is now."""
        path = f"{CLIENT}/v3/rooms/{segment(room_id)}/state/{segment(event_type)}/{segment(state_key)}"
        return await self.request("GET", path)

    async def state(self, room_id: RoomId) -> list[Json]:
        """Return the whole current state of a room, as events."""
        answer = await self.request("GET", f"{CLIENT}/v3/rooms/{segment(room_id)}/state")
        return cast(list[Json], answer)

    async def join(self, room_id: RoomId) -> None:
        """Join a room, accepting an invitation where there is one."""
        await self.request("POST", f"{CLIENT}/v3/rooms/{segment(room_id)}/join", {})

    async def invite(self, room_id: RoomId, user_id: UserId) -> None:
        """Invite somebody."""
        await self.request(
            "POST", f"{CLIENT}/v3/rooms/{segment(room_id)}/invite", {"user_id": user_id}
        )

    async def leave(self, room_id: RoomId) -> None:
        """Leave a room or decline an invitation."""
        await self.request("POST", f"{CLIENT}/v3/rooms/{segment(room_id)}/leave", {})

    async def joined_rooms(self) -> list[RoomId]:
        """Return the rooms this account is in."""
        answer = await self.request("GET", f"{CLIENT}/v3/joined_rooms")
        return [RoomId(room) for room in answer["joined_rooms"]]

    async def joined_members(self, room_id: RoomId) -> dict[UserId, Json]:
        """Return who is joined: user ID → ``{"display_name", "avatar_url"}``."""
        answer = await self.request("GET", f"{CLIENT}/v3/rooms/{segment(room_id)}/joined_members")
        return cast(dict[UserId, Json], answer["joined"])


def segment(text: str) -> str:
    """Percent-encode one path segment: identifiers are hostile, they may hold ``/`` or be ``..``."""
    if text in {".", ".."}:  # a client would resolve these away
        return text.replace(".", "%2E")
    return quote(text, safe="")


def connect(
    *,
    homeserver_url: str,
    as_token: Secret,
    sender: UserId,
    session: aiohttp.ClientSession,
    admin_url: str | None = None,
) -> Access:
    """Return the application service's access, from which clients masquerade.

    ``admin_url`` is where the admin API is reached, if not at ``homeserver_url``. ``session``
    should come from ``open_session``.
    """
    log = cast(TraceLogger, logging.getLogger("mau.as"))  # noqa: TID251  # mautrix insists on one
    # At DEBUG mautrix writes request bodies, message text included, into the log.
    log.setLevel(logging.INFO)

    def api_at(base_url: str) -> AppServiceAPI:
        return AppServiceAPI(
            base_url=base_url,
            bot_mxid=UserID(sender),
            token=as_token.reveal(),
            log=log,
            client_session=session,
        )

    client_api = api_at(homeserver_url)
    return Access(client_api, api_at(admin_url) if admin_url else client_api)


def open_session() -> aiohttp.ClientSession:
    """Return an HTTP session in which being told to wait keeps the time that was named.

    mautrix forgets it: its exception for ``M_LIMIT_EXCEEDED`` holds no more than a message.
    """
    return aiohttp.ClientSession(middlewares=(_keep_retry_after,))


async def _keep_retry_after(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if response.status == _OVERLOADED:
        body = await response.read()
        raise _refusal_of_bytes(
            response.status, body, retry_after=response.headers.get("Retry-After", "")
        )
    return response


_OK = 200
_OVERLOADED = 429
_SERVER_FAULT = 500
_LONG_NUMBER = 10


def _away(method: str, path: str, error: Exception) -> TransientError:
    # A time-out has no text of its own.
    return TransientError(
        f"The homeserver did not answer {method} {path}: {str(error) or 'time-out'}"
    )


def _refusal(error: MatrixRequestError) -> StewardError:
    return _classify(error.http_status, error.errcode or "", error.message or "")


def _refusal_of_bytes(status: int, body: bytes, *, retry_after: str = "") -> StewardError:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        answer = {}
    said = answer if isinstance(answer, dict) else {}
    wait_ms = said.get("retry_after_ms")
    # The header is the specification's newer way to say it, whole seconds ("Rate limiting").
    if retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < _LONG_NUMBER:
        wait_ms = int(retry_after) * 1000 if not isinstance(wait_ms, int) else wait_ms
    return _classify(
        status,
        str(said.get("errcode", "")),
        str(said.get("error", "")),
        retry_after_ms=wait_ms if isinstance(wait_ms, int) else None,
    )


def _classify(
    status: int, errcode: str, message: str, *, retry_after_ms: int | None = None
) -> StewardError:
    if status >= _SERVER_FAULT or status == _OVERLOADED:
        return TransientError(
            f"The homeserver answered {status} {errcode}: {message}",
            retry_after_ms=retry_after_ms,
            status=status,
        )
    return MatrixError(status, errcode, message)
