"""Logging in through a bridge's own HTTP interface (mautrix provisioning API, version 3).

The code to scan is drawn here and shown to the person alone, in adminbot's encrypted chat with
them; it is taken back as soon as it is used, replaced or over. Nothing of it is ever logged.

Source: mautrix/go of 2026-08-22, ``bridgev2/matrix/provisioning.go`` and ``bridgev2/login.go``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from adminbot.bridges.instance import Bridge, Provisioning
from adminbot.bridges.load import read_file
from adminbot.bridging.stopping import StoppedError, unless_stopped
from adminbot.engine.qr import qr_code
from common.config.secret import Secret
from common.errors import ConfigError, StewardError
from common.i18n import t
from common.ids import UserId

USUAL_PREFIX = "/_matrix/provision"
REQUEST_SECONDS = 30.0
SCAN_SECONDS = 300.0
MOST_STEPS = 20
MOST_BYTES = 2**20
LONGEST_PAYLOAD = 2048
_OK = 200
_ELSEWHERE = frozenset({401, 404, 405, 500, 502, 503, 504})
"""What says that this is not the interface of version 3, or not for us: a matter of configuration."""


class UnfitError(StewardError):
    """This way of logging in cannot be gone, or not to its end; another may be."""


@dataclass(frozen=True)
class Code:
    """Something to show: a picture to scan, or a code to type into a phone."""

    words: str
    picture: bytes | None = None
    text: str | None = None


Show = Callable[[Code], Awaitable[Callable[[], Awaitable[None]]]]
"""Shows a code to the person; what it returns takes it back."""


class _Display(msgspec.Struct, frozen=True):
    type: str
    data: str | None = None


class _Complete(msgspec.Struct, frozen=True):
    user_login_id: str = ""


class _Step(msgspec.Struct, frozen=True):
    login_id: str
    type: str
    step_id: str
    instructions: str = ""
    display_and_wait: _Display | None = None
    complete: _Complete | None = None


@dataclass(frozen=True)
class LoggedIn:
    """A log-in that was completed; ``remote`` is the bridge's name for it."""

    remote: str
    said: str


@dataclass(frozen=True)
class ProvisioningApi:
    """One bridge's interface, in the name of one person."""

    session: aiohttp.ClientSession
    bridge: Bridge
    provisioning: Provisioning
    person: UserId

    async def log_in(
        self, flow: str | None, show: Show, stopped: Callable[[], Awaitable[bool]]
    ) -> LoggedIn:
        """Log the person in, showing them what they have to scan or type.

        Raises:
            UnfitError: the interface cannot be reached, or asks for what no code can give.
            StewardError: the bridge refused, nobody scanned in time, or it was cancelled.
        """
        step = await self._start(flow or await self._first_flow())
        for _ in range(MOST_STEPS):
            if step.type == "complete":
                remote = step.complete.user_login_id if step.complete else ""
                return LoggedIn(remote, step.instructions)
            if step.type != "display_and_wait" or step.display_and_wait is None:
                await self._cancel(step)
                raise UnfitError(
                    t(
                        "This way of logging in asks for more than a code ({kind}). Log in in "
                        "your own chat with {bot}.",
                        kind=step.type,
                        bot=self.bridge.bot,
                    )
                )
            take_back = await show(_code(step.display_and_wait, step.instructions))
            try:
                step = await unless_stopped(partial(self._wait, step), stopped)
            except StoppedError:
                await self._cancel(step)
                raise StewardError(t("The bridge was told that it is cancelled.")) from None
            except UnfitError as error:
                # Somebody was at it with their telephone; they are not sent on without a word.
                raise StewardError(*error.args) from None
            finally:
                await take_back()
        raise StewardError(t("Nobody scanned the code in time."))

    async def _first_flow(self) -> str:
        flows = (await self._call("GET", "/v3/login/flows")).get("flows")
        ids = [
            str(flow.get("id"))
            for flow in (flows if isinstance(flows, list) else [])
            if isinstance(flow, dict)
        ]
        if not ids:
            raise StewardError(t("This bridge offers no way to log in."))
        return "qr" if "qr" in ids else ids[0]

    async def _start(self, flow: str) -> _Step:
        return _typed(await self._call("POST", f"/v3/login/start/{quote(flow, safe='')}"))

    async def _wait(self, step: _Step) -> _Step:
        path = (
            f"/v3/login/step/{quote(step.login_id, safe='')}"
            f"/{quote(step.step_id, safe='')}/display_and_wait"
        )
        return _typed(await self._call("POST", path, seconds=SCAN_SECONDS))

    async def _cancel(self, step: _Step) -> None:
        await self._call("POST", f"/v3/login/cancel/{quote(step.login_id, safe='')}")

    async def _call(
        self, method: str, path: str, *, seconds: float = REQUEST_SECONDS
    ) -> Mapping[str, Any]:
        prefix = self.bridge.kind.endpoints.provisioning_prefix or USUAL_PREFIX
        url = self.provisioning.url.rstrip("/") + prefix.rstrip("/") + path
        try:
            async with (
                asyncio.timeout(seconds),
                self.session.request(
                    method,
                    url,
                    params={"user_id": self.person},
                    headers={"Authorization": f"Bearer {self._secret().reveal()}"},
                    json={} if method == "POST" else None,
                    allow_redirects=False,
                ) as response,
            ):
                data = await response.content.read(MOST_BYTES)
                status = response.status
        except TimeoutError:
            raise UnfitError(t("The bridge did not answer in time.")) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnfitError(
                t("The bridge cannot be reached: {why}", why=type(error).__name__)
            ) from None
        answer = _decoded(data)
        if status != _OK:
            why = answer.get("error") or answer.get("errcode") or status
            refused = UnfitError if status in _ELSEWHERE else StewardError
            raise refused(t("The bridge refused: {why}", why=str(why)[:200]))
        return answer

    def _secret(self) -> Secret:
        try:
            return Secret(read_file(Path(self.provisioning.secret_file)).strip())
        except ConfigError as error:
            raise UnfitError(str(error)) from None


def _code(display: _Display, words: str) -> Code:
    payload = display.data or ""
    if len(payload) > LONGEST_PAYLOAD:
        raise UnfitError(t("The bridge sent a code that is too long."))
    if display.type == "qr" and payload:
        return Code(words, picture=qr_code("code.png", payload).data)
    if display.type in {"code", "emoji"} and payload:
        return Code(words, text=payload)
    if display.type == "nothing":
        return Code(words)
    raise UnfitError(
        t("The bridge sent a code of a kind I cannot show ({kind}).", kind=display.type)
    )


def _typed(answer: Mapping[str, Any]) -> _Step:
    try:
        return msgspec.convert(answer, _Step)
    except msgspec.ValidationError:
        raise UnfitError(t("The bridge answered in an unknown way.")) from None


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
