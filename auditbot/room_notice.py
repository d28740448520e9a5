"""A notice in each room that it is archived: said once, pinned where that may be.

The promise kept: a room is told once of each text, whatever is restarted when; and whatever goes
wrong with that, nothing else waits for it.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from auditbot.pipeline.hostile import envelope, key
from auditbot.pipeline.room_state import RoomContext, fold
from auditbot.rooms import Rooms
from common.alarms import raise_alarm
from common.clock import Clock
from common.database.pool import Database, Row
from common.errors import PermanentError, TransientError, UserError
from common.ids import EventId, RoomId, UserId
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal
from common.matrix.client import CLIENT, MatrixError, segment
from common.telemetry.log import Log

PACE_SECONDS = 1.0
"""Between two rooms: each message is one more for all the people in it, and their devices."""
SETTLE_MS = 5_000
"""After the bot came into a room: it may still be in the making, and have no name yet."""
LOOK_SECONDS = 600.0
"""How often it is looked which rooms the bot is in, where nothing was heard of one."""
_AWAY_SECONDS = 60.0
_INACTIVE_SECONDS = 5.0
"""While nothing is archived, as for a moment after each start."""
_MINUTE_MS = 60_000
_AGAIN_AFTER_MS = tuple(minutes * _MINUTE_MS for minutes in (1, 5, 30, 120, 720, 1440))
"""How long to wait before each further attempt in a room that refuses; then once a day."""
_MOST_AWAY = 3
"""After so many rooms in a row without an answer the homeserver is away, not the rooms at fault."""
_UNTOLD = 4
"""After so many refusals in a room the admins are told: after about half an hour."""
_NOT_NOW_MS = 10 * _MINUTE_MS
_OF_TWO = 2
_SPACE = "m.space"
_MOST_LOOKED_AT = 50

_SENT = ("m.room.message", "m.room.encrypted")

log = Log("audit.notice")

Json = Mapping[str, Any]


class Account(Protocol):
    """What is needed of ``common.matrix.client.MatrixClient``."""

    user_id: UserId

    async def joined_rooms(self) -> list[RoomId]:
        """Return the rooms this account is in."""
        ...

    async def state_event(
        self, room_id: RoomId, event_type: str, state_key: str = ""
    ) -> dict[str, Any]:
        """Return the content of one state event as it is now."""
        ...

    async def state(self, room_id: RoomId) -> list[dict[str, Any]]:
        """Return the whole current state of a room, as events."""
        ...

    async def put_state(
        self, room_id: RoomId, event_type: str, state_key: str, content: dict[str, Any]
    ) -> EventId:
        """Send a state event."""
        ...

    async def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send one request."""
        ...


class Sending(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(self, room_id: RoomId, content: dict[str, Any], *, txn_id: str) -> EventId:
        """Send a message, encrypted wherever the room is."""
        ...


@dataclass
class RoomNotice:
    """The standing work.

    Args:
        text: what is said
        direct_chats: whether it is said in chats of two as well
        account: the bot that says it
        messenger: its way to say it
        pinners: whoever may pin it, if the bot may not; may be filled later
        own: Steward's accounts
        rooms: what is known of rooms
        database: where progress is kept
        clock: for waits
        is_active: whether anything is archived at present
    """

    text: str
    direct_chats: bool
    account: Account
    messenger: Sending
    pinners: Sequence[Account]
    own: Collection[str]
    rooms: Rooms
    database: Database
    clock: Clock
    is_active: Callable[[], bool]
    pace_seconds: float = PACE_SECONDS
    settle_ms: int = SETTLE_MS
    _wanted: Signal = field(default_factory=Signal)
    _entered: dict[RoomId, int] = field(default_factory=dict)

    def look_at(self, entries: Collection[Entry]) -> None:
        """See in what is about to be recorded whether the bot came into a room."""
        own = json.dumps(self.account.user_id).encode()
        for entry in entries:
            if entry.kind is not EntryKind.EVENT or own not in entry.body:
                continue
            room = _entered(entry.body, self.account.user_id)
            if room is not None:
                self._entered[room] = self.clock.now_ms() + self.settle_ms
                self._wanted.notify()

    async def run(self) -> None:
        """Say it wherever it was not said, until cancelled."""
        while True:
            seen = self._wanted.count
            try:
                wait = await self.step()
            except (MatrixError, PermanentError, TransientError) as error:
                log.warning("the notice in rooms waits", wait=_AWAY_SECONDS, reason=error)
                wait = _AWAY_SECONDS
            await self._wanted.changed(seen, timeout_seconds=wait)

    async def step(self) -> float:
        """Say it in all rooms that are due; return how many seconds there is nothing to do.

        Raises:
            TransientError: the homeserver or the database is away.
            MatrixError: the homeserver does not say which rooms the bot is in.
        """
        if not self.is_active():
            return _INACTIVE_SECONDS
        due = await self._due()
        away = 0
        while due:
            room = self._next(due)
            try:
                await self._say_in(room)
                away = 0
            except TransientError as error:
                # One room may be at fault (a large one, of a slow server), which keeps none waiting.
                log.debug("a room is told later that it is archived", room=room, reason=error)
                await self._put_off(room, due_ms=self.clock.now_ms() + _AGAIN_AFTER_MS[1])
                away += 1
                if away == _MOST_AWAY:
                    raise
            if due:
                await asyncio.sleep(self.pace_seconds)
        return await self._pause()

    def _next(self, due: list[RoomId]) -> RoomId:
        """Take the room that is told next: people in one that is new must not wait for the old ones."""
        now_ms = self.clock.now_ms()
        for room, due_ms in self._entered.items():
            if due_ms <= now_ms:
                del self._entered[room]
                if room in due:
                    due.remove(room)
                return room
        return due.pop(0)

    async def _due(self) -> list[RoomId]:
        now_ms = self.clock.now_ms()
        joined = await self.account.joined_rooms()
        known = {row["room_id"]: row for row in await self.database.fetch(_KNOWN)}
        left_out = {
            row["room_id"]
            for row in await self.database.fetch("SELECT room_id FROM membership_left_out")
        }
        due = [
            room
            for room in joined
            if room not in left_out
            and self._entered.get(room, 0) <= now_ms
            and self._is_due(known.get(room), now_ms)
        ]
        for room in [room for room, due_ms in self._entered.items() if due_ms <= now_ms]:
            if room not in due:
                del self._entered[room]
        return due

    def _is_due(self, row: Row | None, now_ms: int) -> bool:
        if row is None:
            return True
        is_done = row["sent"] == self._digest and row["pinned"]
        # A wait is of the text that was refused: another one is tried at once.
        return not is_done and (
            row["due_ms"] <= now_ms or row["begun"] not in {None, self._digest}
        )

    @property
    def _digest(self) -> str:
        return _digest(self.text)

    async def _pause(self) -> float:
        now_ms = self.clock.now_ms()
        soonest = await self.database.fetchval(
            "SELECT min(due_ms) FROM audit_notice WHERE (sent IS NULL OR sent <> $1 OR pinned = 0)"
            " AND due_ms > $2",
            self._digest,
            now_ms,
        )
        times = [int(soonest)] if soonest is not None else []
        times += self._entered.values()
        if not times:
            return LOOK_SECONDS
        return min(max((min(times) - now_ms) / 1000, 0.05), LOOK_SECONDS)

    async def _say_in(self, room: RoomId) -> None:
        """Say it in a room, or write down when it is tried again.

        Raises:
            TransientError: the homeserver or the database is away, which says nothing of the room.
        """
        row = await self.database.fetchrow("SELECT * FROM audit_notice WHERE room_id = $1", room)
        is_said = row is not None and row["sent"] == self._digest
        if is_said and row is not None and row["pinned"]:
            return
        try:
            if not is_said:
                if not await self._is_meant(room):
                    await self._put_off(room, due_ms=self.clock.now_ms() + _NOT_NOW_MS)
                    return
                await self._send(room, row)
            await self._pin(room)
        except (MatrixError, PermanentError, UserError) as error:
            await self._refused(room, 0 if row is None else int(row["attempts"]), str(error))

    async def _is_meant(self, room: RoomId) -> bool:
        """Return whether people talk in a room, and not just two of them."""
        async with self.database.transaction() as connection:
            known = (await self.rooms.load(connection, [key(room)])).get(key(room))
        if known is None or not known.complete:
            # Nothing was recorded of it yet; only looked at, what is known stays the recorder's.
            known = fold(RoomContext(key(room)), map(envelope, await self.account.state(room)))
        if known.type == _SPACE:
            return False
        return self.direct_chats or not self._is_direct(known)

    def _is_direct(self, room: RoomContext) -> bool:
        """Return whether a room is a chat of two; no room says so for sure once it is entered."""
        if room.is_direct:
            return True
        people = [
            user
            for user, member in room.members.items()
            if member.membership in {"join", "invite"} and user not in self.own
        ]
        return not room.name and not room.alias and len(people) <= _OF_TWO

    async def _send(self, room: RoomId, row: Row | None) -> None:
        before = row["event_id"] if row is not None else None
        event_id = None
        if row is not None and row["begun"] == self._digest and row["begun_ms"] is not None:
            event_id = await self._found(room, int(row["begun_ms"]), before)
        async with self.database.transaction() as connection:
            begun_ms = await connection.fetchval(
                "INSERT INTO audit_notice (room_id, begun, begun_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT (room_id) DO UPDATE SET begun_ms = CASE WHEN"
                " audit_notice.begun = excluded.begun"
                " THEN coalesce(audit_notice.begun_ms, excluded.begun_ms)"
                " ELSE excluded.begun_ms END, begun = excluded.begun RETURNING begun_ms",
                room,
                self._digest,
                self.clock.now_ms(),
            )
        if event_id is None:
            event_id = await self.messenger.send(
                room,
                {"msgtype": "m.notice", "body": self.text, "m.mentions": {}},
                txn_id=f"notice-{begun_ms}-{_digest(f'{room} {self._digest}')[:32]}",
            )
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_notice SET sent = $2, event_id = $3, replaces = $4, pinned = 0,"
                " begun = NULL, attempts = 0, due_ms = 0, told = 0 WHERE room_id = $1",
                room,
                self._digest,
                event_id,
                before,
            )
        log.info("a room was told that it is archived", room=room)

    async def _found(self, room: RoomId, begun_ms: int, before: str | None) -> EventId | None:
        """Return what was sent before the answer was lost, if it was.

        The homeserver knows a transaction again for a day; this is for whoever was down longer.
        """
        query = {
            "dir": "b",
            "limit": str(_MOST_LOOKED_AT),
            "filter": json.dumps({"senders": [self.account.user_id], "types": list(_SENT)}),
        }
        path = f"{CLIENT}/v3/rooms/{segment(room)}/messages"
        answer = await self.account.request("GET", path, query=query)
        chunk = answer.get("chunk")
        for event in chunk if isinstance(chunk, list) else []:
            if (
                isinstance(event, dict)
                and event.get("sender") == self.account.user_id
                and event.get("type") in _SENT
                and event.get("event_id") != before
                and isinstance(event.get("origin_server_ts"), int)
                and event["origin_server_ts"] >= begun_ms - _MINUTE_MS
            ):
                return EventId(str(event.get("event_id")))
        return None

    async def _pin(self, room: RoomId) -> None:
        row = await self.database.fetchrow("SELECT * FROM audit_notice WHERE room_id = $1", room)
        if row is None or row["event_id"] is None:
            return
        accounts = [self.account, *(one for one in self.pinners if one is not self.account)]
        is_pinned = False
        for account in accounts:
            try:
                await _pin_as(account, room, row["event_id"], row["replaces"])
            except MatrixError as error:
                log.debug("a notice was not pinned", room=room, reason=error)
            else:
                is_pinned = True
                break
        async with self.database.transaction() as connection:
            # Nobody may: then it stands in the room without. Whoever takes it off is not corrected.
            await connection.execute(
                "UPDATE audit_notice SET pinned = $2 WHERE room_id = $1",
                room,
                1 if is_pinned else 2,
            )

    async def _put_off(self, room: RoomId, *, due_ms: int) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_notice (room_id, due_ms) VALUES ($1, $2)"
                " ON CONFLICT (room_id) DO UPDATE SET due_ms = excluded.due_ms",
                room,
                due_ms,
            )

    async def _refused(self, room: RoomId, attempts: int, reason: str) -> None:
        wait_ms = _AGAIN_AFTER_MS[min(attempts, len(_AGAIN_AFTER_MS) - 1)]
        log.warning("a room could not be told that it is archived", room=room, reason=reason)
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_notice (room_id, due_ms, attempts) VALUES ($1, $2, $3)"
                " ON CONFLICT (room_id) DO UPDATE SET due_ms = excluded.due_ms,"
                # It was answered: nothing was sent.
                " attempts = excluded.attempts, begun_ms = NULL",
                room,
                now_ms + wait_ms,
                attempts + 1,
            )
            if attempts + 1 < _UNTOLD:
                return
            known = await connection.fetchval("SELECT 1 FROM audit_notice WHERE told = 1 LIMIT 1")
            await connection.execute("UPDATE audit_notice SET told = 1 WHERE room_id = $1", room)
            if not known:
                sentence = (
                    f"The notice that rooms are archived (auditbot.room_notice) cannot be sent in "
                    f"{room}, perhaps in others too: {reason} It is tried again once a day; the log "
                    "names each room. Archiving goes on."
                )
                await raise_alarm(connection, sentence, now_ms=now_ms)


_KNOWN = "SELECT room_id, sent, pinned, begun, due_ms, attempts FROM audit_notice"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _pin_as(account: Account, room: RoomId, event_id: str, replaces: str | None) -> None:
    """Add a message to what is pinned, in the place of another; all else stays as it is."""
    try:
        content = await account.state_event(room, "m.room.pinned_events")
    except MatrixError as error:
        if error.errcode != "M_NOT_FOUND":
            raise
        content = {}
    held = content.get("pinned")
    pinned = list(held) if isinstance(held, list) else []
    if event_id in pinned:
        return
    if replaces in pinned:
        pinned[pinned.index(replaces)] = event_id
    else:
        pinned.append(event_id)
    await account.put_state(room, "m.room.pinned_events", "", {**content, "pinned": pinned})


def _entered(body: bytes, user_id: str) -> RoomId | None:
    """Return the room that an event says somebody came into."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match event:
        case {
            "type": "m.room.member",
            "room_id": str(room),
            "state_key": key,
            "content": {"membership": "join"},
        } if key == user_id:
            return RoomId(room)
    return None
