"""Room keys are dealt with before messages, and no trouble with them costs a message."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from common.clock import SystemClock
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceGoneError, SessionRef
from common.database.pool import Connection, Database
from common.errors import PermanentError, StartOverError, TransientError
from common.feeds.device import KEY_KINDS, DeviceKeys
from common.ids import RoomId, UserId
from common.inbox.consumer import Consumer, Handler, Retries
from common.inbox.port import Entry, EntryKind, NewEntry, Source
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixError
from tests.support.databases import open_database, sqlite_url

SESSION = SessionRef(RoomId("!r"), "session")


@dataclass
class FakeCrypto:
    """A machine that has what it is told to have and fails where it is told to fail."""

    maintain_fails: Exception | None = None
    learn_fails: Exception | None = None
    known: set[SessionRef] = field(default_factory=set)

    async def receive(self, conn: Connection, entries: Sequence[Entry]) -> frozenset[SessionRef]:
        return frozenset({SESSION})

    async def maintain(self) -> None:
        if self.maintain_fails is not None:
            raise self.maintain_fails

    async def missing(self, sessions: Collection[SessionRef]) -> list[SessionRef]:
        return [session for session in sessions if session not in self.known]

    async def learn(self, users: Collection[UserId]) -> None:
        if self.learn_fails is not None:
            raise self.learn_fails


@dataclass
class Told:
    """What a bot was told, and how often the homeserver was asked."""

    sessions: list[SessionRef] = field(default_factory=list)
    asked: int = 0
    fails: Exception | None = None

    async def of(self, sessions: Collection[SessionRef]) -> None:
        if self.fails is not None:
            raise self.fails
        self.sessions += sessions

    async def ask(self) -> None:
        self.asked += 1


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def inbox(database: Database) -> StoredInbox:
    inbox = StoredInbox(database, SystemClock())
    await inbox.append([NewEntry(EntryKind.TO_DEVICE, b"{}", Source.SYNC, "s", recipient="@b:x")])
    return inbox


def device(database: Database, inbox: StoredInbox, crypto: FakeCrypto, told: Told) -> DeviceKeys:
    def consumer(handle: Handler) -> Consumer:
        return Consumer(
            reader="keys:@b:x",
            kinds=KEY_KINDS,
            handle=handle,
            inbox=inbox,
            database=database,
            clock=SystemClock(),
            recipient="@b:x",
        )

    return DeviceKeys(
        crypto=cast(CryptoMachine, crypto),
        make_consumer=consumer,
        on_sessions=told.of,
        retries=Retries(SystemClock()),
        catch_up=told.ask,
    )


def message(session_id: str = "session") -> Entry:
    body = json.dumps(
        {
            "type": "m.room.encrypted",
            "room_id": "!r",
            "sender": "@alice:x",
            "content": {"session_id": session_id},
        }
    )
    return Entry(1, EntryKind.EVENT, body.encode(), Source.SYNC, "", "", 0)


async def test_new_sessions_are_told_of_though_the_network_fails(
    database: Database, inbox: StoredInbox
) -> None:
    told = Told()
    keys = device(database, inbox, FakeCrypto(maintain_fails=TransientError("429")), told)

    with pytest.raises(TransientError):
        await keys.settle()

    assert told.sessions == [SESSION]


async def test_sessions_that_could_not_be_told_of_are_told_of_later(
    database: Database, inbox: StoredInbox
) -> None:
    told = Told(fails=TransientError("the database is away"))
    keys = device(database, inbox, FakeCrypto(), told)
    with pytest.raises(TransientError):
        await keys.settle()

    told.fails = None
    await keys.settle()

    assert told.sessions == [SESSION]


@pytest.mark.parametrize(
    "trouble",
    [TransientError("away"), PermanentError("odd"), MatrixError(400, "M_UNKNOWN", "no")],
)
async def test_trouble_with_keys_does_not_keep_a_message_from_being_recorded(
    database: Database, inbox: StoredInbox, trouble: Exception
) -> None:
    for crypto in (FakeCrypto(maintain_fails=trouble), FakeCrypto(learn_fails=trouble)):
        await device(database, inbox, crypto, Told()).before([message()])


async def test_a_device_that_is_gone_makes_the_process_start_over(
    database: Database, inbox: StoredInbox
) -> None:
    keys = device(database, inbox, FakeCrypto(maintain_fails=DeviceGoneError("gone")), Told())

    with pytest.raises(StartOverError):
        await keys.before([message()])


async def test_a_missing_key_is_asked_for_once(database: Database, inbox: StoredInbox) -> None:
    told = Told()
    keys = device(database, inbox, FakeCrypto(), told)

    await keys.before([message(), message()])
    await keys.before([message()])
    await keys.before([message("other")])

    assert told.asked == 2


@pytest.mark.parametrize("session_id", ["nul \u0000", "x" * 10_000, "\u202e"])
async def test_a_session_that_no_database_can_be_asked_for_is_not_asked_for(
    database: Database, inbox: StoredInbox, session_id: str
) -> None:
    told = Told()

    await device(database, inbox, FakeCrypto(), told).before([message(session_id)])

    assert told.asked == 0
