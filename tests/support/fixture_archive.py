"""``python -m tests.support.fixture_archive``: an archive of this version, kept for later readers.

It is run once for each release (after the version was set, before it is tagged); what it wrote then
is never written anew, for it stands for the archives that are out there. Steward's own writer makes
it, in three forms: plain, whole segments encrypted, and the records' content alone sealed, both to
age identities of its own, which open nothing else and lie beside it.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import msgspec
import pyrage

from auditbot.pipeline.segment import DAY_MS
from common.database.pool import Database
from common.inbox.aside import dealt_with, set_aside
from common.inbox.port import Entry, EntryKind, Source
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import (
    NOON,
    ROOM,
    encrypted,
    entries,
    event,
    message,
    new_room,
    state,
)
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

FOLDER = Path(__file__).parents[1] / "fixtures" / "archives"
FORMS = ("plain", "sealed", "content")


async def write(folder: Path) -> None:
    """Write every form below a folder that is empty, and what a reader has to find in them."""
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    (folder / "identities.txt").write_text(
        "# For tests alone: these open nothing but the archives beside them.\n"
        + "".join(f"{one}\n" for one in identities)
    )
    recipients = tuple(str(one.to_public()) for one in identities)
    for form in FORMS:
        with tempfile.TemporaryDirectory(prefix="steward-fixture-") as name:
            async with open_database(sqlite_url(Path(name))) as database:
                await _write_form(database, Path(name), folder, form, recipients)


async def _write_form(
    database: Database, work: Path, folder: Path, form: str, recipients: tuple[str, ...]
) -> None:
    office = Office(database, work)
    if form != "plain":
        office.world.recipients = recipients
        office.world.session_keys = form == "sealed"
        office.world.erasable = "person" if form == "content" else True
        office.world.seal = "content" if form == "content" else "segments"
    office.start()
    await _tell(office, database)
    shutil.copytree(work / "archive", folder / form)
    if form == "plain":
        checked = office.check()
        facts = {
            "now_ms": office.world.clock.now_ms(),
            "events": sorted(str(one["event_id"]) for one in checked.of_kind("event")),
            "kinds": dict(sorted(Counter(str(one["kind"]) for one in checked.records).items())),
        }
        (folder / "holds.json").write_text(json.dumps(facts, indent=1) + "\n")


async def _tell(office: Office, database: Database) -> None:
    """Say and do something of every kind, on two days."""
    office.files.held["mxc://example.org/a"] = PNG
    office.world.crypto.sessions.add("known")
    await office.say(
        *new_room("@bob:example.org"),
        message("$price", "The price is 100."),
        event(
            "$edit",
            {
                "msgtype": "m.text",
                "body": "* The price is 120.",
                "m.new_content": {"msgtype": "m.text", "body": "The price is 120."},
                "m.relates_to": {"rel_type": "m.replace", "event_id": "$price"},
            },
        ),
        event(
            "$reaction",
            {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$price", "key": "👍"}},
            type="m.reaction",
            sender="@bob:example.org",
        ),
        event(
            "$threaded",
            {
                "msgtype": "m.text",
                "body": "明天见",
                "m.relates_to": {"rel_type": "m.thread", "event_id": "$price"},
            },
        ),
        message("$regretted", "Buy before the news."),
        event("$deletion", {"reason": "typo"}, type="m.room.redaction", redacts="$regretted"),
        image("$image"),
        encrypted("$read", "known"),
        encrypted("$late", "comes later"),
        encrypted("$never", "never comes"),
        b'{"type": "m.room.message", "event_id": "$hostile", "room_id": "!room", "sender": '
        b'"@bob:example.org", "origin_server_ts": 1e400, "content": {"body": "\\ud800\\u0000"}}',
    )
    await office.world.give(
        office.bot,
        [
            *_others(EntryKind.RECEIPT, {"room_id": ROOM, "content": _RECEIPT}),
            *_others(
                EntryKind.GRAPH,
                {"room_id": ROOM, "events": [["$price", 7, []], ["$threaded", 8, ["$price"]]]},
            ),
        ],
    )
    aside = Entry(7, EntryKind.EVENT, b"{}", Source.TRANSACTION, "12", "", NOON)
    async with database.transaction() as connection:
        await set_aside(connection, "auditbot", aside, "KeyError", now_ms=NOON)
    await office.store()

    office.at(NOON + DAY_MS)
    async with database.transaction() as connection:
        await dealt_with(connection, "auditbot", aside)
    office.world.crypto.sessions.add("comes later")
    office.start()
    assert office.bot.late_keys is not None
    assert await office.bot.late_keys.retry_due() == 1
    await office.say(
        state("m.room.name", {"name": "Trading desk"}),
        message("$tomorrow", "said on the next day"),
    )
    await office.bot.daily.look()
    await office.store()


_RECEIPT = {"$price": {"m.read": {"@bob:example.org": {"ts": NOON}}}}


def _others(kind: EntryKind, body: object) -> list[Entry]:
    return [
        msgspec.structs.replace(entry, kind=kind)
        for entry in entries([msgspec.json.encode(body)], NOON + 8)
    ]


if __name__ == "__main__":
    target = FOLDER / version("matrix-steward")
    target.mkdir(parents=True)
    asyncio.run(write(target))
    sys.stdout.write(f"{target}\n")
