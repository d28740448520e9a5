"""Events that are known of and not recorded: each is waited for, then fetched, and said to be a gap.

They are found by the room graph (a parent that is not recorded, ``auditbot.parents``) and by asking
the homeserver once a day (``auditbot.sampling``); before one is fetched, the room is gone back
through from the event that follows it (``auditbot.walking``). A gap is recorded in the transaction that puts
the event into the inbox, and closed once it is recorded. What the homeserver does not give is asked
for again for some days, as another server may be back by then; after that it stays a gap. So it is with
an event that the homeserver fails on whenever it is asked: no other may wait for it.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from auditbot.gaps import READER, open_gap
from auditbot.ledger import Destinations, Writing, open_stream
from auditbot.observed import REFUSALS
from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.other_records import Gap
from auditbot.sampling import Sampling
from auditbot.walking import Walking
from common.alarms import raise_alarm
from common.appservice.transaction import event_entry
from common.clock import Clock
from common.database.pool import Connection, Database, Row
from common.errors import PermanentError, TransientError
from common.inbox.port import EntryKind, NewEntry, Source
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, MatrixError, segment
from common.telemetry.log import Log

LOOK_SECONDS = 900.0
SETTLE_MS = 600_000
"""How long an event may be on its way, by a feed or through our own inbox."""
MOST = 500
"""Events dealt with at one look."""
MOST_TROUBLES = 20
"""Events at one look that the homeserver failed on: each may take a minute."""
_HOUR_MS = 3_600_000
AGAIN_MS = (_HOUR_MS, 6 * _HOUR_MS, 24 * _HOUR_MS, 72 * _HOUR_MS)
"""How long after each refusal the homeserver is asked again."""

log = Log("audit.completing")

_DUE = (
    "SELECT event_id, room_id, child, found_by, asked FROM audit_missing WHERE noticed_ms <= $1"
    " AND again_ms <= $4"
    # What the second feed is still reading comes by itself.
    " AND NOT EXISTS (SELECT 1 FROM feed_gap WHERE feed_gap.room_id = audit_missing.room_id"
    " AND refused < $2) ORDER BY asked, noticed_ms, event_id LIMIT $3"
)
_IN_THE_FUTURE = (
    # The clock was set back since: nobody waits until it has caught up.
    "UPDATE audit_missing SET noticed_ms = CASE WHEN noticed_ms > $1 THEN $1 ELSE noticed_ms END,"
    " again_ms = CASE WHEN again_ms > $2 THEN $1 ELSE again_ms END"
    " WHERE noticed_ms > $1 OR again_ms > $2"
)
_FOUND = (
    "DELETE FROM audit_missing WHERE EXISTS (SELECT 1 FROM audit_seen WHERE kind = 'event'"
    " AND sub_key = '' AND audit_seen.event_id = audit_missing.event_id)"
    " OR asked = 0 AND EXISTS (SELECT 1 FROM audit_gap WHERE closed_ms IS NULL"
    " AND name = 'event:' || audit_missing.event_id)"
)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the homeserver said when it was asked for an event."""

    event_id: str
    room_id: str
    found_by: str
    asked: int
    """How often it was asked for before; then it is a gap already."""
    body: bytes | None
    refusal: str | None


@dataclass
class Completing:
    """Finds and fetches what is missing. ``written`` is told of records that were added."""

    client: MatrixClient
    database: Database
    inbox: StoredInbox
    destinations: Destinations
    sampling: Sampling
    walking: Walking
    server_name: str
    clock: Clock
    written: Callable[[Writing], None]
    settle_ms: int = SETTLE_MS

    async def run(self) -> None:
        """Look again and again, until cancelled; after a start the feeds have the first word."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (PermanentError, TransientError) as error:
                log.warning("will look again", wait=LOOK_SECONDS, reason=error)

    async def look(self) -> int:
        """Fetch what has been missing for long enough; compare the rooms whose turn it is.

        Returns:
            how many events were missing
        """
        since_ms = await self.database.fetchval(
            "SELECT started_ms FROM audit_stream JOIN audit_head ON stream = audit_stream.id"
        )
        if since_ms is None:
            return 0  # nothing is exported
        missing, away = 0, None
        try:
            missing = await self.fetch()
        except TransientError as error:
            away = error
        await self.sampling.look(since_ms=int(since_ms), settle_ms=self.settle_ms)
        if away is not None:
            raise away
        return missing

    async def fetch(self) -> int:
        """Fetch what is not here by now, and record that it was missing.

        Raises:
            TransientError: the homeserver is away; what it was not asked for comes at the next
                call.
        """
        if await self._is_behind():
            return 0
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            await connection.execute(_FOUND)
            await connection.execute(_IN_THE_FUTURE, now_ms, now_ms + AGAIN_MS[-1])
        due = await self.database.fetch(_DUE, now_ms - self.settle_ms, REFUSALS, MOST, now_ms)
        if not due:
            return 0
        aside = await self._set_aside()
        await self.walking.back(due)
        asked, away = await self._ask_all([row for row in due if row["event_id"] not in aside])
        recorded = await self._record(asked, aside.intersection(row["event_id"] for row in due))
        if away is not None:
            raise away
        return recorded

    async def _is_behind(self) -> bool:
        """Return whether we have still to deal with what came long ago."""
        return bool(
            await self.inbox.waiting(
                READER,
                (EntryKind.EVENT,),
                recipient=self.client.user_id,
                until_ms=self.clock.now_ms() - self.settle_ms,
            )
        )

    async def _set_aside(self) -> set[str]:
        """Return the events that are gaps already because they could not be processed."""
        rows = await self.database.fetch(
            "SELECT body FROM inbox_set_aside WHERE reader = $1 AND kind = 'event'", READER
        )
        return {read_envelope(bytes(row["body"])).name for row in rows}

    async def _ask_all(self, rows: Sequence[Row]) -> tuple[list[_Given], TransientError | None]:
        """Ask for each event, as long as the homeserver is there; return why it is not, too."""
        asked: list[_Given] = []
        troubles = 0
        for row in rows:
            try:
                asked.append(await self._ask(row))
            except TransientError as error:
                if not await self._is_there():
                    # Nothing was refused: this one and all after it are asked for again.
                    return asked, error
                log.warning(
                    "the homeserver fails on an event", event=row["event_id"], reason=error
                )
                asked.append(_given(row, None, None))
                troubles += 1
            if troubles >= MOST_TROUBLES:
                break
        return asked, None

    async def _is_there(self) -> bool:
        """Return whether the homeserver and its database answer something else."""
        where = f"/_matrix/client/v3/profile/{segment(self.client.user_id)}"
        try:
            await self.client.request("GET", where)
        except MatrixError:
            pass  # a refusal is an answer
        except TransientError:
            return False
        return True

    async def _ask(self, row: Row) -> _Given:
        event_id, room_id = str(row["event_id"]), str(row["room_id"])
        where = f"/_matrix/client/v3/rooms/{segment(room_id)}/event/{segment(event_id)}"
        try:
            body = await self.client.get_bytes(where, query={}, timeout_seconds=60, device=False)
        except MatrixError as error:
            return _given(row, None, error.errcode)
        return _given(row, body, None)

    async def _record(self, asked: Sequence[_Given], aside: Collection[str]) -> int:
        entries = [await self._entry(one) for one in asked]
        given = [entry for entry in entries if entry is not None]
        async with self.database.transaction() as connection:
            writing = await open_stream(
                connection,
                self.destinations,
                server_name=self.server_name,
                now_ms=self.clock.now_ms(),
            )
            if writing is not None:
                for one in asked:
                    if not one.asked:
                        await _open(connection, writing, one)
                await writing.write(connection)
            await self._leave(connection, asked, aside)
            if given:
                await raise_alarm(connection, _sentence(asked), now_ms=self.clock.now_ms())
        if writing is not None:
            self.written(writing)
        # After their gaps, which their records close; and before they are forgotten here.
        await self.inbox.append(given)
        async with self.database.transaction() as connection:
            await _forget(connection, [one.event_id for one in asked if one.body is not None])
        if asked:
            log.warning(
                "events were missing in the archive",
                count=len(asked),
                given=len(given),
                again=sum(one.asked > 0 for one in asked),
                rooms=len({one.room_id for one in asked}),
            )
        return len(asked)

    async def _leave(
        self, connection: Connection, asked: Sequence[_Given], aside: Collection[str]
    ) -> None:
        """Forget what was dealt with, and note when the homeserver is asked again.

        What it gave is asked for again if it does not come into the inbox now.
        """
        again = {
            one.event_id: AGAIN_MS[one.asked] if one.body is None else 0
            for one in asked
            if one.body is not None or one.asked < len(AGAIN_MS)
        }
        now_ms = self.clock.now_ms()
        await connection.executemany(
            "UPDATE audit_missing SET asked = asked + 1, again_ms = $2 WHERE event_id = $1",
            [(name, now_ms + wait_ms) for name, wait_ms in again.items()],
        )
        given_up = [one.event_id for one in asked if one.event_id not in again]
        await _forget(connection, [*given_up, *aside])

    async def _entry(self, given: _Given) -> NewEntry | None:
        """Return what goes into the inbox; for us alone if others were given it long ago."""
        if given.body is None:
            return None
        entry = event_entry(given.body, Source.MESSAGES, given.found_by)
        if entry.key is not None and await self.inbox.knows(entry.key):
            return msgspec.structs.replace(entry, key=None, recipient=self.client.user_id)
        return entry


def _given(row: Row, body: bytes | None, refusal: str | None) -> _Given:
    event_id, room_id = str(row["event_id"]), str(row["room_id"])
    return _Given(event_id, room_id, row["found_by"], int(row["asked"]), body, refusal)


async def _forget(connection: Connection, event_ids: Sequence[str]) -> None:
    await connection.executemany(
        "DELETE FROM audit_missing WHERE event_id = $1", [(event_id,) for event_id in event_ids]
    )


async def _open(connection: Connection, writing: Writing, given: _Given) -> None:
    detail = {"event_id": given.event_id, "found_by": given.found_by}
    if given.refusal is not None:
        detail["refused"] = given.refusal
    gap = Gap("event_missing", detail, room_id=given.room_id)
    await open_gap(connection, writing, f"event:{given.event_id}", gap)


def _sentence(asked: Sequence[_Given]) -> str:
    given = [one for one in asked if one.body is not None]
    rooms = len({one.room_id for one in given})
    return (
        f"Events were missing in the archive: {len(given):,}, in {rooms:,} rooms. They are fetched "
        "now, and each is recorded as a gap until it is there."
    )
