"""Holding bridges to their limits: counting, warning, pausing, resuming, and telling of it.

The promise: what is decided is written down first, so that a restart goes on where it was;
exactly those accounts are let go again that we suspended ourselves.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from adminbot.bridges.activity import active, day_of, first_day
from adminbot.bridges.instance import Bridge
from adminbot.bridges.limit import Means, Standing, beyond, decide
from adminbot.bridging.hooks import run_hook
from adminbot.bridging.registry import Registry, means_of
from adminbot.own.bridges import BridgeRow, bridge_row
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, AdminWriter
from common.homeserver.synapse.account_state import SuspendUser
from common.homeserver.synapse.users import GetUser, ListUsers, all_users
from common.ids import UserId
from common.telemetry.log import Log

HOOK_AGAIN_MS = 300_000
BY_LIMIT = "limit"
KEPT_DAYS = 62

log = Log("adminbot.bridges")


class Admin(AdminReader, AdminWriter, Protocol):
    """The administration API, both halves."""


class Tellers(Protocol):
    """What is needed of ``adminbot.bridging.telling.Heralds``."""

    async def warn(self, bridge: Bridge, active: int, limit: int, at_ms: int) -> None:
        """Say to admins that a limit is near."""
        ...

    async def changed(
        self,
        bridge: Bridge,
        row: BridgeRow,
        standing: Standing,
        means: Sequence[Means],
        trouble: str | None,
    ) -> None:
        """Say that a bridge was paused or goes on; ``trouble``: what is wrong with its hook."""
        ...

    async def hook(self, bridge: Bridge, trouble: str | None, at_ms: int, *, stop: bool) -> None:
        """Say that a bridge's hook fails since now, or does not any more."""
        ...


@dataclass(frozen=True)
class Limits:
    """Looks at each bridge's count and acts on what it means."""

    registry: Registry
    admin: Admin
    database: Database
    clock: Clock
    heralds: Tellers
    at_least: int
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, bridge: Bridge) -> None:
        """Count, decide, write down, act, tell."""
        async with self.one_at_a_time:
            await self._look(bridge)

    async def _look(self, bridge: Bridge) -> None:
        row = await self._row(bridge)
        if row is None:
            return
        standing = await self._standing(bridge, row)
        decision = decide(standing)
        now_ms = self.clock.now_ms()
        if decision.pause:
            await self._write(
                "UPDATE bridge SET paused_ms = $1, changed_ms = $2, told = 0,"
                " paused_by = COALESCE(paused_by, $3) WHERE name = $4",
                now_ms,
                now_ms,
                BY_LIMIT,
                bridge.name,
            )
        elif decision.resume:
            await self._write(
                "UPDATE bridge SET paused_ms = NULL, paused_by = NULL, changed_ms = $1, told = 0"
                " WHERE name = $2",
                now_ms,
                bridge.name,
            )
        if decision.warn:
            await self.heralds.warn(bridge, len(standing.active), standing.limit or 0, now_ms)
            await self._write(
                "UPDATE bridge SET warned_ms = $1 WHERE name = $2", now_ms, bridge.name
            )
        elif decision.forget_warning:
            await self._write("UPDATE bridge SET warned_ms = NULL WHERE name = $1", bridge.name)
        await self._enforce(bridge)

    async def forget_old(self) -> None:
        """Drop days that no count looks at any more."""
        await self._write(
            "DELETE FROM bridge_active WHERE day < $1",
            day_of(self.clock.now_ms()) - KEPT_DAYS,
        )

    async def _row(self, bridge: Bridge) -> BridgeRow | None:
        row = await self.database.fetchrow("SELECT * FROM bridge WHERE name = $1", bridge.name)
        return None if row is None else bridge_row(row)

    async def _standing(self, bridge: Bridge, row: BridgeRow) -> Standing:
        by_hand = row.paused_by not in {None, BY_LIMIT}
        return Standing(
            limit=row.limit,
            active=await self._active(bridge) if row.limit is not None else (),
            paused=row.paused_ms is not None,
            warned=row.warned_ms is not None,
            by_hand=by_hand,
        )

    async def _active(self, bridge: Bridge) -> Sequence[str]:
        today = day_of(self.clock.now_ms())
        rows = await self.database.fetch(
            "SELECT ghost, day, first_ms FROM bridge_active WHERE bridge = $1 AND day >= $2",
            bridge.name,
            first_day(today),
        )
        days: dict[str, dict[int, int]] = {}
        for row in rows:
            days.setdefault(row["ghost"], {})[int(row["day"])] = int(row["first_ms"])
        return active(days, today=today, at_least=self.at_least)

    async def _enforce(self, bridge: Bridge) -> None:
        row = await self._row(bridge)
        if row is None:
            return
        standing = await self._standing(bridge, row)
        means = means_of(bridge, by_hand=standing.by_hand)
        if Means.SUSPEND in means:
            await self._hold(bridge, standing, anew=not row.told)
        trouble = await self._hook(bridge, row, stop=standing.paused and Means.HOOK in means)
        if not row.told:
            await self.heralds.changed(bridge, row, standing, means, trouble)
            await self._write(
                "UPDATE bridge SET told = 1 WHERE name = $1 AND changed_ms = $2",
                bridge.name,
                row.changed_ms,
            )

    async def _hold(self, bridge: Bridge, standing: Standing, *, anew: bool) -> None:
        """Have exactly those suspended that must not send, as far as it is ours to say.

        All accounts are looked through when a pause begins; afterwards only those that sent
        something, since a bridge may make new ones.
        """
        held = {
            UserId(row["ghost"])
            for row in await self.database.fetch(
                "SELECT ghost FROM bridge_suspended WHERE bridge = $1", bridge.name
            )
        }
        if not standing.paused and not held:
            return
        wanted: set[UserId] = set()
        if standing.paused:
            ghosts = await self._ghosts(bridge) if anew or not held else []
            ghosts = sorted({*ghosts, *held, *await self._sent(bridge)})
            wanted = {UserId(ghost) for ghost in beyond(standing, ghosts)}
        for ghost in sorted(wanted - held):
            await self._suspend(bridge, ghost)
        for ghost in sorted(held - wanted):
            await self._let_go(ghost)

    async def _ghosts(self, bridge: Bridge) -> list[str]:
        """Return every bridged account of this homeserver."""
        users = all_users(self.admin, ListUsers(deactivated=False, limit=500))
        # Not another bridge's bot, whose name may look like one of this bridge's people.
        bots = self.registry.owners
        return sorted(
            [
                one.name
                async for one in users
                if bridge.namespaces.covers(one.name) and bots.bridge_of_bot(one.name) is None
            ]
        )

    async def _sent(self, bridge: Bridge) -> list[str]:
        rows = await self.database.fetch(
            "SELECT DISTINCT ghost FROM bridge_active WHERE bridge = $1 AND day >= $2",
            bridge.name,
            first_day(day_of(self.clock.now_ms())),
        )
        return [row["ghost"] for row in rows]

    async def _suspend(self, bridge: Bridge, ghost: UserId) -> None:
        try:
            if (await self.admin.read(GetUser(ghost))).suspended:
                return  # somebody else's doing; not ours to undo either
            # Written down first: what may have happened must be undone one day.
            await self._write(
                "INSERT INTO bridge_suspended (ghost, bridge, at_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT (ghost) DO NOTHING",
                ghost,
                bridge.name,
                self.clock.now_ms(),
            )
            await self.admin.change(SuspendUser(user=ghost, suspended=True))
        except NotFoundError:
            await self._write("DELETE FROM bridge_suspended WHERE ghost = $1", ghost)

    async def _let_go(self, ghost: UserId) -> None:
        try:
            await self.admin.change(SuspendUser(user=ghost, suspended=False))
        except (StartOverError, TransientError):
            raise
        except StewardError as error:
            log.warning("an account could not be let go", user=ghost, reason=error)
        await self._write("DELETE FROM bridge_suspended WHERE ghost = $1", ghost)

    async def _hook(self, bridge: Bridge, row: BridgeRow, *, stop: bool) -> str | None:
        """Have the operator's hook run where it is due; return what is wrong with that.

        One that fails is tried again every few minutes, for as long as it is wanted.
        """
        if stop == row.stopped:
            if row.hook_trouble is not None:
                await self._hooked(bridge, row.stopped, None)
            return None
        now_ms = self.clock.now_ms()
        if row.hook_tried_ms is not None and now_ms - row.hook_tried_ms < HOOK_AGAIN_MS:
            return row.hook_trouble
        command = bridge.settings.on_pause if stop else bridge.settings.on_resume
        trouble = await run_hook(bridge, command) if command else None
        await self._hooked(bridge, row.stopped if trouble else stop, trouble)
        if row.told and (trouble is None) != (row.hook_trouble is None):
            await self.heralds.hook(bridge, trouble, now_ms, stop=stop)
        return trouble

    async def _hooked(self, bridge: Bridge, stopped: bool, trouble: str | None) -> None:  # noqa: FBT001  # a column
        await self._write(
            "UPDATE bridge SET stopped = $1, hook_trouble = $2, hook_tried_ms = $3 WHERE name = $4",
            int(stopped),
            trouble,
            None if trouble is None else self.clock.now_ms(),
            bridge.name,
        )

    async def _write(self, sql: str, *values: object) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(sql, *values)
