"""A disk that fills up: the homeserver is asked to wait, and what was taken is kept."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from common.alarms import untold
from common.appservice.receiver import Receiver
from common.config.secret import Secret
from common.database.pool import Database
from common.inbox.port import EntryKind
from common.inbox.space import Space
from common.inbox.store import StoredInbox
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import StoppedClock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def test_the_homeserver_keeps_what_there_is_no_room_for(
    database: Database, tmp_path: Path
) -> None:
    clock, free = StoppedClock(), [100]
    space = Space(tmp_path, 50, database, clock, lambda _: free[0])
    inbox = StoredInbox(database, clock, space)
    receiver = Receiver(inbox, Secret("token"), (), 2**20, lambda: True)
    headers = {"Authorization": "Bearer token"}

    async with TestServer(receiver.application()) as server, aiohttp.ClientSession() as session:

        async def push(number: int) -> int:
            body = {"events": [{"event_id": f"${number}"}]}
            url = server.make_url(f"/_matrix/app/v1/transactions/{number}")
            async with session.put(url, json=body, headers=headers) as answer:
                return answer.status

        statuses = [await push(1)]
        free[0] = 49
        statuses += [await push(2), await push(2)]
        free[0] = 50
        statuses += [await push(2)]

    assert statuses == [200, 503, 503, 200]
    kept = await inbox.read(0, (EntryKind.EVENT,), limit=10)
    assert [entry.body for entry in kept] == [b'{"event_id": "$1"}', b'{"event_id": "$2"}']
    full, again = [alarm.sentence for alarm in await untold(database)]
    assert "nearly full" in full
    assert "again" in again
