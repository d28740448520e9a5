"""The server's day or week in a few lines: now, or again and again in a direct chat."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from adminbot import schedule as rules
from adminbot.commands.activity import MORE_THAN_DAYS, figures_of
from adminbot.commands.schedules import adding
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import Answer, Mono, Span, answer, facts, say, size, when, written
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.report import KINDS
from adminbot.engine.report_reading import every_report
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.accounts import Month
from adminbot.own.schedules import DIGEST, BeginDigest, DigestOf, EndDigest
from adminbot.own.server_rooms import RoomTroubles
from adminbot.own.storage import HeldByDay
from common.errors import UserError
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t

How = Literal["daily", "weekly"]
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_WEEK = 7


@command("digest", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def digest(admin: AdminReader, own: OwnReader, caller: Caller, how: How = "daily") -> Answer:
    """Show what yesterday or last week (UTC) was like on this server.

    Args:
        how: daily or weekly
    """
    today = caller.now.astimezone(UTC).date()
    first, last = _span(how, today)
    figures = await figures_of(own, first - timedelta(days=(last - first).days + 1), last)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    each = [figures.of(day) for day in days]
    before = [figures.of(day - timedelta(days=len(days))) for day in days]
    people, messages, new = zip(*each, strict=True)
    people_before, messages_before, new_before = zip(*before, strict=True)
    month = f"{last:%Y-%m}"
    seen = await own.read(Month(month))
    active = sum(1 for number in seen.values() if number > MORE_THAN_DAYS)
    title = (
        t("The week of {day}", day=Mono(str(first)))
        if how == "weekly"
        else t("The day of {day}", day=Mono(str(first)))
    )
    rows: list[tuple[str, Span | None]] = [
        (t("Most people seen on a day"), _beside(max(people), max(people_before))),
        (t("Messages"), _beside(sum(messages), sum(messages_before))),
        (t("New accounts"), _beside(sum(new), sum(new_before))),
        (t("Monthly active users"), f"{active} ({month})"),
        (t("Files of this server"), await _grown(own, first, last)),
        (t("New reports"), str(await _reports(admin, first, last))),
        (
            t("Rooms that could not be mended"),
            str(len(await own.read(RoomTroubles()))),
        ),
    ]
    return answer(
        say(title),
        facts(rows),
        t("In brackets: the time before that, equally long."),
    )


@command("digest subscribe", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def digest_subscribe(
    caller: Caller, settings: Settings, how: How, *, at: str = "8:00"
) -> Plan:
    """Get “digest” every day, or every Monday, in this direct chat.

    Args:
        how: daily or weekly
        at: at which hour, e.g. 8:00, in the time zone of the configuration
    """
    if caller.place.kind is not PlaceKind.DIRECT:
        raise UserError(t("Ask for it in a direct chat with me: that is where it will come."))
    match = _CLOCK.fullmatch(at)
    if match is None:
        raise UserError(t("“{word}” is no time of the day; one looks like 8:00.", word=at))
    day = "mon" if how == "weekly" else "*"
    rule = rules.cron(f"{int(match[2])} {int(match[1])} * * {day}")
    zone = settings.config.adminbot.time_zone
    first = rules.next_after(rule, zone, begun=caller.now, after=caller.now)
    if first is None:
        raise UserError(t("That time is over; name one that is still to come."))
    step = adding(caller, settings, rule=rule, text=f"{DIGEST}{how}", first=first, missed="once")
    return Plan(
        summary=t("Send you a digest"),
        steps=(BeginDigest(step),),
        result=answer(
            t("You get it from {moment} on. “digest unsubscribe” ends it.", moment=written(first))
        ),
    )


@command("digest unsubscribe", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def digest_unsubscribe(own: OwnReader, caller: Caller) -> Plan:
    """Get no digest any more."""
    if await own.read(DigestOf(caller.actor.user)) is None:
        raise UserError(t("You get no digest."))
    return Plan(summary=t("Send you no digest any more"), steps=(EndDigest(caller.actor.user),))


def _span(how: How, today: date) -> tuple[date, date]:
    """Return the first and the last day of what is over."""
    if how == "daily":
        yesterday = today - timedelta(days=1)
        return yesterday, yesterday
    monday = today - timedelta(days=today.weekday() + _WEEK)
    return monday, monday + timedelta(days=_WEEK - 1)


def _beside(now: int, before: int) -> str:
    return f"{now} ({before})"


async def _grown(own: OwnReader, first: date, last: date) -> str | None:
    held = await own.read(HeldByDay(str(first - timedelta(days=1))))
    known = [day for day in held if day <= last]
    if not known:
        return None
    begin, end = held[known[0]], held[known[-1]]
    grown = end.bytes - begin.bytes
    sign = "+" if grown >= 0 else "-"
    return f"{size(end.bytes)} ({sign}{size(abs(grown))})"


async def _reports(admin: AdminReader, first: date, last: date) -> int:
    begin_ms, end_ms = _ms(first), _ms(last + timedelta(days=1))
    found = 0
    for kind in KINDS:
        with suppress(UnsupportedError):
            async for report in every_report(admin, kind, since_ms=begin_ms):
                found += report.received_ms < end_ms
    return found


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def told(found: tuple[str, int] | None, now: datetime) -> str:
    """Return which digest somebody gets, in words."""
    if found is None:
        return t("none")
    how, next_ms = found
    moment = when(next_ms, now) or ""
    if how == "weekly":
        return t("weekly, next {moment}", moment=moment)
    return t("daily, next {moment}", moment=moment)
