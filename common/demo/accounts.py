"""Make accounts on a homeserver with its registration shared secret, and log in to them."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from common.config.secret import Secret
from common.demo.process import ServerError
from common.ids import DeviceId, UserId

_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(frozen=True)
class Account:
    """A logged-in account: one user on one device."""

    user_id: UserId
    device_id: DeviceId
    access_token: str = field(repr=False)
    password: str = field(repr=False)


async def _call(method: str, url: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.request(method, url, json=body) as response,
    ):
        answer = await response.json(content_type=None)
        if response.status != 200 or not isinstance(answer, dict):  # noqa: PLR2004  # OK
            raise ServerError(f"{method} {url} answered {response.status}: {answer!r}")
        return answer


def _account(answer: Mapping[str, Any], password: str) -> Account:
    return Account(
        user_id=UserId(str(answer["user_id"])),
        device_id=DeviceId(str(answer["device_id"])),
        access_token=str(answer["access_token"]),
        password=password,
    )


async def register_account(
    url: str,
    secret: Secret,
    localpart: str,
    *,
    password: str,
    admin: bool = False,
    displayname: str | None = None,
) -> Account:
    """Make an account through Synapse's shared-secret registration and log in to it."""
    endpoint = f"{url}/_synapse/admin/v1/register"
    nonce = str((await _call("GET", endpoint))["nonce"])
    words = (nonce, localpart, password, "admin" if admin else "notadmin")
    # Synapse's documentation, "Register a user with the shared secret": HMAC-SHA1, hex.
    mac = hmac.new(secret.reveal().encode(), "\0".join(words).encode(), hashlib.sha1)
    answer = await _call(
        "POST",
        endpoint,
        {
            "nonce": nonce,
            "username": localpart,
            "displayname": displayname or localpart,
            "password": password,
            "admin": admin,
            "mac": mac.hexdigest(),
        },
    )
    if "access_token" not in answer:  # where new accounts wait for approval (MSC3866)
        return await log_in(url, localpart, password)
    return _account(answer, password)


async def log_in(url: str, localpart: str, password: str) -> Account:
    """Log in with a password; makes a new device."""
    answer = await _call(
        "POST",
        f"{url}/_matrix/client/v3/login",
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": localpart},
            "password": password,
            "initial_device_display_name": "Steward's demo and tests",
        },
    )
    return _account(answer, password)
