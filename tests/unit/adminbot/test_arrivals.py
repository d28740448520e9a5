"""Who came with which token: as the module says, or by counting, and never by a guess."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.arrivals import (
    COUNTED_MS,
    MOST_ATTEMPTS,
    TokenArrivals,
    judged,
    rises_of,
    take_note,
)
from adminbot.engine.actor import Actor
from adminbot.engine.answer import Answer
from adminbot.own.arrivals import NONE, TOKEN, UNKNOWN, Arrivals
from adminbot.own.tokens import RememberToken, digest_of
from adminbot.own_records import OwnRecords
from adminbot.server_acts import ServerActs
from common.config.secret import Secret
from common.errors import TransientError
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import ChangeRequest, ReadRequest, T
from common.homeserver.synapse.registration_tokens import ListRegistrationTokens, RegistrationToken
from common.homeserver.synapse.registrations import CameWith
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.users import GetUser, JoinUser, UserDetails
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, NOW_MS, FakeClock

CHOIR, BAND = RoomId("!choir"), RoomId("!band")
COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5))


@dataclass
class FakeTelling:
    said: dict[str, tuple[UserId | None, Answer]] = field(default_factory=dict)

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        self.said.setdefault(key, (user, said))
        return EventId(f"${key}")

    async def to_admins(self, said: Answer, *, key: str) -> None:
        self.said.setdefault(key, (None, said))

    @property
    def words(self) -> list[tuple[UserId | None, str]]:
        return [(user, str(said.blocks[0])) for user, said in self.said.values()]


@dataclass
class FakeHomeserver:
    """``module``: which token each came with; ``None`` is a homeserver without the module."""

    module: dict[UserId, str] | None = None
    used: dict[str, int] = field(default_factory=dict)
    changes: list[object] = field(default_factory=list)
    admins: set[UserId] = field(default_factory=lambda: {ADMIN})
    banned: bool = False
    away: bool = False

    async def read(self, request: ReadRequest[T]) -> T:
        return cast(T, self._answer(request))

    def _answer(self, request: object) -> object:
        match request:
            case CameWith(user=user):
                if self.module is None:
                    raise UnsupportedError(404, "M_UNRECOGNIZED", "no module")
                token = None if user is None else self.module.get(user)
                return None if token is None else digest_of(token)
            case ListRegistrationTokens():
                return tuple(
                    RegistrationToken(token, completed=count) for token, count in self.used.items()
                )
            case GetMemberships():
                return {CHOIR: "ban"} if self.banned else {}
            case GetUser(user=user):
                return UserDetails(user)
            case _:
                raise AssertionError(request)

    async def actor(self, user: UserId) -> Actor:
        return Actor(user, server_admin=user in self.admins)

    async def change(self, request: ChangeRequest[T]) -> T:
        if self.away:
            raise TransientError("away")
        self.changes.append(request)
        return cast(T, None)

    def joined(self) -> list[tuple[UserId, RoomId]]:
        return [(one.user, one.room) for one in self.changes if isinstance(one, JoinUser)]


@dataclass
class World:
    arrivals: TokenArrivals
    server: FakeHomeserver
    clock: FakeClock
    telling: FakeTelling

    async def token(self, name: str, *rooms: RoomId, **more: Any) -> None:
        records = self.arrivals.records
        async with records.database.transaction() as connection:
            await records.apply(
                connection,
                RememberToken(
                    token=Secret(name), creator=ADMIN, note="", made_ms=1, rooms=rooms, **more
                ),
            )
        self.server.used[name] = 0

    async def came(self, *users: UserId) -> None:
        """Have accounts seen now, and the standing work look once."""
        counts = await self.arrivals.counts()
        async with self.arrivals.database.transaction() as connection:
            await take_note(connection, [(user, NOW_MS) for user in users], self.clock.now_ms())
        await self.arrivals.settle(counts)

    async def later(self) -> None:
        self.clock.forward(COUNTED_MS / 1000)
        await self.arrivals.settle(await self.arrivals.counts())

    async def known(self) -> Mapping[UserId, tuple[str, str | None]]:
        found = await self.arrivals.records.read(Arrivals(100))
        return {each.user: (each.came, each.digest) for each in found}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        server, clock, telling = FakeHomeserver(), FakeClock(), FakeTelling()
        records = OwnRecords(database)
        arrivals = TokenArrivals(
            database, clock, server, records, ServerActs(server, records), telling, server
        )
        yield World(arrivals, server, clock, telling)


@given(before=COUNTS, now=COUNTS, newcomers=st.integers(1, 5))
def test_nobody_is_said_to_have_come_with_a_token_unless_all_new_ones_did(
    before: dict[str, int], now: dict[str, int], newcomers: int
) -> None:
    rises = rises_of(before, now)
    came, digest = judged(rises, newcomers)

    assert rises is not None
    if came == TOKEN:
        assert rises == {digest: newcomers}
    elif came == NONE:
        assert not rises
    else:
        assert came == UNKNOWN
        assert rises


def test_before_anything_was_counted_nothing_is_known() -> None:
    assert judged(rises_of(None, {"a": 3}), 3) == (UNKNOWN, None)


async def test_the_module_tells_two_who_come_at_once_apart(world: World) -> None:
    world.server.module = {ALICE: "choir", BOB: "band"}
    await world.token("choir", CHOIR)
    await world.token("band", BAND)

    await world.came(ALICE, BOB)

    assert sorted(world.server.joined()) == [(ALICE, CHOIR), (BOB, BAND)]
    await world.later()
    assert len(world.server.joined()) == 2


async def test_who_came_without_a_token_is_waited_for_a_moment(world: World) -> None:
    world.server.module = {}
    await world.came(ALICE)
    assert await world.known() == {ALICE: ("open", None)}

    await world.later()

    assert await world.known() == {ALICE: (NONE, None)}
    assert world.server.joined() == []


async def test_without_the_module_one_token_used_as_often_as_there_are_newcomers(
    world: World,
) -> None:
    await world.token("choir", CHOIR)
    await world.came()  # what was counted before

    await world.came(ALICE, BOB)
    world.server.used["choir"] = 2  # counted a moment after the accounts were made
    await world.later()

    assert sorted(world.server.joined()) == [(ALICE, CHOIR), (BOB, CHOIR)]
    await world.came(UserId("@carol:example.org"))
    await world.later()
    assert (await world.known())[UserId("@carol:example.org")] == (NONE, None)


@pytest.mark.parametrize("used", [{"choir": 1, "band": 1}, {"choir": 1}, {"choir": 3}])
async def test_without_the_module_nobody_is_joined_on_a_guess(
    world: World, used: dict[str, int]
) -> None:
    await world.token("choir", CHOIR)
    await world.token("band", BAND)
    await world.came()

    world.server.used |= used
    await world.came(ALICE, BOB)
    await world.later()

    assert world.server.joined() == []
    assert {came for came, _ in (await world.known()).values()} == {UNKNOWN}
    ((who, words),) = world.telling.words
    assert who is None
    assert "cannot tell with which" in words
    assert ALICE in words


async def test_a_guess_about_tokens_without_rooms_troubles_nobody(world: World) -> None:
    await world.token("one")
    await world.token("two")
    await world.came()

    world.server.used |= {"one": 1, "two": 1}
    await world.came(ALICE, BOB)
    await world.later()

    assert world.telling.words == []


async def test_what_cannot_be_done_is_tried_again_and_told_at_last(world: World) -> None:
    world.server.module, world.server.banned = {ALICE: "choir"}, True
    await world.token("choir", CHOIR, BAND)

    await world.came(ALICE)
    for _ in range(MOST_ATTEMPTS):
        await world.later()

    assert (ALICE, BAND) in world.server.joined()
    ((who, words),) = world.telling.words
    assert who == ADMIN
    assert "banned" in words
    before = len(world.server.changes)
    await world.later()
    assert len(world.server.changes) == before


async def test_a_token_made_anew_does_not_what_another_one_of_its_name_did(world: World) -> None:
    world.server.module = {ALICE: "choir"}
    await world.token("choir", CHOIR)
    await world.token("choir", BAND)

    await world.came(ALICE)

    assert world.server.joined() == [(ALICE, BAND)]


async def test_who_is_no_server_admin_any_more_lets_nobody_into_rooms(world: World) -> None:
    world.server.module = {ALICE: "choir", BOB: "for-bob"}
    await world.token("choir", CHOIR)
    await world.token("for-bob", for_user=BOB, profile={"type": "support"})
    world.server.admins.clear()

    await world.came(ALICE, BOB)
    await world.later()

    assert world.server.changes == []
    ((who, words), (_, more)) = world.telling.words
    assert who is None
    assert f"{ADMIN}, who is no server admin any more" in words
    assert {ALICE in words, ALICE in more} == {True, False}


async def test_so_many_at_once_that_not_all_are_looked_at_are_not_guessed_about(
    world: World,
) -> None:
    await world.token("choir", CHOIR)
    await world.came()
    crowd = [UserId(f"@u{number}:example.org") for number in range(150)]
    world.server.used["choir"] = 100
    await world.came(*crowd)

    await world.later()
    await world.later()

    assert world.server.joined() == []


async def test_while_the_homeserver_is_away_nothing_is_lost(world: World) -> None:
    world.server.module, world.server.away = {ALICE: "choir"}, True
    await world.token("choir", CHOIR)
    with pytest.raises(TransientError):
        await world.came(ALICE)

    world.server.away = False
    await world.later()

    assert world.server.joined() == [(ALICE, CHOIR)]


async def test_an_account_that_was_prepared_is_for_its_own_name(world: World) -> None:
    world.server.module = {ALICE: "for-alice", BOB: "for-carol"}
    profile = {"displayname": "Alice", "email": "a@example.org", "type": "support"}
    await world.token("for-alice", for_user=ALICE, profile=profile)
    await world.token("for-carol", for_user=UserId("@carol:example.org"), profile=profile)

    await world.came(ALICE, BOB)

    assert {getattr(each, "user", None) for each in world.server.changes} == {ALICE}
    assert len(world.server.changes) == 3
    told = dict(enumerate(words for _, words in world.telling.words))
    assert any("has made the account that you prepared" in words for words in told.values())
    assert any("nothing was done for it" in words for words in told.values())


def test_what_is_remembered_of_a_token_is_no_secret() -> None:
    step = RememberToken(
        token=Secret("s3cret-token"), creator=ADMIN, note="", made_ms=1, rooms=(CHOIR,)
    )

    (statement,) = step.to_sql()

    assert "s3cret-token" not in json.dumps(statement.values, default=str)
