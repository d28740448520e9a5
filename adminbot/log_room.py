"""The log room: each command and what became of it, a line each, for whoever is in there.

What is written there is what the trail holds: no secrets, and nothing that was not recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from adminbot.engine.answer import Answer, Bullets, Mono, Pill, Spans, say
from adminbot.own.memory import Remember, Remembered
from adminbot.own.trail import ENDED_AT_ONCE, Action, EndedSince, StepsOfCommand
from adminbot.own_records import OwnRecords
from adminbot.telling import Telling
from common.errors import StartOverError, StewardError, TransientError
from common.i18n import t
from common.ids import RoomId
from common.telemetry.log import Log

EVERY_SECONDS = 3.0
LOOK_BACK_MS = 10_000
"""A line is written a moment after the time it bears."""
MOST_STEPS = 20
_CURSOR = "log-room"

log = Log("adminbot.log_room")


@dataclass
class LogRoom:
    """Follows the trail. ``told`` are lines of the last moments, so that none is said twice."""

    room: RoomId
    records: OwnRecords
    telling: Telling
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    told: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.catch_up()
            except StartOverError:
                raise
            except TransientError as error:
                log.info("the log room could not be written to; will try again", reason=error)
            except StewardError as error:
                log.error("the log room cannot be written to", room=self.room, reason=error)
            await self.sleep(EVERY_SECONDS)

    async def catch_up(self) -> None:
        """Write what came since; at the very first look, nothing of what was before."""
        known = await self.records.read(Remembered(_CURSOR))
        if known is None:
            newest = await self.records.read(EndedSince(0, newest=True))
            since = max((each.at_ms for each in newest), default=0)
            self.told = {
                _key(each): each.at_ms async for each in self._ended_since(since - LOOK_BACK_MS)
            }
            await self._remember(since)
            return
        since = int(known)
        async for ended in self._ended_since(since - LOOK_BACK_MS):
            key = _key(ended)
            if key not in self.told:
                await self._tell(ended, key)
            self.told[key] = ended.at_ms
            since = max(since, ended.at_ms)
        self.told = {
            key: at_ms for key, at_ms in self.told.items() if at_ms >= since - LOOK_BACK_MS
        }
        await self._remember(since)

    async def _ended_since(self, since_ms: int) -> AsyncIterator[Action]:
        """Yield all of them: more than fit a page may end in the moments that are looked back."""
        start = 0
        while page := await self.records.read(EndedSince(since_ms, start=start)):
            for each in page:
                yield each
            if len(page) < ENDED_AT_ONCE:
                return
            start += len(page)

    async def _tell(self, ended: Action, key: str) -> None:
        steps = await self.records.read(StepsOfCommand(ended.event, MOST_STEPS))
        language = await self.telling.language_of(None)
        await self.telling.to_room(self.room, _line(ended, steps), key=key, language=language)

    async def _remember(self, at_ms: int) -> None:
        async with self.records.database.transaction() as connection:
            await self.records.apply(connection, Remember(_CURSOR, str(at_ms)))


def _key(ended: Action) -> str:
    return f"steward-log-{ended.phase}-{ended.event}"


def _line(ended: Action, steps: tuple[Action, ...]) -> Answer:
    said = Answer(
        (
            say(
                t(
                    "{user} in {room}: {command} – {outcome}",
                    user=Pill(ended.sender),
                    room=Pill(ended.room),
                    command=Mono(ended.command or "?"),
                    outcome=t(ended.phase),
                )
            ),
        )
    )
    if ended.detail and ended.phase != "done":
        said = said.followed_by(say(Mono(ended.detail)))
    taken: list[Spans] = [(t(each.phase), ": ", each.detail) for each in steps]
    return said.followed_by(Bullets(tuple(taken))) if taken else said
