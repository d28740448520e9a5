"""The trail: who asked for what, where, and what became of it. Rows are only ever added.

Written before an act and after it, in words without secrets. Writing the same line again after
a crash changes nothing.
"""

from dataclasses import dataclass
from enum import StrEnum

from adminbot.engine.text import storable
from common.clock import Clock
from common.database.pool import Connection, Database
from common.ids import EventId, RoomId, UserId


class Phase(StrEnum):
    """What is noted."""

    ANSWERED = "answered"
    REFUSED = "refused"
    MISTYPED = "mistyped"
    BROKEN = "broken"
    PLANNED = "planned"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"
    CHANGED = "changed meanwhile"
    ABOUT_TO = "about to"
    DID = "did"
    FAILED = "failed"
    DONE = "done"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Subject:
    """Whose command is spoken of; ``command`` holds no secret."""

    event: EventId
    room: RoomId
    sender: UserId
    command: str


@dataclass(frozen=True)
class AuditTrail:
    """The table ``admin_action``."""

    database: Database
    clock: Clock

    async def note(
        self, subject: Subject, phase: Phase, detail: str = "", *, step: int = 0
    ) -> None:
        """Add a line; on disk when this returns."""
        async with self.database.transaction() as connection:
            await self.note_in(connection, subject, phase, detail, step=step)

    async def note_in(
        self,
        connection: Connection,
        subject: Subject,
        phase: Phase,
        detail: str = "",
        *,
        step: int = 0,
    ) -> None:
        """Add a line within a transaction."""
        await connection.execute(
            "INSERT INTO admin_action"
            " (event_id, phase, step, at_ms, room_id, sender, command, detail)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (event_id, phase, step) DO NOTHING",
            subject.event,
            phase.value,
            step,
            self.clock.now_ms(),
            subject.room,
            subject.sender,
            storable(subject.command),
            storable(detail),
        )

    async def steps_taken(self, event: EventId) -> dict[Phase, int]:
        """Return how many steps of a plan were begun, done and refused, and if it was done."""
        rows = await self.database.fetch(
            "SELECT phase, COUNT(*) AS number FROM admin_action WHERE event_id = $1 GROUP BY phase",
            event,
        )
        taken = {Phase(row["phase"]): int(row["number"]) for row in rows}
        steps = (Phase.ABOUT_TO, Phase.DID, Phase.FAILED, Phase.DONE)
        return {phase: taken.get(phase, 0) for phase in steps}
