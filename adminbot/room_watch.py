"""Doing what a room's admins ordered: greeting who comes, answering words, slowing people down.

What is to be done is written down in the transaction that takes the event in, and done by
``run``; each once, through restarts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adminbot.engine.answer import Answer, Pill, Span, answer, say
from adminbot.engine.intake import Envelope
from adminbot.engine.standing_orders import (
    AUTOREPLY,
    BARE,
    LATE_MS,
    SLOW,
    WELCOME,
    Orders,
    Reaction,
    Writers,
    on_event,
    on_words,
    read_orders,
)
from adminbot.telling import Telling
from common.clock import Clock
from common.database.pool import Connection, Database, Row
from common.errors import StartOverError, StewardError, TransientError
from common.i18n import t
from common.ids import EventId, RoomId, UserId, server_of
from common.inbox.consumer import Effect
from common.inbox.port import Entry, EntryKind
from common.telemetry.log import Log

LOOK_SECONDS = 1.0
AT_ONCE = 50
MOST_GREETED_TOGETHER = 20

log = Log("adminbot.rooms")


@dataclass
class RoomWatch:
    """``own`` are Steward's accounts, which are neither greeted nor slowed down."""

    database: Database
    telling: Telling
    clock: Clock
    own: frozenset[UserId]
    server_name: str
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    orders: Mapping[RoomId, Orders] = field(default_factory=dict)
    writers: Writers = field(default_factory=Writers)

    async def look(self) -> None:
        """Learn the rooms' orders as they are now; few rooms have any."""
        rows = await self.database.fetch(
            "SELECT room_id, name, value FROM admin_room_note"
            " WHERE name IN ($1, $2, $3) OR name LIKE $4",
            WELCOME,
            SLOW,
            BARE,
            f"{AUTOREPLY}%",
        )
        notes: dict[RoomId, dict[str, str]] = {}
        for row in rows:
            notes.setdefault(RoomId(row["room_id"]), {})[row["name"]] = row["value"]
        self.orders = {room: read_orders(held) for room, held in notes.items()}

    async def look_at(self, entries: Sequence[Entry]) -> Effect:
        """Look at a batch of events; the effect writes down what is to be done."""
        await self.look()
        found = self.reactions(entries)

        async def effect(connection: Connection) -> None:
            await self.keep(connection, found)

        return effect

    def ignores(self, room: RoomId) -> bool:
        """Say whether a room wants no answer to commands with the bare prefix."""
        found = self.orders.get(room)
        return found is not None and found.bare_ignored

    def reactions(self, entries: Sequence[Entry]) -> list[Reaction]:
        """Return what follows from a batch of events, readable or not."""
        if not self.orders:
            return []
        found: list[Reaction] = []
        for entry in entries:
            event = _event(entry)
            room = None if event is None else event.get("room_id")
            orders = self.orders.get(RoomId(room)) if isinstance(room, str) else None
            if event is None or orders is None or not self._fresh(event):
                continue
            found += on_event(event, RoomId(str(room)), orders, self.writers)
        return [one for one in found if one.user not in self.own]

    async def heard(self, connection: Connection, envelope: Envelope) -> None:
        """Write down the answer to a readable message that is no command."""
        orders = self.orders.get(envelope.room)
        body = envelope.content.get("body")
        if orders is None or not isinstance(body, str) or envelope.sender in self.own:
            return
        if envelope.content.get("msgtype") != "m.text":
            return
        found = on_words(
            body,
            envelope.room,
            orders,
            sender=envelope.sender,
            event=envelope.event,
            at_ms=envelope.origin_ms,
        )
        if found is not None:
            await self.keep(connection, [found])

    async def keep(self, connection: Connection, reactions: Sequence[Reaction]) -> None:
        """Write down what is to be done."""
        await connection.executemany(
            "INSERT INTO admin_reaction (key, kind, room_id, user_id, event_id, text, at_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key) DO NOTHING",
            [
                (one.key, one.kind, one.room, one.user, one.event, one.text, self.clock.now_ms())
                for one in reactions
            ],
        )

    async def run(self) -> None:
        """Do it, until cancelled."""
        while True:
            try:
                await self._do_all()
            except StartOverError:
                raise
            except TransientError as error:
                log.info("what rooms asked for has to wait", reason=error)
            await self.sleep(LOOK_SECONDS)

    async def _do_all(self) -> None:
        rows = await self.database.fetch(
            "SELECT * FROM admin_reaction ORDER BY at_ms, key LIMIT $1", AT_ONCE
        )
        done: set[str] = set()
        for row in rows:
            if row["key"] in done:
                continue
            together = _together(rows, row)
            try:
                await self._do(row, together)
            except (StartOverError, TransientError):
                raise
            except StewardError as error:
                # We were removed from the room, say: it is not tried for ever.
                log.info("a room's order was not carried out", room=row["room_id"], reason=error)
            done |= {one["key"] for one in together}
            await self._forget(together)

    async def _do(self, row: Row, together: Sequence[Row]) -> None:
        room, user = RoomId(row["room_id"]), UserId(row["user_id"])
        match row["kind"]:
            case "greet":
                people = [UserId(one["user_id"]) for one in together]
                await self._greet(room, people, row["text"], row["key"])
            case "whisper":
                if await self._is_person(user):
                    await self.telling.to_person(user, _whispered(room, row), key=row["key"])
            case "reply":
                await self._say(room, answer(row["text"]), row["key"])
            case "redact":
                await self._slow_down(room, user, EventId(row["event_id"]), row["key"])
            case _:
                log.warning("an unknown kind of order was dropped", kind=row["kind"])

    async def _greet(self, room: RoomId, users: list[UserId], text: str, key: str) -> None:
        people = [user for user in users if await self._is_person(user)]
        if not people:
            return
        spans: list[Span] = []
        for user in people:
            spans += [", ", Pill(user)] if spans else [Pill(user)]
        await self._say(room, answer(say(*spans, ":"), text), key)

    async def _say(self, room: RoomId, said: Answer, key: str) -> None:
        language = await self.telling.language_of(None)
        await self.telling.to_room(room, said, key=key, language=language)

    async def _slow_down(self, room: RoomId, user: UserId, event: EventId, key: str) -> None:
        target = await self.telling.facts.target(room, user)
        if target.power is not None and target.power.moderates:
            return
        await self.telling.redact(room, event, key=key)

    async def _is_person(self, user: UserId) -> bool:
        """Say whether somebody is no bot or bridged account, as far as is known of them."""
        if user in self.own:
            return False
        if server_of(user) != self.server_name:
            return True
        return not (await self.telling.facts.actor(user)).bridged

    async def _forget(self, rows: Sequence[Row]) -> None:
        async with self.database.transaction() as connection:
            await connection.executemany(
                "DELETE FROM admin_reaction WHERE key = $1", [(row["key"],) for row in rows]
            )

    def _fresh(self, event: Mapping[str, Any]) -> bool:
        at_ms = event.get("origin_server_ts")
        return isinstance(at_ms, int) and abs(self.clock.now_ms() - at_ms) < LATE_MS


def _whispered(room: RoomId, row: Row) -> Answer:
    """Return a greeting that says whose words it is: in this chat all others are the server's."""
    whose = t("You came into {room}. This is what its admins have me say:", room=Pill(room))
    return answer(say(whose), row["text"])


def _together(rows: Sequence[Row], first: Row) -> list[Row]:
    """Return who is greeted in one message: all that wait for the same words in the same room."""
    if first["kind"] != "greet":
        return [first]
    same = [
        row
        for row in rows
        if row["kind"] == "greet"
        and (row["room_id"], row["text"]) == (first["room_id"], first["text"])
    ]
    return same[:MOST_GREETED_TOGETHER]


def _event(entry: Entry) -> Mapping[str, Any] | None:
    if entry.kind is not EntryKind.EVENT:
        return None
    try:
        event = msgspec.json.decode(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
