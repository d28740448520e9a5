"""Application services of the tests' own: registered with the homeserver, served on loopback.

What they answer of third parties is as the specification has it (v1.18, application service API,
"Third-party networks"); their metrics are in the shape that matrix-appservice-irc 1.0.1 was seen
to give (matrix-appservice-bridge, ``PrometheusMetrics``).
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from common.ids import EventId, RoomId, UserId
from tests.support.world import SERVER_NAME

METRICS = """\
# HELP bridge_matrix_api_calls The count of the number of Matrix client API calls made
# TYPE bridge_matrix_api_calls counter
bridge_matrix_api_calls{method="join"} 12

# HELP bridge_bridge_blocked Is the bridge currently blocking messages
# TYPE bridge_bridge_blocked gauge
bridge_bridge_blocked BLOCKED

# HELP bridge_remote_monthly_active_users Current count of remote users active this month
# TYPE bridge_remote_monthly_active_users gauge
bridge_remote_monthly_active_users 3
"""


@dataclass
class Services:
    """A server for all of the tests' application services; use it with ``async with``.

    ``protocols`` are the bots named for each protocol, ``blocked`` what the metrics say.
    """

    protocols: Mapping[str, Sequence[UserId]]
    blocked: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        prefix = "/_matrix/app/v1"
        application.router.add_put(f"{prefix}/transactions/{{txn}}", _nothing)
        application.router.add_post(f"{prefix}/ping", _nothing)
        application.router.add_get(f"{prefix}/thirdparty/protocol/{{name}}", self._protocol)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _protocol(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(name)
        instances = [
            {"desc": name, "network_id": f"net-{number}", "fields": {}, "bot_user_id": bot}
            for number, bot in enumerate(self.protocols.get(name, ()))
        ]
        return web.json_response(
            {
                "user_fields": ["domain", "nick"],
                "location_fields": ["domain", "channel"],
                "icon": "",
                "field_types": {},
                "instances": instances,
            }
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        text = METRICS.replace("BLOCKED", str(int(self.blocked)))
        return web.Response(text=text, headers={"X-Format": "text/plain; version=0.0.4"})


@dataclass(frozen=True)
class Service:
    """One application service: its registration, and its bot and ghosts as it acts as them."""

    name: str
    bot: UserId
    token: str
    path: Path

    @classmethod
    def registered(
        cls, directory: Path, name: str, url: str, *, ghosts: str, protocols: Sequence[str] = ()
    ) -> Self:
        """Write a registration whose sender is the bot."""
        token = secrets.token_urlsafe(32)
        path = directory / f"{name}.yaml"
        path.write_text(
            json.dumps(
                {
                    "id": name,
                    "url": url,
                    "as_token": token,
                    "hs_token": secrets.token_urlsafe(32),
                    "sender_localpart": name,
                    "rate_limited": False,
                    "namespaces": {"users": [{"regex": ghosts, "exclusive": True}]},
                    "protocols": list(protocols),
                }
            )
        )
        return cls(name, UserId(f"@{name}:{SERVER_NAME}"), token, path)

    async def act(
        self,
        url: str,
        method: str,
        path: str,
        body: object,
        user: UserId | None = None,
        **more: str,
    ) -> Any:
        """Send a request as the bot, or as one of its ghosts."""
        headers = {"Authorization": f"Bearer {self.token}"}
        query = more if user is None else {**more, "user_id": user}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(
                method, f"{url}/_matrix/client/v3{path}", json=body, params=query
            ) as response,
        ):
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    async def ghost(self, url: str, name: str) -> UserId:
        """Make a bridged person."""
        body = {"type": "m.login.application_service", "username": name, "inhibit_login": True}
        return UserId((await self.act(url, "POST", "/register", body))["user_id"])

    async def room(self, url: str, **more: object) -> RoomId:
        """Make a room as the bot."""
        body = {"preset": "public_chat", **more}
        return RoomId((await self.act(url, "POST", "/createRoom", body))["room_id"])

    async def describe(self, url: str, room: RoomId, protocol: str, channel: str) -> None:
        """Write the bridge event into a room as the bot (MSC2346)."""
        content = {
            "bridgebot": self.bot,
            "protocol": {"id": protocol, "displayname": protocol.title()},
            "channel": {"id": channel, "displayname": channel},
        }
        await self.act(url, "PUT", f"/rooms/{room}/state/m.bridge/{self.name}", content)

    async def say(
        self, url: str, room: RoomId, user: UserId, text: str, *, at_ms: int | None = None
    ) -> EventId:
        """Say something as a bridged person; ``at_ms`` dates it, as only such a service may."""
        path = f"/rooms/{room}/send/m.room.message/{secrets.token_hex(8)}"
        body = {"msgtype": "m.text", "body": text}
        dated = {} if at_ms is None else {"ts": str(at_ms)}
        return EventId((await self.act(url, "PUT", path, body, user, **dated))["event_id"])


async def _nothing(request: web.Request) -> web.Response:
    del request
    return web.json_response({})
