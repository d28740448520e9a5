"""Reports about messages, people and rooms, and what is done about them."""

from collections.abc import AsyncIterator, Collection
from typing import Literal

from adminbot.commands.lists import page_of, paged
from adminbot.commands.protect import refuse, target, why_never
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer, facts, lately
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.report import KINDS, Report, ReportRef, card, parse_report
from adminbot.engine.report_reading import every_report, read_report
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Reading, Settings
from adminbot.engine.values import FIRST_PAGE, Page
from adminbot.own.reports import ForgetReport, HandleReport, Handling, HandlingOf, handling_in
from common.errors import UserError
from common.homeserver.client_server.membership import BanUser
from common.homeserver.client_server.messages import RedactEvent
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import SuspendUser
from common.homeserver.synapse.reports import DeleteEventReport, DeleteUserReport
from common.i18n import n, t

PAGE_SIZE = 25
Kinds = Literal["all", "event", "user", "room"]


@command("reports list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def reports_list(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    kind: Kinds = "all",
    *,
    closed: bool = False,
    page: Page = FIRST_PAGE,
) -> Answer:
    """List reports about messages, people and rooms, the newest first.

    Args:
        kind: only reports about messages (event), people (user) or rooms
        closed: with those that were dealt with
    """
    kinds = KINDS if kind == "all" else (kind,)
    found = [
        (report, handling)
        async for report, handling in with_handling(admin, own, kinds)
        if closed or handling.closed_by is None
    ]
    if not found:
        return answer(t("There is none."))
    found.sort(key=lambda one: -one[0].received_ms)
    rows = tuple(_row(*each, caller) for each in page_of(found, page, size=PAGE_SIZE))
    in_all = n("{count} report in all.", "{count} reports in all.", len(found))
    heading = (t("Report"), t("When"), t("About"), t("Room"), t("By"), t("Why"), t("State"))
    return answer(Table(heading, rows), paged(in_all, len(found), page, size=PAGE_SIZE))


async def with_handling(
    admin: AdminReader, own: OwnReader, kinds: Collection[str]
) -> AsyncIterator[tuple[Report, Handling]]:
    """Go through every report of some kinds with what became of it."""
    for kind in kinds:
        handled = await own.read(HandlingOf(kind))
        try:
            async for report in every_report(admin, kind):
                yield report, handling_in(handled, report.ref.number, report.received_ms)
        except UnsupportedError:
            continue  # without the module nobody tells of reports on rooms


def _row(report: Report, handling: Handling, caller: Caller) -> tuple[Span, ...]:
    return (
        Mono(report.ref.name),
        lately(report.received_ms, caller.now) or "",
        Pill(report.user) if report.user else "",
        Pill(report.room) if report.room else "",
        Pill(report.reporter),
        Mono(report.reason or ""),
        _state(handling),
    )


def _state(handling: Handling) -> str:
    if handling.closed_by is not None:
        return t("closed by {user}", user=handling.closed_by)
    if handling.claimed_by is not None:
        return t("{user} cares for it", user=handling.claimed_by)
    return t("open")


@command("reports show", who=Role.SERVER_ADMIN, needs=Permission.READ_CONTENT)
async def reports_show(
    admin: AdminReader, reading: Reading, own: OwnReader, caller: Caller, report: str
) -> Answer:
    """Show a report with the message and what was said around it.

    Args:
        report: its name, e.g. e12
    """
    found = await read_report(admin, reading, parse_report(report))
    handled = await own.read(HandlingOf(found.ref.kind))
    handling = handling_in(handled, found.ref.number, found.received_ms)
    return card(found, caller.now).followed_by(facts([(t("State"), _state(handling))]))


@command("reports claim", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def reports_claim(caller: Caller, report: str) -> Plan:
    """Say that you care for a report, so that nobody else does it too.

    Args:
        report: its name, e.g. e12
    """
    ref = parse_report(report)
    return _handled(caller, ref, t("Care for report {name}", name=ref.name), claimed=True)


@command("reports close", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def reports_close(caller: Caller, report: str) -> Plan:
    """Close a report as dealt with.

    Args:
        report: its name, e.g. e12
    """
    ref = parse_report(report)
    return _handled(caller, ref, t("Close report {name}", name=ref.name), closed=True)


@command("reports dismiss", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def reports_dismiss(caller: Caller, report: str) -> Plan:
    """Close a report without doing anything about it; asks first.

    Args:
        report: its name, e.g. e12
    """
    ref = parse_report(report)
    summary = t("Dismiss report {name}: nothing is done about it", name=ref.name)
    return _handled(caller, ref, summary, closed=True, ask=True)


@command("reports reopen", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def reports_reopen(caller: Caller, report: str) -> Plan:
    """Open a report again.

    Args:
        report: its name, e.g. e12
    """
    ref = parse_report(report)
    return _handled(caller, ref, t("Open report {name} again", name=ref.name))


def _handled(
    caller: Caller,
    ref: ReportRef,
    summary: str,
    *,
    claimed: bool = False,
    closed: bool = False,
    ask: bool = False,
) -> Plan:
    me = caller.actor.user
    step = HandleReport(
        kind=ref.kind,
        report=ref.number,
        claimed_by=me if claimed or closed else None,
        closed_by=me if closed else None,
        at_ms=int(caller.now.timestamp() * 1000),
    )
    return Plan(summary=summary, steps=(step,), ask=ask)


_ACTING = (Permission.READ_CONTENT,)
"""Finding what was reported shows it."""


@command("reports delete", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=_ACTING)
async def reports_delete(admin: AdminReader, reading: Reading, report: str) -> Plan:
    """Delete a report on a message or a person from the homeserver.

    Args:
        report: its name, e.g. e12
    """
    ref = parse_report(report)
    if ref.kind == "room":
        raise UserError(t("The homeserver keeps reports on rooms; close it instead."))
    found = await read_report(admin, reading, ref)
    step: Step = (
        DeleteEventReport(ref.number)
        if found.ref.kind == "event"
        else DeleteUserReport(ref.number)
    )
    forget = ForgetReport(ref.kind, ref.number)
    return Plan(summary=t("Delete report {name}", name=ref.name), steps=(step, forget))


@command("reports redact", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=_ACTING)
async def reports_redact(
    admin: AdminReader, reading: Reading, caller: Caller, report: str
) -> Plan:
    """Redact the reported message, and close the report.

    Args:
        report: its name, e.g. e12
    """
    found = await read_report(admin, reading, parse_report(report))
    if found.room is None or found.event is None:
        raise UserError(t("Report {name} is about no message.", name=found.ref.name))
    step = RedactEvent(
        room=found.room, event=found.event, txn_id=f"steward-report-{found.ref.name}"
    )
    return _acted(caller, found, t("Redact the reported message"), step)


@command("reports ban", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=_ACTING)
async def reports_ban(
    admin: AdminReader, reading: Reading, settings: Settings, caller: Caller, report: str
) -> Plan:
    """Ban the author of a reported message from its room, and close the report.

    Args:
        report: its name, e.g. e12
    """
    found = await read_report(admin, reading, parse_report(report))
    if found.room is None or found.user is None:
        raise UserError(t("Report {name} is about no message.", name=found.ref.name))
    refuse(why_never(settings.config, found.user))
    if found.user == caller.actor.user:
        raise UserError(t("That is your own account; have another server admin do it."))
    step = BanUser(found.room, found.user, found.reason)
    summary = t("Ban {user} from {room}", user=found.user, room=found.room)
    return _acted(caller, found, summary, step)


@command("reports suspend", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=_ACTING)
async def reports_suspend(
    admin: AdminReader, reading: Reading, settings: Settings, caller: Caller, report: str
) -> Plan:
    """Suspend a reported person of this server, and close the report.

    Args:
        report: its name, e.g. e12
    """
    found = await read_report(admin, reading, parse_report(report))
    if found.user is None:
        raise UserError(t("Report {name} is about no person.", name=found.ref.name))
    await target(admin, settings, caller, found.user)
    summary = t("Suspend {user}", user=found.user)
    return _acted(caller, found, summary, SuspendUser(found.user))


def _acted(caller: Caller, report: Report, summary: str, step: Step) -> Plan:
    close = HandleReport(
        kind=report.ref.kind,
        report=report.ref.number,
        claimed_by=caller.actor.user,
        closed_by=caller.actor.user,
        at_ms=int(caller.now.timestamp() * 1000),
    )
    return Plan(summary=summary, steps=(step, close), ask=True)
