"""When something is to happen, and what becomes of runs that were missed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot import schedule
from adminbot.commands import catalogue
from adminbot.commands.schedules import refuse_unfit, rule_of
from adminbot.engine.command import Parameter
from adminbot.engine.supply import Settings
from adminbot.engine.values import kind_of
from common.config.load import load_text
from common.config.secret import Secret
from common.errors import UserError
from tests.unit.config.builders import VALID

BEGUN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday
GRACE = timedelta(minutes=1)


def runs(rule: str, number: int, *, zone: str = "UTC", begun: datetime = BEGUN) -> list[str]:
    found: list[str] = []
    after: datetime | None = begun
    for _ in range(number):
        after = schedule.next_after(rule, zone, begun=begun, after=after)
        assert after is not None
        found.append(f"{after:%a %Y-%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("0 9 * * *", ["Tue 2026-11-24 09:00", "Wed 2026-11-25 09:00"]),
        ("daily", ["Tue 2026-11-24 09:00", "Wed 2026-11-25 09:00"]),
        ("weekly", ["Mon 2026-11-30 09:00", "Mon 2026-12-07 09:00"]),
        ("monthly", ["Tue 2026-12-01 09:00", "Fri 2027-01-01 09:00"]),
        ("*/20 * * * *", ["Mon 2026-11-23 12:20", "Mon 2026-11-23 12:40"]),
        # In a crontab 0 and 7 are Sunday, and 1 is Monday.
        ("0 9 * * 0", ["Sun 2026-11-29 09:00", "Sun 2026-12-06 09:00"]),
        ("0 9 * * 7", ["Sun 2026-11-29 09:00", "Sun 2026-12-06 09:00"]),
        ("0 9 * * 1", ["Mon 2026-11-30 09:00", "Mon 2026-12-07 09:00"]),
        ("0 9 * * 5-7", ["Fri 2026-11-27 09:00", "Sat 2026-11-28 09:00"]),
        ("0 9 * * fri-mon", ["Fri 2026-11-27 09:00", "Sat 2026-11-28 09:00"]),
        ("0 9 * * mon,wed", ["Wed 2026-11-25 09:00", "Mon 2026-11-30 09:00"]),
        ("0 9 * * */2", ["Tue 2026-11-24 09:00", "Thu 2026-11-26 09:00"]),
        # Both kinds of days restricted: one of them suffices.
        ("0 9 1 * tue", ["Tue 2026-11-24 09:00", "Tue 2026-12-01 09:00"]),
        ("0 9 25 * tue", ["Tue 2026-11-24 09:00", "Wed 2026-11-25 09:00"]),
    ],
)
def test_a_crontab_strikes_when_a_crontab_does(fields: str, expected: list[str]) -> None:
    assert runs(schedule.cron(fields), 2) == expected


def test_hours_are_those_of_the_time_zone_and_of_its_summer() -> None:
    begun = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)

    found = runs(schedule.cron("0 9 * * *"), 3, zone="Europe/Berlin", begun=begun)

    assert found == ["Sat 2026-03-28 08:00", "Sun 2026-03-29 07:00", "Mon 2026-03-30 07:00"]


def test_a_span_is_counted_from_the_beginning() -> None:
    assert runs(schedule.every(timedelta(hours=36)), 2) == [
        "Wed 2026-11-25 00:00",
        "Thu 2026-11-26 12:00",
    ]


def test_a_moment_comes_once() -> None:
    rule = schedule.at(BEGUN + timedelta(hours=1))

    first = schedule.next_after(rule, "UTC", begun=BEGUN, after=BEGUN)

    assert first == BEGUN + timedelta(hours=1)
    assert schedule.next_after(rule, "UTC", begun=BEGUN, after=first) is None


@pytest.mark.parametrize(
    "text",
    ["", "never", "61 * * * *", "* * * *", "0 9 * * noday", "0 9 * * 8", "0 0 31 2", "a b c d e"],
)
def test_what_is_no_time_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match="is no time"):
        schedule.cron(text)


def test_one_of_at_and_every_is_wanted() -> None:
    for given_at, every in ((None, None), (BEGUN, "1d")):
        with pytest.raises(UserError, match="either"):
            rule_of(given_at, every)
    assert rule_of(None, "1h30m") == "every:5400"
    with pytest.raises(UserError, match="Once a minute"):
        rule_of(None, "5s")


def test_missed_runs_are_made_up_for_as_wanted() -> None:
    rule, now = schedule.every(timedelta(hours=1)), BEGUN + timedelta(hours=5, minutes=30)

    times, following = schedule.due(
        rule, "UTC", begun=BEGUN, first=BEGUN + timedelta(hours=1), now=now
    )

    assert (len(times), following) == (5, BEGUN + timedelta(hours=6))

    def kept(missed: str) -> int:
        return len(schedule.to_run(times, missed=missed, now=now, grace=GRACE))

    assert (kept("once"), kept("skip"), kept("all")) == (1, 0, 5)


def test_a_run_that_is_on_time_is_run_whatever_is_done_with_missed_ones() -> None:
    times = [BEGUN - timedelta(hours=1), BEGUN]

    for missed, number in (("once", 1), ("skip", 1), ("all", 2)):
        kept = schedule.to_run(times, missed=missed, now=BEGUN, grace=GRACE)
        assert kept[-1] == BEGUN
        assert len(kept) == number


def test_a_long_absence_is_not_made_up_for_without_end() -> None:
    now = BEGUN + timedelta(days=365)

    times, following = schedule.due(
        schedule.every(timedelta(minutes=1)), "UTC", begun=BEGUN, first=BEGUN, now=now
    )

    assert len(times) == schedule.MOST_MISSED
    assert following is not None
    assert now < following <= now + timedelta(minutes=1)


numbers = st.integers(0, 7)
weekdays = st.lists(numbers, min_size=1, max_size=4).map(lambda days: ",".join(map(str, days)))


@given(minute=st.integers(0, 59), hour=st.integers(0, 23), days=weekdays)
def test_runs_follow_each_other_on_the_named_days(minute: int, hour: int, days: str) -> None:
    rule = schedule.cron(f"{minute} {hour} * * {days}")
    wanted = {int(day) % 7 for day in days.split(",")}
    moments = [
        datetime.strptime(one[4:], "%Y-%m-%d %H:%M").replace(tzinfo=UTC) for one in runs(rule, 8)
    ]

    assert all((moment.isoweekday() % 7) in wanted for moment in moments)
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert {(moment.hour, moment.minute) for moment in moments} == {(hour, minute)}


def settings(**changed: Any) -> Settings:
    config = load_text(VALID, "config.yaml")
    return Settings(
        msgspec.structs.replace(
            config, adminbot=msgspec.structs.replace(config.adminbot, **changed)
        )
    )


def test_what_must_not_happen_by_itself_is_not_scheduled() -> None:
    commands = catalogue()
    delete, version = commands.named("room delete"), commands.named("version")
    assert delete is not None
    assert version is not None

    refuse_unfit(version, settings())
    refuse_unfit(delete, settings())
    with pytest.raises(UserError, match="second server admin"):
        refuse_unfit(delete, settings(two_person=("room delete",)))
    kind = kind_of(Secret)
    assert kind is not None
    secret = replace(version, parameters=(Parameter("word", kind, ""),))
    with pytest.raises(UserError, match="secret"):
        refuse_unfit(secret, settings())
