"""Ask the homeserver once what a room is like that was there before we were."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from auditbot.pipeline.hostile import Envelope, envelope
from auditbot.recorder import Item
from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.ids import RoomId
from common.matrix.client import MatrixClient, MatrixError
from common.telemetry.log import Log

AT_ONCE = 4
AGAIN_SECONDS = 60.0
"""How long an unreadable room's events are recorded with what is known before asking again."""
_MOST_REMEMBERED = 50_000

log = Log("audit.rooms")


@dataclass
class RoomFetch:
    """Fetches the state of rooms whose creation was not seen."""

    client: MatrixClient
    database: Database
    clock: Clock
    _tried: dict[str, float] = field(default_factory=dict)

    async def missing(self, items: Sequence[Item]) -> dict[str, list[Envelope]]:
        """Return the state of the rooms of a batch that are not known yet, as far as allowed.

        Nothing waits for it: a room that cannot be read is recorded with what is known.
        """
        created = {
            item.room
            for item in items
            if item.envelope.type == "m.room.create" and item.envelope.state_key == ""
        }
        rooms = {item.room: item.envelope.room_id for item in items if item.envelope.room_id}
        unknown = await self._unknown(rooms.keys() - created)
        joined = {item.room for item in items if self._own_join(item.envelope)}
        now = self.clock.monotonic()
        wanted = [
            room
            for room in sorted(unknown)
            if room in joined or now - self._tried.get(room, -AGAIN_SECONDS) >= AGAIN_SECONDS
        ]
        if not wanted:
            return {}
        if len(self._tried) > _MOST_REMEMBERED:
            self._tried.clear()
        self._tried.update(dict.fromkeys(wanted, now))
        found: dict[str, list[Envelope]] = {}
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for room in wanted:
                group.create_task(self._fetch(slots, room, RoomId(rooms[room] or ""), found))
        for room in found:
            self._tried.pop(room, None)
        return found

    async def _fetch(
        self,
        slots: asyncio.Semaphore,
        room: str,
        room_id: RoomId,
        found: dict[str, list[Envelope]],
    ) -> None:
        try:
            async with slots:
                state = await self.client.state(room_id)
        except (MatrixError, TransientError) as error:
            # Before we are a member this is the usual answer.
            log.debug("the state of a room is not readable", room=room_id, reason=error)
            return
        found[room] = [envelope(event) for event in state]

    async def _unknown(self, rooms: Iterable[str]) -> set[str]:
        wanted = sorted(rooms)
        if not wanted:
            return set()
        places = ", ".join(f"${number}" for number in range(1, len(wanted) + 1))
        rows = await self.database.fetch(
            "SELECT room_id FROM audit_room"  # noqa: S608  # placeholders only
            f" WHERE complete = 1 AND room_id IN ({places})",
            *wanted,
        )
        return set(wanted) - {str(row["room_id"]) for row in rows}

    def _own_join(self, event: Envelope) -> bool:
        return (
            event.type == "m.room.member"
            and event.state_key == self.client.user_id
            and event.content is not None
            and event.content.get("membership") == "join"
        )
