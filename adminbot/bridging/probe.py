"""Whether a bridge is up: asked of the homeserver, of the bridge's own address, of its metrics.

The homeserver's ping is worth most: it goes the way that events go. ``ready`` is believed only
of kinds of which it is true.
"""

import asyncio
import re
from dataclasses import dataclass

import aiohttp

from adminbot.bridges.instance import Bridge
from common.config.secret import Secret
from common.errors import StartOverError, TransientError
from common.i18n import t
from common.matrix.client import CLIENT, MatrixClient, MatrixError, segment
from common.telemetry.log import Log

TIMEOUT_SECONDS = 10.0
MOST_METRICS_BYTES = 4 * 2**20
_OK = 200

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Seen:
    """What was found. ``up`` is ``None`` where nothing could be asked."""

    up: bool | None = None
    ping_ms: int | None = None
    trouble: str | None = None
    blocked: bool | None = None


@dataclass(frozen=True)
class Probe:
    """Asks; ``client`` is for the homeserver, ``session`` for the bridges' own addresses."""

    client: MatrixClient
    session: aiohttp.ClientSession

    async def look(self, bridge: Bridge) -> Seen:
        """Return how a bridge is; never fails because of the bridge."""
        seen = await self._ping(bridge)
        if seen.up is None:
            seen = await self._live(bridge)
        blocked = await self._blocked(bridge)
        return Seen(seen.up, seen.ping_ms, seen.trouble, blocked)

    async def why_silent(self, bridge: Bridge) -> str:
        """Say what else is known of a bridge whose bot does not answer."""
        seen = await self.look(bridge)
        if seen.up:
            return t(
                "The homeserver reaches the bridge, so it runs; the other network may be away, or "
                "an earlier command of the same account still hangs there."
            )
        if seen.up is False:
            return t("The homeserver cannot reach the bridge: {why}", why=seen.trouble or "?")
        return t("Whether it runs is not known: its registration is not configured.")

    async def _ping(self, bridge: Bridge) -> Seen:
        """``POST /appservice/{id}/ping`` with the bridge's own token (specification v1.7)."""
        if bridge.registration is None:
            return Seen()
        path = f"{CLIENT}/v1/appservice/{segment(bridge.registration.id)}/ping"
        try:
            answer = await self.client.request_as(bridge.registration.as_token, "POST", path, {})
        except MatrixError as error:
            if error.errcode == "M_URL_NOT_SET":
                return Seen()
            return Seen(up=False, trouble=error.message[:200] or error.errcode)
        except StartOverError:
            raise
        except TransientError:
            return Seen()
        # Typed as an object, but whoever stands between may answer anything.
        said: object = answer
        duration = said.get("duration_ms") if isinstance(said, dict) else None
        return Seen(up=True, ping_ms=duration if isinstance(duration, int) else None)

    async def _live(self, bridge: Bridge) -> Seen:
        endpoints, address = bridge.kind.endpoints, bridge.address
        path = endpoints.live or (endpoints.ready if endpoints.ready_is_true else None)
        if address is None or path is None:
            return Seen()
        status = await self._status(address.rstrip("/") + path)
        if status is None:
            return Seen(up=False, trouble=t("nothing answers at its address"))
        if status != _OK:
            return Seen(up=False, trouble=t("it answers {status}", status=status))
        return Seen(up=True)

    async def _blocked(self, bridge: Bridge) -> bool | None:
        name, url = bridge.kind.limits.blocked_metric, bridge.metrics
        if name is None or url is None:
            return None
        try:
            text = await self._text(url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None
        found = re.search(
            rf"^{re.escape(name)}(?:\{{[^}}\n]*\}})? ([0-9.eE+-]+)", text, re.MULTILINE
        )
        try:
            return None if found is None else float(found[1]) > 0
        except ValueError:
            return None

    async def _status(self, url: str) -> int | None:
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self.session.get(url, allow_redirects=False) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def _text(self, url: str) -> str:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            self.session.get(url, allow_redirects=False) as response,
        ):
            data = await response.content.read(MOST_METRICS_BYTES)
            return data.decode("utf-8", "replace")


def bearer(secret: Secret) -> dict[str, str]:
    """Return the header with a bridge's shared secret."""
    return {"Authorization": f"Bearer {secret.reveal()}"}
