"""A bridge's provisioning interface, version 3, as bridgev2 has it.

Source: mautrix/go of 2026-08-22, ``bridgev2/matrix/provisioning.go``, ``bridgev2/login.go``.
"""

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web


class ProvisioningServer:
    """Answers log-ins; ``scan`` completes the one that is waiting."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.url = ""
        self.asked_for: list[str] = []
        self.cancelled: list[str] = []
        self.asks_for_input = False
        """Whether the way of logging in wants to be told something, as Slack's and Meta's do."""
        self._next: asyncio.Queue[str] = asyncio.Queue()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        prefix = "/_matrix/provision/v3"
        application.router.add_get(f"{prefix}/login/flows", self._flows)
        application.router.add_post(f"{prefix}/login/start/{{flow}}", self._start)
        application.router.add_post(
            f"{prefix}/login/step/{{process}}/{{step}}/display_and_wait", self._wait
        )
        application.router.add_post(f"{prefix}/login/cancel/{{process}}", self._cancel)
        # Whoever waits for a scan and goes away takes no scan with them.
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
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
        await self._runner.cleanup()

    def refresh(self) -> None:
        """Replace the code that is shown, as the network does every half minute."""
        self._next.put_nowait("refresh")

    def scan(self) -> None:
        """Scan the code."""
        self._next.put_nowait("scan")

    def _allowed(self, request: web.Request) -> bool:
        self.asked_for.append(request.query.get("user_id", ""))
        return request.headers.get("Authorization") == f"Bearer {self.secret}"

    async def _flows(self, request: web.Request) -> web.Response:
        if not self._allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        return web.json_response({"flows": [{"id": "phone"}, {"id": "qr", "name": "QR code"}]})

    async def _start(self, request: web.Request) -> web.Response:
        if not self._allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        # What was meant for an earlier log-in, whose request may not have ended yet, is not for this.
        self._next = asyncio.Queue()
        if self.asks_for_input:
            return web.json_response(
                {
                    "login_id": "p2",
                    "type": "user_input",
                    "step_id": "fi.mau.slack.login.email",
                    "instructions": "",
                    "user_input": {"fields": []},
                }
            )
        if request.match_info["flow"] == "code":
            typed = {"type": "code", "data": "ABCD-1234"}
            return web.json_response({**_code(""), "display_and_wait": typed})
        return web.json_response(_code("first-payload"))

    async def _cancel(self, request: web.Request) -> web.Response:
        if not self._allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        self.cancelled.append(request.match_info["process"])
        return web.json_response({})

    async def _wait(self, request: web.Request) -> web.Response:
        if not self._allowed(request):
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN"}, status=401)
        if await self._next.get() == "refresh":
            return web.json_response(_code("second-payload"))
        return web.json_response(
            {
                "login_id": "p1",
                "type": "complete",
                "step_id": "fi.mau.whatsapp.login.complete",
                "instructions": "Successfully logged in as +441632960123",
                "complete": {"user_login_id": "441632960123"},
            }
        )


def _code(payload: str) -> dict[str, object]:
    return {
        "login_id": "p1",
        "type": "display_and_wait",
        "step_id": "fi.mau.whatsapp.login.qr",
        "instructions": "Scan the QR code with the WhatsApp mobile app to log in",
        "display_and_wait": {"type": "qr", "data": payload},
    }
