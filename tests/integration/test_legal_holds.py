"""The bucket's own legal hold follows Steward's holds, on a real S3 server with Object Lock."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyrage
import pytest
from botocore.exceptions import ClientError
from types_aiobotocore_s3 import S3Client

from auditbot.operations import holds, legal_holds
from auditbot.operations.cli import _parser
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.index.library import Library
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS
from auditbot.reader.recheck.comparing import State
from auditbot.reader.recheck.run import decrypted_in, recheck
from auditbot.reader.recheck.shelf import Shelf
from auditbot.storage.s3 import S3Store
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from common.errors import PermanentError
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.support.s3 import s3_client
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, message, new_room
from tests.unit.auditbot.megolm import Device
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

LOCKED = "locked"
NOTHING: dict[str, Any] = {"rooms": [], "users": [], "from_ms": None, "to_ms": None}
FIRST_DAY = {**NOTHING, "to_ms": NOON + DAY_MS}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    spec = SeaweedFSSpec(directory=tmp_path_factory.mktemp("seaweedfs"))
    async with SeaweedFS(spec) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture
async def client(server: SeaweedFS) -> AsyncIterator[S3Client]:
    async with s3_client(server) as opened:
        yield opened


@pytest.fixture
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if getattr(request, "param", "sqlite") == "sqlite":
        async with open_database(sqlite_url(tmp_path)) as opened:
            yield opened
        return
    async with Postgres() as cluster:
        made = await cluster.create_database()
        async with open_database(made.url) as opened:
            yield opened


@pytest.fixture
async def office(database: Database, server: SeaweedFS, tmp_path: Path) -> AsyncIterator[Office]:
    place = f"{LOCKED}/{secrets.token_hex(6)}"
    async with opened(database, server, tmp_path, place) as office:
        yield office


@asynccontextmanager
async def opened(
    database: Database, server: SeaweedFS, directory: Path, place: str
) -> AsyncIterator[Office]:
    """Two days, each with a message, the first with an attachment too."""
    office = Office(database, directory)
    office.world.destination = f"s3://{place}"
    office.world.s3 = S3(
        endpoint_url=server.endpoint_url,
        access_key_id=Secret(server.access_key_id),
        secret_access_key=server.secret_access_key,
        path_style=True,
    )
    office.start()
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room("@bob:example.org"), message("$1"), image("$image"))
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$2"))
    await office.store()
    yield office
    for destination in office.bot.archive._destinations.values():
        await destination.store.close()
    for store in office.media._stores.values():
        await store.close()


async def hold(office: Office, **sides: Any) -> str:
    before = {one.id for one in await holds.active(office.desk)}
    await holds.add(office.desk, reason="a case", **{**NOTHING, **sides})
    (name,) = {one.id for one in await holds.active(office.desk)} - before
    return name


async def settle(office: Office) -> legal_holds.Settled:
    return await legal_holds.settle(office.desk, actor="an officer")


async def held(client: S3Client, office: Office) -> set[str]:
    """Return what is under legal hold: the days of segments, and “media”."""
    found: set[str] = set()
    bucket, _, prefix = str(office.world.destination).removeprefix("s3://").partition("/")
    listing = await client.list_object_versions(Bucket=bucket, Prefix=f"{prefix}/")
    for item in listing.get("Versions", []):
        key, version = str(item.get("Key")), str(item.get("VersionId"))
        if await is_held(client, bucket, key, version):
            folder, *rest = key.removeprefix(f"{prefix}/v1/example.org/").split("/")
            assert folder in {"events", "media", "sessions"}, key
            found.add({"events": rest[0], "sessions": f"keys {rest[0]}"}.get(folder, folder))
    return found


async def is_held(client: S3Client, bucket: str, key: str, version: str) -> bool:
    try:
        answer = await client.get_object_legal_hold(Bucket=bucket, Key=key, VersionId=version)
    except ClientError:
        return False
    return answer["LegalHold"].get("Status") == "ON"


async def acts(office: Office) -> list[tuple[str, str, int]]:
    """Return what was recorded of the bucket's holds: act, actor, number of objects."""
    found = []
    for record in await office.world.records():
        if str(record.get("action")).startswith("legal_hold"):
            detail = msgspec.json.decode(record["detail_json"])
            found.append((record["action"], record["actor"], detail["objects"]))
    return found


async def refuse(*arguments: Any, **more: Any) -> None:
    raise PermanentError("The bucket refuses access.")


DAY_1, DAY_2, DAY_3 = "dt=2025-11-24", "dt=2025-11-25", "dt=2025-11-26"


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ({}, {DAY_1, DAY_2, "media"}),
        ({"rooms": ["!other"]}, set()),
        ({"users": [ALICE]}, {DAY_1, DAY_2, "media"}),
        ({"rooms": [ROOM], "to_ms": NOON + DAY_MS}, {DAY_1, "media"}),
        ({"from_ms": NOON + DAY_MS}, {DAY_2}),
    ],
)
async def test_what_a_hold_concerns_cannot_be_deleted_until_it_is_released(
    office: Office, client: S3Client, sides: dict[str, Any], expected: set[str]
) -> None:
    name = await hold(office, **sides)

    done = await settle(office)

    assert done.trouble is None
    assert await held(client, office) == expected
    again = await settle(office)
    assert (again.set, again.text) == ({}, "")

    await holds.remove(office.desk, name, reason="closed")
    lifted = await settle(office)
    assert await held(client, office) == set()
    assert lifted.lifted == done.set
    assert [act for act, _, _ in await acts(office)] == (
        ["legal_hold_set", "legal_hold_lifted"] if expected else []
    )


async def type_in(office: Office, *words: str) -> str:
    """Return what ``steward audit`` tells whoever types these words."""
    arguments = _parser().parse_args(words)
    told: str = await arguments.act(office.desk, arguments)
    return told


async def test_the_bucket_refuses_to_delete_what_is_held(
    office: Office, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await type_in(office, "hold", "add", "--reason", "Case 12")
    assert "The bucket's own legal hold was set on 3 objects." in told
    row = await office.world.database.fetchrow("SELECT * FROM audit_hold_object LIMIT 1")
    assert row is not None
    prefix = str(office.world.destination).removeprefix(f"s3://{LOCKED}/")
    key, version = f"{prefix}/{row['object_key']}", row["version_id"]

    with pytest.raises(ClientError, match="AccessDenied"):
        await client.delete_object(Bucket=LOCKED, Key=key, VersionId=version)
    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "set_legal_hold", refuse)
        told = await type_in(office, "hold", "remove", row["hold_id"], "--reason", "closed")
        assert told.startswith("Released: ")
        with pytest.raises(PermanentError, match="s3:PutObjectLegalHold"):
            await type_in(office, "hold", "apply")
    told = await type_in(office, "hold", "apply")
    assert told == "The bucket's own legal hold was lifted from 3 objects."

    await client.delete_object(Bucket=LOCKED, Key=key, VersionId=version)
    assert [act for act, _, _ in await acts(office)] == ["legal_hold_set", "legal_hold_lifted"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
async def test_what_another_hold_concerns_stays_held(office: Office, client: S3Client) -> None:
    whole = await hold(office)
    await settle(office)
    first = await hold(office, to_ms=NOON + DAY_MS)

    # The second was not settled yet when the first is released.
    await holds.remove(office.desk, whole, reason="closed")
    await settle(office)

    assert await held(client, office) == {DAY_1, "media"}
    await holds.remove(office.desk, first, reason="closed")
    await settle(office)
    assert await held(client, office) == set()


async def test_a_legal_hold_that_somebody_else_had_set_is_not_lifted(
    office: Office, client: S3Client
) -> None:
    row = await office.world.database.fetchrow("SELECT * FROM audit_object")
    assert row is not None
    store = office.media.open_store(await office.desk.newest_place())  # type: ignore[arg-type]  # a place
    assert isinstance(store, S3Store)
    await store.set_legal_hold(row["object_key"], row["version_id"], on=True)
    await store.close()
    name = await hold(office)
    await settle(office)
    assert await held(client, office) == {DAY_1, DAY_2, "media"}

    await holds.remove(office.desk, name, reason="closed")
    await settle(office)

    assert await held(client, office) == {"media"}


async def test_what_is_stored_later_is_topped_up_once_a_day(
    office: Office, client: S3Client
) -> None:
    await hold(office, users=[ALICE])
    await office.bot.daily.look()
    assert await held(client, office) == {DAY_1, DAY_2, "media"}
    office.at(NOON + 2 * DAY_MS)
    await office.say(message("$3"))
    await office.store()
    assert DAY_3 not in await held(client, office)

    await office.bot.daily.look()

    assert await held(client, office) == {DAY_1, DAY_2, DAY_3, "media"}
    await office.say(message("$4"))
    await office.store()
    await office.bot.daily.look()
    todays = await office.world.database.fetchval(
        "SELECT count(*) FROM audit_hold_object WHERE object_key LIKE '%2025-11-26%'"
    )
    assert todays == 1


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
async def test_room_keys_are_held_with_their_day(
    database: Database, server: SeaweedFS, client: S3Client, tmp_path: Path
) -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    place = f"{LOCKED}/{secrets.token_hex(6)}"
    async with opened(database, server, tmp_path, place) as office:
        device = Device()
        device.give()
        office.world.crypto = device
        office.world.recipients = tuple(str(one.to_public()) for one in identities)
        office.world.session_keys = True
        office.start()
        office.at(NOON + 2 * DAY_MS)
        await office.say(device.say("$3", "encrypted"))
        await office.store()
        office.at(NOON + 3 * DAY_MS)
        await office.say(device.say("$4", "encrypted"))
        await office.store()

        name = await hold(office, from_ms=NOON + 2 * DAY_MS, to_ms=NOON + 2 * DAY_MS + 1)
        done = await settle(office)

        assert done.trouble is None
        assert await held(client, office) == {DAY_3, f"keys {DAY_3}"}
        await holds.remove(office.desk, name, reason="closed")
        await settle(office)
        assert await held(client, office) == set()
        library = Library(tmp_path / "cache", (str(identities[0]),))
        there = S3Place(LOCKED, place.partition("/")[2], office.world.s3)
        assert (await sync(there, library, lambda _: Remembered())).faults == []
        ids = decrypted_in(library, ALWAYS)
        found = [one async for one in recheck(library, Shelf(there, library), ids)]
        assert [one.compared.state for one in found] == [State.AGREES] * 2
        await there.close()
        library.close()


async def test_rooms_that_a_held_person_joins_are_looked_through_again(
    office: Office, client: S3Client
) -> None:
    await hold(office, users=["@carol:example.org"])
    await settle(office)
    assert await held(client, office) == set()

    async with office.world.database.transaction() as connection:
        await connection.execute(
            "UPDATE audit_member SET user_id = '@carol:example.org'"
            " WHERE user_id = '@bob:example.org'"
        )
    await settle(office)

    assert await held(client, office) == {DAY_1, DAY_2, "media"}


async def test_a_refusal_is_told_once_with_what_to_do_and_mended_by_the_next_pass(
    office: Office, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hold(office)
    whole = S3Store.set_legal_hold

    monkeypatch.setattr(S3Store, "set_legal_hold", refuse)
    for _ in range(2):
        await office.bot.daily.look()
    alarms = await office.world.database.fetch("SELECT sentence FROM alarm")
    (told,) = [one for one in alarms if "s3:PutObjectLegalHold" in one["sentence"]]
    assert "refuses access" in told["sentence"]
    assert await acts(office) == []

    monkeypatch.setattr(S3Store, "set_legal_hold", whole)
    await office.bot.daily.look()
    assert await held(client, office) == {DAY_1, DAY_2, "media"}


async def test_a_bucket_without_lock_is_left_alone(
    database: Database, server: SeaweedFS, client: S3Client, tmp_path: Path
) -> None:
    bucket = f"versions-{secrets.token_hex(4)}"
    await client.create_bucket(Bucket=bucket)
    await client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    async with opened(database, server, tmp_path, f"{bucket}/p") as office:
        await hold(office)

        done = await settle(office)

    assert (done.text, done.set) == ("", {})
