"""Going back through a room from an event whose parent is missing, as a client scrolls.

A homeserver that could not reach another one for a while is given the newest events afterwards. What
lies between it fetches when somebody goes back that far, and tells no feed of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditbot.parents import note_missing
from auditbot.pipeline.hostile import key
from auditbot.sampling import MOST_PAGES, messages_before, token_after
from auditbot.writing import seen
from common.clock import Clock
from common.database.pool import Database, Row
from common.errors import TransientError
from common.feeds.sync_response import RawEvent, event_field, graph_entry
from common.ids import RoomId
from common.inbox.port import Source
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, MatrixError
from common.telemetry.log import Log

MOST_WALKS = 20
"""In one room at one look: who names many events that do not exist is not followed for ever."""
MOST_TROUBLES = 20
"""Rooms at one look: another server may take a minute to give nothing."""

log = Log("audit.walking")


@dataclass(frozen=True)
class Walking:
    """Goes back, and notes what is not recorded; what its last page follows leads further."""

    client: MatrixClient
    database: Database
    inbox: StoredInbox
    clock: Clock

    async def back(self, due: Sequence[Row]) -> None:
        """Go back from each event that names a missing one; a room that cannot be read is let be.

        Args:
            due: missing events, of which ``child`` may be known
        """
        tried: dict[str, set[str]] = {}
        let_be: set[str] = set()
        told: set[str] = set()
        for row in due:
            room, child = str(row["room_id"]), row["child"]
            walked = tried.setdefault(room, set())
            if child is None or child in walked or len(walked) >= MOST_WALKS or room in let_be:
                continue
            walked.add(child)
            try:
                await self._walk(RoomId(room), child, told)
            except (MatrixError, TransientError) as error:
                log.warning("it was not possible to go back in a room", room=room, reason=error)
                if isinstance(error, TransientError):
                    let_be.add(room)
                if len(let_be) >= MOST_TROUBLES:
                    return

    async def _walk(self, room: RoomId, child: str, told: set[str]) -> None:
        floor = await self.database.fetchval(
            "SELECT depth FROM audit_floor WHERE room_id = $1", key(room)
        )
        token = await token_after(self.client, room, child)
        for _ in range(MOST_PAGES):
            events, following = await messages_before(self.client, room, token)
            deep = [event for event in events if _is_deeper(event, floor)]
            unknown = await self._unknown(deep, told)
            if unknown:
                await self._note(room, unknown, token)
                told |= unknown.keys()
            if not unknown or following is None:
                return
            token = following

    async def _unknown(self, events: Sequence[RawEvent], told: set[str]) -> dict[str, RawEvent]:
        """Return, by name, which events are neither recorded nor were told of just now."""
        named = ((event_field(event, "event_id"), event) for event in events)
        names = {name: event for name, event in named if isinstance(name, str)}
        async with self.database.transaction() as connection:
            known = await seen(connection, "event", [key(name) for name in names])
        return {
            name: event
            for name, event in names.items()
            if key(name) not in known and name not in told
        }

    async def _note(self, room: RoomId, unknown: Mapping[str, RawEvent], token: str) -> None:
        entry = graph_entry(room, list(unknown.values()), Source.MESSAGES, token)
        if entry is not None:
            await self.inbox.append([entry])
        async with self.database.transaction() as connection:
            # From none of these one has to go back again.
            await note_missing(
                connection,
                [(key(name), key(room), None) for name in unknown],
                found_by="graph",
                now_ms=self.clock.now_ms(),
            )


def _is_deeper(event: RawEvent, floor: int | None) -> bool:
    """Return whether an event is no part of what was there before the record of its room."""
    depth = event_field(event, "depth")
    return isinstance(depth, int) and (floor is None or depth > floor)
