"""Reports of all three kinds, with the words around what was reported."""

from collections.abc import AsyncIterator

from adminbot.engine.report import Report, ReportRef, Said, words_of
from adminbot.engine.supply import Reading
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError, UnsupportedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.reports import (
    EventReport,
    GetEventReport,
    GetUserReport,
    UserReport,
    all_event_reports,
    all_user_reports,
)
from common.homeserver.synapse.room_content import ReadContext, TimelineEvent
from common.homeserver.synapse.room_reports import ListRoomReports, RoomReport, all_room_reports
from common.i18n import t

CONTEXT_EVENTS = 6


async def read_report(admin: AdminReader, reading: Reading, ref: ReportRef) -> Report:
    """Return one report with its context, or raise ``UserError``."""
    try:
        match ref.kind:
            case "event":
                return await with_context(
                    admin, reading, of_event(await admin.read(GetEventReport(ref.number)))
                )
            case "user":
                return of_user(await admin.read(GetUserReport(ref.number)))
            case _:
                return await _room_report(admin, ref)
    except NotFoundError:
        raise UserError(t("There is no report {name}.", name=ref.name)) from None


async def _room_report(admin: AdminReader, ref: ReportRef) -> Report:
    try:
        found = await admin.read(ListRoomReports(ref.number - 1))
    except UnsupportedError:
        raise UserError(
            t("Reports about rooms need Steward's module in Synapse; “steward doctor” tells how.")
        ) from None
    for each in found:
        if each.id == ref.number:
            return of_room(each)
    raise UserError(t("There is no report {name}.", name=ref.name))


async def every_report(
    admin: AdminReader, kind: str, *, since_ms: int = 0
) -> AsyncIterator[Report]:
    """Go through the reports of one kind received since a moment, the newest first.

    ``UnsupportedError`` for those on rooms where the homeserver does not run the module that
    tells of them.
    """
    if kind == "room":
        asked = ListRoomReports(since_ms=max(0, since_ms - 1))
        found = [of_room(each) async for each in all_room_reports(admin, asked)]
        found = [each for each in found if each.received_ms >= since_ms]
        for report in sorted(found, key=lambda one: -one.received_ms):
            yield report
        return
    async for report in _events(admin) if kind == "event" else _users(admin):
        if report.received_ms < since_ms:
            return
        yield report


async def _events(admin: AdminReader) -> AsyncIterator[Report]:
    async for each in all_event_reports(admin):
        yield of_event(each)


async def _users(admin: AdminReader) -> AsyncIterator[Report]:
    async for each in all_user_reports(admin):
        yield of_user(each)


def of_event(found: EventReport) -> Report:
    """Return a report on a message, without the message."""
    return Report(
        ref=ReportRef("event", found.id),
        received_ms=found.received_ts,
        reporter=found.user_id,
        reason=found.reason,
        room=found.room_id,
        event=found.event_id,
        user=found.sender,
    )


def of_user(found: UserReport) -> Report:
    """Return a report on a person."""
    return Report(
        ref=ReportRef("user", found.id),
        received_ms=found.received_ts,
        reporter=found.user_id,
        reason=found.reason,
        user=found.target_user_id,
    )


def of_room(found: RoomReport) -> Report:
    """Return a report on a room."""
    return Report(
        ref=ReportRef("room", found.id),
        received_ms=found.received_ts,
        reporter=found.user_id,
        reason=found.reason,
        room=found.room_id,
    )


async def with_context(admin: AdminReader, reading: Reading, report: Report) -> Report:
    """Return a report on a message with what was said around it, as far as it can be read."""
    if report.room is None or report.event is None:
        return report
    try:
        found = await admin.read(
            ReadContext(room=report.room, event=report.event, limit=CONTEXT_EVENTS)
        )
    except RefusedError:
        return report  # the room or the message is gone
    events = [*reversed(found.events_before), found.event, *found.events_after]
    said = [
        await _said(reading, report, each)
        for each in events
        if each.type in ("m.room.message", "m.room.encrypted", "m.sticker")
    ]
    return Report(
        ref=report.ref,
        received_ms=report.received_ms,
        reporter=report.reporter,
        reason=report.reason,
        room=report.room,
        event=report.event,
        user=report.user,
        context=tuple(said),
    )


async def _said(reading: Reading, report: Report, event: TimelineEvent) -> Said:
    content = event.content
    if event.type == "m.room.encrypted" and report.room is not None:
        opened = await reading.opened(report.room, event.event_id, event.sender, content)
        if opened is None:
            return Said(event.event_id, event.sender, None)
        content = opened
    return Said(event.event_id, event.sender, words_of(content))
