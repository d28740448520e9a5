"""What a batch costs is bounded, and no junk beside a ciphertext hides it."""

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from auditbot.lines import waiting
from common.alarms import untold
from common.crypto.opening import Early
from common.crypto.port import DeviceGoneError, EncryptedEvent, Reading, SessionRef, Why
from common.database.pool import Connection
from common.errors import StartOverError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import (
    ROOM,
    ScriptedDecryption,
    StoppedClock,
    encrypted,
    entries,
    event,
    message,
    new_room,
    state,
)
from tests.unit.auditbot.world import AUDITBOT, World

KEY = SessionRef(ROOM, "session")
MIB = 2**20
CROWD = 10_000


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        yield World(database, tmp_path, StoppedClock())


def crowded_room(count: int = CROWD, room_id: str = ROOM) -> list[dict[str, Any]]:
    people = [f"@member{number:06}:example.org" for number in range(count)]
    return [json.loads(body) | {"room_id": room_id} for body in new_room(*people)]


def join(number: int) -> bytes:
    user = f"@newcomer{number:03}:example.org"
    return state("m.room.member", {"membership": "join"}, key=user, sender=user)


@contextmanager
def memory() -> Iterator[Callable[[], float]]:
    """Give a function that says how many MiB were needed at most since then."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


async def stored(world: World) -> int:
    rows = await world.database.fetch("SELECT * FROM audit_lines")
    return sum(line.size for row in rows for line in waiting(row))


async def test_a_crowd_that_grows_is_listed_when_somebody_speaks_and_not_before(
    world: World,
) -> None:
    world.rooms.states[ROOM] = crowded_room()
    bot = world.restart()
    await world.give(bot, entries([message("$1")]))
    before = await stored(world)

    # 266 MiB and 205 MiB, before there was a bound.
    with memory() as peak:
        await world.give(bot, entries([join(number) for number in range(200)]))
        assert peak() < 16, peak()
    assert await stored(world) - before < MIB

    await world.give(bot, entries([message("$2"), message("$3")]))
    listed = await world.events("audience")
    assert [record["audience_count"] for record in listed] == [CROWD + 1, CROWD + 201]
    assert (await world.events())[-1]["audience_id"] == listed[-1]["audience_id"]


async def test_a_large_room_in_which_people_come_and_go_is_listed_whole_once(
    world: World,
) -> None:
    world.rooms.states[ROOM] = crowded_room(300)
    bot = world.restart()
    for number in range(10):
        left = state("m.room.member", {"membership": "leave"}, key=f"@{number}:example.org")
        await world.give(bot, entries([join(number), left, message(f"$m{number}")]))
    # After a restart nothing is remembered, so there is a whole list again.
    bot = world.restart()
    await world.give(bot, entries([join(99), message("$last")]))

    people: dict[str, set[str]] = {}
    bases: dict[tuple[str, int], set[str]] = {}
    for record in await world.events("audience"):
        detail = json.loads(record["detail_json"])
        if "members" in detail:
            found = {one["user_id"] for one in detail["members"]}
            bases[record["audience_id"], record["seq"]] = found
        else:
            base = bases[detail["base"], detail["base_seq"]]
            found = base - set(detail["removed"]) | {one["user_id"] for one in detail["added"]}
        people[record["audience_id"]] = found
    assert len(bases) == 2
    assert len(people) > 5
    for id_, found in people.items():
        assert hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() == id_
    for record in await world.events():
        if record["event_type"] == "m.room.message":
            assert len(people[record["audience_id"]]) == record["audience_count"]


async def test_what_is_listed_for_each_message_is_not_held_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.recorder.HELD_BYTES", MIB)
    # Whole lists, as for rooms that were not listed that day.
    monkeypatch.setattr("auditbot.audiences.LEAST_PEOPLE", 10**9)
    world.rooms.states[ROOM] = crowded_room(2000)
    bot = world.restart()
    await world.give(bot, entries([message("$1")]))
    before = await stored(world)
    talk = [body for number in range(50) for body in (join(number), message(f"$m{number}"))]

    with memory() as peak:
        await world.give(bot, entries(talk))
        needed = peak()

    assert await stored(world) - before > 10 * MIB
    assert needed < 8
    seqs = [record["seq"] for record in await world.records()]
    assert seqs == list(range(len(seqs)))


async def test_the_states_of_many_unknown_rooms_are_not_held_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.rooms.MOST_MEMBERS", 300)
    monkeypatch.setattr("auditbot.recorder.PORTION_ROOMS", 4)
    names = sorted(f"!room{number}" for number in range(40))
    for name in names:
        world.rooms.states[name] = crowded_room(300, name)
    bot = world.restart()
    await world.give(bot, entries([message("$1")]))

    # All of them are some 5 MiB.
    with memory() as peak:
        await world.give(bot, entries([message(f"${name}", room_id=name) for name in names]))
        assert peak() < 2.5, peak()

    assert world.rooms.asked == [ROOM, *names]
    counts = [record["audience_count"] for record in await world.events()]
    assert counts == [None] + [301] * 40


async def test_the_events_of_a_batch_are_not_looked_into_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditbot.recorder.PORTION_BYTES", 40_000)
    bot = world.restart()
    await world.give(bot, entries(new_room()))
    bodies = [event(f"${number}", {"body": "x", "many": [[]] * 4_000}) for number in range(40)]

    # As values in memory they are some 10 MiB.
    with memory() as peak:
        await world.give(bot, entries(bodies))
        assert peak() < 4, peak()

    assert [record["event_id"] for record in (await world.events())[-40:]] == [
        f"${number}" for number in range(40)
    ]


@pytest.mark.parametrize("known", [True, False])
async def test_junk_beside_a_ciphertext_hides_nothing_now_or_later(
    world: World, *, known: bool
) -> None:
    body = encrypted("$1").replace(
        b'"content": {', b'"content": {"x": ' + b"[" * 70 + b"]" * 70 + b", "
    )
    bot = world.restart()
    if known:
        world.crypto.sessions.add("session")

    await world.give(bot, entries([*new_room(), body]))
    (first,) = [record for record in await world.events() if record["event_id"] == "$1"]
    world.crypto.sessions.add("session")
    await bot.keys_arrived([KEY])

    late = await world.events("decryption")
    assert first["enc_status"] == ("decrypted" if known else "undecryptable")
    assert [record["body"] for record in [first, *late]][-1] == "clear text of $1"
    assert [record["enc_status"] for record in late] == ([] if known else ["late"])


async def test_an_attack_is_told_at_once_and_no_more_than_once_a_day_of_its_kind(
    world: World,
) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), encrypted("$1")]))
    assert await _told_of_attacks(world) == []
    world.crypto.attacks = {"$2": Why.REPLAY, "$3": Why.REPLAY, "$4": Why.BAD_MAC}

    await world.give(bot, entries([encrypted("$2")]))
    await world.give(bot, entries([encrypted("$3"), encrypted("$4")]))
    first_day = await _told_of_attacks(world)
    assert isinstance(world.clock, StoppedClock)
    world.clock.moment_ms += 86_400_000
    world.crypto.attacks = {"$5": Why.REPLAY}
    await world.give(bot, entries([encrypted("$5")]))

    assert ["event $2 in" in first_day[0], "(bad_mac)" in first_day[1]] == [True, True]
    assert len(first_day) == 2
    assert ["event $5 in" in sentence for sentence in (await _told_of_attacks(world))[2:]] == [
        True
    ]


async def _told_of_attacks(world: World) -> list[str]:
    return [one.sentence for one in await untold(world.database) if "attack" in one.sentence]


async def test_the_same_keys_told_again_and_at_once_give_one_record(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), encrypted("$1"), encrypted("$2")]))
    world.crypto.sessions.add("session")

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(bot.keys_arrived([KEY, KEY]))
    await bot.keys_arrived([KEY])
    await world.restart().keys_arrived([KEY])

    late = await world.events("decryption")
    assert [record["body"] for record in late] == ["clear text of $1", "clear text of $2"]


@dataclass
class GoneDevice:
    """A decryption that finds that our device is no more."""

    has_helpers = False

    async def open_early(self, events: Sequence[EncryptedEvent]) -> Sequence[Early | None]:
        return [None] * len(events)

    async def decrypt(
        self,
        connection: Connection,
        events: Sequence[EncryptedEvent],
        early: Sequence[Early | None] = (),
    ) -> list[Reading]:
        raise DeviceGoneError("The device is gone.")


async def test_a_device_that_is_gone_ends_whatever_noticed_it(world: World) -> None:
    await world.give(world.restart(), entries([*new_room(), encrypted("$1")]))
    world.crypto = cast(ScriptedDecryption, GoneDevice())
    bot = world.restart()

    with pytest.raises(DeviceGoneError):
        await world.give(bot, entries([encrypted("$2")]))
    with pytest.raises(DeviceGoneError):
        await bot.keys_arrived([KEY])
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(60):
            await bot.run()

    assert ended.value.subgroup(StartOverError) is not None


async def test_what_sort_of_account_wrote_is_said_as_far_as_it_is_known(world: World) -> None:
    kinds = {"alice": "person", "x_1": "bridged", "7": "guest", "robot": "bot", "odd": "else"}
    async with world.database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
            " VALUES ($1, 1, $2, 'old')",
            [(f"@{name}:example.org", kind) for name, kind in kinds.items()],
        )
    people = [*(f"@{name}:example.org" for name in kinds), "@new:example.org", "@alice:else.org"]
    text = {"msgtype": "m.text", "body": "said"}
    sent = [event(f"${n}", text, sender=person) for n, person in enumerate(people)]

    await world.give(world.restart(), entries([*new_room(), *sent]))

    said = {r["sender"]: r["sender_kind"] for r in await world.events() if r["body"]}
    assert [said[person] for person in people] == [
        *("human", "bridge_ghost", "guest", "bot", None, None, None)
    ]


OWN_JOIN = state("m.room.member", {"membership": "join"}, key=AUDITBOT, sender=AUDITBOT)
OWN_INVITATION = state("m.room.member", {"membership": "invite"}, key=AUDITBOT)
OWN_LEAVE = state("m.room.member", {"membership": "leave"}, key=AUDITBOT, sender=AUDITBOT)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (new_room(), "before_join"),
        ([*new_room(), OWN_INVITATION], "before_join"),
        ([*new_room(), OWN_JOIN], "no_session"),
        # It was inside before: why a key is missing is another question.
        ([*new_room(), OWN_JOIN, OWN_LEAVE], "no_session"),
        # Of a room that could not be read it is not known who was inside.
        (new_room()[1:], "no_session"),
    ],
)
async def test_what_was_said_before_the_bot_was_in_the_room_is_said_to_be_so(
    world: World, before: list[bytes], why: str
) -> None:
    bot = world.restart()
    await world.give(bot, entries([*before, encrypted("$1")]))
    await world.give(bot, entries([OWN_JOIN]))

    (record,) = [one for one in await world.events() if one["event_id"] == "$1"]
    assert (record["enc_status"], record["enc_error"]) == ("undecryptable", why)

    # A key may come all the same, where the history is shared.
    world.crypto.sessions.add(KEY.session_id)
    await bot.keys_arrived([KEY])
    (read,) = await world.events("decryption")
    assert (read["of_seq"], read["enc_status"]) == (record["seq"], "late")


async def test_another_reason_for_an_unreadable_message_is_kept(world: World) -> None:
    bot = world.restart()
    content = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}
    await world.give(bot, entries([*new_room(), event("$1", content, type="m.room.encrypted")]))

    (record,) = [one for one in await world.events() if one["event_id"] == "$1"]
    assert record["enc_error"] == "malformed"


def own(membership: str, number: int) -> bytes:
    return state(
        "m.room.member",
        {"membership": membership, "number": number},
        key=AUDITBOT,
        sender=AUDITBOT,
    )


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_room_is_asked_for_again_once_the_bot_is_back(world: World, at_once: bool) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room("@gone:example.org"), own("join", 0)]))
    # What a homeserver tells whoever left: the room as it was then.
    left = [*new_room("@gone:example.org"), own("leave", 1)]
    world.rooms.states[ROOM] = [json.loads(body) for body in left]
    back = [own("leave", 1)]
    if not at_once:
        await world.give(bot, entries(back))
        bot = world.restart()
        await world.give(bot, entries([message("$meanwhile")]))
        assert (await world.events())[-1]["audience_id"] is None
        back = []
    # Meanwhile one person went, another one came and the room got another name: nobody told us.
    now = [*new_room("@came:example.org"), own("join", 2), state("m.room.name", {"name": "Attic"})]
    world.rooms.states[ROOM] = [json.loads(body) for body in now]

    await world.give(bot, entries([*back, own("join", 2)]))
    await world.give(bot, entries([message("$after")]))

    said = (await world.events())[-1]
    assert said["event_id"] == "$after"
    assert said["room_name"] == "Attic"
    (listed,) = [
        one for one in await world.events("audience") if one["audience_id"] == said["audience_id"]
    ]
    assert "@came:example.org" in json.dumps(listed)
    assert "@gone:example.org" not in json.dumps(listed)


async def test_a_room_that_the_bot_stays_in_is_not_asked_for_again(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), own("join", 0)]))
    world.rooms.asked.clear()

    await world.give(bot, entries([own("join", 1), message("$1")]))

    assert world.rooms.asked == []


async def test_a_direct_chat_stays_one_after_the_bot_was_out_of_it(world: World) -> None:
    bot = world.restart()
    invited = {"membership": "invite", "is_direct": True}
    chat = [*new_room(), state("m.room.member", invited, key="@bob:example.org"), own("join", 0)]
    await world.give(bot, entries([*chat, own("leave", 1)]))
    world.rooms.states[ROOM] = [
        json.loads(body) for body in [*new_room("@bob:example.org"), own("join", 2)]
    ]

    await world.give(bot, entries([own("join", 2), message("$1")]))

    assert (await world.events())[-1]["is_direct"] is True
