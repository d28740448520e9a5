"""When something is to happen: rules, their next time, and what is made of missed ones.

The only user of apscheduler in adminbot: its triggers compute, we keep the rules as text.
Source of the five fields: POSIX.1-2017, ``crontab``, "INPUT FILES". In apscheduler 0 is Monday
and both kinds of days must match; in a crontab 0 is Sunday and one of them suffices.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from common.errors import UserError
from common.i18n import t

SHORTEST = timedelta(minutes=1)
ONCE, SKIP, ALL = "once", "skip", "all"
MOST_MISSED = 100
"""So many missed runs are made up for at most."""

_NAMED = {
    "hourly": "0 * * * *",
    "daily": "0 9 * * *",
    "weekly": "0 9 * * mon",
    "monthly": "0 9 1 * *",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = 5
_DAY_PART = re.compile(
    r"(?P<first>\*|[a-z]{3}|[0-7])(?:-(?P<last>[a-z]{3}|[0-7]))?(?:/(?P<step>[1-9]))?"
)


def at(moment: datetime) -> str:
    """Return the rule for one moment."""
    return f"at:{moment.astimezone(UTC).isoformat()}"


def every(span: timedelta) -> str:
    """Return the rule for a span of time, again and again."""
    if span < SHORTEST:
        raise UserError(t("Once a minute is the most often that something can be done."))
    return f"every:{int(span.total_seconds())}"


def cron(text: str) -> str:
    """Return the rule for five fields of a crontab, or for “hourly”, “daily” and so on."""
    fields = _NAMED.get(text.lower(), text).lower().split()
    if len(fields) != _FIELDS:
        raise UserError(
            t(
                "“{text}” is no time; one looks like 1d, daily, or “0 9 * * mon-fri”: minute, "
                "hour, day, month and day of the week.",
                text=text,
            )
        )
    rule = f"cron:{' '.join(fields)}"
    next_after(rule, "UTC", begun=datetime(2000, 1, 1, tzinfo=UTC), after=None)
    return rule


def next_after(
    rule: str, zone: str, *, begun: datetime, after: datetime | None
) -> datetime | None:
    """Return the first time after a moment, ``None`` if there is none any more.

    ``zone`` is that of the crontab's hours, ``begun`` when counting begins.

    Raises:
        UserError: the rule is none.
    """
    trigger = _trigger(rule, zone, begun)
    after = after or begun - timedelta(microseconds=1)
    found = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
    if found is None or found <= after:
        return None
    return datetime.fromtimestamp(found.timestamp(), UTC)


def due(
    rule: str, zone: str, *, begun: datetime, first: datetime, now: datetime
) -> tuple[list[datetime], datetime | None]:
    """Return the times from ``first`` until now, at most some, and the next one after now."""
    times: list[datetime] = []
    moment: datetime | None = first
    while moment is not None and moment <= now and len(times) < MOST_MISSED:
        times.append(moment)
        moment = next_after(rule, zone, begun=begun, after=moment)
    if moment is not None and moment <= now:
        moment = next_after(rule, zone, begun=begun, after=now)
    return times, moment


def to_run(
    times: Sequence[datetime], *, missed: str, now: datetime, grace: timedelta
) -> list[datetime]:
    """Return which of the times that came are to be run; later than ``grace`` is missed."""
    if missed == ALL:
        return list(times)
    on_time = [moment for moment in times if now - moment <= grace]
    if missed == SKIP:
        return on_time
    return on_time or list(times[-1:])


def _trigger(rule: str, zone: str, begun: datetime) -> Any:
    kind, _, value = rule.partition(":")
    if kind == "at":
        return DateTrigger(datetime.fromisoformat(value), timezone=UTC)
    if kind == "every":
        return IntervalTrigger(
            seconds=int(value), start_date=begun + timedelta(seconds=int(value)), timezone=UTC
        )
    try:
        return _cron_trigger(value.split(), ZoneInfo(zone))
    except (ValueError, TypeError) as error:
        raise UserError(t("“{text}” is no time: {why}", text=value, why=str(error))) from error


def _cron_trigger(fields: Sequence[str], zone: ZoneInfo) -> Any:
    minute, hour, day, month, weekday = fields
    base = {"minute": minute, "hour": hour, "month": month, "timezone": zone}
    if weekday == "*":
        return CronTrigger(day=day, **base)
    by_weekday = CronTrigger(day_of_week=_weekdays(weekday), **base)
    if day == "*":
        return by_weekday
    return OrTrigger([CronTrigger(day=day, **base), by_weekday])


def _weekdays(field: str) -> str:
    """Return a crontab's days of the week as names, each by itself."""
    found: set[int] = set()
    for part in field.split(","):
        match = _DAY_PART.fullmatch(part)
        if match is None:
            raise ValueError(part)
        if match["first"] == "*":
            first, last = 0, 6
        else:
            first = _weekday(match["first"])
            last = _weekday(match["last"]) if match["last"] else (6 if match["step"] else first)
        if last < first:
            last += 7  # fri-mon, and sun as 7
        found.update(day % 7 for day in range(first, last + 1, int(match["step"] or 1)))
    return ",".join(_DAYS[day] for day in sorted(found))


def _weekday(text: str) -> int:
    return int(text) % 7 if text.isdigit() else _DAYS.index(text)
