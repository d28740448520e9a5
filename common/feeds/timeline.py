"""The complete feed: what the push lost is found through ``/sync`` timelines and ``/messages``.

Synapse holds events for an application service in memory and stores its position first, so a
crash loses what was waiting (its issue 11637). What a user may read through ``/sync`` has no
such gap. This feed asks every half minute, and at once when the homeserver was away, what
happened since its last token; the inbox drops what the push has brought already. Asking on a
schedule instead of always keeps its cost independent of the traffic.
"""

import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.feeds.sync_response import (
    RawEvent,
    RoomTimeline,
    event_field,
    parse_messages,
    parse_timeline_sync,
    timeline_entries,
)
from common.feeds.tokens import store_token, stored_token
from common.ids import RoomId
from common.inbox.port import NewEntry, Source
from common.inbox.signal import Signal
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, MatrixError, segment
from common.telemetry.log import Log

log = Log("feeds.timeline")

PAGE = 100
"""Events for each room and page; Synapse's own upper limit (``filter_timeline_limit``)."""

_NOTHING: dict[str, list[str]] = {"types": []}
_FILTER = json.dumps(
    {
        "presence": _NOTHING,
        "account_data": _NOTHING,
        "room": {
            "timeline": {"limit": PAGE, "lazy_load_members": True},
            "state": _NOTHING,
            "ephemeral": _NOTHING,
            "account_data": _NOTHING,
            "include_leave": True,
        },
    }
)
_NO_ROOMS = json.dumps({"room": {"rooms": []}, "presence": _NOTHING, "account_data": _NOTHING})

OnInvited = Callable[[Sequence[RoomId]], Awaitable[None]]


@dataclass
class TimelineFeed:
    """The timelines of one bot.

    It syncs without a device, so that its tokens never acknowledge the device's room keys.
    """

    client: MatrixClient
    inbox: StoredInbox
    database: Database
    clock: Clock
    interval_seconds: float
    reconnected: Signal
    push_behind: Signal
    on_invited: OnInvited
    _round: "itertools.count[int]" = field(default_factory=itertools.count)

    async def run(self) -> None:
        """Reconcile on schedule and after each outage, until cancelled."""
        while True:
            seen = self.reconnected.count
            try:
                found = await self.reconcile()
                if found:
                    log.info("events came here before the push brought them", events=found)
                    self.push_behind.notify()
                wait_seconds = self.interval_seconds
            except TransientError as error:
                log.warning("timelines could not be read", reason=error)
                wait_seconds = min(5.0, self.interval_seconds)
            await self.reconnected.changed(seen, timeout_seconds=wait_seconds)

    async def reconcile(self) -> int:
        """Fetch everything since the last token; return how many events the push had not brought."""
        since = await stored_token(self.database, self._name)
        if since is None:
            await self._begin()
            return 0
        body = await self._sync(since, _FILTER)
        sync = parse_timeline_sync(body)
        found = 0
        for room in sync.rooms:
            entries = await self._entries(room, since)
            found += await self.inbox.append(entries)
        if sync.invited:
            await self.on_invited(sync.invited)
        if sync.next_batch != since:
            async with self.database.transaction() as connection:
                await store_token(connection, self._name, sync.next_batch)
        return found

    async def _begin(self) -> None:
        """Remember where the record begins: now, and not before."""
        # A sync of no rooms answers at once with a token that is good for all of them.
        sync = parse_timeline_sync(await self._sync(None, _NO_ROOMS))
        async with self.database.transaction() as connection:
            await store_token(connection, self._name, sync.next_batch)
            await _store_beginning(connection, self._name, self.clock.now_ms())

    async def _entries(self, room: RoomTimeline, since: str) -> list[NewEntry]:
        """Return a room's events oldest first, the gap before its timeline filled."""
        beginning = int(await stored_token(self.database, f"{self._name}:beginning") or 0)
        joined_now = any(self._is_own_join(event) for event in room.events)
        timeline = [
            event for event in room.events if not (joined_now and _is_older(event, beginning))
        ]
        older: list[RawEvent] = []
        # A timeline that was cut at the beginning needs nothing from before it.
        if room.gap_from is not None and len(timeline) == len(room.events):
            older = await self._fill(
                room.room_id, room.gap_from, since, beginning if joined_now else None
            )
        return [
            *timeline_entries(room.room_id, older, Source.MESSAGES, since),
            *timeline_entries(room.room_id, timeline, Source.SYNC, since),
        ]

    async def _fill(
        self, room_id: RoomId, gap_from: str, since: str, beginning: int | None
    ) -> list[RawEvent]:
        """Page backwards from the gap to the last token; return the events oldest first.

        In a room joined just now the last token bounds nothing, so ``beginning`` does.
        """
        newest_first: list[RawEvent] = []
        position: str | None = gap_from
        while position is not None:
            query = {"dir": "b", "from": position, "limit": str(PAGE)}
            if beginning is None:
                query["to"] = since
            try:
                body = await self.client.get_bytes(
                    f"/_matrix/client/v3/rooms/{segment(room_id)}/messages",
                    query=query,
                    timeout_seconds=60,
                    device=False,
                )
            except MatrixError as error:
                log.warning("a gap could not be read", room=room_id, reason=error)
                break
            events, position = parse_messages(body)
            recent = [
                event for event in events if beginning is None or not _is_older(event, beginning)
            ]
            newest_first += recent
            if not events or len(recent) < len(events):
                break
        return newest_first[::-1]

    async def _sync(self, since: str | None, filter_: str) -> bytes:
        # The time-out varies because Synapse answers a repeated identical request from a cache.
        query = {
            "filter": filter_,
            "timeout": str(1 + next(self._round) % 50),
            "set_presence": "offline",
        }
        if since is not None:
            query["since"] = since
        return await self.client.get_bytes(
            "/_matrix/client/v3/sync", query=query, timeout_seconds=120, device=False
        )

    def _is_own_join(self, event: RawEvent) -> bool:
        if event_field(event, "type") != "m.room.member":
            return False
        if event_field(event, "state_key") != self.client.user_id:
            return False
        # A new name or picture is a join too; Synapse tells what was before in "unsigned".
        before = _membership(event_field(event, "unsigned"), "prev_content")
        return before != "join" and _membership({"now": event_field(event, "content")}, "now") == (
            "join"
        )

    @property
    def _name(self) -> str:
        return f"timeline:{self.client.user_id}"


def _membership(holder: object, name: str) -> object:
    content = holder.get(name) if isinstance(holder, dict) else None
    return content.get("membership") if isinstance(content, dict) else None


def _is_older(event: RawEvent, beginning_ms: int) -> bool:
    origin = event_field(event, "origin_server_ts")
    return isinstance(origin, int) and origin < beginning_ms


async def _store_beginning(connection: Connection, name: str, now_ms: int) -> None:
    await store_token(connection, f"{name}:beginning", str(now_ms))
