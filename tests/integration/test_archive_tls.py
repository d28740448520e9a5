"""A store whose certificate an authority of one's own signed: ``auditbot.s3.ca_file``."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sync import sync
from auditbot.reader.media import fetch_file
from auditbot.reader.memory import Remembered
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.addressing import Origin
from auditbot.storage.s3 import PART_BYTES
from auditbot.storage.s3_adding import S3Adding
from auditbot.storage.s3_derived import S3Derived
from auditbot.storage.s3_place import S3Place
from common.alarms import untold
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from common.errors import PermanentError
from tests.support.databases import open_database, sqlite_url
from tests.support.s3 import s3_objects
from tests.support.web import Authority
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.test_media import image
from tests.unit.auditbot.test_operations import Office

LARGE = bytes(PART_BYTES) + b"the end"


@dataclass
class Secured:
    """A store with TLS, the authority that it shows, and one that it does not."""

    store: SeaweedFS
    right: Path
    wrong: Path

    def settings(self, ca_file: Path | None, host: str = "localhost") -> S3:
        return S3(
            endpoint_url=f"https://{host}:{self.store.tls_port}",
            access_key_id=Secret(self.store.access_key_id),
            secret_access_key=self.store.secret_access_key,
            path_style=True,
            ca_file=None if ca_file is None else str(ca_file),
        )


@pytest.fixture(scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority(), Authority()
    right, wrong = folder / "right.pem", folder / "wrong.pem"
    right.write_text(authority.pem())
    wrong.write_text(other.pem())
    spec = SeaweedFSSpec(directory=folder, certificate=authority.file(folder, "localhost"))
    async with SeaweedFS(spec) as store:
        yield Secured(store, right, wrong)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def test_an_archive_is_written_and_read_over_tls(
    secured: Secured, database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.world.destination = f"s3://{secured.store.bucket}/tls"
    office.world.s3 = secured.settings(secured.right)
    office.files.held["mxc://example.org/a"] = LARGE
    office.start()
    await office.say(*new_room("@bob:example.org"), message("$1", "over TLS"), image("$image"))
    await office.store()

    place = S3Place(secured.store.bucket, "tls", secured.settings(secured.right))
    library = Library(tmp_path / "cache")
    try:
        options = Options(now_ms=office.world.clock.now_ms(), destination="s3://archive/tls")
        (result,) = await verify(place, options)
        done = await sync(place, library, lambda _server: Remembered())
        (said,) = load(library, search(library, Query(text="over TLS")))
        (picture,) = load(library, search(library, Query(text="a.png")))
        key = str(picture.media[0].record["media_key"])
        body = (await fetch_file(place, library, key)).read_bytes()
    finally:
        library.close()
        await place.close()

    assert not result.findings.of(Severity.WRONG)
    assert done.faults == []
    assert said.text == "over TLS"
    assert body == LARGE


CASES = {
    "another authority": "wrong",
    "no authority of one's own": None,
    "another name": "127.0.0.1",
    "no such file": "missing",
    "no certificate": "rubbish",
}


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_with_the_certificate_is_said_with_what_to_do(
    secured: Secured, database: Database, tmp_path: Path, case: str
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    settings, words = {
        "another authority": (
            secured.settings(secured.wrong),
            [f"“{secured.wrong}”", "did not sign", "auditbot.s3.ca_file"],
        ),
        "no authority of one's own": (
            secured.settings(None),
            ["does not trust", "set auditbot.s3.ca_file"],
        ),
        "another name": (
            secured.settings(secured.right, "127.0.0.1"),
            ["another name", "auditbot.s3.endpoint_url"],
        ),
        "no such file": (
            secured.settings(tmp_path / "missing.pem"),
            ["missing.pem", "cannot be read", "auditbot.s3.ca_file"],
        ),
        "no certificate": (
            secured.settings(rubbish),
            ["rubbish.pem", "holds no certificate", "auditbot.s3.ca_file"],
        ),
    }[case]
    office = Office(database, tmp_path)
    office.world.destination = f"s3://{secured.store.bucket}/wrong"
    office.world.s3 = settings
    office.start()
    await office.say(message("$1", "waits"))
    await office.bot.archive.seal(flush=True)

    assert await office.bot.archive.upload() is not None
    (sentence,) = [
        alarm.sentence for alarm in await untold(database) if "cannot be stored" in alarm.sentence
    ]
    place = S3Place(secured.store.bucket, "wrong", settings)
    with pytest.raises(PermanentError) as refused:
        await verify(place, Options(now_ms=0, destination="s3://x"))
    await place.close()

    for word in words:
        assert word in sentence
        assert word in str(refused.value)
    assert secured.store.secret_access_key.reveal() not in sentence
    assert await s3_objects(secured.store, "wrong/") == {}


@pytest.mark.parametrize("case", CASES)
async def test_who_adds_or_copies_is_told_the_same_of_their_own_settings(
    secured: Secured, tmp_path: Path, case: str
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    settings, words = {
        "another authority": (
            secured.settings(secured.wrong),
            f"“{secured.wrong}” did not sign.*ca_file in “a file”",
        ),
        "no authority of one's own": (secured.settings(None), "set ca_file in “a file”"),
        "another name": (secured.settings(secured.right, "127.0.0.1"), "endpoint_url in “a file”"),
        "no such file": (
            secured.settings(tmp_path / "missing.pem"),
            "which ca_file in “a file” names, cannot be read",
        ),
        "no certificate": (
            secured.settings(rubbish),
            "which ca_file in “a file” names, holds no certificate",
        ),
    }[case]
    origin = Origin("--access-log", "{} in “a file”")
    bucket, prefix = secured.store.bucket, f"adding-{case.replace(' ', '-')}"
    file = tmp_path / "copy"
    file.write_bytes(b"x")
    key = "v1/example.org/derived/parquet/dt=2026-01-01/a"

    derived = S3Derived(bucket, prefix, settings, origin)
    with pytest.raises(PermanentError, match=words):
        await derived.put(key, file)
    await derived.close()
    adding = S3Adding(bucket, prefix, settings, origin=origin)
    with pytest.raises(PermanentError, match=words):
        await asyncio.to_thread(adding.create, "access/a", b"x")

    right = S3Adding(bucket, prefix, secured.settings(secured.right), origin=origin)
    await asyncio.to_thread(right.create, "access/a", b"x")
    assert set(await s3_objects(secured.store, prefix)) == {f"{prefix}/access/a"}


async def test_what_waited_is_stored_when_the_authority_is_right(
    secured: Secured, database: Database, tmp_path: Path
) -> None:
    office = Office(database, tmp_path)
    office.world.destination = f"s3://{secured.store.bucket}/mended"
    office.world.s3 = secured.settings(secured.wrong)
    office.start()
    await office.say(message("$1", "waits"))
    await office.bot.archive.seal(flush=True)
    assert await office.bot.archive.upload() is not None

    office.world.s3 = secured.settings(secured.right)
    office.start()
    await office.store()

    stored = await s3_objects(secured.store, "mended/")
    assert any("/events/" in key for key in stored)
    head = next(body for key, body in stored.items() if key.endswith("head.json"))
    assert json.loads(head)["number"] >= 0
