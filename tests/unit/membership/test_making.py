"""A room in its first seconds is left to the homeserver that makes it."""

import json

import pytest

from common.ids import RoomId, UserId
from common.membership.making import LONGEST_SECONDS, Making
from tests.unit.adminbot.world import FakeClock

ROOM = RoomId("!room")
BOT, OTHER = UserId("@adminbot:x"), UserId("@auditbot:x")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def making(clock: FakeClock) -> Making:
    return Making(frozenset({BOT, OTHER}), clock)


def see(making: Making, type_: str, content: object, key: str = "", age_ms: int = 5) -> None:
    making.look_at(ROOM, type_, key, json.dumps(content).encode(), age_ms)


def create(making: Making, *creators: str, age_ms: int = 5) -> None:
    see(making, "m.room.create", {"additional_creators": creators}, age_ms=age_ms)


def test_bots_that_are_creators_wait_until_each_is_invited(making: Making) -> None:
    create(making, BOT, OTHER)
    see(making, "m.room.power_levels", {"users": {}})
    assert making.is_going_on(ROOM)

    see(making, "m.room.member", {"membership": "invite"}, BOT)
    assert making.is_going_on(ROOM)
    see(making, "m.room.member", {"membership": "invite"}, OTHER)
    assert not making.is_going_on(ROOM)


def test_bots_that_have_power_wait_too(making: Making) -> None:
    create(making)
    assert making.is_going_on(ROOM)
    see(making, "m.room.power_levels", {"users": {BOT: 100}})
    assert making.is_going_on(ROOM)

    see(making, "m.room.member", {"membership": "invite"}, BOT)
    assert not making.is_going_on(ROOM)


def test_without_the_module_nobody_waits(making: Making) -> None:
    create(making)
    see(making, "m.room.power_levels", {"users": {"@alice:x": 100}})

    assert not making.is_going_on(ROOM)


def test_an_invitation_that_never_comes_is_waited_for_a_moment_only(
    making: Making, clock: FakeClock
) -> None:
    create(making, BOT)
    clock.forward(LONGEST_SECONDS)

    assert not making.is_going_on(ROOM)


def test_a_room_that_was_made_long_ago_is_none(making: Making) -> None:
    create(making, BOT, age_ms=60_000)

    assert not making.is_going_on(ROOM)


@pytest.mark.parametrize("content", [[], {"additional_creators": 7}, {"users": [BOT]}, "x"])
def test_hostile_content_says_nothing(making: Making, content: object) -> None:
    see(making, "m.room.create", content)
    see(making, "m.room.power_levels", content)

    assert not making.is_going_on(ROOM)
