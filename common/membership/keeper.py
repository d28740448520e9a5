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
from common.homeserver.synapse.rooms import GetStateEvent, MakeRoomAdmin, all_rooms
from common.ids import RoomId, UserId, server_of
from common.inbox.consumer import Effect
from common.inbox.port import Entry
from common.inbox.signal import Signal
from common.matrix.client import Json, MatrixClient, MatrixError
from common.matrix.power import ADMIN_LEVEL, power_of
from common.membership.policy import is_wanted
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


class _Member(msgspec.Struct):
    membership: str | None = None


class _Event(msgspec.Struct):
    type: str
    room_id: str
    sender: str = ""
    state_key: str | None = None
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
    _joined: dict[UserId, set[RoomId]] = field(default_factory=dict)
    _at_work: set[RoomId] = field(default_factory=set)
    _given_up: dict[RoomId, float] = field(default_factory=dict)
    _asked: "asyncio.Queue[tuple[RoomId, bool]]" = field(default_factory=asyncio.Queue)

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
        return any(room not in rooms for rooms in self._joined.values())

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
        log.warning("a room could not be entered for now", room=room, reason=problem)

    async def _mend_or_why_not(self, room: RoomId) -> str | None:
        try:
            return await self.mend(room)
        except TransientError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  # the edge where a hostile room meets our bugs
            log.error("a room could not be looked at", room=room, reason=type(error).__name__)
            return f"an error of Steward's own ({type(error).__name__})"

    async def mend(self, room: RoomId) -> str | None:
        """Bring every bot into a room and power to the leader; return what prevented it.

        Raises:
            TransientError: the homeserver is away, so nothing is known.
        """
        if not await is_wanted(self.admin, room, self.settings, self.server_name):
            return None
        try:
            problem = await self._enter_all(room) or await self._empower(room)
        except (MatrixError, RefusedError) as error:
            problem = str(error)
        await self._remember(room, problem)
        return problem

    async def _enter_all(self, room: RoomId) -> str | None:
        leader, *others = self.bots
        problems = await self._join_all(room)
        if problems[leader.user_id] is not None:
            problem = await self._force(leader, room)
            if problem is not None:
                return problem
        for bot in others:
            if problems[bot.user_id] is not None:
                problem = await self._bring(leader, bot, room)
                if problem is not None:
                    return problem
        return None

    async def _join_all(self, room: RoomId) -> dict[UserId, str | None]:
        """Have all that are invited already (the module does that) go in side by side."""
        outcomes: dict[UserId, str | TransientError | None] = {}
        async with asyncio.TaskGroup() as group:
            for bot in self.bots:
                group.create_task(self._join_into(outcomes, bot, room))
        problems: dict[UserId, str | None] = {}
        for user_id, outcome in outcomes.items():
            if isinstance(outcome, TransientError):
                raise outcome
            problems[user_id] = outcome
        return problems

    async def _join_into(
        self,
        problems: dict[UserId, str | TransientError | None],
        bot: MatrixClient,
        room: RoomId,
    ) -> None:
        try:
            problems[bot.user_id] = await self._join(bot, room)
        except TransientError as error:
            problems[bot.user_id] = error  # raised in the group it would come out as a group

    async def _join(self, bot: MatrixClient, room: RoomId) -> str | None:
        if room in self._joined[bot.user_id]:
            return None
        try:
            await bot.join(room)
        except MatrixError as error:
            return f"{bot.user_id} cannot join: {error.message}"
        self._joined[bot.user_id].add(room)
        return None

    async def _force(self, leader: MatrixClient, room: RoomId) -> str | None:
        """Have the homeserver act as the strongest local member: power, and an invitation."""
        try:
            await self.admin.change(MakeRoomAdmin(room=room, user=leader.user_id))
        except TransientError:
            raise
        except StewardError as error:
            return str(error)
        return await self._join(leader, room)

    async def _bring(self, leader: MatrixClient, bot: MatrixClient, room: RoomId) -> str | None:
        try:
            await leader.invite(room, bot.user_id)
        except MatrixError as error:
            # Without power to invite, ask for it once; a ban is lifted by nobody but people.
            forced = await self._force(bot, room)
            return forced and f"{forced} ({error.message})"
        return await self._join(bot, room)

    async def _empower(self, room: RoomId) -> str | None:
        leader = self.bots[0]
        if await self._has_power(leader, room):
            return None
        try:
            await self.admin.change(MakeRoomAdmin(room=room, user=leader.user_id))
        except TransientError:
            raise
        except StewardError as error:
            return f"{leader.user_id} has no power: {error}"
        if await self._has_power(leader, room):
            return None
        return f"{leader.user_id} has less than {ADMIN_LEVEL} power, and nobody local has more to give."

    async def _has_power(self, bot: MatrixClient, room: RoomId) -> bool:
        levels = await _content(bot, room, "m.room.power_levels")
        users = levels.get("users") if levels else None
        level = users.get(bot.user_id) if isinstance(users, dict) else None
        if isinstance(level, int) and level >= ADMIN_LEVEL:
            return True
        # Only then is the creation event worth a second request: creators of version 12.
        create = await AdminClient(bot).read(GetStateEvent(room, "m.room.create", ""))
        return power_of(
            bot.user_id, levels=levels, create_sender=create.sender, create=create.content
        ).administers

    async def _remember(self, room: RoomId, problem: str | None) -> None:
        async with self.database.transaction() as connection:
            if problem is None:
                await connection.execute("DELETE FROM membership_problem WHERE room_id = $1", room)
                return
            await connection.execute(
                "INSERT INTO membership_problem (room_id, problem, since_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT (room_id) DO UPDATE SET problem = excluded.problem",
                room,
                problem,
                self.clock.now_ms(),
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
        await self.start()
        after = await self.database.fetchval("SELECT after_room FROM membership_sweep")
        rooms = sorted(
            [room.room_id async for room in all_rooms(self.admin) if room.joined_local_members]
        )
        waiting = [room for room in rooms if after is None or room > after]
        log.info("sweep of all rooms begins", rooms=len(waiting), of=len(rooms))
        unmended = 0
        for start in range(0, len(waiting), self.settings.sweep_concurrency):
            batch = waiting[start : start + self.settings.sweep_concurrency]
            outcomes: dict[RoomId, str | TransientError | None] = {}
            async with asyncio.TaskGroup() as group:
                for room in batch:
                    group.create_task(self._mend_into(outcomes, room))
            for outcome in outcomes.values():
                if isinstance(outcome, TransientError):
                    raise outcome
            unmended += sum(outcome is not None for outcome in outcomes.values())
            await self._sweep_reached(batch[-1])
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM membership_sweep")
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
            outcomes[room] = f"an error of Steward's own ({type(error).__name__})"

    async def _sweep_reached(self, room: RoomId) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO membership_sweep (id, after_room) VALUES (1, $1)"
                " ON CONFLICT (id) DO UPDATE SET after_room = excluded.after_room",
                room,
            )


async def _nothing(_connection: Connection) -> None:
    """Write nothing: what a room needs is asked from the homeserver, not remembered."""


async def _content(bot: MatrixClient, room: RoomId, event_type: str) -> Json | None:
    try:
        return await bot.state_event(room, event_type)
    except MatrixError as error:
        if error.errcode == "M_NOT_FOUND":
            return None
        raise
