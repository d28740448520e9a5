"""Whose account is bridged, which of them count, and what a limit means."""

import time
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.bridges.activity import active, counted_day, day_of
from adminbot.bridges.limit import Means, Stage, Standing, beyond, decide, ladder, stage_of
from adminbot.bridges.namespaces import (
    Owners,
    bot_of_expression,
    expression_for,
    namespaces,
)
from common.errors import ConfigError
from common.ids import UserId

SERVER = "steward.localhost"
TODAY = 20_000
DAY_MS = 86_400_000


def test_a_namespace_covers_ghosts_of_this_server_only() -> None:
    # Heisenbridge registers an expression without a server.
    irc = namespaces(SERVER, ["@irc_.*"], [UserId(f"@irc_bot:{SERVER}")])
    assert irc.covers(UserId(f"@irc_net_nick:{SERVER}"))
    assert not irc.covers(UserId("@irc_net_nick:elsewhere.example"))
    assert not irc.covers(UserId(f"@alice:{SERVER}"))
    assert not irc.covers(UserId(f"@irc_bot:{SERVER}")), "the bot is nobody's ghost"


def test_globs_of_a_kind_become_expressions() -> None:
    telegram = namespaces(SERVER, [expression_for("telegram_*", SERVER)], [])
    assert telegram.covers(UserId(f"@telegram_1.2:{SERVER}"))
    assert not telegram.covers(UserId(f"@xtelegram_1:{SERVER}"))
    assert not telegram.covers(UserId("@telegram_1:stewardxlocalhost"))


def test_an_expression_that_would_take_for_ever_does_not() -> None:
    evil = namespaces(SERVER, ["@(a+)+x"], [])
    start = time.thread_time()  # others may use the machine meanwhile
    assert not evil.covers(UserId("@" + "a" * 200 + f":{SERVER}"))
    assert time.thread_time() - start < 1


@pytest.mark.parametrize("expression", ["@(?!bot).*", "(", "@" + "a" * 2000])
def test_an_expression_that_cannot_be_matched_safely_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError):
        namespaces(SERVER, [expression], [])


@pytest.mark.parametrize(
    ("expression", "bot"),
    [
        (r"^@telegrambot:steward\.localhost$", "@telegrambot:steward.localhost"),
        ("@telegrambot:steward.localhost", "@telegrambot:steward.localhost"),
        (r"^@telegram_.*:steward\.localhost$", None),
        (r"^@other:elsewhere\.example$", None),
    ],
)
def test_a_bot_is_read_off_a_literal_expression(expression: str, bot: str | None) -> None:
    assert bot_of_expression(expression, SERVER) == bot


def test_who_belongs_to_which_bridge() -> None:
    owners = Owners(
        {
            "irc": namespaces(SERVER, ["@irc_.*"], [UserId(f"@heisenbridge:{SERVER}")]),
            "telegram": namespaces(SERVER, ["@telegram_.*"], []),
        }
    )
    assert owners.owner_of(UserId(f"@telegram_1:{SERVER}")) == "telegram"
    assert owners.owner_of(UserId(f"@alice:{SERVER}")) is None
    assert owners.bridge_of_bot(UserId(f"@heisenbridge:{SERVER}")) == "irc"


def test_what_counts_is_what_people_send() -> None:
    now = TODAY * DAY_MS + 5
    assert counted_day("m.room.message", None, now, now) == TODAY
    assert counted_day("m.room.encrypted", None, now, now) == TODAY
    assert counted_day("m.room.member", "@x:y", now, now) is None
    assert counted_day("m.room.message", "", now, now) is None, "a state event"
    assert counted_day("m.room.redaction", None, now, now) is None
    assert counted_day("m.room.message", None, "today", now) is None
    assert counted_day("m.room.message", None, True, now) is None
    assert counted_day("m.room.message", None, now + 9 * DAY_MS, now) == TODAY, "no day ahead"


def test_a_ghost_counts_after_enough_days_of_the_last_31() -> None:
    days = {
        "one": [TODAY],
        "two": [TODAY, TODAY - 30],
        "old": [TODAY - 31, TODAY - 32, TODAY],
        "many": list(range(TODAY - 30, TODAY + 1)),
    }
    assert active(moments(days), today=TODAY, at_least=2) == ["many", "two"]
    assert set(active(moments(days), today=TODAY, at_least=1)) == {"one", "two", "old", "many"}


def test_who_came_later_on_the_same_day_is_last() -> None:
    days = {"b": {TODAY: 5}, "a": {TODAY: 9}}
    assert active(days, today=TODAY, at_least=1) == ["b", "a"]


def moments(days: Mapping[str, Iterable[int]]) -> dict[str, dict[int, int]]:
    return {ghost: {day: day * DAY_MS for day in sent} for ghost, sent in days.items()}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(TODAY - 60, TODAY + 5))),
    st.integers(1, 5),
)
def test_counting_agrees_with_the_definition(days: dict[str, list[int]], at_least: int) -> None:
    expected = {
        ghost
        for ghost, sent in days.items()
        if len({day for day in sent if TODAY - 31 < day <= TODAY}) >= at_least
    }
    assert set(active(moments(days), today=TODAY, at_least=at_least)) == expected


def test_days_are_utc() -> None:
    assert day_of(TODAY * DAY_MS - 1) == TODAY - 1
    assert day_of(TODAY * DAY_MS) == TODAY


def test_stages_of_a_limit() -> None:
    assert stage_of(None, 10**6) is Stage.UNLIMITED
    assert stage_of(10, 7) is Stage.BELOW
    assert stage_of(10, 8) is Stage.NEAR
    assert stage_of(10, 10) is Stage.NEAR
    assert stage_of(10, 11) is Stage.ABOVE
    assert stage_of(0, 1) is Stage.ABOVE


def standing(limit: int | None, count: int, **more: bool) -> Standing:
    names = [f"g{number}" for number in range(count)]
    return Standing(
        limit,
        names,
        more.get("paused", False),
        more.get("warned", False),
        more.get("by_hand", False),
    )


def test_the_way_up_and_down() -> None:
    assert decide(standing(10, 8)).warn
    assert not decide(standing(10, 9, warned=True)).warn
    assert decide(standing(10, 11)).pause
    assert not decide(standing(10, 11, paused=True)).pause
    assert decide(standing(20, 11, paused=True)).resume
    assert decide(standing(None, 11, paused=True)).resume
    assert decide(standing(100, 11, warned=True)).forget_warning


def test_a_pause_by_hand_stays_until_it_is_lifted_by_hand() -> None:
    assert decide(standing(None, 0, by_hand=True)).pause
    assert not decide(standing(100, 0, by_hand=True, paused=True)).resume


def test_the_ladder() -> None:
    assert ladder(own=True, ghosts=True, hook=True) == (Means.OWN,)
    assert ladder(own=False, ghosts=True, hook=True) == (Means.SUSPEND, Means.HOOK)
    assert ladder(own=True, ghosts=True, hook=False, by_hand=True) == (Means.SUSPEND,)
    assert ladder(own=False, ghosts=False, hook=False) == ()


def test_who_is_beyond_the_limit() -> None:
    ghosts = ["g0", "g1", "g2", "quiet"]
    assert beyond(standing(2, 3), ghosts) == ["g2", "quiet"]
    assert beyond(standing(2, 1, by_hand=True), ghosts) == ghosts
