"""Who uses this server: monthly active users, numbers of accounts, days and weeks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from adminbot import pictures
from adminbot.commands.audience import PAGE
from adminbot.commands.lists import page_of, paged
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    File,
    Mono,
    Pill,
    Spans,
    Table,
    answer,
    csv_file,
    facts,
    moment_of,
    say,
    written,
)
from adminbot.engine.command import command
from adminbot.engine.step import OwnReader
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.accounts import (
    BOT,
    BRIDGED,
    ActiveByDay,
    CreatedSince,
    KindsOfAccounts,
    MessagesByDay,
    Month,
    MonthsSeen,
    WatchedSince,
)
from adminbot.own.memory import GAPS, Remembered, gaps_in
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import ListUsers, all_users
from common.i18n import Msg, n, t

MORE_THAN_DAYS = 2
"""Somebody counts who was seen on more days of the month than this."""
MONTHS_SHOWN = 12
MOST_GAPS = 10
MOST_DAYS, MOST_WEEKS = 90, 52
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")


@command("mau", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def mau(
    own: OwnReader,
    caller: Caller,
    month: str | None = None,
    *,
    list: bool = False,  # noqa: A002  # as people type it
    trend: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """Count the monthly active users.

    These are accounts of this server, without guests and without those of bridges and other
    application services, that were seen on more than two days of the month (UTC).

    Args:
        month: e.g. 2026-10; left out, this one
        list: with everybody who counts
        trend: a picture of the last 12 months
    """
    since = await own.read(WatchedSince())
    if trend:
        return await _trend(own, caller.now, since)
    wanted = month or f"{caller.now:%Y-%m}"
    if not _MONTH.fullmatch(wanted):
        raise UserError(t("“{month}” is no month; one looks like 2026-10.", month=wanted))
    seen = await own.read(Month(wanted))
    counted = sorted(user for user, days in seen.items() if days > MORE_THAN_DAYS)
    said = answer(
        facts(
            [
                (t("Month"), Mono(wanted)),
                (t("Monthly active users"), str(len(counted))),
                (t("Seen at all"), str(len(seen))),
                (t("Written down since"), _since(since)),
            ]
        ),
        *await _away(own, wanted, wanted),
    )
    if csv:
        rows = (
            (user, days, "yes" if days > MORE_THAN_DAYS else "") for user, days in seen.items()
        )
        return said.with_file(csv_file(f"mau-{wanted}.csv", ("user", "days", "counts"), rows))
    if not list:
        return said
    lines = tuple((Pill(user), str(seen[user])) for user in page_of(counted, page))
    told = paged(
        n("{count} person in all.", "{count} people in all.", len(counted)), len(counted), page
    )
    return said.followed_by(Table((t("Person"), t("Days")), lines), say(told))


@command("users count", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def users_count(admin: AdminReader, own: OwnReader, caller: Caller) -> Answer:
    """Count the accounts of this server by what they are."""
    kinds = await own.read(KindsOfAccounts())
    accounts = [one async for one in all_users(admin, ListUsers(limit=PAGE))]
    opened = [one for one in accounts if not one.deactivated]
    bridged = sum(1 for one in opened if kinds.get(one.name) == BRIDGED)
    bots = sum(1 for one in opened if one.user_type is not None or kinds.get(one.name) == BOT)
    month_ago = int((caller.now - timedelta(days=30)).timestamp() * 1000)
    lately = sum(1 for one in opened if (one.last_seen_ts or 0) >= month_ago)
    return answer(
        facts(
            [
                (t("Accounts"), str(len(accounts))),
                (t("People"), str(len(opened) - bridged - bots)),
                (t("Of bridges and application services"), str(bridged)),
                (t("Bots"), str(bots)),
                (
                    t("Server admins"),
                    str(
                        len(
                            [one for one in opened if one.admin and kinds.get(one.name) != BRIDGED]
                        )
                    ),
                ),
                (t("Locked"), str(sum(one.locked for one in opened))),
                (t("Closed"), str(len(accounts) - len(opened))),
                (t("Seen within 30 days"), str(lately)),
            ]
        )
    )


@command("stats daily", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def stats_daily(
    own: OwnReader, caller: Caller, *, days: int = 14, picture: bool = False, csv: Csv = NO_CSV
) -> Answer:
    """Show people seen, messages and new accounts for each day (UTC).

    Args:
        days: how many, up to today
        picture: with a picture of the people seen
    """
    if not 1 <= days <= MOST_DAYS:
        raise UserError(t("Between 1 and {most} days can be shown.", most=MOST_DAYS))
    today = caller.now.astimezone(UTC).date()
    wanted = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    figures = await figures_of(own, wanted[0], today)
    rows = [(str(day), *figures.of(day)) for day in wanted]
    return _stats(rows, t("Day"), t("People seen, by day"), picture=picture, csv=csv)


@command("stats weekly", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def stats_weekly(
    own: OwnReader, caller: Caller, *, weeks: int = 12, picture: bool = False, csv: Csv = NO_CSV
) -> Answer:
    """Show the most people seen on a day, messages and new accounts for each week (UTC).

    Args:
        weeks: how many, up to this one; a week begins on Monday
        picture: with a picture of the people seen
    """
    if not 1 <= weeks <= MOST_WEEKS:
        raise UserError(t("Between 1 and {most} weeks can be shown.", most=MOST_WEEKS))
    today = caller.now.astimezone(UTC).date()
    monday = today - timedelta(days=today.weekday())
    first = monday - timedelta(weeks=weeks - 1)
    figures = await figures_of(own, first, today)
    rows: list[tuple[str, int, int, int]] = []
    for number in range(weeks):
        begin = first + timedelta(weeks=number)
        week = [figures.of(begin + timedelta(days=day)) for day in range(7)]
        people = max(day[0] for day in week)
        rows.append((str(begin), people, sum(day[1] for day in week), sum(day[2] for day in week)))
    title = t("Most people seen on a day, by week")
    return _stats(rows, t("Week of"), title, picture=picture, csv=csv)


@dataclass(frozen=True)
class Figures:
    """People seen, messages and new accounts by day."""

    people: Mapping[date, int]
    messages: Mapping[date, int]
    new: Mapping[date, int]

    def of(self, day: date) -> tuple[int, int, int]:
        """Return those of one day."""
        return self.people.get(day, 0), self.messages.get(day, 0), self.new.get(day, 0)


async def figures_of(own: OwnReader, first: date, last: date) -> Figures:
    """Return the figures of some days."""
    months = sorted(
        {f"{first + timedelta(days=day):%Y-%m}" for day in range((last - first).days + 1)}
    )
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    new: dict[date, int] = {}
    for moment_ms in await own.read(CreatedSince(int(since.timestamp() * 1000))):
        moment = moment_of(moment_ms)
        if moment is not None:
            new[moment.date()] = new.get(moment.date(), 0) + 1
    return Figures(
        await own.read(ActiveByDay(tuple(months))), await own.read(MessagesByDay(str(first))), new
    )


def _stats(
    rows: list[tuple[str, int, int, int]], unit: Msg, title: Msg, *, picture: bool, csv: int
) -> Answer:
    columns = (unit, t("People seen"), t("Messages"), t("New accounts"))
    said = answer(Table(columns, tuple((row[0], *map(str, row[1:])) for row in rows)))
    if csv:
        names = ("from", "people", "messages", "new_accounts")
        said = answer(t("All of it is in the file.")).with_file(csv_file("stats.csv", names, rows))
    if picture:
        labels, people = [row[0] for row in rows], [row[1] for row in rows]
        drawn = pictures.bars(str(title), labels, people, last_is_open=True)
        said = said.with_file(File("stats.png", "image/png", drawn))
    return said


async def _trend(own: OwnReader, now: datetime, since: int | None) -> Answer:
    counts = await own.read(MonthsSeen(MORE_THAN_DAYS))
    months = _last_months(now, MONTHS_SHOWN)
    values = [counts.get(month, 0) for month in months]
    title = t("Monthly active users")
    picture = pictures.bars(str(title), months, values, last_is_open=True)
    rows = tuple((month, str(value)) for month, value in zip(months, values, strict=True))
    return answer(
        Table((t("Month"), t("Monthly active users")), rows),
        t("Written down since {moment}; this month is not over.", moment=_since(since)),
        *await _away(own, months[0], months[-1]),
    ).with_file(File("mau.png", "image/png", picture))


async def _away(own: OwnReader, first: str, last: str) -> tuple[Block, ...]:
    """Return when nobody looked who was here, in these months: some may lack a day."""
    found: list[Spans] = []
    for begun_ms, ended_ms in gaps_in(await own.read(Remembered(GAPS))):
        begun, ended = moment_of(begun_ms), moment_of(ended_ms)
        if begun is None or ended is None:
            continue
        if f"{begun:%Y-%m}" <= last and f"{ended:%Y-%m}" >= first:
            found.append((f"{written(begun)} – {written(ended)}",))
    if not found:
        return ()
    said = t(
        "I was away over the end of a day; who was here then, wrote nothing and came back later "
        "may lack days:"
    )
    shown = found[-MOST_GAPS:]
    if len(found) > len(shown):
        more = len(found) - len(shown)
        shown.append((n("… and {count} time before", "… and {count} times before", more),))
    return say(said), Bullets(tuple(shown))


def _last_months(now: datetime, number: int) -> list[str]:
    year, month = now.year, now.month
    months: list[str] = []
    for _ in range(number):
        months.append(f"{year}-{month:02}")
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    return months[::-1]


def _since(since_ms: int | None) -> str:
    moment = moment_of(since_ms) if since_ms else None
    return t("a moment ago") if moment is None else written(moment)
