"""Who was seen on which days, by what they send and by their last visits."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot import pictures
from adminbot.activity import Activity
from adminbot.commands.activity import MORE_THAN_DAYS
from adminbot.newcomers import kinds_of
from adminbot.own.accounts import ActiveByDay, MessagesByDay, Month, MonthsSeen, days_of
from adminbot.own.memory import GAPS, Remembered, gaps_in
from adminbot.own.server_rooms import RoomActivity
from adminbot.own_records import OwnRecords
from common.database.pool import Database
from common.homeserver.port import ReadRequest, T
from common.homeserver.synapse.users import ListUsers, UserDetails, UserPage, UserSummary
from common.ids import UserId
from common.inbox.port import Entry, EntryKind, Source
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ALICE,
    AUDITBOT,
    BOB,
    ME,
    NOW,
    NOW_MS,
    SERVER,
    FakeAdmin,
    FakeClock,
)

DAY_MS = 86_400_000


@dataclass
class FakeUsers:
    """The list of accounts, newest visit first, two at a time."""

    seen: dict[UserId, int] = field(default_factory=dict)
    pages: int = 0

    async def read(self, request: ReadRequest[T]) -> T:
        return cast(T, self._page(request))

    def _page(self, request: object) -> UserPage:
        assert isinstance(request, ListUsers)
        assert (request.order_by, request.direction) == ("last_seen_ts", "b")
        self.pages += 1
        ordered = sorted(self.seen.items(), key=lambda each: -each[1])
        part = ordered[request.start : request.start + 2]
        more = "more" if len(ordered) > request.start + 2 else None
        users = tuple(UserSummary(name=user, last_seen_ts=at) for user, at in part)
        return UserPage(users=users, total=len(ordered), next_token=more)


@dataclass
class Notes:
    """What is written down."""

    database: Database
    users: FakeUsers
    clock: FakeClock
    activity: Activity

    async def push(self, *events: dict[str, Any]) -> None:
        entries = [
            Entry(
                number, EntryKind.EVENT, json.dumps(each).encode(), Source.TRANSACTION, "", "", 0
            )
            for number, each in enumerate(events)
        ]
        effect = self.activity.look(entries)
        async with self.database.transaction() as connection:
            await effect(connection)

    async def is_person(self, *users: str, kind: str = "person") -> None:
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
                " VALUES ($1, 0, $2, 'old')",
                [(user, kind) for user in users],
            )

    async def month(self, month: str = "2026-11") -> dict[UserId, int]:
        return dict(await OwnRecords(self.database).read(Month(month)))


@pytest.fixture
async def notes(tmp_path: Path) -> AsyncIterator[Notes]:
    async with open_database(sqlite_url(tmp_path)) as database:
        users, clock = FakeUsers(), FakeClock()
        activity = Activity(database, clock, users, SERVER, frozenset({ME, AUDITBOT}))
        yield Notes(database, users, clock, activity)


def sent(
    sender: str, at_ms: int = NOW_MS, *, room: str = "!r", type_: str = "m.room.message"
) -> dict[str, Any]:
    return {"type": type_, "sender": sender, "room_id": room, "origin_server_ts": at_ms}


async def test_somebody_counts_who_was_seen_on_more_than_two_days(notes: Notes) -> None:
    await notes.is_person(ALICE, BOB)
    for back in range(3):
        await notes.push(*[sent(ALICE, NOW_MS - back * DAY_MS) for _ in range(5)])
    for back in range(2):
        await notes.push(sent(BOB, NOW_MS - back * DAY_MS))

    assert await notes.month() == {ALICE: 3, BOB: 2}
    counts = await OwnRecords(notes.database).read(MonthsSeen(MORE_THAN_DAYS))
    assert counts == {"2026-11": 1}


async def test_visits_and_messages_of_one_day_are_one_day(notes: Notes) -> None:
    await notes.is_person(ALICE)
    await notes.push(sent(ALICE))
    notes.users.seen = {ALICE: NOW_MS - 60_000}

    assert await notes.activity.read_visits() == 1

    assert await notes.month() == {ALICE: 1}


async def test_only_new_visits_are_read(notes: Notes) -> None:
    people = [UserId(f"@p{number}:{SERVER}") for number in range(9)]
    await notes.is_person(*people)
    notes.users.seen = {user: NOW_MS - number * DAY_MS for number, user in enumerate(people)}
    await notes.activity.read_visits()
    assert len(await notes.month()) == 9
    notes.users.pages = 0
    notes.clock.forward(600)
    notes.users.seen[people[4]] = notes.clock.now_ms()

    await notes.activity.read_visits()

    assert notes.users.pages <= 2
    assert (await notes.month())[people[4]] == 2


async def test_a_day_that_ended_while_nobody_looked_is_told(notes: Notes) -> None:
    async def gaps() -> tuple[tuple[int, int], ...]:
        return gaps_in(await OwnRecords(notes.database).read(Remembered(GAPS)))

    await notes.activity.read_visits()
    for _ in range(150):  # a day, looked at as it is while all runs
        notes.clock.forward(600)
        await notes.activity.read_visits()
    assert await gaps() == ()
    begun = notes.clock.now_ms()
    notes.clock.forward(86_400)
    await notes.activity.read_visits()
    assert await gaps() == ((begun, begun + DAY_MS),)
    notes.clock.forward(500 * 86_400)

    await notes.activity.read_visits()

    assert len(await gaps()) == 1, "what is long ago is forgotten"


async def test_strangers_bots_guests_and_bridges_are_nobody(notes: Notes) -> None:
    await notes.is_person(ALICE)
    await notes.is_person(f"@_irc_x:{SERVER}", kind="bridged")
    await notes.is_person(f"@17:{SERVER}", kind="guest")
    await notes.is_person(f"@helper:{SERVER}", kind="bot")
    for back in range(MORE_THAN_DAYS + 1):
        moment_ms = NOW_MS - back * DAY_MS
        await notes.push(
            sent("@stranger:elsewhere.org", moment_ms),
            sent(ME, moment_ms),
            sent(f"@_irc_x:{SERVER}", moment_ms),
            sent(f"@17:{SERVER}", moment_ms),
            sent(f"@helper:{SERVER}", moment_ms),
            sent(f"@not-looked-at-yet:{SERVER}", moment_ms),
            sent(ALICE, moment_ms, type_="m.reaction"),
        )

    assert await notes.month() == {ALICE: 3}
    counts = await OwnRecords(notes.database).read(MonthsSeen(MORE_THAN_DAYS))
    assert counts == {"2026-11": 1}
    messages = await OwnRecords(notes.database).read(MessagesByDay("2026-11-23"))
    assert messages == {NOW.date(): 4}  # of those of this server who sent words


async def test_a_guest_becomes_a_person_with_all_their_days(notes: Notes) -> None:
    """Synapse lets a guest make an account of it; what it is is looked at, not remembered."""
    guest = UserId(f"@17:{SERVER}")
    for back in range(3):
        await notes.push(sent(guest, NOW_MS - back * DAY_MS))

    assert await notes.month() == {}
    await notes.is_person(guest)
    assert await notes.month() == {guest: 3}


async def test_what_an_account_is_is_asked_of_the_homeserver() -> None:
    admin = FakeAdmin(
        users={
            ALICE: UserDetails(ALICE),
            BOB: UserDetails(BOB, appservice_id="irc"),
        }
    )
    listed = [
        UserSummary(ALICE),
        UserSummary(BOB),
        UserSummary(UserId("@17:example.org"), is_guest=True),
        UserSummary(UserId("@helper:example.org"), user_type="support"),
        UserSummary(UserId("@gone:example.org")),
    ]

    assert await kinds_of(admin, listed) == {
        ALICE: "person",
        BOB: "bridged",
        "@17:example.org": "guest",
        "@helper:example.org": "bot",
    }


async def test_a_room_was_used_when_something_was_last_sent_in_it(notes: Notes) -> None:
    await notes.push(sent(ALICE, NOW_MS - DAY_MS), sent("@x:elsewhere.org", NOW_MS + 10**12))

    assert await OwnRecords(notes.database).read(RoomActivity()) == {"!r": NOW_MS}


async def test_hostile_events_are_survived(notes: Notes) -> None:
    await notes.is_person(ALICE)
    await notes.push(
        {"type": 5},
        sent(ALICE, -(10**15)),
        {**sent(ALICE), "origin_server_ts": "soon"},
        sent("no user at all"),
        {**sent(ALICE), "room_id": None},
    )

    assert await notes.month("1970-01") == {ALICE: 1}


async def test_people_are_counted_by_day(notes: Notes) -> None:
    await notes.is_person(ALICE, BOB)
    await notes.push(sent(ALICE), sent(BOB), sent(ALICE, NOW_MS - DAY_MS))

    found = await OwnRecords(notes.database).read(ActiveByDay(("2026-11",)))

    assert found == {NOW.date(): 2, (NOW - timedelta(days=1)).date(): 1}


@given(st.sets(st.integers(1, 28)))
def test_days_are_kept_as_bits(days: set[int]) -> None:
    bits = sum(1 << (day - 1) for day in days)

    assert {day.day for day in days_of("2026-02", bits)} == days
    assert bits.bit_count() == len(days)


def test_a_picture_is_drawn_without_a_screen() -> None:
    picture = pictures.bars("Cost: $5 and $x$", ["2026-10", "2026-11"], [0, 12], last_is_open=True)

    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < 200_000
