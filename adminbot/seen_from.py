"""Writes down from which addresses accounts were used lately, and on which device.

The homeserver tells it of an account, and of no address whose it is. So who was seen since the last
look is asked about, the longest unseen first: what was cut short goes on from there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from adminbot.engine.network import Place, place_of
from adminbot.engine.text import cut
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError
from common.homeserver.errors import NotAllowedError, RefusedError, StrangeAnswerError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.user_lookup import Connection, Whois
from common.homeserver.synapse.users import (
    Device,
    ListUserDevices,
    ListUsers,
    UserSummary,
    all_users,
)
from common.ids import UserId
from common.telemetry.log import Log

LOOK_SECONDS = 300.0
AGAIN_SECONDS = 30.0
# The homeserver writes visits down some minutes late.
OVERLAP_MS = 900_000
PAGE = 500
MOST_ACCOUNTS = 1_000
MOST_OF_ONE = 500
"""Of so many addresses and devices of one account the last are kept, each time."""
LONGEST = 200
_DAY_MS = 86_400_000
_NOWHERE = Place("", "")

log = Log("adminbot.seen_from")

Line = tuple[str, str, str, str, str, str, int]
"""User ID, address, device ID, the address's key, the device's name, user agent, when last."""


@dataclass(frozen=True)
class SeenFrom:
    """The standing work about the table ``admin_seen_from``; ``days`` 0: nothing is kept."""

    database: Database
    clock: Clock
    admin: AdminReader
    own: frozenset[UserId]
    days: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Look every few minutes until cancelled; or delete everything, and be done."""
        erased_ms = 0
        while True:
            wait_seconds = LOOK_SECONDS
            try:
                if not self.days:
                    await self._forget_all()
                    return
                if not await self.look():
                    wait_seconds = AGAIN_SECONDS
                if self.clock.now_ms() - erased_ms >= _DAY_MS:
                    await self.forget_erased()
                    erased_ms = self.clock.now_ms()
            except StartOverError:
                raise
            except StewardError as error:
                log.warning("from where accounts are used could not be read", reason=error)
                wait_seconds = AGAIN_SECONDS
            await self.sleep(wait_seconds)

    async def look(self) -> bool:
        """Note who was seen since the last look, and forget what is old; say whether it was all."""
        begun_ms = self.clock.now_ms()
        oldest_ms = begun_ms - self.days * _DAY_MS
        row = await self.database.fetchrow("SELECT * FROM admin_seen_from_watch")
        visits_ms = int(row["visits_ms"]) if row else oldest_ms
        # Who was down for longer than anything is kept begins anew.
        since_ms = int(row["since_ms"]) if row and visits_ms > oldest_ms else begun_ms
        seen = [one async for one in self._seen(max(visits_ms - OVERLAP_MS, oldest_ms))]
        now, later = seen[-MOST_ACCOUNTS:], seen[:-MOST_ACCOUNTS]
        for one in reversed(now):
            await self._note(one.name, oldest_ms)
        reached_ms = (now[0].last_seen_ts or 0) + OVERLAP_MS if later else begun_ms
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM admin_seen_from WHERE last_ms < $1", oldest_ms)
            await connection.execute(
                "INSERT INTO admin_seen_from_watch (id, since_ms, visits_ms) VALUES (1, $1, $2)"
                " ON CONFLICT (id) DO UPDATE SET since_ms = excluded.since_ms,"
                " visits_ms = excluded.visits_ms",
                since_ms,
                min(reached_ms, begun_ms),
            )
        return not later

    async def forget_erased(self) -> None:
        """Forget everybody whose account was closed and erased."""
        everybody = all_users(self.admin, ListUsers(deactivated=True, limit=PAGE))
        erased = [(one.name,) async for one in everybody if one.erased]
        async with self.database.transaction() as connection:
            if erased:
                await connection.executemany(
                    "DELETE FROM admin_seen_from WHERE user_id = $1", erased
                )

    async def _forget_all(self) -> None:
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM admin_seen_from")
            await connection.execute("DELETE FROM admin_seen_from_watch")

    async def _seen(self, since_ms: int) -> AsyncIterator[UserSummary]:
        """Go through those seen since and not written down so far, the last seen first."""
        request = ListUsers(order_by="last_seen_ts", direction="b", limit=PAGE)
        while True:
            page = await self.admin.read(request)
            known = await self._known(page.users)
            for user in page.users:
                seen_ms = user.last_seen_ts or 0
                if not seen_ms or seen_ms < since_ms:
                    return
                wanted = user.name not in self.own and not user.erased
                if wanted and seen_ms > known.get(user.name, 0):
                    yield user
            if page.next_token is None or not page.users:
                return
            request = replace(request, start=request.start + len(page.users))

    async def _known(self, users: Sequence[UserSummary]) -> dict[str, int]:
        places = ", ".join(f"${number}" for number in range(1, len(users) + 1)) or "NULL"
        rows = await self.database.fetch(
            "SELECT user_id, MAX(last_ms) AS last_ms FROM admin_seen_from"  # noqa: S608  # numbers
            f" WHERE user_id IN ({places}) GROUP BY user_id",
            *(one.name for one in users),
        )
        return {str(row["user_id"]): int(row["last_ms"]) for row in rows}

    async def _note(self, user: UserId, oldest_ms: int) -> None:
        try:
            connections = await self.admin.read(Whois(user))
            devices = await self.admin.read(ListUserDevices(user))
        except NotAllowedError:
            raise
        except (RefusedError, StrangeAnswerError) as error:
            # One account must not keep everybody else from being written down.
            log.warning("of one account it is not told from where it is used", reason=error)
            return
        found = lines(user, connections, devices)
        kept = [line for line in found if line[-1] >= oldest_ms][:MOST_OF_ONE]
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO admin_seen_from (user_id, address, device_id, place, device_name,"
                " user_agent, last_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                " ON CONFLICT (user_id, address, device_id) DO UPDATE SET"
                " device_name = excluded.device_name, user_agent = excluded.user_agent,"
                " last_ms = excluded.last_ms WHERE excluded.last_ms >= admin_seen_from.last_ms",
                kept,
            )


def lines(
    user: UserId, connections: Iterable[Connection], devices: Iterable[Device]
) -> list[Line]:
    """Return what to write down of an account, the last seen first; nothing twice."""
    found: dict[tuple[str, str], Line] = {}
    agents: dict[str, str] = {}
    for one in sorted(connections, key=lambda each: each.last_seen or 0):
        place = place_of(one.ip or "")
        if place is not None and one.last_seen:
            agents[place.address] = agent = _plain(one.user_agent)
            line = (user, place.address, "", place.key, "", agent, one.last_seen)
            found[place.address, ""] = line
    for device in devices:
        if device.last_seen_ts and _plain(device.device_id) == device.device_id:
            place = place_of(device.last_seen_ip or "") or _NOWHERE
            found[place.address, device.device_id] = (
                user,
                place.address,
                device.device_id,
                place.key,
                _plain(device.display_name).casefold(),
                agents.get(place.address, ""),
                device.last_seen_ts,
            )
    return sorted(found.values(), key=lambda line: -line[-1])


def _plain(text: str | None) -> str:
    # PostgreSQL keeps no NUL in a text, and no database half a character.
    whole = (text or "").encode("utf-8", "replace").decode()
    return cut(whole.replace("\x00", ""), LONGEST)
