"""Is everything of an hour recorded that the homeserver tells of when it is asked?

Once a day each room is asked for an hour taken by chance, backwards as a client scrolls: the feeds
that record have no part in it. Nothing depends on the times that senders claim but which hour is
looked at.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from auditbot.parents import note_missing
from auditbot.pipeline.hostile import key
from auditbot.pipeline.segment import DAY_MS
from auditbot.writing import seen
from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.feeds.sync_response import RawEvent, event_field, parse_messages
from common.matrix.client import MatrixClient, MatrixError, segment
from common.telemetry.log import Log

HOUR_MS = 3_600_000
PAGE = 100
MOST_PAGES = 50
"""Of one room's hour: a flood is looked at in part."""
MOST_TROUBLES = 3
"""After so many rooms in a row that could not be read it is the homeserver's trouble."""
KEEP_DAYS = 14

_NOT_FOUND = 404
_FILTER = json.dumps({"event_format": "federation"})

log = Log("audit.sampling")


@dataclass(frozen=True, slots=True)
class Span:
    """Between which moments an event must say it was sent to be looked for."""

    first_ms: int
    last_ms: int


@dataclass
class Sampling:
    """Compares rooms with the homeserver. ``pick`` returns a number below its argument."""

    client: MatrixClient
    database: Database
    clock: Clock
    pick: Callable[[int], int] = secrets.randbelow

    async def look(self, *, since_ms: int, settle_ms: int) -> int:
        """Compare the rooms whose turn it is today; return how many events are not recorded.

        Args:
            since_ms: when the record began
            settle_ms: how young an event may be that is still on its way

        Raises:
            TransientError: the homeserver is away; what is left comes at the next call.
        """
        day = self.clock.now_ms() // DAY_MS
        rows = await self.database.fetch(
            "SELECT audit_room.room_id FROM audit_room JOIN audit_member"
            " ON audit_member.room_id = audit_room.room_id AND user_id = $1"
            " AND membership = 'join' WHERE NOT EXISTS (SELECT 1 FROM audit_sample"
            " WHERE day = $2 AND audit_sample.room_id = audit_room.room_id AND trouble IS NULL)"
            # Others have names that are no identifiers, and stand for themselves only here.
            " AND audit_room.room_id LIKE '!%'"
            " ORDER BY audit_room.room_id",
            self.client.user_id,
            day,
        )
        found = troubles = 0
        for row in rows:
            room = str(row["room_id"])
            until_ms = self.clock.now_ms() - settle_ms
            try:
                told = await self._hour(room, Span(since_ms, until_ms))
            except (TransientError, MatrixError) as error:
                log.warning("a room could not be compared", room=room, reason=error)
                await self._keep(day, room, [], key(str(error)[:200]))
                troubles += 1
                if troubles >= MOST_TROUBLES and isinstance(error, TransientError):
                    raise
                continue
            troubles = 0
            found += await self._keep(day, room, told, None)
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM audit_sample WHERE day < $1", day - KEEP_DAYS)
        return found

    async def _hour(self, room: str, span: Span) -> list[str]:
        """Return the events of the hour that ends with the last one before a random moment."""
        moment_ms = span.last_ms - self.pick(DAY_MS)
        where = f"/_matrix/client/v1/rooms/{segment(room)}/timestamp_to_event"
        try:
            found = await self.client.request(
                "GET", where, query={"ts": str(moment_ms), "dir": "b"}
            )
        except MatrixError as error:
            if error.status == _NOT_FOUND:
                return []  # nothing was said before that moment
            raise
        end_ms = found.get("origin_server_ts")
        if not isinstance(end_ms, int) or end_ms < max(span.first_ms, moment_ms - DAY_MS):
            return []  # nothing was said for a day
        token = await token_after(self.client, room, str(found.get("event_id")))
        names: list[str] = []
        for _ in range(MOST_PAGES):
            events, following = await messages_before(self.client, room, token)
            moments = [moment for event in events if (moment := _moment(event)) is not None]
            names += _names(events, span)
            if following is None or not moments or max(moments) < end_ms - HOUR_MS:
                break
            token = following
        return names

    async def _keep(self, day: int, room: str, told: list[str], trouble: str | None) -> int:
        """Write down what the comparison found; return how many events are not recorded."""
        async with self.database.transaction() as connection:
            missing = await _not_recorded(connection, told)
            await note_missing(
                connection,
                [(name, room, None) for name in missing],
                found_by="sample",
                now_ms=self.clock.now_ms(),
            )
            await connection.execute(
                "INSERT INTO audit_sample (day, room_id, events, missing, trouble)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day, room_id) DO UPDATE SET"
                " events = excluded.events, missing = excluded.missing, trouble = excluded.trouble",
                day,
                room,
                len(told),
                len(missing),
                trouble,
            )
        return len(missing)


async def token_after(client: MatrixClient, room: str, event_id: str) -> str:
    """Return where in a room an event is, itself included in what comes before."""
    answer = await client.request(
        "GET",
        f"/_matrix/client/v3/rooms/{segment(room)}/context/{segment(event_id)}",
        query={"limit": "0"},
    )
    token: Any = answer.get("end")
    if not isinstance(token, str):
        raise TransientError("The homeserver does not say where in a room an event is.")
    return token


async def messages_before(
    client: MatrixClient, room: str, token: str
) -> tuple[list[RawEvent], str | None]:
    """Return a page of a room, the newest first, and where the next one begins."""
    return parse_messages(
        await client.get_bytes(
            f"/_matrix/client/v3/rooms/{segment(room)}/messages",
            query={"dir": "b", "from": token, "limit": str(PAGE), "filter": _FILTER},
            timeout_seconds=60,
            device=False,
        )
    )


async def _not_recorded(connection: Connection, names: list[str]) -> list[str]:
    missing: list[str] = []
    for start in range(0, len(names), PAGE):
        some = names[start : start + PAGE]
        known = await seen(connection, "event", some)
        missing += [name for name in some if name not in known]
    return missing


def _names(events: list[RawEvent], span: Span) -> Iterator[str]:
    for event in events:
        name, moment = event_field(event, "event_id"), _moment(event)
        if moment is None or not span.first_ms <= moment <= span.last_ms:
            continue
        if isinstance(name, str):
            yield key(name)


def _moment(event: RawEvent) -> int | None:
    found = event_field(event, "origin_server_ts")
    return found if isinstance(found, int) else None
