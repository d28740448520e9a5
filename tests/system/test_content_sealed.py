"""A real homeserver's archive whose content is sealed: IT counts, officers read, one is erased."""

import asyncio
import json
import secrets
import sys
from pathlib import Path

import duckdb
import pyrage
import pytest

from common.demo.servers import SeaweedFS
from common.demo.waiting import wait_for
from common.ids import EventId, UserId
from tests.support.archive_check import check_archive, read_directory
from tests.support.clients import NioClient
from tests.support.postgres import Postgres
from tests.support.s3 import s3_client, s3_objects
from tests.support.world import MakeWorld, Wish, World

IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]
AUDITBOT = {
    "segment_max_age_seconds": 0.3,
    "manifest_interval_seconds": 2,
    "age_recipients": [str(one.to_public()) for one in IDENTITIES],
    "seal": "content",
    "erasable": "person",
}


async def steward(
    world: World, *words: str, identity: bool = True, home: str = "home", status: int = 0
) -> str:
    """Run the command as an operator or an officer would."""
    more = list[str]()
    if words[0] in {"verify", "search", "sync"}:
        more.append(f"--home={world.directory / home}")
        if identity:
            file = world.directory / "officer.key"
            file.write_text(f"{IDENTITIES[1]}\n")
            more.append(f"--identity={file}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "common.cli",
        "audit",
        *words,
        *more,
        "--config",
        str(world.steward.config_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == status, output.decode()
    return output.decode()


async def objects(world: World) -> dict[str, bytes]:
    """Return the archive's objects, as whoever may read the place sees them."""
    if world.s3 is None:
        return await asyncio.to_thread(read_directory, world.steward.archive)
    found = await s3_objects(world.s3, world.prefix)
    return {key.removeprefix(f"{world.prefix}/"): body for key, body in found.items()}


def counted(there: dict[str, bytes], folder: Path) -> dict[str, int]:
    """Count messages per room with DuckDB, as anybody would who has no key."""
    folder.mkdir()
    for number, (key, body) in enumerate(there.items()):
        if key.endswith(".jsonl.zst"):
            (folder / f"{number}.jsonl.zst").write_bytes(body)
    with duckdb.connect() as database:
        rows = database.execute(
            "SELECT room_name, count(*), count(body), count(event_json) FROM"
            " read_json($1, format = 'newline_delimited', union_by_name = true)"
            " WHERE kind = 'event' AND event_type = 'm.room.message' GROUP BY room_name",
            [str(folder / "*.jsonl.zst")],
        ).fetchall()
    assert {(body, whole) for _, _, body, whole in rows} == {(0, 0)}
    return {name: count for name, count, _, _ in rows}


@pytest.fixture(params=["directory and SQLite", "S3 and PostgreSQL"])
def wish(request: pytest.FixtureRequest) -> Wish:
    settings = {"auditbot": AUDITBOT}
    if request.param == "directory and SQLite":
        return Wish(settings=settings)
    postgres: Postgres = request.getfixturevalue("postgres")
    store: SeaweedFS = request.getfixturevalue("seaweedfs")
    return Wish(postgres=postgres, s3=store, settings=settings)


async def all_stored(world: World, sent: list[EventId]) -> None:
    """Wait until events are in the archive and listed, and the keys of two people too."""

    async def is_so() -> bool:
        found = await objects(world)
        listed = [
            json.loads(body)
            for key, body in found.items()
            if "/manifests/" in key and key.endswith(".json")
        ]
        keys = [item["key"] for one in listed for item in one["content_keys"]]
        segments = {item["key"] for one in listed for item in one["objects"]}
        there = {one["event_id"] for one in await world.records()}
        # What no manifest lists yet is no part of the archive for who reads it.
        is_listed = segments >= {key for key in found if "/events/" in key}
        return there >= set(sent) and is_listed and len(keys) >= 4

    await wait_for(is_so, 180, "all of it in the archive, with the keys")


async def test_a_person_is_erased_and_the_rest_is_read_counted_and_proved(
    make_world: MakeWorld, wish: Wish, tmp_path: Path
) -> None:
    world = await make_world(wish)
    word = secrets.token_hex(8)
    account = await world.synapse.register("alice")
    async with (
        NioClient(world.synapse.url, account, world.directory / "nio") as alice,
        await world.person("bob") as bob,
    ):
        secret = await alice.create_room("Secret", encrypted=True)
        plain = await alice.create_room("Plain", invite=[bob.user_id])
        await bob.join(plain)
        for room in (secret, plain):
            await alice.wait_for_members(room, world.steward.auditbot)
        sent = [await alice.send_text(secret, f"alice {word} {number}") for number in range(2)]
        sent += [await bob.send_text(plain, f"bob {word} {number}") for number in range(3)]
        await all_stored(world, sent)
        await look_without_a_key(world, word, bob.user_id, tmp_path)
        found = await steward(world, "search", word)
        assert (found.count(f"alice {word}"), found.count(f"bob {word}")) == (2, 3)
        await erase(world, bob.user_id)
        await all_stored(world, [await bob.send_text(plain, f"bob later {word}")])
    await world.steward.stop()

    for home in ("home", "fresh"):
        found = await steward(world, "search", word, home=home)
        assert (found.count(f"alice {word}"), found.count(f"bob {word}")) == (2, 0)
        assert found.count(f"bob later {word}") == 1
    said = await steward(world, "search", "--person", bob.user_id)
    assert said.count("(m.text: content erased)") == 3
    await look_at_the_proof(world)


async def look_without_a_key(world: World, word: str, person: UserId, folder: Path) -> None:
    there = await objects(world)
    found = await asyncio.to_thread(counted, there, folder / "it")
    assert found == {"Secret": 2, "Plain": 3}
    assert not any(word.encode() in body for body in there.values())
    shut = await steward(world, "search", word, identity=False, home="without", status=1)
    assert "The words of 5 messages are sealed and were not searched" in shut
    theirs = await steward(world, "search", "--person", person, identity=False, home="without")
    assert theirs.count("(m.text: content sealed)") == 3


async def erase(world: World, person: UserId) -> None:
    words = ("erase", "--person", person, "--reason", "he asked")
    assert "this was a dry run" in await steward(world, *words)
    assert "1 keys were destroyed." in await steward(world, *words, "--apply")


async def look_at_the_proof(world: World) -> None:
    verdict = await steward(world, "verify")
    assert "RIGHT: nothing was changed" in verdict
    assert "1 keys of content on purpose" in verdict
    outside = await steward(world, "verify", identity=False)
    assert "RIGHT from outside: nothing was changed; content sealed, not opened" in outside
    assert "content sealed of" in outside
    there = await objects(world)
    checked = check_archive(there)
    assert checked.unlisted == []
    assert not [one for one in checked.records if one["body"] is not None]
    (document,) = [
        json.loads(body)
        for key, body in there.items()
        if "/erasures/" in key and key.endswith(".json")
    ]
    (item,) = document["content_keys"]
    assert item["key"] not in there
    if world.s3 is not None:
        async with s3_client(world.s3) as client:
            answer = await client.list_object_versions(Bucket=world.s3.bucket, Prefix=world.prefix)
        assert not [one for one in answer.get("Versions", []) if item["key"] in one["Key"]]
