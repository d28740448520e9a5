"""The ledger on real SQLite and real PostgreSQL: exactly once, in order, without a gap."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from auditbot import manifest_facts
from auditbot.operations import erasure
from auditbot.reader.read import read
from auditbot.reader.recheck.comparing import State
from auditbot.signing import Keyring
from auditbot.storage.directory import DirectoryStore
from auditbot.writing import seen
from common.alarms import raise_alarm, untold
from common.clock import SystemClock
from common.config.secret import Secret
from common.crypto.port import SessionRef
from common.database import pool
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.demo.waiting import wait_for
from common.errors import TransientError
from common.inbox.port import Source
from tests.support.databases import open_database
from tests.support.postgres import Postgres
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
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
from tests.unit.auditbot.test_archive import export, manifests_of
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.test_sealed_sessions import BOB, IDENTITIES, Desk
from tests.unit.auditbot.world import AUDITBOT, World

DAY_MS = 86_400_000
KEY = SessionRef(ROOM, "session")


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path, StoppedClock())


async def test_a_stream_begins_with_its_own_record_and_numbers_without_a_gap(
    world: World,
) -> None:
    bot = world.restart()

    await world.give(bot, entries([*new_room(), message("$1")]))
    await world.give(bot, entries([message("$2")]))

    records = await world.records()
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert (records[0]["kind"], records[0]["action"]) == ("control", "export_started")
    assert len(json.loads(records[0]["detail_json"])["config_sha256"]) == 64
    assert len({record["salt"] for record in records}) == len(records)
    assert [record["event_id"] for record in await world.events()][-2:] == ["$1", "$2"]


async def test_each_event_is_recorded_once_however_often_it_comes(world: World) -> None:
    bot = world.restart()
    batch = entries([*new_room(), message("$1"), message("$1"), encrypted("$2")])

    await world.give(bot, batch)
    await world.give(bot, batch)
    await world.give(world.restart(), entries([encrypted("$2"), message("$3"), message("$1")]))

    ids = [record["event_id"] for record in await world.events()]
    assert sorted(ids) == sorted(set(ids))
    assert ids[-3:] == ["$1", "$2", "$3"]
    assert world.crypto.asked == ["$2"]


class PowerCutError(Exception):
    """The transaction did not come to its end."""


async def test_a_transaction_that_fails_leaves_nothing_and_is_repeated_whole(
    world: World,
) -> None:
    bot = world.restart()
    await world.give(bot, entries(new_room()))
    before = await world.records()
    renamed = [state("m.room.name", {"name": "Renamed"}), message("$1"), encrypted("$2")]
    effect = await bot.handle(entries(renamed))

    async def cut_short() -> None:
        async with world.database.transaction() as connection:
            await effect(connection)
            raise PowerCutError

    with pytest.raises(PowerCutError):
        await cut_short()

    assert await world.records() == before
    await world.give(bot, entries([message("$0")]))
    await world.give(bot, entries(renamed))
    events = (await world.events())[-4:]
    assert [event["room_name"] for event in events] == ["Lobby", "Renamed", "Renamed", "Renamed"]
    seqs = [record["seq"] for record in await world.records()]
    assert seqs == list(range(len(seqs)))
    assert await world.database.fetchval("SELECT count(*) FROM audit_pending") == 1


async def test_a_key_that_comes_late_appends_the_clear_text_once(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), encrypted("$1"), encrypted("$2", "other")]))
    await bot.keys_arrived([KEY])
    assert await world.events("decryption") == []

    world.crypto.sessions.add("session")
    await bot.keys_arrived([KEY])
    await bot.keys_arrived([KEY])

    (late,) = await world.events("decryption")
    (first,) = [event for event in await world.events() if event["event_id"] == "$1"]
    assert (first["enc_status"], first["enc_error"]) == ("undecryptable", "before_join")
    assert (late["of_seq"], late["enc_status"]) == (first["seq"], "late")
    assert late["body"] == "clear text of $1"
    assert await world.database.fetchval("SELECT event_id FROM audit_pending") == "$2"


async def test_a_start_reads_what_keys_came_for_meanwhile(world: World) -> None:
    await world.give(
        world.restart(),
        entries([*new_room(), *(encrypted(f"${number:03}") for number in range(250))]),
    )
    world.crypto.sessions.add("session")
    bot = world.restart()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(bot.run())
        await world.until("SELECT count(*) = 0 FROM audit_pending")
        task.cancel()

    store = DirectoryStore(world.directory / "archive")
    late = [item.record async for item in read(store) if item.record["kind"] == "decryption"]
    assert len({record["of_seq"] for record in late}) == len(late) == 250


async def test_a_key_and_its_message_cannot_miss_each_other(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries(new_room()))
    effect = await bot.handle(entries([encrypted("$1")]))

    async with asyncio.TaskGroup() as group, world.database.transaction() as connection:
        await effect(connection)
        # The key is there before this transaction is committed.
        world.crypto.sessions.add("session")
        group.create_task(bot.keys_arrived([KEY]))
        # Time to come as far as it can; too little would hide a mistake, never invent one.
        await asyncio.sleep(0.05)

    assert [record["body"] for record in await world.events("decryption")] == ["clear text of $1"]


async def test_without_a_destination_nothing_is_written(world: World) -> None:
    world.destination = None
    bot = world.restart()

    await world.give(bot, entries([*new_room(), encrypted("$1")]))
    await bot.keys_arrived([KEY])

    for table in ("lines", "seen", "pending", "room", "stream"):
        assert await world.database.fetchval(f"SELECT count(*) FROM audit_{table}") == 0
    assert world.crypto.asked == []


async def test_another_destination_is_another_stream_and_no_event_is_in_both(
    world: World,
) -> None:
    await world.give(world.restart(), entries([*new_room(), message("$1")]))
    world.destination = f"file:{world.directory / 'elsewhere'}"
    world.advance(1000)

    await world.give(world.restart(), entries([message("$1"), message("$2")]))

    records = await world.records()
    old, new = dict.fromkeys(record["stream"] for record in records)
    assert [r["action"] for r in records if r["stream"] == old][-1] == "export_stopped"
    started = [record for record in records if record["stream"] == new]
    assert (started[0]["seq"], started[0]["action"]) == (0, "export_started")
    assert json.loads(started[0]["detail_json"])["previous_stream"] == old
    assert [r["event_id"] for r in started if r["kind"] == "event"] == ["$2"]
    assert started[-1]["room_name"] == "Lobby"


async def test_a_cleared_destination_ends_the_stream_and_a_new_one_names_the_hole(
    world: World,
) -> None:
    await world.give(world.restart(), entries([*new_room(), encrypted("$1")]))
    configured, world.destination = world.destination, None
    bot = world.restart()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bot.run())
        await world.until("SELECT count(*) > 0 FROM audit_segment WHERE state = 'uploaded'")
        task.cancel()
    store = DirectoryStore(world.directory / "archive")
    found = [item.record async for item in read(store)]
    assert found[-1]["action"] == "export_stopped"

    world.destination = configured
    world.advance(60_000)
    world.crypto.sessions.add("session")
    bot = world.restart()
    await world.give(bot, entries([message("$2")]))
    await bot.keys_arrived([KEY])

    records = await world.records()
    detail = json.loads(records[0]["detail_json"])
    assert detail["previous_stream"] == found[0]["stream"]
    assert detail["previous_stopped_ms"] == NOON + 10
    # Nobody followed the room meanwhile: what it was called then is not claimed.
    assert records[1]["room_name"] is None
    assert json.loads(records[-1]["detail_json"]) == {"of_stream": found[0]["stream"]}


async def test_names_and_members_outlive_a_restart(world: World) -> None:
    await world.give(world.restart(), entries(new_room("@bob:example.org")))

    await world.give(world.restart(), entries([message("$1")]))

    record = (await world.events())[-1]
    assert (record["room_name"], record["sender_name"]) == ("Lobby", "Alice")
    assert record["audience_count"] == 2
    assert world.rooms.asked == []


async def test_what_the_second_feed_finds_does_not_turn_the_room_back(world: World) -> None:
    bot = world.restart()
    newer = state("m.room.name", {"name": "newer"}, origin_server_ts=NOON + 9)
    await world.give(bot, entries([*new_room(), newer]))
    older = state("m.room.name", {"name": "older"}, origin_server_ts=NOON + 1)
    found = [replace(entry, source=Source.MESSAGES) for entry in entries([older])]

    await world.give(bot, [*found, *entries([message("$1")])])

    late, current = (await world.events())[-2:]
    assert (late["source"], current["source"]) == ("messages", "transaction")
    assert current["room_name"] == "newer"


async def test_a_room_that_was_there_before_is_asked_for_once(world: World) -> None:
    world.rooms.states[ROOM] = [json.loads(body) for body in new_room()]
    bot = world.restart()

    await world.give(bot, entries([message("$1")]))
    await world.give(bot, entries([message("$2")]))
    await world.give(world.restart(), entries([message("$3")]))

    assert [record["room_name"] for record in await world.events()] == ["Lobby"] * 3
    assert world.rooms.asked == [ROOM]


async def test_a_room_that_is_not_readable_is_recorded_and_asked_for_again_on_joining(
    world: World,
) -> None:
    bot = world.restart()
    await world.give(bot, entries([message("$1")]))
    await world.give(bot, entries([message("$2")]))
    assert world.rooms.asked == [ROOM]

    world.rooms.states[ROOM] = [json.loads(body) for body in new_room()]
    join = state("m.room.member", {"membership": "join"}, key=AUDITBOT, sender=AUDITBOT)
    await world.give(bot, entries([join, message("$3")]))

    events = await world.events()
    assert [event["room_name"] for event in events] == [None, None, "Lobby", "Lobby"]
    assert [event["audience_count"] for event in events] == [None, None, 1, 2]
    assert events[2]["sender_kind"] == "bot"


async def test_an_audience_is_listed_once_a_day(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), message("$1")]))
    await world.give(bot, entries([message("$2")]))
    await world.give(world.restart(), entries([message("$3")]))
    assert len(await world.events("audience")) == 1

    await world.give(bot, entries([message("$4"), message("$5")], NOON + DAY_MS))

    listed = await world.events("audience")
    assert len(listed) == 2
    assert {record["audience_id"] for record in listed} == {
        (await world.events())[-1]["audience_id"]
    }


async def test_an_edit_is_judged_by_who_wrote_the_original(world: World) -> None:
    bot = world.restart()
    await world.give(bot, entries([*new_room(), message("$1")]))
    content = {"body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}

    await world.give(
        bot,
        entries([event("$2", content), event("$3", content, sender="@mallory:example.org")]),
    )

    assert [record["edit_valid"] for record in (await world.events())[-2:]] == [True, False]


async def test_hostile_events_are_recorded_and_the_next_one_too(world: World) -> None:
    hostile = [
        b"",
        b"[]",
        b'{"event_id":1}',
        message("$nul\0", room_id="!a\0b", sender="@x\0:y"),
        message("$" + "x" * 60_000, room_id="!" + "y" * 60_000),
        b'{"event_id":"$s\\ud800","room_id":"!s\\ud800","type":"m.room.message","content":{}}',
        event("$enc1", {"session_id": ["x"]}, type="m.room.encrypted"),
        event("$enc2", [], type="m.room.encrypted"),
        encrypted("$enc3", session_id="s\0" + "z" * 60_000),
        state("m.room.member", {"membership": "join"}, key="u\0" * 10_000),
        state("m.room.name", {"name": {"a": "b"}}),
        message("$deep").replace(b'"hello"', b"[" * 5000 + b"]" * 5000),
    ]
    world.crypto = ScriptedDecryption(sessions={"nothing"})
    bot = world.restart()

    await world.give(bot, entries([*new_room(), *hostile, message("$last")]))
    await world.give(bot, entries(hostile))

    records = await world.events()
    assert len(records) == len(new_room()) + len(hostile) + 1
    assert records[-1]["event_id"] == "$last"


async def test_what_runs_stores_an_event_soon_after_its_segments_age(world: World) -> None:
    world.clock, world.max_age = SystemClock(), 0.2
    bot = world.restart()
    store = DirectoryStore(world.directory / "archive")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(bot.run())
        waits: list[float] = []
        # What else the machine does may hold up one or the other.
        while sum(wait < 1.0 for wait in waits) < 3:
            assert len(waits) < 20, waits
            began, name = world.clock.monotonic(), f"${len(waits)}"
            await world.give(bot, entries([message(name)], world.clock.now_ms()))
            await wait_for(partial(holds, store, name), 60, "the event in the archive")
            waits.append(world.clock.monotonic() - began)
        task.cancel()

    assert await world.database.fetchval("SELECT count(*) FROM audit_lines") == 0


async def test_a_stop_stores_what_is_there_and_a_start_goes_on_counting(world: World) -> None:
    store = DirectoryStore(world.directory / "archive")
    for number in range(3):
        bot = world.restart()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(bot.run())
            await world.give(bot, entries([message(f"${number}")]))
            task.cancel()

        assert f"${number}" in await archived(store)

    seqs = [item.record["seq"] async for item in read(store)]
    assert seqs == list(range(len(seqs)))


async def holds(store: DirectoryStore, event_id: str) -> bool:
    return event_id in await archived(store)


async def archived(store: DirectoryStore) -> list[str]:
    return [
        item.record["event_id"] async for item in read(store) if item.record["kind"] == "event"
    ]


async def test_a_table_that_fills_is_not_read_from_end_to_end(postgres: Postgres) -> None:
    """A plan that was made while it was empty would be kept until autovacuum looks at it."""
    url = (await postgres.create_database()).url
    names = [f"${number}" for number in range(400)]
    database = Database(url, upgrade_table(), max_connections=1)
    await database.start()
    try:
        async with database.transaction() as connection:
            await connection.execute("ALTER TABLE audit_seen SET (autovacuum_enabled = false)")
        for _ in range(10):
            async with database.transaction() as connection:
                assert await seen(connection, "event", names) == {}
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_seen (kind, event_id, sub_key, stream, seq)"
                " SELECT 'event', '$' || n, '', 's', n FROM generate_series(0, 19999) AS n"
            )
        before = await _rows_read(database)
        for _ in range(10):
            async with database.transaction() as connection:
                assert set(await seen(connection, "event", names)) == set(names)

        assert await _rows_read(database) - before < 20_000  # 10 × 400, and not 10 × 20,000
    finally:
        await database.stop()


async def _rows_read(database: Database) -> int:
    """Return how many rows of the table were looked at, in sequence or by an index."""
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await database.fetchval(
            "SELECT t.seq_tup_read + sum(i.idx_tup_read) FROM pg_stat_user_tables t"
            " JOIN pg_stat_user_indexes i USING (relid) WHERE t.relname = 'audit_seen'"
            " GROUP BY t.seq_tup_read"
        )
    )


async def test_counting_a_large_table_may_take_longer_than_any_other_statement(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody could be erased where very much is archived."""
    monkeypatch.setattr(pool, "STATEMENT_SECONDS", 0.5)
    async with open_database((await postgres.create_database()).url) as database:
        with pytest.raises(TransientError):
            await database.fetchval("SELECT count(*) FROM pg_sleep(1)")
        assert await database.count("SELECT count(*) FROM pg_sleep(1)") == 1


async def test_two_at_the_same_moment_make_one_key_and_are_both_told(postgres: Postgres) -> None:
    """PostgreSQL runs them side by side: neither sees what the other has not committed yet."""
    keyring = Keyring(Secret("pickle key"))
    async with open_database((await postgres.create_database()).url) as database:
        both_in = asyncio.Barrier(2)

        async def key() -> str:
            async with database.transaction() as connection:
                await both_in.wait()
                made = await keyring.current(connection, now_ms=NOON)
                return made.key_id

        async def alarm(words: str) -> None:
            async with database.transaction() as connection:
                # The clock was set back: by it alone, both would come before the one that is there.
                await raise_alarm(connection, words, now_ms=NOON - 1)
                await both_in.wait()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            keys = [group.create_task(key()) for _ in range(2)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for words in ("one", "two"):
                group.create_task(alarm(words))

        first, second = (task.result() for task in keys)
        assert first == second
        assert await database.fetchval("SELECT count(*) FROM audit_signing_key") == 1
        sentences = [one.sentence for one in await untold(database)]
        assert first in sentences[0]
        assert sorted(sentences[1:]) == ["one", "two"]


_LISTED_LATER = {
    "media": (
        "INSERT INTO audit_object (place, id, object_key, version_id, sha256, stored_bytes,"
        " clear_sha256, clear_bytes, mime, stream, stored_ms)"
        " VALUES ('p', $2, $2, NULL, 'hash', 1, 'clear', 1, NULL, $1, 0)"
    ),
    "stamps": (
        "INSERT INTO audit_stamp (object_key, stream, body, sha256, state)"
        " VALUES ($2, $1, '', 'hash', 'stored')"
    ),
    "day_keys": (
        "INSERT INTO audit_day_key (stream, day, public_key, object_key, sha256, size, state)"
        " SELECT $1, count(*), 'public', $2, 'hash', 1, 'stored' FROM audit_day_key"
    ),
    "content_keys": (
        "INSERT INTO audit_content_key (object_key, stream, scope, number, public_key, sha256, size,"
        " state) SELECT $2, $1, 'scope', count(*), 'public', 'hash', 1, 'stored'"
        " FROM audit_content_key"
    ),
    "statements": (
        "INSERT INTO audit_statement (object_key, destination, stream, body, sha256, signature,"
        " made_ms, state) SELECT $2, destination, $1, '', 'hash', '', 0, 'stored'"
        " FROM audit_stream WHERE id = $1"
    ),
}


async def test_what_is_stored_while_a_manifest_is_made_is_listed_by_the_next_one(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task, or a command, commits between what is asked and what is marked."""
    clock = StoppedClock(NOON)
    async with open_database((await postgres.create_database()).url) as database:
        await export(database, 1)
        stream = str(await database.fetchval("SELECT id FROM audit_stream"))
        manifests = manifests_of(database, clock)
        last_question = manifest_facts.waiting

        async def add(number: int) -> None:
            async with database.transaction() as other:
                for name, insert in _LISTED_LATER.items():
                    await other.execute(insert, stream, f"{name}-{number}")

        async def meanwhile(*arguments: Any) -> Any:
            await add(1)
            async with database.transaction() as other:
                # An attachment that is stored anew has its key, in another version.
                await other.execute(
                    "UPDATE audit_object SET version_id = 'new' WHERE object_key = 'media-0'"
                )
            return await last_question(*arguments)

        await add(0)
        with monkeypatch.context() as patch:
            patch.setattr(manifest_facts, "waiting", meanwhile)
            await manifests.make_due()
        clock.moment_ms += 900_000
        await manifests.make_due()

        rows = await database.fetch("SELECT body FROM audit_manifest ORDER BY number")
    listed = [json.loads(row["body"]) for row in rows]
    for name in _LISTED_LATER:
        keys = [[one["key"] for one in manifest[name]] for manifest in listed]
        again = ["media-0"] if name == "media" else []
        assert keys == [[f"{name}-0"], [*again, f"{name}-1"]]
    assert [one["version_id"] for one in listed[1]["media"]] == ["new", None]


async def test_a_manifest_marks_however_much_it_lists(database: Database) -> None:
    clock = StoppedClock(NOON)
    await export(database, 1)
    stream = str(await database.fetchval("SELECT id FROM audit_stream"))
    manifests = manifests_of(database, clock)
    async with database.transaction() as connection:
        for number in range(450):
            await connection.execute(_LISTED_LATER["media"], stream, f"media-{number}")

    await manifests.make_due()
    clock.moment_ms += 900_000
    await manifests.make_due()

    rows = await database.fetch("SELECT body FROM audit_manifest ORDER BY number")
    assert [len(json.loads(row["body"])["media"]) for row in rows] == [450, 0]


async def test_room_keys_of_sealed_content_go_with_their_person(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.seal, office.world.erasable = "content", "person"
    office.world.session_keys = True
    desk = Desk(office)
    office.start()
    await desk.say(
        *new_room(BOB),
        desk.alice.say("$a0", "said"),
        desk.bob.say("$b0", "said", sender=BOB),
    )

    found = await erasure.survey_person(office.desk, ALICE)
    await erasure.apply(office.desk, found, reason="x")
    await desk.say(desk.alice.say("$a1", "later"), desk.bob.say("$b1", "later", sender=BOB))

    kept = sorted((one["sender"], one["first_index"]) for one in desk.opened())
    assert kept == [(ALICE, 1), (BOB, 0)]
    assert (await desk.rechecks(tmp_path / "cache"))["$a1"] is State.AGREES
