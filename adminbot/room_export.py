"""Carrying out the export of a room: every event that the homeserver has, in order, as files.

Sent in parts, so that no more than one of them is held at once; each part once, through restarts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adminbot.engine.answer import File, answer, moment_of, written
from adminbot.engine.exported import Wanted, heading, line_of
from adminbot.engine.server_steps import ExportRoom
from adminbot.execution import Perform
from adminbot.telling import Telling
from common.errors import UserError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.room_content import ReadMessages, TimelineEvent
from common.i18n import n, t

PAGE = 500
PART_BYTES = 10 * 1024 * 1024
MOST_PARTS = 20


@dataclass
class _Part:
    """The file that is being written."""

    number: int = 1
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)


@dataclass(frozen=True)
class RoomExport:
    """What exporting needs."""

    admin: AdminReader
    telling: Telling
    part_bytes: int = PART_BYTES
    most_parts: int = MOST_PARTS

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {ExportRoom: self.export}

    async def export(self, step: ExportRoom, key: str) -> str:
        """Send the files; return what there is to say of it."""
        wanted = Wanted(
            room=step.room,
            by=step.by,
            reason=step.reason,
            from_ms=step.from_ms,
            until_ms=step.until_ms,
        )
        part, events, start = _Part(), 0, None
        part.add(heading(wanted, part=1))
        while True:
            page = await self.admin.read(
                ReadMessages(room=step.room, start=start, direction="f", limit=PAGE)
            )
            for event in page.chunk:
                if not wanted.holds(event):
                    continue
                line = line_of(event)
                if part.size + len(line) > self.part_bytes:
                    self._must_go_on(part, event)
                    await self._send(step, part, key)
                    part = _Part(part.number + 1)
                    part.add(heading(wanted, part=part.number))
                part.add(line)
                events += 1
            if page.end is None or not page.chunk:
                break
            start = page.end
        await self._send(step, part, key)
        return f"{events} {part.number}"

    def _must_go_on(self, part: _Part, event: TimelineEvent) -> None:
        if part.number < self.most_parts:
            return
        moment = moment_of(event.origin_server_ts)
        raise UserError(
            t(
                "It is more than fits into {count} files; ask for the rest with --from “{moment}”.",
                count=self.most_parts,
                moment="?" if moment is None else written(moment),
            )
        )

    async def _send(self, step: ExportRoom, part: _Part, key: str) -> None:
        name = f"room-{part.number}.jsonl"
        file = File(name, "application/x-ndjson", b"".join(part.lines))
        said = answer(
            n(
                "Room {room}: file {number}, with {count} event.",
                "Room {room}: file {number}, with {count} events.",
                len(part.lines) - 1,
                room=step.room,
                number=part.number,
            )
        )
        # Looked for each time: somebody else may have been asked into the chat meanwhile.
        await self.telling.to_person(step.by, said.with_file(file), key=f"{key}-part{part.number}")
