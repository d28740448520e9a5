"""Whether a bridge is up: asked of the homeserver, of the bridge's own address, of its metrics.

The homeserver's ping is worth most: it goes the way that events go. ``ready`` is believed only
of kinds of which it is true.
"""

import asyncio
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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
    figures: Mapping[str, float] = field(default_factory=dict)


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
        metric, wanted = bridge.kind.limits.blocked_metric, bridge.kind.endpoints.figures
        found = await self._figures(bridge, {*wanted, *([metric] if metric else ())})
        held = found.get(metric) if metric else None
        blocked = None if held is None else held > 0
        shown = {name: found[name] for name in wanted if name in found}
        return Seen(seen.up, seen.ping_ms, seen.trouble, blocked, shown)

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

    async def _figures(self, bridge: Bridge, names: Collection[str]) -> Mapping[str, float]:
        """Return some figures of a bridge's metrics; those with labels are added up."""
        if bridge.metrics is None or not names:
            return {}
        try:
            text = await self._text(bridge.metrics)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return {}
        return {name: value for name in names if (value := figure(text, name)) is not None}

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


def figure(text: str, name: str) -> float | None:
    """Return a figure of metrics in Prometheus' text format, ``None`` if it is not there."""
    line = rf"^{re.escape(name)}(?:\{{[^}}\n]*\}})? ([0-9.eE+-]+)"
    try:
        values = [float(value) for value in re.findall(line, text, re.MULTILINE)]
    except ValueError:
        return None
    total = sum(values)
    return total if values and math.isfinite(total) else None


def bearer(secret: Secret) -> dict[str, str]:
    """Return the header with a bridge's shared secret."""
    return {"Authorization": f"Bearer {secret.reveal()}"}
