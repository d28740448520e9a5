"""The edge: right status, nothing lost, nothing doubled, and alive afterwards."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.appservice.receiver import Receiver
from common.appservice.tally import Tally
from common.clock import SystemClock
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.process import LOOPBACK
from common.demo.servers import free_port
from common.ids import UserId
from common.inbox.port import EntryKind
from common.inbox.store import StoredInbox
from tests.support.databases import open_database, sqlite_url

TOKEN = "hs_tøken"
LIMIT = 8 * 2**20


@dataclass(frozen=True)
class Edge:
    """A listening receiver and what stands behind it."""

    url: str
    session: aiohttp.ClientSession
    inbox: StoredInbox
    database: Database
    tally: Tally

    async def put(self, txn_id: str, body: bytes, *, token: str | None = TOKEN) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.session.put(
            f"{self.url}/_matrix/app/v1/transactions/{txn_id}", data=body, headers=headers
        ) as response:
            assert response.content_type == "application/json"
            await response.json()
            return response.status

    async def kept(self) -> list[str]:
        entries = await self.inbox.read(0, tuple(EntryKind), limit=10_000)
        return [json.loads(entry.body)["event_id"] for entry in entries]


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with open_database(sqlite_url(tmp_path)) as database:
        inbox, tally = StoredInbox(database, SystemClock()), Tally(database, SystemClock())
        receiver = Receiver(
            inbox=inbox,
            hs_token=Secret(TOKEN),
            accounts={UserId("@adminbot:x")},
            max_body_bytes=LIMIT,
            ready=lambda: True,
            support=partial(
                database.fetchval,
                "SELECT value FROM admin_memory WHERE name = 'support-contact'",
            ),
            tally=tally,
        )
        runner = web.AppRunner(receiver.application())
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, LOOPBACK, port).start()
        async with aiohttp.ClientSession() as session:
            yield Edge(f"http://{LOOPBACK}:{port}", session, inbox, database, tally)
        await runner.cleanup()


def body(*events: object) -> bytes:
    return json.dumps({"events": events}).encode()


def event(name: str, **more: object) -> dict[str, object]:
    return {"event_id": name, "type": "m.room.message", **more}


async def test_a_transaction_sent_twice_is_acknowledged_twice_and_kept_once(edge: Edge) -> None:
    assert await edge.put("1", body(event("$a"))) == 200
    assert await edge.put("1", body(event("$a"))) == 200

    assert await edge.kept() == ["$a"]


async def test_what_was_stored_is_counted_and_nothing_else(edge: Edge) -> None:
    assert await edge.put("1", body(event("$a"))) == 200
    assert await edge.put("1", body(event("$a"))) == 200
    assert await edge.put("2", b"no JSON") == 400
    assert await edge.put("3", body()) == 200

    await edge.tally.save()
    (row,) = await edge.database.fetch("SELECT * FROM appservice_transaction")
    assert (row["seen"], row["repeated"], row["skipped"]) == (3, 1, 1)


async def test_an_event_pushed_again_under_another_transaction_is_kept_once(edge: Edge) -> None:
    assert await edge.put("1", body(event("$a"))) == 200
    assert await edge.put("2", body(event("$a"), event("$b"))) == 200

    assert await edge.kept() == ["$a", "$b"]


async def test_no_acknowledgement_when_the_commit_fails_and_nothing_is_lost(edge: Edge) -> None:
    async with edge.database.transaction() as connection:
        await connection.execute("ALTER TABLE inbox_entry RENAME TO away")

    assert await edge.put("1", body(event("$a"))) == 503

    async with edge.database.transaction() as connection:
        await connection.execute("ALTER TABLE away RENAME TO inbox_entry")
    assert await edge.put("1", body(event("$a"))) == 200
    assert await edge.kept() == ["$a"]


@pytest.mark.parametrize(
    ("what", "status"),
    [
        (b"{not json", 400),
        (b"[]", 400),
        (b"{'events': []}", 400),
        (b'{"events": {"a": 1}}', 400),
        (b"[" * 200_000, 400),
        (b'{"events": []}', 200),
        (b"{}", 200),
    ],
)
async def test_what_is_no_transaction_is_refused_and_the_next_one_is_kept(
    edge: Edge, what: bytes, status: int
) -> None:
    assert await edge.put("1", what) == status

    assert await edge.put("2", body(event("$after"))) == 200
    assert await edge.kept() == ["$after"]


async def test_events_that_a_typed_parser_would_refuse_are_kept(edge: Edge) -> None:
    deep: object = 1
    for _ in range(100):
        deep = {"a": deep}
    odd = [
        event("$1", content="not an object"),
        event("$2", content={"m.relates_to": "a string"}),
        event("$3", type=5, sender=None, room_id=[]),
        event("$4", type="m.room.encrypted", content={}),
        event("$5", type="m.room.member", content={"membership": 7}),
        event("$6", content=deep),
        event("$7", content={"body": "nul \u0000, bidi \u202e, lone \ud800"}),
        event("$8", origin_server_ts=10**40),
    ]

    assert await edge.put("1", body(*odd)) == 200

    assert await edge.kept() == [f"${number}" for number in range(1, 9)]


async def test_a_full_transaction_of_the_largest_events_is_kept(edge: Edge) -> None:
    big = [event(f"${number}", content={"body": "x" * 60_000}) for number in range(100)]

    assert await edge.put("1", body(*big)) == 200

    assert len(await edge.kept()) == 100


async def test_more_than_the_limit_is_refused_and_the_process_lives(edge: Edge) -> None:
    assert await edge.put("1", b" " * (LIMIT + 1)) == 413

    assert await edge.put("2", body(event("$a"))) == 200


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("", 401), ("wrong", 403), ("hs_tøke", 403), ("hs_tøkenn", 403)],
)
async def test_a_wrong_token_is_refused_and_nothing_is_kept(
    edge: Edge, token: str | None, status: int
) -> None:
    assert await edge.put("1", body(event("$a")), token=token) == status

    assert await edge.kept() == []


async def test_a_token_in_the_query_opens_nothing(edge: Edge) -> None:
    async with edge.session.put(
        f"{edge.url}/_matrix/app/v1/transactions/1",
        params={"access_token": TOKEN},
        data=body(event("$a")),
    ) as response:
        assert response.status == 401

    assert await edge.kept() == []


async def test_a_wrong_token_is_refused_before_the_body_is_read(edge: Edge) -> None:
    assert await edge.put("1", b" " * (LIMIT + 1), token="wrong") == 403


async def test_queries_and_health(edge: Edge) -> None:
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    expected = {
        ("POST", "/_matrix/app/v1/ping"): 200,
        ("GET", "/_matrix/app/v1/users/@adminbot:x"): 200,
        ("GET", "/_matrix/app/v1/users/@nobody:x"): 404,
        ("GET", "/_matrix/app/v1/rooms/%23room:x"): 404,
        ("GET", "/health"): 200,
    }

    for (method, path), status in expected.items():
        async with edge.session.request(method, edge.url + path, headers=authorized) as answer:
            assert (path, answer.status) == (path, status)
    async with edge.session.get(f"{edge.url}/_matrix/app/v1/users/@adminbot:x") as answer:
        assert answer.status == 401
    async with edge.session.get(f"{edge.url}/health") as answer:
        assert answer.status == 200


async def test_whom_to_write_to_is_told_to_everybody_and_nothing_else_is(edge: Edge) -> None:
    url = f"{edge.url}/.well-known/matrix/support"
    async with edge.session.get(url) as answer:
        assert answer.status == 404
    async with edge.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO admin_memory (name, value) VALUES ('support-contact', '{}'), ('x', 'y')"
        )

    async with edge.session.get(url) as answer:
        assert (answer.status, await answer.text()) == (200, "{}")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.content_type == "application/json"
    async with edge.session.get(f"{edge.url}/.well-known/matrix/x") as answer:
        assert answer.status == 401
