"""Every event goes by: who is active, which rooms are bridged, what bots say.

What is counted is written in the transaction that moves adminbot's cursor, so each event counts
once, through restarts and whichever feed brings it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adminbot.bridges.activity import COUNTED, counted_day
from adminbot.bridging.ears import Ears
from adminbot.bridging.registry import Registry, Sighting
from common.clock import Clock
from common.database.pool import Connection
from common.ids import RoomId, UserId, server_of
from common.inbox.port import Entry, EntryKind
from common.inbox.signal import Signal

BRIDGE_TYPES = ("m.bridge", "uk.half-shot.bridge")
MOST_SIGHTINGS = 20
_LONGEST = 255


class _Event(msgspec.Struct):
    type: str
    sender: str
    room_id: str
    state_key: str | None = None
    origin_server_ts: int = 0


_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True)
class Described:
    """What a bridge event says of a room (MSC2346)."""

    bot: UserId
    protocols: tuple[str, ...]
    network: str | None
    channel: str | None
    channel_name: str | None


@dataclass
class Traffic:
    """What a batch holds that has to be written down."""

    active: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    came_in: dict[tuple[str, RoomId], int] = field(default_factory=dict)
    went_out: dict[tuple[str, RoomId], int] = field(default_factory=dict)
    described: dict[tuple[str, RoomId], Described] = field(default_factory=dict)
    entered: set[tuple[str, RoomId]] = field(default_factory=set)
    left: set[tuple[str, RoomId]] = field(default_factory=set)
    sightings: list[Sighting] = field(default_factory=list)


@dataclass
class Watch:
    """Looks at batches; ``rooms`` are those known to be bridged, ``counted`` wakes the limits."""

    registry: Registry
    ears: Ears
    clock: Clock
    own: frozenset[UserId]
    counted: Signal
    sighted: Signal
    rooms: dict[RoomId, set[str]] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    doubts: set[tuple[str, RoomId]] = field(default_factory=set)
    """Bridges that may have gone from a room; ``doubted`` wakes who looks."""

    doubted: Signal = field(default_factory=Signal)

    async def load(self) -> None:
        """Learn which rooms are bridged."""
        rows = await self.registry.database.fetch("SELECT bridge, room_id FROM bridge_room")
        for row in rows:
            self.rooms.setdefault(RoomId(row["room_id"]), set()).add(row["bridge"])

    def look(self, entries: Sequence[Entry]) -> Traffic:
        """Look at a batch: hand what bots say on, return what has to be written."""
        traffic = Traffic()
        for entry in entries:
            if entry.kind is not EntryKind.EVENT:
                continue
            try:
                event = _event.decode(entry.body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            self._look_at(event, entry.body, traffic)
        if traffic.sightings:
            self.sightings = [*self.sightings, *traffic.sightings][:MOST_SIGHTINGS]
            self.sighted.notify()
        return traffic

    async def keep(self, connection: Connection, traffic: Traffic) -> None:
        """Write a batch down; called inside the transaction that moves the cursor."""
        if traffic.active:
            await connection.executemany(
                "INSERT INTO bridge_active (ghost, day, bridge, first_ms)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (ghost, day) DO NOTHING",
                [(*who, *what) for who, what in sorted(traffic.active.items())],
            )
        now_ms = self.clock.now_ms()
        for bridge, room in sorted(traffic.left):
            await connection.execute(
                "DELETE FROM bridge_room WHERE bridge = $1 AND room_id = $2", bridge, room
            )
        for bridge, room in sorted(traffic.entered):
            await connection.execute(
                "INSERT INTO bridge_room (bridge, room_id, seen_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT (bridge, room_id) DO NOTHING",
                bridge,
                room,
                now_ms,
            )
        for column, seen in (("in_ms", traffic.came_in), ("out_ms", traffic.went_out)):
            for (bridge, room), at_ms in seen.items():
                await connection.execute(
                    f"INSERT INTO bridge_room (bridge, room_id, {column}, seen_ms)"  # noqa: S608  # one of two
                    " VALUES ($1, $2, $3, $4) ON CONFLICT (bridge, room_id)"
                    f" DO UPDATE SET {column} = CASE WHEN bridge_room.{column} IS NULL"
                    f" OR bridge_room.{column} < excluded.{column} THEN excluded.{column}"
                    f" ELSE bridge_room.{column} END",
                    bridge,
                    room,
                    at_ms,
                    now_ms,
                )
        for (bridge, room), found in traffic.described.items():
            await connection.execute(
                "INSERT INTO bridge_room (bridge, room_id, network, remote, remote_name, seen_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (bridge, room_id) DO UPDATE SET"
                " network = excluded.network, remote = excluded.remote,"
                " remote_name = excluded.remote_name",
                bridge,
                room,
                found.network,
                found.channel,
                found.channel_name,
                now_ms,
            )
        if traffic.active:
            self.counted.notify()

    def _look_at(self, event: _Event, body: bytes, traffic: Traffic) -> None:
        sender = UserId(event.sender)
        owners = self.registry.owners
        if event.type == "m.room.member" and event.state_key not in {None, event.sender}:
            about = UserId(str(event.state_key))
            removed = owners.owner_of(about) or owners.bridge_of_bot(about)
            if removed is not None and _leaves(body):
                self._doubt(removed, RoomId(event.room_id))
        owner = owners.owner_of(sender)
        if owner is not None:
            self._from_ghost(event, body, owner, traffic)
        elif owners.bridge_of_bot(sender) is not None or event.type in BRIDGE_TYPES:
            self._from_bot(event, body, traffic)
        elif sender not in self.own and server_of(sender) == self.registry.server:
            self._from_person(event, body, traffic)

    def _from_person(self, event: _Event, body: bytes, traffic: Traffic) -> None:
        room = RoomId(event.room_id)
        if self.ears.listeners and event.type == "m.room.message":
            self._hand_on(body)
        if event.type in COUNTED and event.state_key is None:
            for bridge in self.rooms.get(room, ()):
                _newest(traffic.went_out, (bridge, room), self._moment(event))

    def _from_ghost(self, event: _Event, body: bytes, owner: str, traffic: Traffic) -> None:
        room = RoomId(event.room_id)
        if event.type == "m.room.member" and event.state_key == event.sender:
            if _leaves(body):
                self._doubt(owner, room)
            else:
                self.rooms.setdefault(room, set()).add(owner)
                traffic.entered.add((owner, room))
        day = counted_day(event.type, event.state_key, event.origin_server_ts, self.clock.now_ms())
        if day is None:
            return
        traffic.active.setdefault((event.sender, day), (owner, self._moment(event)))
        self.rooms.setdefault(room, set()).add(owner)
        _newest(traffic.came_in, (owner, room), self._moment(event))

    def _from_bot(self, event: _Event, body: bytes, traffic: Traffic) -> None:
        if event.type in BRIDGE_TYPES:
            self._described(event, body, traffic)
            return
        bot, room = UserId(event.sender), RoomId(event.room_id)
        bridge = self.registry.owners.bridge_of_bot(bot)
        if bridge and event.type == "m.room.member" and event.state_key == bot and _leaves(body):
            self.rooms.get(room, set()).discard(bridge)
            traffic.entered.discard((bridge, room))
            traffic.left.add((bridge, room))
        if self.ears.listeners:
            self._hand_on(body)

    def _described(self, event: _Event, body: bytes, traffic: Traffic) -> None:
        decoded = _decoded(body)
        content = decoded.get("content") if decoded else None
        by = self.registry.owners.bridge_of_bot(UserId(event.sender))
        if by is not None and content == {}:
            self._doubt(by, RoomId(event.room_id))
        found = describe(content, UserId(event.sender))
        if found is None or server_of(found.bot) != self.registry.server:
            return
        bridge = self.registry.owners.bridge_of_bot(found.bot)
        if bridge is None:
            # Anybody with power in a room can write this: it is believed only of an account
            # that sent it itself.
            if found.bot == event.sender:
                source = "state"
                traffic.sightings.append(Sighting(found.bot, found.protocols, source))
            return
        if by != bridge:
            return  # what somebody else says of a bridge: commands about rooms go by this
        room = RoomId(event.room_id)
        self.rooms.setdefault(room, set()).add(bridge)
        traffic.described[(bridge, room)] = found

    def _doubt(self, bridge: str, room: RoomId) -> None:
        if bridge in self.rooms.get(room, ()):
            self.doubts.add((bridge, room))
            self.doubted.notify()

    def _hand_on(self, body: bytes) -> None:
        decoded = _decoded(body)
        if decoded is not None:
            self.ears.hear(decoded)

    def _moment(self, event: _Event) -> int:
        return min(max(event.origin_server_ts, 0), self.clock.now_ms())


def describe(content: object, sender: UserId) -> Described | None:
    """Return what a bridge event says; its content is hostile, and often empty."""
    if not isinstance(content, dict) or not content:
        return None
    bot = content.get("bridgebot", sender)
    if not isinstance(bot, str) or not bot.startswith("@") or len(bot) > _LONGEST:
        return None
    protocol, network, channel = (
        _mapping(content.get(part)) for part in ("protocol", "network", "channel")
    )
    ids = tuple(each for each in (_text(protocol, "id"),) if each)
    return Described(
        bot=UserId(bot),
        protocols=ids,
        network=_text(network, "displayname")
        or _text(network, "id")
        or _text(protocol, "displayname"),
        channel=_text(channel, "id"),
        channel_name=_text(channel, "displayname"),
    )


def _leaves(body: bytes) -> bool:
    content = (_decoded(body) or {}).get("content")
    return isinstance(content, dict) and content.get("membership") in {"leave", "ban"}


def _newest(seen: dict[tuple[str, RoomId], int], where: tuple[str, RoomId], at_ms: int) -> None:
    seen[where] = max(at_ms, seen.get(where, 0))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(part: Mapping[str, Any], key: str) -> str | None:
    value = part.get(key)
    if not isinstance(value, str) or not value or "\x00" in value:
        return None
    return value[:_LONGEST]


def _decoded(body: bytes) -> Mapping[str, Any] | None:
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
