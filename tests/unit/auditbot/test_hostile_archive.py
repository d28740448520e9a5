"""Promise 4: a hostile message changes nothing but its own record, and DuckDB reads every object."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import encrypted, event, message, new_room
from tests.unit.auditbot.test_hostile import DEEP, HOSTILE, UNPARSABLE
from tests.unit.auditbot.test_operations import Office

LARGE = {
    "10 MB": json.dumps(
        {"type": "m.room.message", "content": {"body": "x" * 10_000_000}}
    ).encode(),
    "1000 deep": b'{"type":"m.room.message","content":{"body":'
    + b"[" * 1000
    + b"]" * 1000
    + b"}}",
    "control characters": json.dumps(
        {"type": "m.room.message", "content": {"body": "".join(map(chr, range(32))) * 500}}
    ).encode(),
    "line separators": json.dumps(
        {"type": "m.room.message", "content": {"body": "a\u2028b\u2029c\x85d\r\ne"}},
        ensure_ascii=False,
    ).encode(),
    "integers": b'{"type":"m.room.message","content":{"body":"ab","n":[9007199254740993,'
    b"99999999999999999999,-1e-400,1e999]}}",
    "the same name twice": b'{"type":"m.room.message","content":{"body":"a","body":"b"},"type":"x"}',
}
CORPUS = {**HOSTILE, **UNPARSABLE, **LARGE}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def hostile_events() -> dict[str, bytes]:
    """Return the corpus as events that a homeserver might push."""
    found: dict[str, bytes] = {}
    for number, (name, value) in enumerate(DEEP.items()):
        body = message(f"$deep{number}").replace(b'"hello"', value)
        found[name] = body
    for number, clear in enumerate(HOSTILE.values()):
        inner = clear.removeprefix(b"{").removesuffix(b"}")
        head = (
            b'{"event_id":"$clear%d","room_id":"!room","sender":"@eve:example.org",'
            b'"origin_server_ts":1764000000000,' % number
        )
        found[f"clear {number}"] = head + inner + b"}"
    return found


async def test_duckdb_reads_every_object_and_the_neighbours_are_untouched(
    database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.start()
    said = 0
    await office.say(*new_room("@bob:example.org"))
    for number, (name, payload) in enumerate(CORPUS.items()):
        office.world.crypto.payloads[f"$hostile{number}"] = payload
        await office.say(
            message(f"$before{number}", f"before {name}"),
            encrypted(f"$hostile{number}"),
            message(f"$behind{number}", f"behind {name}"),
        )
        said += 3
        if number % 4 == 0:
            await office.store()
    for name, body in hostile_events().items():
        await office.say(message(f"$b {name}"), body, message(f"$a {name}"))
        said += 3
    await office.say(event("$last", {"msgtype": "m.text", "body": "the last word"}))
    await office.store()

    archive = tmp_path / "archive"
    folder = archive / "v1/example.org"
    options = Options(now_ms=office.world.clock.now_ms(), destination=f"file:{archive}")
    (result,) = await verify(DirectoryPlace(archive), options)
    assert not result.findings.of(Severity.WRONG)
    records = office.check().records
    with duckdb.connect() as asked:
        asked.execute(f"SET file_search_path = '{folder}'")
        asked.execute((folder / "sql/duckdb.sql").read_text())
        # Each object by itself, and all of them together.
        for path in folder.glob("events/*/*.zst"):
            of_one = asked.execute(f"SELECT count(*) FROM read_json('{path}')").fetchone()
            assert of_one is not None
            assert of_one[0] > 0
        counted = asked.execute("SELECT count(*), count(DISTINCT seq) FROM records").fetchone()
        bodies = dict(asked.execute("SELECT event_id, body FROM messages").fetchall())
        (exact,) = asked.execute(
            "SELECT count(*) FROM records WHERE event_id LIKE '$hostile%'"
            " AND (raw_b64 IS NOT NULL OR event_json IS NOT NULL)"
        ).fetchall()

    assert counted == (len(records), len(records))
    assert exact == (len(CORPUS),)
    for number, name in enumerate(CORPUS):
        assert bodies[f"$before{number}"] == f"before {name}"
        assert bodies[f"$behind{number}"] == f"behind {name}"
    assert bodies["$last"] == "the last word"
    assert len([one for one in records if one["kind"] == "event"]) == said + 1 + 4
