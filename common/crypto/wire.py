"""The requests of end-to-end encryption to the homeserver, in the name of one device.

Source: Matrix specification v1.18, client-server API, "Key management API", "Cross-signing",
"Send-to-device messaging".
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from common.crypto.canonical import Json, object_of
from common.crypto.port import DeviceAddress, DeviceGoneError
from common.ids import DeviceId, UserId
from common.matrix.client import CLIENT, MatrixError, segment

ONE_TIME_KEY = "signed_curve25519"
"""The algorithm of one-time and fallback keys."""

_FEDERATION_TIMEOUT_MS = 10_000
_USERS_A_QUERY = 250
_DEVICES_A_CLAIM = 250
DEVICES_A_SEND = 100
"""A room key is about 2 KiB for each device; homeservers bound the size of a request."""

T = TypeVar("T")


class Requester(Protocol):
    """The client-server API in the name of one device; ``MatrixClient`` is one."""

    @property
    def user_id(self) -> UserId:
        """The account."""
        ...

    @property
    def device_id(self) -> DeviceId | None:
        """The device, if the account has one."""
        ...

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> Json:
        """Send one request; raise ``MatrixError`` or ``TransientError``."""
        ...


class Wire:
    """The key API, as one device."""

    def __init__(self, client: Requester) -> None:
        self._client = client

    async def upload_keys(self, body: Json) -> int:
        """``POST /keys/upload``; return how many one-time keys the homeserver then holds."""
        answer = await self._request("POST", f"{CLIENT}/v3/keys/upload", body)
        count = object_of(answer, "one_time_key_counts").get(ONE_TIME_KEY, 0)
        return count if isinstance(count, int) else 0

    async def query_keys(self, users: Collection[UserId]) -> Json:
        """``POST /keys/query`` for these users, in bounded requests; return the answers merged."""
        merged: Json = {}
        for some in batches(sorted(users), _USERS_A_QUERY):
            answer = await self._request(
                "POST",
                f"{CLIENT}/v3/keys/query",
                {"device_keys": {user: [] for user in some}, "timeout": _FEDERATION_TIMEOUT_MS},
            )
            for section, content in answer.items():
                if isinstance(content, dict):
                    merged.setdefault(section, {}).update(content)
        return merged

    async def claim_keys(self, devices: Collection[DeviceAddress]) -> dict[DeviceAddress, Json]:
        """``POST /keys/claim`` one key of each device; return what came, unchecked."""
        claimed: dict[DeviceAddress, Json] = {}
        for some in batches(sorted(devices), _DEVICES_A_CLAIM):
            wanted: dict[str, dict[str, str]] = {}
            for device in some:
                wanted.setdefault(device.user_id, {})[device.device_id] = ONE_TIME_KEY
            answer = await self._request(
                "POST",
                f"{CLIENT}/v3/keys/claim",
                {"one_time_keys": wanted, "timeout": _FEDERATION_TIMEOUT_MS},
            )
            keys = object_of(answer, "one_time_keys")
            for device in some:
                for name, key in object_of(
                    object_of(keys, device.user_id), device.device_id
                ).items():
                    if name.startswith(f"{ONE_TIME_KEY}:") and isinstance(key, dict):
                        claimed[device] = key
        return claimed

    async def upload_cross_signing(self, keys: Json) -> None:
        """``POST /keys/device_signing/upload``; an application service needs no second factor."""
        await self._request("POST", f"{CLIENT}/v3/keys/device_signing/upload", keys)

    async def upload_signature(self, device: DeviceAddress, signed: Json) -> None:
        """``POST /keys/signatures/upload`` the own device's keys, signed."""
        answer = await self._request(
            "POST",
            f"{CLIENT}/v3/keys/signatures/upload",
            {device.user_id: {device.device_id: signed}},
        )
        refused = object_of(object_of(answer, "failures"), device.user_id)
        if refused:
            raise MatrixError(200, "M_INVALID_SIGNATURE", f"The signature was refused: {refused}")

    async def send_to_device(
        self, event_type: str, contents: Mapping[DeviceAddress, Json]
    ) -> None:
        """``PUT /sendToDevice``, in one request: not more than ``DEVICES_A_SEND`` devices."""
        messages: dict[str, dict[str, Json]] = {}
        for device, content in contents.items():
            messages.setdefault(device.user_id, {})[device.device_id] = content
        await self._request(
            "PUT",
            f"{CLIENT}/v3/sendToDevice/{segment(event_type)}/{uuid.uuid4().hex}",
            {"messages": messages},
        )

    async def _request(self, method: str, path: str, body: Json) -> Json:
        return await call(self._client, method, path, body)


async def call(
    client: Requester,
    method: str,
    path: str,
    body: Json | None = None,
    *,
    query: Mapping[str, str] | None = None,
    timeout_seconds: float = 60,
) -> Json:
    """Send one request; raise ``DeviceGoneError`` if the device was deleted."""
    try:
        return await client.request(
            method, path, body, query=query, timeout_seconds=timeout_seconds
        )
    except MatrixError as error:
        if error.errcode == "M_UNKNOWN_DEVICE":
            raise DeviceGoneError(
                f"The device {client.device_id} of {client.user_id} was deleted."
            ) from error
        raise


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, at most ``size`` at a time."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
