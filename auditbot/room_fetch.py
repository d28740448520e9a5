"""Ask the homeserver what a room is like that was there before we were, or again before we were back."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from auditbot.pipeline.hostile import Envelope, envelope, key, read_envelope, read_head
from auditbot.pipeline.room_state import RoomContext, completed, fold
from auditbot.rooms import Rooms
from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.ids import RoomId
from common.matrix.client import MatrixClient, MatrixError
from common.telemetry.log import Log

AGAIN_SECONDS = 60.0
"""How long an unreadable room's events are recorded with what is known before asking again."""
_MOST_REMEMBERED = 50_000

log = Log("audit.rooms")


@dataclass
class RoomFetch:
    """Fetches the state of rooms whose creation was not seen."""

    client: MatrixClient
    database: Database
    rooms: Rooms
    clock: Clock
    _tried: dict[str, float] = field(default_factory=dict)

    async def learn(self, bodies: Iterable[bytes]) -> None:
        """Store the state of the rooms of a batch that are not known yet, as far as allowed.

        Nothing waits for it: a room that cannot be read is recorded with what is known.
        """
        rooms: dict[str, str] = {}
        created: set[str] = set()
        joined: set[str] = set()
        for body in bodies:
            head = read_head(body)
            room = key(head.room_id or "")
            if head.room_id:
                rooms[room] = head.room_id
            if head.type == "m.room.create" and head.state_key == "":
                created.add(room)
            if head.state_key == self.client.user_id and self._own_join(read_envelope(body)):
                joined.add(room)
        now = self.clock.monotonic()
        unknown = await self._unknown(rooms.keys() - created, joined)
        for room in sorted(unknown):
            if room in joined or now - self._tried.get(room, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                if len(self._tried) > _MOST_REMEMBERED:
                    self._tried.clear()
                self._tried[room] = now
                # One at a time: a room of thousands is large until it is stored.
                await self._fetch(room, RoomId(rooms[room]))

    async def _fetch(self, room: str, room_id: RoomId) -> None:
        try:
            state = await self.client.state(room_id)
        except (MatrixError, TransientError) as error:
            # Before we are a member this is the usual answer.
            log.debug("the state of a room is not readable", room=room_id, reason=error)
            return
        found = fold(RoomContext(room), map(envelope, state), received_ms=self.clock.now_ms())
        own = found.members.get(key(self.client.user_id))
        if own is not None and own.membership == "leave":
            return  # as it was when we left: who came since is not in it
        async with self.database.transaction() as connection:
            known = (await self.rooms.load(connection, [room])).get(room)
            if known is not None and known.is_direct:
                # Said by an invitation, which a later state does not hold any more.
                found = replace(found, is_direct=True)
            await self.rooms.replace(connection, completed(found))
        del self._tried[room]

    async def _unknown(self, rooms: Iterable[str], joined: Collection[str]) -> set[str]:
        """Return the rooms of which not all is known; who joins anew knows nothing of before."""
        wanted = sorted(rooms)
        if not wanted:
            return set()
        places = ", ".join(f"${number}" for number in range(1, len(wanted) + 1))
        rows = await self.database.fetch(
            "SELECT room_id, (SELECT membership FROM audit_member"  # noqa: S608  # placeholders only
            f" WHERE audit_member.room_id = audit_room.room_id AND user_id = ${len(wanted) + 1})"
            f" AS own FROM audit_room WHERE complete = 1 AND room_id IN ({places})",
            *wanted,
            key(self.client.user_id),
        )
        known = {str(row["room_id"]): row["own"] for row in rows}
        return {
            room
            for room in wanted
            if room not in known or (room in joined and known[room] != "join")
        }

    def _own_join(self, event: Envelope) -> bool:
        return (
            event.type == "m.room.member"
            and event.state_key == self.client.user_id
            and event.content is not None
            and event.content.get("membership") == "join"
        )
