"""The complete feed: what the push lost is found through ``/sync`` timelines and ``/messages``.

Synapse holds events for an application service in memory and stores its position first, so a
crash loses what was waiting (its issue 11637). What a user may read through ``/sync`` has no
such gap. This feed asks every half minute, and at once when the homeserver was away, what
happened since its last token; the inbox drops what the push has brought already. Where a timeline
was cut, the gap is a row that is committed with the token and read page by page. Asking on a
schedule instead of always keeps the cost independent of the traffic.
"""

import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from common.database.pool import Database
from common.errors import TransientError
from common.feeds.sync_response import (
    RawEvent,
    TimelineSync,
    event_field,
    graph_entry,
    parse_messages,
    parse_timeline_sync,
    receipt_entries,
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

TIMELINE = 20
"""Events of each room in one sync; a room with more has a gap, which bounds one answer's size."""

PAGE = 100
"""Events in one page of a gap."""

_NOTHING: dict[str, list[str]] = {"types": []}
# The format of federation tells an event's parents, by which a hole in a room is seen.
_FEDERATION = {"event_format": "federation"}


def _filter(*, receipts: bool) -> str:
    return json.dumps(
        {
            **_FEDERATION,
            "presence": _NOTHING,
            "account_data": _NOTHING,
            "room": {
                "timeline": {"limit": TIMELINE, "lazy_load_members": True},
                "state": _NOTHING,
                "ephemeral": {"types": ["m.receipt"]} if receipts else _NOTHING,
                "account_data": _NOTHING,
                "include_leave": True,
            },
        }
    )


_NO_ROOMS = json.dumps({"room": {"rooms": []}, "presence": _NOTHING, "account_data": _NOTHING})

REFUSALS = 50
"""How often a gap is tried; afterwards it stays in the table for a person to look at."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """A stretch of one room's timeline, from one token to another."""

    room_id: RoomId
    from_token: str
    to_token: str


OnInvited = Callable[[Sequence[RoomId]], Awaitable[None]]


@dataclass
class TimelineFeed:
    """The timelines of one bot.

    It syncs without a device, so that its tokens never acknowledge the device's room keys.
    """

    client: MatrixClient
    inbox: StoredInbox
    database: Database
    interval_seconds: float
    reconnected: Signal
    push_behind: Signal
    on_invited: OnInvited
    graph: bool = False
    """Whether somebody reads entries about events' parents."""
    receipts: bool = False
    """Whether somebody reads entries about who read what."""
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
            except (TransientError, MatrixError) as error:
                log.warning("timelines could not be read", reason=error)
                wait_seconds = min(5.0, self.interval_seconds)
            await self.reconnected.changed(seen, timeout_seconds=wait_seconds)

    async def reconcile(self) -> int:
        """Fetch everything since the last token; return how many events the push had not brought."""
        since = await stored_token(self.database, self._name)
        if since is None:
            await self._begin()
            return 0
        sync = parse_timeline_sync(await self._sync(since, _filter(receipts=self.receipts)))
        found = await self._keep(sync, since)
        if sync.invited:
            await self.on_invited(sync.invited)
        return found + await self._fill_gaps()

    async def _begin(self) -> None:
        """Remember where the record begins: now, and not before."""
        # A sync of no rooms answers at once with a token that is good for all of them.
        sync = parse_timeline_sync(await self._sync(None, _NO_ROOMS))
        async with self.database.transaction() as connection:
            await store_token(connection, self._name, sync.next_batch)
            await store_token(connection, self._beginning, sync.next_batch)

    async def _keep(self, sync: TimelineSync, since: str) -> int:
        """Keep timelines, then gaps and the token at once; return the number of new events.

        A timeline that is not whole is left to its gap, which brings it in order. In a room joined
        since, the gap reaches back to where the record begins: what was said while the bot was
        only invited belongs to it, what was said before the record does not.
        """
        beginning = await stored_token(self.database, self._beginning)
        whole: list[NewEntry] = []
        # Besides the events; what is no event does not show that the push is behind.
        beside: list[NewEntry] = []
        gaps: list[tuple[RoomId, str]] = []
        for room in sync.rooms:
            if self.receipts:
                beside += receipt_entries(room, since)
            if any(map(self._is_own_join, room.events)):
                gaps.append((room.room_id, beginning or since))
            elif room.gap_from is not None:
                gaps.append((room.room_id, since))
            else:
                whole += timeline_entries(room.room_id, room.events, Source.SYNC, since)
                beside += self._graph(room.room_id, room.events, Source.SYNC, since)
        # After all events: whoever reads of parents has read of them.
        found = await self.inbox.append([*whole, *beside])
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO feed_gap (feed, room_id, from_token, to_token)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (feed, room_id, to_token) DO NOTHING",
                [(self._name, room, start, sync.next_batch) for room, start in gaps],
            )
            await store_token(connection, self._name, sync.next_batch)
        return found - len(beside)

    def _graph(
        self, room_id: RoomId, events: list[RawEvent], source: Source, position: str
    ) -> list[NewEntry]:
        entry = graph_entry(room_id, events, source, position) if self.graph else None
        return [] if entry is None else [entry]

    async def _fill_gaps(self) -> int:
        """Read what is open, a page at a time; one room's trouble is not the others'."""
        rows = await self.database.fetch(
            "SELECT room_id, from_token, to_token FROM feed_gap"
            " WHERE feed = $1 AND refused < $2 ORDER BY refused, room_id, to_token",
            self._name,
            REFUSALS,
        )
        found = 0
        for row in rows:
            gap = _Gap(RoomId(row["room_id"]), row["from_token"], row["to_token"])
            try:
                found += await self._fill(gap)
            except (MatrixError, TransientError) as error:
                log.warning("a gap could not be read", room=gap.room_id, reason=error)
                await self._note_refusal(gap)
        return found

    async def _fill(self, gap: "_Gap") -> int:
        """Page forwards through a gap; each page is on disk before the new place is."""
        found, position = 0, gap.from_token
        while True:
            body = await self.client.get_bytes(
                f"/_matrix/client/v3/rooms/{segment(gap.room_id)}/messages",
                query={
                    "dir": "f",
                    "from": position,
                    "to": gap.to_token,
                    "limit": str(PAGE),
                    "filter": json.dumps(_FEDERATION),
                },
                timeout_seconds=60,
                device=False,
            )
            events, end = parse_messages(body)
            entries = list(timeline_entries(gap.room_id, events, Source.MESSAGES, position))
            graph = self._graph(gap.room_id, events, Source.MESSAGES, position)
            done = end is None or not events or end == position
            found += await self.inbox.append([*entries, *graph]) - len(graph)
            async with self.database.transaction() as connection:
                if done:
                    await connection.execute(
                        "DELETE FROM feed_gap WHERE feed = $1 AND room_id = $2 AND to_token = $3",
                        self._name,
                        gap.room_id,
                        gap.to_token,
                    )
                else:
                    await connection.execute(
                        "UPDATE feed_gap SET from_token = $4"
                        " WHERE feed = $1 AND room_id = $2 AND to_token = $3",
                        self._name,
                        gap.room_id,
                        gap.to_token,
                        end,
                    )
            if done or end is None:
                return found
            position = end

    async def _note_refusal(self, gap: "_Gap") -> None:
        async with self.database.transaction() as connection:
            refused = await connection.fetchval(
                "UPDATE feed_gap SET refused = refused + 1"
                " WHERE feed = $1 AND room_id = $2 AND to_token = $3 RETURNING refused",
                self._name,
                gap.room_id,
                gap.to_token,
            )
        if refused is not None and refused >= REFUSALS:
            log.error(
                "a part of a room's timeline was given up; what the push lost of it is missing",
                room=gap.room_id,
            )

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

    @property
    def _beginning(self) -> str:
        return f"{self._name}:beginning"


def _membership(holder: object, name: str) -> object:
    content = holder.get(name) if isinstance(holder, dict) else None
    return content.get("membership") if isinstance(content, dict) else None
