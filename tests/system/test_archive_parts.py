"""What the archive of a real homeserver holds besides messages, and where it goes."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from common.demo.steward import read_records
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId
from tests.support.archive_check import Json, check_archive, read_directory
from tests.support.clients import NioClient, RawClient
from tests.support.world import MakeWorld, Wish, World

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 500


async def steward(world: World, *words: str) -> str:
    """Run the command as an operator would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "common.cli",
        "audit",
        *words,
        "--config",
        str(world.steward.config_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def send_file(client: NioClient, room: RoomId, *, encrypted: bool) -> EventId:
    answer, keys = await client.nio.upload(
        lambda *_: PNG, content_type="image/png", filesize=len(PNG), encrypt=encrypted
    )
    content: Json = {"msgtype": "m.image", "body": "a.png"}
    if encrypted:
        content["file"] = {**keys, "url": answer.content_uri}
    else:
        content["url"] = answer.content_uri
    return await client.send(room, "m.room.message", content)


async def test_attachments_parents_and_readers_are_in_the_archive(make_world: MakeWorld) -> None:
    wish = Wish(settings={"auditbot": {"segment_max_age_seconds": 0.3, "receipts": True}})
    world = await make_world(wish)
    account = await world.synapse.register("alice")
    async with (
        NioClient(world.synapse.url, account, world.directory / "nio") as alice,
        await world.person() as bob,
    ):
        secret = await alice.create_room("Secret", encrypted=True, invite=[bob.user_id])
        plain = await alice.create_room("Plain")
        await bob.join(secret)
        await alice.wait_for_members(secret, world.steward.auditbot)
        sent = [
            await send_file(alice, secret, encrypted=True),
            await send_file(alice, plain, encrypted=False),
        ]
        await read(bob, secret, sent[0])

        def whole() -> list[Json] | None:
            found = world.steward.records()
            media = [one for one in found if one["kind"] == "media"]
            receipts = [one for one in found if one["kind"] == "receipt"]
            missing = without_parents(found, [secret, plain])
            return found if len(media) == 2 and receipts and not missing else None

        records = await wait_for(whole, 60, "all of it in the archive")

    digest = hashlib.sha256(PNG).hexdigest()
    assert records is not None
    media = {one["event_id"]: one for one in records if one["kind"] == "media"}
    assert set(media) == set(sent)
    assert sorted(one["media_status"] for one in media.values()) == ["duplicate", "stored"]
    for one in media.values():
        assert (one["media_sha256"], one["media_mime_sniffed"]) == (digest, "image/png")
        assert (world.steward.archive / one["media_key"]).read_bytes() == PNG
    receipt = next(one for one in records if one["kind"] == "receipt")
    assert (receipt["sender"], receipt["event_id"]) == (bob.user_id, sent[0])
    assert holes(records, [secret, plain]) == set()
    await world.steward.stop()
    checked = check_archive(await asyncio.to_thread(read_directory, world.steward.archive))
    assert checked.unlisted == []


async def read(client: RawClient, room: RoomId, event: EventId) -> None:
    await client.client("POST", f"/rooms/{quote(room)}/receipt/m.read/{quote(event)}", {})


def parents(records: Sequence[Json]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in records:
        if one["kind"] == "graph":
            found |= {event: named for event, _, named in json.loads(one["detail_json"])["events"]}
        elif one["kind"] == "event" and one["prev_events"] is not None:
            found[one["event_id"]] = json.loads(one["prev_events"])
    return found


def events_of(records: Sequence[Json], rooms: Sequence[RoomId]) -> set[str]:
    return {
        one["event_id"] for one in records if one["kind"] == "event" and one["room_id"] in rooms
    }


def without_parents(records: Sequence[Json], rooms: Sequence[RoomId]) -> set[str]:
    return events_of(records, rooms) - set(parents(records))


def holes(records: Sequence[Json], rooms: Sequence[RoomId]) -> set[str]:
    """Return the parents that are not archived, of rooms that are archived from their beginning."""
    archived = events_of(records, rooms)
    named = {name for event, of in parents(records).items() if event in archived for name in of}
    return named - archived


async def test_an_operator_moves_and_stops_the_archive_while_steward_runs(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    other = world.directory / "other"
    async with await world.person() as alice:
        room = await alice.create_room(name="Moving")
        await world.steward.wait_for_event(await alice.send_text(room, "here"))

        told = await steward(world, "destination", "set", f"file:{other}")
        await wait_for((other / "v1").exists, 60, "the new place")
        there = await alice.send_text(room, "there")
        await wait_for(lambda: there in ids(other), 60, "the event in the new place")
        shown = await steward(world, "destination", "show")
        key = await steward(world, "key", "show")
        await steward(world, "key", "rotate")
        await steward(world, "hold", "add", "--reason", "a case", "--room", room)
        by_config = await moved_by_configuration(world, alice, room)
        closed = other / "v1" / world.synapse.server_name / "state" / "head.json"
        await wait_for(lambda: is_closed(other), 60, f"the last manifest at {closed}")
        await alice.send_text(room, "nowhere")

    await world.steward.stop()
    first = check_archive(await asyncio.to_thread(read_directory, world.steward.archive))
    second = check_archive(await asyncio.to_thread(read_directory, other))
    assert str(other) in told
    assert "chosen by" in shown
    assert any(one[:4] in key for one in first.fingerprints)
    assert len(second.fingerprints) == 2
    (closing,) = [found[-1]["closed"] for found in first.manifests.values()]
    assert closing["next_stream"] in second.manifests
    bodies = [one["body"] for one in (*first.records, *second.records) if one["body"]]
    assert "here" in bodies
    assert "there" in bodies
    assert "nowhere" not in bodies
    assert by_config not in {one["event_id"] for one in (*first.records, *second.records)}
    acts = [one["action"] for one in second.of_kind("control")]
    assert {"signing_key_rotated", "hold_added", "export_stopped"} <= set(acts)


async def moved_by_configuration(world: World, alice: RawClient, room: RoomId) -> EventId:
    """Move the archive once more, by the file, which is read anew at SIGHUP; and clear it."""
    third = world.directory / "third"
    config = json.loads(world.steward.config_path.read_text())
    config["auditbot"]["destination"] = f"file:{third}"
    await reload(world, {**config, "homeserver": {"url": "nowhere"}}, "the file is wrong")
    await reload(world, {**config, "metrics": {"listen_port": 1}}, "need a restart")
    await reload(world, config, "holds from now on")
    await wait_for((third / "v1").exists, 30, "the place of the new configuration")
    said = await alice.send_text(room, "by configuration")
    await wait_for(lambda: said in ids(third), 30, "the event in the third place")
    await steward(world, "destination", "clear")
    await wait_for(lambda: is_closed(third), 15, "the end of the third place")
    return said


async def reload(world: World, config: Json, said: str) -> None:
    """Change the configuration's file and have it read; wait for what Steward says of it."""
    world.steward.config_path.write_text(json.dumps(config))
    pid = world.steward.child.pid
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    await wait_for(lambda: said in world.steward.log(), 15, f"“{said}” in the log")


def ids(root: Path) -> set[str]:
    found = read_records(path.read_bytes() for path in root.rglob("*.jsonl.zst"))
    return {str(one["event_id"]) for one in found}


def is_closed(root: Path) -> bool:
    keys = [key for key in read_directory(root) if "/manifests/" in key and ".json" in key]
    return any(json.loads((root / key).read_bytes())["closed"] for key in keys)
