"""The standing work about bridges: look whether they are up, count, hold them to their limits."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from adminbot.bridges.instance import Bridge
from adminbot.bridges.outage import Outage, noticed
from adminbot.bridging.at_work import AtWork
from adminbot.bridging.limits import Limits
from adminbot.bridging.probe import Probe, Seen
from adminbot.bridging.registry import Registry
from adminbot.bridging.search import Search
from adminbot.bridging.telling import Heralds
from adminbot.bridging.watch import Watch
from adminbot.own.bridges import BridgeRow, bridge_row
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError
from common.telemetry.log import Log

TIDY_SECONDS = 3600.0
FIRST_WAIT_SECONDS = 1.0

log = Log("adminbot.bridges")


@dataclass
class Upkeep:
    """Runs until cancelled."""

    registry: Registry
    watch: Watch
    probe: Probe
    limits: Limits
    outages: Heralds
    search: Search
    at_work: AtWork
    database: Database
    clock: Clock
    interval_seconds: float
    tidied: float = 0.0
    restarting: set[str] = field(default_factory=set)
    """Bridges that are away because somebody asked for it just now."""

    async def run(self) -> None:
        """Look after bridges; a failure of one never ends it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checks())
            group.create_task(self._holds())
            group.create_task(self._sightings())
            group.create_task(self._searches())
            group.create_task(self._doubts())

    async def check(self, bridge: Bridge) -> Seen:
        """Look at one bridge now and write down what was found."""
        seen = await self.probe.look(bridge)
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE bridge SET checked_ms = $1, up = $2, ping_ms = $3, trouble = $4,"
                " blocked = $5, metrics = $6 WHERE name = $7",
                self.clock.now_ms(),
                None if seen.up is None else int(seen.up),
                seen.ping_ms,
                seen.trouble,
                None if seen.blocked is None else int(seen.blocked),
                msgspec.json.encode(seen.figures).decode(),
                bridge.name,
            )
        return seen

    async def watch_over(self, bridge: Bridge) -> None:
        """Look at one bridge, and have the admins told if it stopped answering or is back."""
        found = await self.database.fetchrow("SELECT * FROM bridge WHERE name = $1", bridge.name)
        seen = await self.check(bridge)
        if found is None:
            return
        row, now_ms = bridge_row(found), self.clock.now_ms()
        if seen.blocked is not None and seen.blocked != bool(row.blocked):
            await self.outages.blocked(bridge, now_ms, now=seen.blocked)
        await self._notice(bridge, row, seen, now_ms)

    async def _notice(self, bridge: Bridge, row: BridgeRow, seen: Seen, now_ms: int) -> None:
        before = Outage(row.down_ms, row.down_told)
        expected = row.stopped or bridge.name in self.restarting
        means = noticed(before, up=seen.up, expected=expected, now_ms=now_ms)
        if means.after == before:
            return
        # Told first: who is told twice is better off than who is never told.
        if means.tell_down and means.after.since_ms is not None:
            await self.outages.away(bridge, seen.trouble, means.after.since_ms)
        if means.tell_back and before.since_ms is not None:
            await self.outages.back(bridge, before.since_ms, now_ms)
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE bridge SET down_ms = $1, down_told = $2 WHERE name = $3",
                means.after.since_ms,
                int(means.after.told),
                bridge.name,
            )

    async def answered(self, bridge: Bridge) -> None:
        """Write down that a bridge's bot answered."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE bridge SET answered_ms = $1 WHERE name = $2",
                self.clock.now_ms(),
                bridge.name,
            )

    async def _checks(self) -> None:
        while True:
            for bridge in list(self.registry.bridges.values()):
                await surviving("checking a bridge", partial(self.watch_over, bridge))
            await asyncio.sleep(self.interval_seconds)

    async def _holds(self) -> None:
        """Count whenever somebody was active, and now and then: days pass."""
        while True:
            counted = self.watch.counted.count
            await surviving("reading bridges", self.registry.refresh)
            for bridge in list(self.registry.bridges.values()):
                await surviving("counting a bridge", partial(self.limits.look, bridge))
            if self.clock.monotonic() - self.tidied > TIDY_SECONDS:
                await surviving("tidying", self.limits.forget_old)
                self.tidied = self.clock.monotonic()
            await self.watch.counted.changed(counted, timeout_seconds=self.interval_seconds)

    async def _sightings(self) -> None:
        while True:
            seen = self.watch.sighted.count
            sightings, self.watch.sightings = self.watch.sightings, []
            await surviving("taking bridges up", partial(self.registry.sight, sightings))
            await self.watch.sighted.changed(seen)

    async def _searches(self) -> None:
        while True:
            found = await self.search.protocols()
            await surviving("taking bridges up", partial(self.registry.sight, found))
            await surviving("searching rooms for bridges", self._search_rooms)
            await asyncio.sleep(TIDY_SECONDS)

    async def _search_rooms(self) -> None:
        if await self.search.rooms():
            await self.at_work.settle_all()

    async def _doubts(self) -> None:
        """Look at rooms that somebody of a bridge has left."""
        while True:
            seen = self.watch.doubted.count
            doubts, self.watch.doubts = self.watch.doubts, set()
            for name, room in sorted(doubts):
                settle = partial(self.at_work.settle, name, room)
                await surviving("looking whether a bridge is in a room", settle)
            await self.watch.doubted.changed(seen)


async def surviving(what: str, act: Callable[[], Awaitable[object]]) -> None:
    """Do something; what goes wrong with it is logged, and tried again when it is due."""
    try:
        await act()
    except StartOverError:
        raise
    except StewardError as error:
        log.warning("something about bridges went wrong", what=what, reason=error)
