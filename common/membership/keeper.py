"""Being in every room: entered at once when one appears, mended whenever a bot is missing.

Three layers: the Synapse module invites the bots while a room is made; this keeper reacts to
what it sees; its sweep goes through all rooms at start, on a schedule and after each outage.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from common.clock import Clock
from common.config.schema import Rooms
from common.database.pool import Connection, Database
from common.errors import StewardError, TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError
from common.homeserver.synapse.rooms import all_rooms
from common.ids import RoomId, UserId, server_of
from common.inbox.consumer import Effect
from common.inbox.port import Entry
from common.inbox.signal import Signal
from common.matrix.client import MatrixClient, MatrixError
from common.membership import dismissal, pause, problems
from common.membership.entering import Entering
from common.membership.making import Making
from common.membership.policy import BridgeChats, judge
from common.telemetry.log import Log

log = Log("membership")

# A room is not finished while its creation event is already here: soon again, then slower.
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)

LIVE_CONCURRENCY = 8

# Rooms of other servers have their own turns: a join that their server drags out for a minute
# must not hold up the rooms of this one.
FOREIGN_CONCURRENCY = 2

# A room that could not be entered is left to the sweep; its messages do not ask for it again.
GIVEN_UP_SECONDS = 600.0

SWEEP_AGAIN_SECONDS = 30.0

_PAUSED = "The bots were told to leave all rooms."
_DISMISSED = "A bot was told to leave it."
_OWN_ERROR = "an error of Steward's own"


class _Member(msgspec.Struct):
    membership: str | None = None


class _Event(msgspec.Struct):
    type: str
    room_id: str
    sender: str = ""
    state_key: str | None = None
    origin_server_ts: int = 0
    content: msgspec.Raw = msgspec.Raw(b"{}")


_event = msgspec.json.Decoder(_Event)
_member = msgspec.json.Decoder(_Member)


@dataclass
class Keeper:
    """Keeps ``bots`` in every room that the settings want them in.

    The first bot is the leader: it is given power by the admin API and invites the others.
    """

    bots: Sequence[MatrixClient]
    admin: AdminClient
    settings: Rooms
    server_name: str
    database: Database
    clock: Clock
    sweep_now: Signal
    making: Making = field(init=False)
    deputy: MatrixClient | None = None
    _joined: dict[UserId, set[RoomId]] = field(default_factory=dict)
    _at_work: set[RoomId] = field(default_factory=set)
    _let_go: set[RoomId] = field(default_factory=set)
    _given_up: dict[RoomId, float] = field(default_factory=dict)
    _asked: "asyncio.Queue[tuple[RoomId, bool]]" = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.making = Making(frozenset(bot.user_id for bot in self.bots), self.clock)

    async def start(self) -> None:
        """Learn which rooms the bots are in."""
        for bot in self.bots:
            self._joined[bot.user_id] = set(await bot.joined_rooms())

    async def run(self) -> None:
        """Mend rooms as they are asked for, and sweep, until cancelled."""
        local = asyncio.Semaphore(LIVE_CONCURRENCY)
        foreign = asyncio.Semaphore(FOREIGN_CONCURRENCY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_when_due())
            while True:
                room, is_foreign = await self._asked.get()
                group.create_task(self._care_for(room, foreign if is_foreign else local))

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Look at a batch of events for rooms to enter; nothing is written."""
        for entry in entries:
            try:
                event = _event.decode(entry.body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            self._look_at(event)
        return _nothing

    async def ask_for(self, rooms: Iterable[RoomId]) -> None:
        """Have rooms looked at soon, e.g. because a bot was invited."""
        for room in rooms:
            self._ask(room, foreign=True)

    def _look_at(self, event: _Event) -> None:
        room = RoomId(event.room_id)
        age_ms = self.clock.now_ms() - event.origin_server_ts
        self.making.look_at(room, event.type, event.state_key, bytes(event.content), age_ms)
        if event.type == "m.room.member" and event.state_key in self._joined:
            self._joined_or_not(UserId(event.state_key), room, event)
            foreign = server_of(UserId(event.sender)) != self.server_name
            if not foreign:
                self._given_up.pop(room, None)
            self._ask(room, foreign=foreign)
        elif event.type == "m.room.power_levels" or self._missing(room):
            self._ask(room)

    def _joined_or_not(self, bot: UserId, room: RoomId, event: _Event) -> None:
        try:
            membership = _member.decode(event.content).membership
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if membership == "join":
            self._joined[bot].add(room)
        else:
            self._joined[bot].discard(room)

    def _missing(self, room: RoomId) -> bool:
        return room not in self._let_go and any(
            room not in rooms for rooms in self._joined.values()
        )

    def _ask(self, room: RoomId, *, foreign: bool = False) -> None:
        if room in self._at_work or self._given_up.get(room, 0.0) > self.clock.monotonic():
            return
        self._at_work.add(room)
        self._asked.put_nowait((room, foreign))

    async def _care_for(self, room: RoomId, turn: asyncio.Semaphore) -> None:
        problem: str | None = None
        try:
            for wait_seconds in (0.0, *RETRY_SECONDS):
                await asyncio.sleep(wait_seconds)
                async with turn:
                    problem = await self._mend_or_why_not(room)
                if problem is None:
                    self._given_up.pop(room, None)
                    return
        finally:
            self._at_work.discard(room)
        self._given_up[room] = self.clock.monotonic() + GIVEN_UP_SECONDS
        log.warning(
            "a room could not be entered, or not with power, for now", room=room, reason=problem
        )

    async def _mend_or_why_not(self, room: RoomId) -> str | None:
        """Mend a room; what prevented it is written down, whatever it was."""
        try:
            return await self.mend(room)
        except TransientError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  # the edge where a hostile room meets our bugs
            log.error("a room could not be looked at", room=room, reason=type(error).__name__)
            problem = f"{_OWN_ERROR} ({type(error).__name__})"
        try:
            await self._remember(room, problem)
        except TransientError as error:
            log.warning("a problem could not be written down", room=room, reason=error)
        return problem

    async def mend(self, room: RoomId) -> str | None:
        """Bring every bot into a room and power to the leader; return what prevented it.

        Raises:
            TransientError: the homeserver is away, so nothing is known.
        """
        if await pause.is_paused(self.database):
            await self._leave_out(room, _PAUSED)
            return await self._answer_only(room)
        if self.making.is_going_on(room):
            return "It is just being made."
        bridges = await BridgeChats.known(self.database, self._joined, self.clock.now_ms())
        verdict = await judge(self.admin, room, self.settings, self.server_name, bridges)
        if verdict.wanted is None:
            if verdict.reason:
                await self._remember(room, verdict.reason)
            return verdict.reason or "It is just being made."
        bots = await self._staying(room) if verdict.wanted else ()
        problem = await self._enter(bots, room) if bots else None
        await self._remember(room, problem)
        if len(bots) < len(self.bots):
            await self._leave_out(room, verdict.reason or _DISMISSED)
        else:
            await problems.leave_out(self.database, self.clock, room, None)
        return problem

    async def _enter(self, bots: Sequence[MatrixClient], room: RoomId) -> str | None:
        entering = self._entering(bots)
        try:
            return await entering.enter_all(room) or await entering.empower(room)
        except (MatrixError, RefusedError) as error:
            return str(error)

    async def leave(self, room: RoomId) -> str | None:
        """Have the bots leave a room, and enter none by themselves; return what prevented it."""
        await pause.pause(self.database, self.clock)
        return await self._leave(self.bots, room)

    async def _leave(self, bots: Sequence[MatrixClient], room: RoomId) -> str | None:
        for bot in reversed(bots):
            try:
                await bot.leave(room)
            except MatrixError as error:
                if error.errcode not in {"M_FORBIDDEN", "M_NOT_FOUND"}:  # not in there
                    return f"{bot.user_id} cannot leave: {error.message}"
            self._joined.get(bot.user_id, set()).discard(room)
        await self._remember(room, None)
        await self._leave_out(room, _PAUSED if len(bots) == len(self.bots) else _DISMISSED)
        return None

    async def dismiss(self, room: RoomId, bot: UserId, asked_by: UserId) -> str | None:
        """Have one bot leave a room until it is invited; return what prevented it."""
        await dismissal.dismiss(self.database, self.clock, room, bot, asked_by)
        self._let_go.add(room)
        return await self._leave([one for one in self.bots if one.user_id == bot], room)

    async def readmit(self, room: RoomId) -> None:
        """Have all bots in a room again that one was asked to leave."""
        await dismissal.readmit(self.database, room)

    async def _staying(self, room: RoomId) -> Sequence[MatrixClient]:
        """Return those bots that a room's admins have not asked to leave."""
        if not self.settings.dismissal:
            return self.bots
        bots = await dismissal.staying(self.database, self.admin, self.bots, room)
        if len(bots) < len(self.bots):
            self._let_go.add(room)
        else:
            self._let_go.discard(room)
        return bots

    def _entering(self, bots: Sequence[MatrixClient]) -> Entering:
        return Entering(bots, self.admin, self.deputy, self._joined)

    async def come_back(self) -> None:
        """Enter every room again, beginning with the next sweep."""
        await pause.end_pause(self.database)
        self._given_up.clear()

    async def _answer_only(self, room: RoomId) -> str | None:
        leader = self.bots[0]
        everybody = {bot.user_id for bot in self.bots}
        if await pause.is_begun_with(self.admin, room, leader.user_id, everybody):
            return await self._entering(self.bots).join(leader, room)
        return None

    async def _remember(self, room: RoomId, problem: str | None) -> None:
        inside = self._followers_inside(room)
        await problems.remember(self.database, self.clock, room, problem, inside=inside)

    async def _leave_out(self, room: RoomId, reason: str) -> None:
        """Write down why a room is not followed; one that a bot stayed in still is."""
        known = None if self._followers_inside(room) else reason
        await problems.leave_out(self.database, self.clock, room, known)

    def _followers_inside(self, room: RoomId) -> bool:
        followers = self.bots[1:]
        return bool(followers) and all(
            room in self._joined.get(bot.user_id, ()) for bot in followers
        )

    async def _sweep_when_due(self) -> None:
        while True:
            seen = self.sweep_now.count
            wait_seconds = None
            try:
                await self.sweep()
            except StewardError as error:
                log.warning("the sweep of all rooms was interrupted", reason=error)
                wait_seconds = SWEEP_AGAIN_SECONDS
            await self.sweep_now.changed(seen, timeout_seconds=wait_seconds)

    async def sweep(self) -> None:
        """Mend every room of the homeserver; a sweep that was interrupted goes on."""
        if await pause.is_paused(self.database):
            log.info("the bots are to enter no rooms; nothing is swept")
            return
        await self.start()
        after = await self.database.fetchval("SELECT after_room FROM membership_sweep")
        rooms = sorted(
            [room.room_id async for room in all_rooms(self.admin) if room.joined_local_members]
        )
        begun_ms = self.clock.now_ms()
        waiting = [room for room in rooms if after is None or room > after]
        log.info("sweep of all rooms begins", rooms=len(waiting), of=len(rooms))
        unmended = 0
        again: list[RoomId] = []
        for start in range(0, len(waiting), self.settings.sweep_concurrency):
            batch = waiting[start : start + self.settings.sweep_concurrency]
            outcomes: dict[RoomId, str | TransientError | None] = {}
            async with asyncio.TaskGroup() as group:
                for room in batch:
                    group.create_task(self._mend_into(outcomes, room))
            away = [one for one in outcomes.values() if isinstance(one, TransientError)]
            if len(away) == len(batch):
                raise away[0]  # not the rooms' fault: go on from here when it is back
            again += [room for room in batch if isinstance(outcomes[room], TransientError)]
            for room, outcome in outcomes.items():
                unmended += isinstance(outcome, str)
                if isinstance(outcome, str) and outcome.startswith(_OWN_ERROR):
                    await self._remember(room, outcome)
            await self._sweep_reached(batch[-1])
        for room in again:
            unmended += await self._mend_or_why_not(room) is not None
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM membership_sweep")
            await connection.execute(
                "INSERT INTO membership_compared (id, compared_ms) VALUES (1, $1)"
                " ON CONFLICT (id) DO UPDATE SET compared_ms = excluded.compared_ms",
                begun_ms,
            )
        await problems.forget_all_but(self.database, rooms)
        log.info("sweep of all rooms is done", rooms=len(rooms), unmended=unmended)

    async def _mend_into(
        self, outcomes: dict[RoomId, str | TransientError | None], room: RoomId
    ) -> None:
        try:
            outcomes[room] = await self.mend(room)
        except TransientError as error:
            outcomes[room] = error
        except Exception as error:  # noqa: BLE001  # the edge where a hostile room meets our bugs
            log.error("a room could not be looked at", room=room, reason=type(error).__name__)
            outcomes[room] = f"{_OWN_ERROR} ({type(error).__name__})"

    async def _sweep_reached(self, room: RoomId) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO membership_sweep (id, after_room) VALUES (1, $1)"
                " ON CONFLICT (id) DO UPDATE SET after_room = excluded.after_room",
                room,
            )


async def _nothing(_connection: Connection) -> None:
    """Write nothing: what a room needs is asked from the homeserver, not remembered."""
