"""The inbox keeps everything once, in order, and readers leave nothing half done."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.clock import SystemClock
from common.database.pool import Connection, Database
from common.errors import PermanentError, StartOverError, TransientError
from common.inbox.aside import ask_for_retry, list_aside
from common.inbox.consumer import (
    BATCH,
    GATHER_SECONDS,
    LOOK_SECONDS,
    Consumer,
    Effect,
    Handler,
    Prepare,
    Retries,
)
from common.inbox.file import open_inbox_file
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.store import Reader, StoredInbox
from tests.support.databases import open_database, sqlite_url

TEST = Reader("test", (EntryKind.EVENT,))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture(params=["one file", "two files"])
async def inbox(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
) -> AsyncIterator[StoredInbox]:
    if request.param == "one file":
        yield StoredInbox(database, SystemClock())
        return
    async with open_inbox_file(sqlite_url(tmp_path), database, SystemClock()) as entries:
        yield StoredInbox(database, SystemClock(), entries=entries)


def event(name: str, body: bytes = b"{}") -> NewEntry:
    return NewEntry(
        kind=EntryKind.EVENT,
        body=body,
        source=Source.TRANSACTION,
        source_pos="1",
        key=f"event:{name}",
    )


def replace_key(entry: NewEntry, key: str) -> NewEntry:
    return msgspec.structs.replace(entry, key=key)


async def everything(inbox: StoredInbox) -> list[Entry]:
    return await inbox.read(0, tuple(EntryKind), limit=1000)


async def test_a_transaction_sent_twice_is_kept_once(inbox: StoredInbox) -> None:
    assert await inbox.append([event("$a"), event("$b")]) == 2
    assert await inbox.append([event("$a"), event("$b")]) == 0

    assert len(await everything(inbox)) == 2


async def test_the_same_id_with_other_content_adds_only_what_is_new(inbox: StoredInbox) -> None:
    await inbox.append([event("$a")])

    assert await inbox.append([event("$a"), event("$c"), event("$c")]) == 1


async def test_an_event_stays_known_after_its_body_is_gone(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a")])
    await _consumer(inbox, database, _keep([])).step()
    await inbox.prune([TEST], older_than_ms=SystemClock().now_ms() + 1)

    assert await everything(inbox) == []
    assert await inbox.append([event("$a")]) == 0


async def test_nothing_is_pruned_that_somebody_has_still_to_read(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a")])
    await _consumer(inbox, database, _keep([])).step()

    slow = Reader("slow", (EntryKind.EVENT,))
    await inbox.prune([TEST, slow], older_than_ms=SystemClock().now_ms() + 1)

    assert len(await everything(inbox)) == 1


async def test_a_reader_with_nothing_to_do_does_not_keep_everything(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a")])
    await _consumer(inbox, database, _keep([])).step()

    idle = Reader("keys", (EntryKind.TO_DEVICE,), "@bot:x")
    await inbox.prune([TEST, idle], older_than_ms=SystemClock().now_ms() + 1)

    assert await everything(inbox) == []


async def test_what_is_for_one_account_waits_for_its_reader_only(inbox: StoredInbox) -> None:
    for_bot = NewEntry(EntryKind.TO_DEVICE, b"{}", Source.SYNC, "s", recipient="@bot:x")
    for_none = NewEntry(EntryKind.TO_DEVICE, b"{}", Source.SYNC, "s", recipient="@other:x")
    await inbox.append([for_bot, for_none])

    reader = Reader("keys", (EntryKind.TO_DEVICE,), "@bot:x")
    await inbox.prune([reader], older_than_ms=SystemClock().now_ms() + 1)

    assert {
        entry.recipient
        for entry in await inbox.read(0, (EntryKind.TO_DEVICE,), limit=9, recipient="@bot:x")
    } == {"@bot:x"}


async def test_entries_come_in_the_order_they_were_given(inbox: StoredInbox) -> None:
    names = [f"${number}" for number in range(450)]
    for start in range(0, 450, 45):
        await inbox.append([event(name, name.encode()) for name in names[start : start + 45]])

    assert [entry.body.decode() for entry in await everything(inbox)] == names


async def test_an_append_that_fails_half_way_keeps_nothing(inbox: StoredInbox) -> None:
    unstorable = replace_key(event("$b"), "event:\ud800")

    with pytest.raises((PermanentError, UnicodeEncodeError)):
        await inbox.append([event("$a"), unstorable])

    assert await everything(inbox) == []
    assert await inbox.append([event("$a")]) == 1


async def test_an_append_that_is_cancelled_leaves_the_inbox_usable(inbox: StoredInbox) -> None:
    for turns in range(30):
        name = f"${turns}"
        async with asyncio.TaskGroup() as group:
            task = group.create_task(inbox.append([event(name)]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        await inbox.append([event(name)])

    assert len(await everything(inbox)) == 30


async def test_a_reader_sees_each_entry_once_with_its_effect(
    inbox: StoredInbox, database: Database
) -> None:
    seen: list[bytes] = []
    consumer = _consumer(inbox, database, _keep(seen))
    await inbox.append([event(f"${number}", str(number).encode()) for number in range(450)])

    while await consumer.step():
        pass

    assert seen == [str(number).encode() for number in range(450)]


async def test_a_crash_before_the_commit_repeats_the_batch_and_nothing_else(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a", b"a")])

    async def crash(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO inbox_cursor (reader, position) VALUES ('half done', 1)"
            )
            raise TransientError("gone")

        return effect

    with pytest.raises(TransientError):
        await _consumer(inbox, database, crash).step()
    seen: list[bytes] = []
    await _consumer(inbox, database, _keep(seen)).step()

    assert seen == [b"a"]
    assert await inbox.cursor("half done") == 0


async def test_the_next_batch_is_prepared_and_each_entry_is_still_dealt_with_once(
    inbox: StoredInbox, database: Database
) -> None:
    names = [f"{number}" for number in range(2 * BATCH + 1)]
    await inbox.append([event(name, name.encode()) for name in names])
    prepared: list[bytes] = []
    seen: list[bytes] = []

    async def prepare(entries: Sequence[Entry], storing: asyncio.Event) -> None:
        prepared.extend(entry.body for entry in entries)
        raise ValueError  # a head start that fails is none, and nothing else

    consumer = _consumer(inbox, database, _keep(seen), prepare)
    async with asyncio.TaskGroup() as group:
        while await consumer.step(group):
            pass

    assert [body.decode() for body in seen] == names
    assert [body.decode() for body in prepared] == names
    assert await inbox.waiting("test", (EntryKind.EVENT,)) == 0


async def test_what_arrives_while_a_batch_is_prepared_is_dealt_with_together(
    inbox: StoredInbox, database: Database
) -> None:
    names = [f"{number}" for number in range(5)]
    await inbox.append([event(names[0], names[0].encode())])
    batches: list[list[str]] = []
    arriving = names[1:]

    async def prepare(entries: Sequence[Entry], storing: asyncio.Event) -> None:
        assert storing.is_set()
        if arriving:
            name = arriving.pop(0)
            await inbox.append([event(name, name.encode())])

    async def handle(entries: Sequence[Entry]) -> Effect:
        batches.append([entry.body.decode() for entry in entries])
        return _nothing

    # On a clock that stands: how long a slow disk takes does not end the batch.
    consumer = replace(_consumer(inbox, database, handle, prepare), clock=SteppingClock())
    assert await consumer.step()
    assert batches == [names]
    assert await consumer.step() is False


async def test_a_batch_does_not_grow_for_as_long_as_something_arrives(
    inbox: StoredInbox, database: Database
) -> None:
    clock = SteppingClock()
    sent = 1
    await inbox.append([event("0", b"0")])
    batches: list[list[str]] = []

    async def prepare(entries: Sequence[Entry], storing: asyncio.Event) -> None:
        nonlocal sent
        clock.seconds += 0.4 * GATHER_SECONDS
        if sent < 20:
            await inbox.append([event(str(sent), str(sent).encode())])
            sent += 1

    async def handle(entries: Sequence[Entry]) -> Effect:
        batches.append([entry.body.decode() for entry in entries])
        return _nothing

    consumer = replace(_consumer(inbox, database, handle, prepare), clock=clock)
    while await consumer.step():
        pass

    assert [name for batch in batches for name in batch] == [str(number) for number in range(20)]
    assert {len(batch) for batch in batches[:-1]} == {4}


async def _nothing(connection: Connection) -> None:
    """Write nothing."""


async def test_what_was_read_ahead_is_not_dealt_with_before_a_batch_that_failed(
    inbox: StoredInbox, database: Database
) -> None:
    names = [f"{number}" for number in range(BATCH + 1)]
    await inbox.append([event(name, name.encode()) for name in names])
    seen: list[bytes] = []
    away = [True]

    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            if away.pop():
                raise TransientError("away")
            seen.extend(entry.body for entry in entries)

        return effect

    async def prepare(entries: Sequence[Entry], storing: asyncio.Event) -> None:
        pass

    consumer = _consumer(inbox, database, handle, prepare)
    async with asyncio.TaskGroup() as group:
        try:
            await consumer.step(group)
        except TransientError:
            away.extend([False] * 3)
        while await consumer.step(group):
            pass

    assert [body.decode() for body in seen] == names


async def test_a_batch_that_could_not_be_read_ahead_is_read_when_its_turn_comes(
    inbox: StoredInbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}" for number in range(2 * BATCH)]
    await inbox.append([event(name, name.encode()) for name in names])
    seen: list[bytes] = []
    reads, read = [0], inbox.read

    async def away_once(*what: Any, **limits: Any) -> list[Entry]:
        reads[0] += 1
        if reads[0] == 2:
            raise TransientError("away")
        return await read(*what, **limits)

    async def prepare(entries: Sequence[Entry], storing: asyncio.Event) -> None:
        pass

    monkeypatch.setattr(inbox, "read", away_once)
    consumer = _consumer(inbox, database, _keep(seen), prepare)
    async with asyncio.TaskGroup() as group:
        while await consumer.step(group):
            pass

    assert reads[0] > 2
    assert [body.decode() for body in seen] == names


@pytest.mark.parametrize(
    "trouble",
    [
        TransientError("the homeserver is away"),
        StartOverError("the device is gone"),
        ExceptionGroup("a task group's", [TransientError("the homeserver is away")]),
    ],
)
async def test_trouble_that_is_no_entrys_fault_sets_nothing_aside(
    inbox: StoredInbox, database: Database, trouble: Exception
) -> None:
    await inbox.append([event("$a", b"a"), event("$b", b"b")])

    async def handle(entries: Sequence[Entry]) -> Effect:
        raise trouble

    with pytest.raises((TransientError, StartOverError)):
        await _consumer(inbox, database, handle).step()

    assert await database.fetchval("SELECT count(*) FROM inbox_set_aside") == 0
    assert await inbox.waiting("test", (EntryKind.EVENT,)) == 2


async def test_what_goes_wrong_in_sqlites_thread_leaves_nothing_and_is_told_as_what_it_is(
    database: Database,
) -> None:
    def half_done(statement: str) -> Callable[[sqlite3.Connection], None]:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO inbox_cursor (reader, position) VALUES ('a', 1)")
            connection.execute(statement)

        return work

    again = "INSERT INTO inbox_cursor (reader, position) VALUES ('a', 2)"
    with pytest.raises(PermanentError):
        await database.run(half_done(again))
    with pytest.raises(TransientError):
        await database.run(half_done("SELECT nothing FROM nowhere"))

    assert await database.fetch("SELECT reader FROM inbox_cursor") == []
    await database.run(half_done("SELECT 1"))
    assert await database.fetchval("SELECT position FROM inbox_cursor WHERE reader = 'a'") == 1


async def test_every_commit_is_on_the_disk_before_it_is_told(database: Database) -> None:
    assert await database.fetchval("PRAGMA synchronous") == 2


async def test_positions_never_appear_out_of_order(inbox: StoredInbox) -> None:
    async with asyncio.TaskGroup() as group:
        for writer in range(10):
            group.create_task(inbox.append([event(f"${writer}-{number}") for number in range(20)]))

    positions = [entry.position for entry in await everything(inbox)]
    assert len(positions) == 200
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("bug", [TypeError, AttributeError, KeyError, PermanentError])
async def test_a_poison_entry_is_set_aside_and_blocks_nobody(
    inbox: StoredInbox, database: Database, bug: type[Exception]
) -> None:
    await inbox.append([event("$a", b"a"), event("$bad", b"poison"), event("$c", b"c")])
    seen: list[bytes] = []

    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            for entry in entries:
                if entry.body == b"poison":
                    raise bug("a sentence")
                seen.append(entry.body)

        return effect

    consumer = _consumer(inbox, database, handle)
    while await consumer.step():
        pass

    assert seen[-1] == b"c"
    rows = await database.fetch("SELECT body, reason FROM inbox_set_aside")
    assert [bytes(row["body"]) for row in rows] == [b"poison"]
    # A bug's own words may quote what somebody wrote; only foreseen ones are kept.
    assert rows[0]["reason"] == ("a sentence" if bug is PermanentError else bug.__name__)
    assert await inbox.waiting("test", (EntryKind.EVENT,)) == 0


async def test_what_was_set_aside_is_tried_again_at_the_start_and_on_request(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$bad", b"poison"), event("$c", b"c")])
    seen: list[bytes] = []
    broken = True

    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            for entry in entries:
                if broken and entry.body == b"poison":
                    raise KeyError("a bug")
                assert (entry.source, entry.source_pos) == (Source.TRANSACTION, "1")
                assert entry.received_ms
                seen.append(entry.body)

        return effect

    clock = SteppingClock()
    consumer, retries = _consumer(inbox, database, handle), Retries(clock)
    while await consumer.step():
        pass
    await retries.look(consumer)  # as at a start
    (aside,) = await list_aside(database)
    assert (aside.reader, aside.reason, aside.attempts) == ("test", "KeyError", 1)

    broken = False
    clock.seconds += LOOK_SECONDS
    await retries.look(consumer)  # nobody has asked for it
    assert b"poison" not in seen
    async with database.transaction() as connection:
        await ask_for_retry(connection)
    await retries.look(consumer)  # it is not time to look
    assert b"poison" not in seen
    clock.seconds += LOOK_SECONDS
    await retries.look(consumer)

    assert seen.count(b"poison") == 1
    assert await list_aside(database) == []
    # The cursor stays where it was: nothing else is dealt with twice.
    assert not await consumer.step()


class SteppingClock(SystemClock):
    """A clock that moves when told to."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def _keep(seen: list[bytes]) -> Handler:
    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            seen.extend(entry.body for entry in entries)

        return effect

    return handle


def _consumer(
    inbox: StoredInbox, database: Database, handle: Handler, prepare: Prepare | None = None
) -> Consumer:
    return Consumer(
        reader="test",
        kinds=(EntryKind.EVENT,),
        handle=handle,
        inbox=inbox,
        database=database,
        clock=SystemClock(),
        prepare=prepare,
    )
