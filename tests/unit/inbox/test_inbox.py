"""The inbox keeps everything once, in order, and readers leave nothing half done."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.inbox.consumer import Consumer, Effect, Handler
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.store import StoredInbox
from tests.support.databases import open_database, sqlite_url


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
def inbox(database: Database) -> StoredInbox:
    return StoredInbox(database, SystemClock())


def event(name: str, body: bytes = b"{}") -> NewEntry:
    return NewEntry(
        kind=EntryKind.EVENT,
        body=body,
        source=Source.TRANSACTION,
        source_pos="1",
        key=f"event:{name}",
    )


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
    await inbox.prune(["test"], older_than_ms=SystemClock().now_ms() + 1)

    assert await everything(inbox) == []
    assert await inbox.append([event("$a")]) == 0


async def test_nothing_is_pruned_that_somebody_has_still_to_read(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a")])
    await _consumer(inbox, database, _keep([])).step()

    await inbox.prune(["test", "slow"], older_than_ms=SystemClock().now_ms() + 1)

    assert len(await everything(inbox)) == 1


async def test_entries_come_in_the_order_they_were_given(inbox: StoredInbox) -> None:
    names = [f"${number}" for number in range(450)]
    for start in range(0, 450, 45):
        await inbox.append([event(name, name.encode()) for name in names[start : start + 45]])

    assert [entry.body.decode() for entry in await everything(inbox)] == names


async def test_a_failed_commit_keeps_nothing(inbox: StoredInbox, database: Database) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        async with inbox.appending([event("$a")]):
            raise RuntimeError("power cut")

    assert await everything(inbox) == []
    assert await inbox.append([event("$a")]) == 1


async def test_a_cancelled_transaction_leaves_the_database_usable(
    inbox: StoredInbox, database: Database
) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        async with inbox.appending([event("$a")]):
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(hang())
        await inside.wait()
        task.cancel()

    assert await inbox.append([event("$a")]) == 1


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
            await connection.execute("INSERT INTO inbox_seen (key) VALUES ('half done')")
            raise TransientError("gone")

        return effect

    with pytest.raises(TransientError):
        await _consumer(inbox, database, crash).step()
    seen: list[bytes] = []
    await _consumer(inbox, database, _keep(seen)).step()

    assert seen == [b"a"]
    assert await database.fetchval("SELECT 1 FROM inbox_seen WHERE key = 'half done'") is None


async def test_a_poison_entry_is_set_aside_and_blocks_nobody(
    inbox: StoredInbox, database: Database
) -> None:
    await inbox.append([event("$a", b"a"), event("$bad", b"poison"), event("$c", b"c")])
    seen: list[bytes] = []

    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            for entry in entries:
                if entry.body == b"poison":
                    raise TypeError("what somebody wrote")
                seen.append(entry.body)

        return effect

    consumer = _consumer(inbox, database, handle)
    while await consumer.step():
        pass

    assert seen[-1] == b"c"
    rows = await database.fetch("SELECT body, reason FROM inbox_set_aside")
    assert [(bytes(row["body"]), row["reason"]) for row in rows] == [(b"poison", "TypeError")]
    assert await inbox.waiting("test", (EntryKind.EVENT,)) == 0


def _keep(seen: list[bytes]) -> Handler:
    async def handle(entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            seen.extend(entry.body for entry in entries)

        return effect

    return handle


def _consumer(inbox: StoredInbox, database: Database, handle: Handler) -> Consumer:
    return Consumer(
        reader="test",
        kinds=(EntryKind.EVENT,),
        handle=handle,
        inbox=inbox,
        database=database,
        clock=SystemClock(),
    )
