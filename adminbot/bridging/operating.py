"""What operators' hooks do to a bridge on an admin's word: restart it, say who may use it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adminbot.bridges.instance import Bridge, unknown_bridge
from adminbot.bridges.steps import LetUse, RestartBridge
from adminbot.bridging.hooks import run_hook
from adminbot.bridging.registry import Registry
from adminbot.bridging.upkeep import Upkeep
from common.clock import Clock
from common.errors import StewardError
from common.i18n import t

BACK_SECONDS = 90.0
LOOK_SECONDS = 1.0

Perform = Callable[[Any, str], Awaitable[str | None]]


@dataclass(frozen=True)
class Operating:
    """Runs hooks."""

    registry: Registry
    upkeep: Upkeep
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {RestartBridge: self._restart, LetUse: self._let_use}

    async def _restart(self, step: RestartBridge, key: str) -> str | None:
        del key
        bridge = self._bridge(step.bridge)
        began = self.clock.monotonic()
        self.upkeep.restarting.add(bridge.name)
        try:
            await _hooked(bridge, "on_restart", bridge.settings.on_restart)
            return await self._back(bridge, began)
        finally:
            self.upkeep.restarting.discard(bridge.name)

    async def _let_use(self, step: LetUse, key: str) -> str | None:
        del key
        bridge = self._bridge(step.bridge)
        hooks = bridge.settings
        if step.allowed:
            await _hooked(bridge, "on_allow", hooks.on_allow, step.user)
        else:
            await _hooked(bridge, "on_deny", hooks.on_deny, step.user)
        return None

    async def _back(self, bridge: Bridge, began: float) -> str:
        """Wait until a bridge answers; say how long that took, or that it does not yet."""
        while True:
            seen = await self.upkeep.check(bridge)
            passed = self.clock.monotonic() - began
            if seen.up:
                return t("It answers again, after {seconds} seconds.", seconds=round(passed))
            if seen.up is None:
                return t("Whether it answers again cannot be asked.")
            if passed > BACK_SECONDS:
                raise StewardError(
                    t(
                        "Its hook was run, but it does not answer after {seconds} seconds: {why}",
                        seconds=round(passed),
                        why=seen.trouble or "?",
                    )
                )
            await self.sleep(LOOK_SECONDS)

    def _bridge(self, name: str) -> Bridge:
        bridge = self.registry.bridges.get(name)
        if bridge is None:
            raise StewardError(unknown_bridge(name, self.registry.bridges))
        return bridge


async def _hooked(bridge: Bridge, name: str, command: tuple[str, ...], *arguments: str) -> None:
    if not command:
        raise StewardError(t("No hook is set for that: {name}", name=name))
    trouble = await run_hook(bridge, command, *arguments)
    if trouble is not None:
        raise StewardError(t("The hook did not do its work: {why}", why=trouble))
