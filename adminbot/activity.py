"""Writes down on which days people are seen, and when rooms were last used.

The homeserver keeps the last visit only. So both are noted: who sends something, in the
transaction that moves our cursor, and the last visits, looked at every few minutes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from adminbot.engine.answer import moment_of
from adminbot.own.memory import GAPS, gaps_in
from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import StewardError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import ListUsers
from common.ids import UserId
from common.inbox.consumer import Effect
from common.inbox.port import Entry, EntryKind
from common.telemetry.log import Log

LOOK_SECONDS = 600.0
AGAIN_SECONDS = 30.0
# The homeserver writes visits down some minutes late.
OVERLAP_MS = 3_600_000
PAGE = 500
ROOM_PRECISION_MS = 600_000
DAY_MS = 86_400_000
GAP_MS = 1_800_000
GAPS_KEPT_MS = 400 * DAY_MS
_MESSAGES = frozenset({"m.room.message", "m.room.encrypted", "m.sticker", "m.poll.start"})

log = Log("adminbot.activity")

Visit = tuple[str, str, int]
"""Month, user ID, the day's bit."""


class _Event(msgspec.Struct):
    type: str
    sender: str
    room_id: str
    origin_server_ts: int = 0


_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True)
class Activity:
    """The notes; ``own`` are our own accounts, which are nobody."""

    database: Database
    clock: Clock
    admin: AdminReader
    server_name: str
    own: frozenset[UserId]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def look(self, entries: Sequence[Entry]) -> Effect:
        """Return what writes down what a batch of entries says of people and rooms."""
        seen, now_ms = Seen(), self.clock.now_ms()
        for entry in entries:
            if entry.kind is not EntryKind.EVENT:
                continue
            try:
                event = _event.decode(entry.body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if event.sender not in self.own:
                seen.take(event, self.server_name, now_ms)
        return seen.keep

    async def run(self) -> None:
        """Look at the last visits from time to time until cancelled."""
        while True:
            wait_seconds = LOOK_SECONDS
            try:
                await self.read_visits()
            except StewardError as error:
                log.warning("the last visits could not be read", reason=error)
                wait_seconds = AGAIN_SECONDS
            await self.sleep(min(wait_seconds, self._until_midnight()))

    async def read_visits(self) -> int:
        """Note everybody whose last visit is newer than when this was last done."""
        row = await self.database.fetchrow("SELECT visits_ms FROM admin_watch")
        since_ms = (int(row["visits_ms"]) if row else 0) - OVERLAP_MS
        begun_ms = self.clock.now_ms()
        found = [visit async for visit in self._visits(since_ms)]
        async with self.database.transaction() as connection:
            await _note(connection, found)
            await _note_gap(connection, 0 if row is None else int(row["visits_ms"]), begun_ms)
            await connection.execute(
                "INSERT INTO admin_watch (id, since_ms, complete, visits_ms) VALUES (1, $1, 0, $2)"
                " ON CONFLICT (id) DO UPDATE SET visits_ms = excluded.visits_ms",
                begun_ms,
                begun_ms,
            )
        return len(found)

    async def _visits(self, since_ms: int) -> AsyncIterator[Visit]:
        request = ListUsers(order_by="last_seen_ts", direction="b", limit=PAGE)
        while True:
            page = await self.admin.read(request)
            for user in page.users:
                if not user.last_seen_ts or user.last_seen_ts < since_ms:
                    return
                if user.name not in self.own:
                    yield _visit(user.name, user.last_seen_ts)
            if page.next_token is None or not page.users:
                return
            request = replace(request, start=request.start + len(page.users))

    def _until_midnight(self) -> float:
        """Return the seconds until shortly before the day (UTC) ends, so that no day is lost."""
        now = self.clock.now().astimezone(UTC)
        left = 86_400 - (now.hour * 3_600 + now.minute * 60 + now.second) - 20
        return left if left > 0 else LOOK_SECONDS


@dataclass
class Seen:
    """What a batch of events says."""

    visits: set[Visit] = field(default_factory=set)
    rooms: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)

    def take(self, event: _Event, server_name: str, now_ms: int) -> None:
        """Take one event in; a time in the future is now."""
        at_ms = max(0, min(event.origin_server_ts, now_ms))
        self.rooms[event.room_id] = max(at_ms, self.rooms.get(event.room_id, 0))
        if event.sender.partition(":")[2] != server_name:
            return
        month, user, bit = _visit(event.sender, at_ms)
        self.visits.add((month, user, bit))
        if event.type in _MESSAGES:
            day = f"{month}-{bit.bit_length():02}"
            self.messages[day] = self.messages.get(day, 0) + 1

    async def keep(self, connection: Connection) -> None:
        """Write it down; called inside the transaction that moves the cursor."""
        await _note(connection, self.visits)
        if self.rooms:
            await connection.executemany(
                "INSERT INTO admin_room_activity (room_id, last_ms) VALUES ($1, $2)"
                " ON CONFLICT (room_id) DO UPDATE SET last_ms = excluded.last_ms"
                " WHERE excluded.last_ms > admin_room_activity.last_ms + $3",
                [(room, at, ROOM_PRECISION_MS) for room, at in sorted(self.rooms.items())],
            )
        if self.messages:
            await connection.executemany(
                "INSERT INTO admin_day (day, messages) VALUES ($1, $2) ON CONFLICT (day)"
                " DO UPDATE SET messages = admin_day.messages + excluded.messages",
                sorted(self.messages.items()),
            )


async def _note(connection: Connection, visits: Iterable[Visit]) -> None:
    # In order, so that two transactions never wait for each other.
    rows = sorted(visits)
    if rows:
        await connection.executemany(
            "INSERT INTO admin_seen (month, user_id, days) VALUES ($1, $2, $3)"
            " ON CONFLICT (month, user_id) DO UPDATE SET days = admin_seen.days | excluded.days"
            " WHERE (admin_seen.days | excluded.days) <> admin_seen.days",
            rows,
        )


async def _note_gap(connection: Connection, before_ms: int, now_ms: int) -> None:
    """Write down that we did not look over the end of a day: later visits hide those of before."""
    if not before_ms or now_ms - before_ms < GAP_MS or before_ms // DAY_MS == now_ms // DAY_MS:
        return
    kept = await connection.fetchval("SELECT value FROM admin_memory WHERE name = $1", GAPS)
    gaps = [gap for gap in gaps_in(kept) if gap[1] > now_ms - GAPS_KEPT_MS]
    await connection.execute(
        "INSERT INTO admin_memory (name, value) VALUES ($1, $2)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        GAPS,
        msgspec.json.encode([*gaps, (before_ms, now_ms)]).decode(),
    )


def _visit(user: str, at_ms: int) -> Visit:
    moment = moment_of(at_ms) or datetime(1970, 1, 1, tzinfo=UTC)
    return f"{moment:%Y-%m}", user, 1 << (moment.day - 1)
