"""Watching for new reports: each appears once, within a minute, where somebody can act on it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.engine.answer import Answer
from adminbot.engine.report import Report, card
from adminbot.engine.report_reading import of_event, of_room, of_user, with_context
from adminbot.engine.supply import Reading
from adminbot.own.memory import Remember, Remembered
from adminbot.own.support import ReadContact
from adminbot.own_records import OwnRecords
from adminbot.telling import Telling
from common.clock import Clock
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.reports import ListEventReports, ListUserReports
from common.homeserver.synapse.room_reports import ListRoomReports
from common.ids import RoomId
from common.telemetry.log import Log

EVERY_SECONDS = 15.0
MOST_AT_ONCE = 50

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
            for kind, newer in (
                ("event", self._events),
                ("user", self._users),
                ("room", self._rooms),
            ):
                await self._look(kind, newer)
            await self.sleep(EVERY_SECONDS)

    async def _look(self, kind: str, newer: Callable[[int], Awaitable[list[Report]]]) -> None:
        try:
            await self._tell_new(kind, newer)
        except UnsupportedError:
            return  # without the module nobody tells of reports on rooms; the doctor says so
        except StartOverError:
            raise
        except TransientError as error:
            log.info("reports could not be asked for; will try again", kind=kind, reason=error)
        except StewardError as error:
            log.error("reports could not be told of", kind=kind, reason=error)

    async def _tell_new(self, kind: str, newer: Callable[[int], Awaitable[list[Report]]]) -> None:
        name = f"reports-{kind}"
        known = await self.records.read(Remembered(name))
        found = await newer(int(known or 0))
        if known is None:
            # The first look ever: what was reported before is in the list, and no news.
            await self._remember(name, max((each.ref.number for each in found), default=0))
            return
        for report in found:
            whole = await with_context(self.admin, self.reading, report)
            said = card(whole, self.clock.now())
            key = f"steward-report-{report.ref.name}-{report.received_ms}"
            await self._tell(said, key)
            await self._remember(name, report.ref.number)

    async def _tell(self, said: Answer, key: str) -> None:
        if self.room is not None and await self.telling.is_for_admins(self.room):
            language = await self.telling.language_of(None)
            await self.telling.to_room(self.room, said, key=key, language=language)
            return
        contact = await self.records.read(ReadContact())
        if contact is not None and contact.user is not None:
            who = await self.telling.facts.actor(contact.user)
            # Reports show what people said, so they go to no one who is no admin any more.
            if who.server_admin and who.closed is None:
                await self.telling.to_person(contact.user, said, key=key)
                return
        await self.telling.to_admins(said, key=key)

    async def _remember(self, name: str, number: int) -> None:
        async with self.records.database.transaction() as connection:
            await self.records.apply(connection, Remember(name, str(number)))

    async def _events(self, after: int) -> list[Report]:
        page = await self.admin.read(ListEventReports(limit=MOST_AT_ONCE))
        return [of_event(each) for each in reversed(page.event_reports) if each.id > after]

    async def _users(self, after: int) -> list[Report]:
        page = await self.admin.read(ListUserReports(limit=MOST_AT_ONCE))
        return [of_user(each) for each in reversed(page.user_reports) if each.id > after]

    async def _rooms(self, after: int) -> list[Report]:
        return [of_room(each) for each in await self.admin.read(ListRoomReports(after))]
