"""Watching for new reports: each appears once, within a minute, where somebody can act on it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.engine.answer import Answer
from adminbot.engine.report import KINDS, card
from adminbot.engine.report_news import News
from adminbot.engine.report_reading import every_report, with_context
from adminbot.engine.supply import Reading
from adminbot.own.memory import Remember, Remembered
from adminbot.own.support import ReadContact
from adminbot.own_records import OwnRecords
from adminbot.telling import Telling
from common.clock import Clock
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import AdminReader
from common.ids import RoomId
from common.telemetry.log import Log

EVERY_SECONDS = 15.0

log = Log("adminbot.reports")


@dataclass(frozen=True)
class ReportWatch:
    """Asks the homeserver, which tells nobody by itself. ``room``: where cards go."""

    admin: AdminReader
    reading: Reading
    records: OwnRecords
    telling: Telling
    clock: Clock
    room: RoomId | None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await self.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Tell of what is new, as far as that can be done now."""
        for kind in KINDS:
            await self._look(kind)

    async def _look(self, kind: str) -> None:
        try:
            await self._tell_new(kind)
        except UnsupportedError:
            return  # without the module nobody tells of reports on rooms; the doctor says so
        except StartOverError:
            raise
        except TransientError as error:
            log.info("reports could not be asked for; will try again", kind=kind, reason=error)
        except StewardError as error:
            log.error("reports could not be told of", kind=kind, reason=error)

    async def _tell_new(self, kind: str) -> None:
        name = f"reports-{kind}"
        remembered = await self.records.read(Remembered(name))
        news = News.remembered(remembered)
        async for report in every_report(self.admin, kind, since_ms=news.since_ms):
            if news.is_over(report):
                break
            news = news.heard(report, self.clock.now_ms())
        for report in news.untold:
            whole = await with_context(self.admin, self.reading, report)
            said = card(whole, self.clock.now())
            key = f"steward-report-{report.ref.name}-{report.received_ms}"
            await self._tell(said, key)
            news = news.told_of(report, self.clock.now_ms())
            await self._remember(name, news)
        if news.written != remembered:
            await self._remember(name, news)

    async def _tell(self, said: Answer, key: str) -> None:
        if not await self._told_somebody(said, key):
            await self.telling.to_admins(said, key=key)

    async def _told_somebody(self, said: Answer, key: str) -> bool:
        """Tell the room or the contact that is there for it, if one is and takes it."""
        try:
            if self.room is not None and await self.telling.is_for_admins(self.room):
                language = await self.telling.language_of(None)
                await self.telling.to_room(self.room, said, key=key, language=language)
                return True
            contact = await self.records.read(ReadContact())
            if contact is None or contact.user is None:
                return False
            who = await self.telling.facts.actor(contact.user)
            # Reports show what people said, so they go to no one who is no admin any more.
            if not who.server_admin or who.closed is not None:
                return False
            await self.telling.to_person(contact.user, said, key=key)
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            # One that reaches nobody would hold up all that come after it.
            log.error("a report could not be told where it belongs", reason=error)
            return False
        return True

    async def _remember(self, name: str, news: News) -> None:
        async with self.records.database.transaction() as connection:
            await self.records.apply(connection, Remember(name, news.written))
