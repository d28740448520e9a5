"""What Steward's writer wrote, and did to it since, Steward's reader finds right and can show.

The two share no code.
"""

import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from pathlib import Path

import pyrage
import pytest

from auditbot.operations import destination, holds, keys, over
from auditbot.reader.conversation import Message, load
from auditbot.reader.handover import verify as verify_handover
from auditbot.reader.handover.cases import Case, Item
from auditbot.reader.handover.package import hand_over
from auditbot.reader.handover.proofs import Prover
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sql import ask
from auditbot.reader.index.sync import sync
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS
from auditbot.reader.render.words import media_state
from auditbot.reader.transcript.build import Request
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, entries, message, new_room
from tests.unit.auditbot.test_manifests import MINUTE, Running
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import TODAY, Office, retain
from tests.unit.auditbot.world import World


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> Office:
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room("@bob:example.org"), message("$1"), image("$image"))
    await office.store()
    office.at(TODAY)
    await office.say(message("$today", "said today"))
    await office.store()
    return office


async def checked(root: Path, now_ms: int, *identities: str) -> Verified:
    options = Options(now_ms=now_ms, destination=f"file:{root}", identities=identities)
    (result,) = await verify(DirectoryPlace(root), options)
    wrong = result.findings.of(Severity.WRONG)
    assert not wrong
    return result


async def shown(root: Path, cache: Path, *identities: str) -> tuple[Library, list[Message]]:
    library = Library(cache, identities)
    done = await sync(DirectoryPlace(root), library, lambda _: Remembered())
    assert done.faults == []
    return library, load(library, search(library, Query()))


async def test_the_writer_s_archive_is_right(database: Database, tmp_path: Path) -> None:
    running = Running(database, tmp_path / "archive", max_bytes=20_000)
    world = World(database, tmp_path, running.clock)
    bot = world.restart()
    await world.give(bot, entries([*new_room("@bob:example.org"), message("$0")]))
    await running.step()
    running.clock.moment_ms += 15 * MINUTE
    more = [message(f"${number}", "text " * number) for number in range(1, 60)]
    await world.give(bot, entries(more, received_ms=NOON + 20))
    await running.step()

    result = await checked(running.root, running.clock.moment_ms)

    assert not {item.code for item in result.findings.found} - {"silence", "old"}
    assert (running.root / "v1/example.org/README.txt").exists()
    assert result.objects > 2
    assert result.records == result.listed_records > 60
    assert result.first_use


async def test_an_attachment_is_found_and_every_record_proven(
    office: Office, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    result = await checked(archive, TODAY)
    library, messages = await shown(archive, tmp_path / "cache")

    (picture,) = [item for item in messages if item.record.get("event_id") == "$image"]
    media = media_state(picture)
    assert media is not None
    path = await fetch_file(DirectoryPlace(archive), library, str(media["key"]))
    assert path.read_bytes() == PNG
    assert result.media == 1
    prover = Prover(library)
    for item in messages:
        for stored in item.records:
            assert prover.prove(stored).head.size == result.listed_records
    library.close()


async def test_what_was_done_to_it_is_right_too(office: Office, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    library, _ = await shown(archive, tmp_path / "cache")
    library.close()
    await holds.add(office.desk, reason="x", rooms=["!other"], users=[], from_ms=None, to_ms=None)
    await keys.rotate(office.desk)
    await office.say(message("$after", "with the new key"))
    await office.store()
    await retain(office)
    await office.store()
    await destination.clear(office.desk)
    await office.store()
    await destination.change(office.desk, f"file:{archive}", None, check=True)
    await office.store()
    await office.say(message("$again", "in a new stream"))
    await office.store()

    result = await checked(archive, TODAY)
    library, messages = await shown(archive, tmp_path / "cache")

    assert result.tombstones >= 2
    assert len(result.streams) == 2
    texts = {item.text for item in messages}
    assert {"said today", "with the new key", "in a new stream"} <= texts
    assert "$1" not in {item.record.get("event_id") for item in messages}
    survey = await over.survey(office.desk, keep_days=30)
    assert not survey.free
    library.close()


async def test_what_was_done_while_nothing_was_exported_is_listed_later(
    office: Office, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    await destination.clear(office.desk)
    await office.store()
    await retain(office)
    await keys.rotate(office.desk)
    assert (await checked(archive, TODAY)).tombstones >= 2
    await destination.change(office.desk, f"file:{archive}", None, check=True)
    await office.store()
    for hour in range(1, 4):
        office.at(TODAY + hour * 60 * MINUTE)
        await office.store()

    result = await checked(archive, TODAY + 180 * MINUTE)

    assert result.tombstones >= 2
    codes = {item.code for item in result.findings.found}
    assert "unlisted" not in codes


async def test_an_encrypted_archive_is_right_inside_and_outside(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clear").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "clear"))
    office = Office(database, tmp_path)
    officers = [pyrage.x25519.Identity.generate() for _ in range(2)]
    office.world.recipients = tuple(str(officer.to_public()) for officer in officers)
    office.files.held["mxc://example.org/a"] = PNG
    office.start()
    await office.say(*new_room(), message("$1", "sealed words"), image("$image"))
    await office.store()

    outside = await checked(tmp_path / "archive", NOON)
    inside = await checked(tmp_path / "archive", NOON, str(officers[1]))
    library, messages = await shown(tmp_path / "archive", tmp_path / "cache", str(officers[0]))

    assert outside.outside_only == outside.objects == inside.objects
    assert inside.records == inside.listed_records
    assert "sealed words" in {item.text for item in messages}
    (picture,) = [item for item in messages if item.record.get("event_id") == "$image"]
    media = media_state(picture)
    assert media is not None
    path = await fetch_file(DirectoryPlace(tmp_path / "archive"), library, str(media["key"]))
    assert path.read_bytes() == PNG
    await _is_handed_over(library, outside, tmp_path)
    answer = ask(library, "SELECT body FROM records WHERE event_id = '$1'")
    assert [row[0] for row in answer.rows] == ["sealed words"]
    assert not list((tmp_path / "clear").iterdir())
    library.identities = ()
    with pytest.raises(DamagedArchiveError, match="--identity"):
        ask(library, "SELECT 1")
    library.close()


async def _is_handed_over(library: Library, result: Verified, folder: Path) -> None:
    """Make sure that a picture of an encrypted archive proves itself once it is opened."""
    stored = library.event("$image")
    assert stored is not None
    request = Request(
        archive="file:archive",
        subject=None,
        period=ALWAYS,
        zone=UTC,
        zone_name="UTC",
        made_ms=NOON,
        made_by="olivia",
        verdict="RIGHT",
        standing="right",
        fingerprints=tuple(result.fingerprints),
    )
    item = Item(stored.stream, stored.seq, "$image", NOON, "olivia")
    case = Case("picture", "file:archive", NOON, "olivia", items=(item,))
    place = DirectoryPlace(folder / "archive")
    done = await hand_over(library, place, case, request, folder / "case.zip")
    assert done.attachments == 1
    with zipfile.ZipFile(done.path) as packed:
        packed.extractall(folder / "case")
    check: Callable[[list[str]], int] = verify_handover.main
    assert check([str(folder / "case")]) == 0
