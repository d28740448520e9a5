"""Real clients encrypt, Steward reads and is killed; an expert decrypts all of it again."""

import asyncio
import base64
import gzip
import json
import secrets
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from common.demo.servers import SeaweedFS
from common.ids import EventId
from tests.support.clients import NioClient, wait_for
from tests.support.olm_device import OlmDevice
from tests.support.s3 import s3_objects
from tests.support.world import MakeWorld, Wish, World

IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


def wish(s3: SeaweedFS | None, *, is_split: bool = False) -> Wish:
    settings: dict[str, dict[str, object]] = {
        "auditbot": {
            "segment_max_age_seconds": 0.3,
            "manifest_interval_seconds": 1,
            "age_recipients": [str(one.to_public()) for one in IDENTITIES],
            "session_keys": True,
            "erasable": True,
        }
    }
    if is_split:
        settings["auditbot"] |= {"seal": "content", "erasable": "person", "compression": "gzip"}
    return Wish(s3=s3, settings=settings)


async def until_recorded(world: World, events: Sequence[EventId], kind: str = "event") -> None:
    """Wait until events are in the ledger, though perhaps not stored yet."""

    def there() -> bool:
        with closing(
            sqlite3.connect(f"file:{world.steward.directory / 'steward.db'}?mode=ro", uri=True)
        ) as database:
            rows = database.execute("SELECT event_id FROM audit_seen WHERE kind = ?", (kind,))
            return {event for (event,) in rows} >= set(events)

    await wait_for(there, 60, f"{len(events)} events in the ledger")


async def officer(world: World, *words: str) -> tuple[int, list[dict[str, object]], str]:
    """Type ``steward audit recheck``; return status, what it says of each message, and the rest."""
    home = world.directory / "officer"
    identity = world.directory / "identity"
    identity.write_text(f"{IDENTITIES[1]}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "common.cli", "audit", "recheck", *words, "--json"),
        *("--config", str(world.steward.config_path), "--home", str(home)),
        *("--identity", str(identity)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, told = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in output.splitlines()], told.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("in_bucket", "is_split"), [(False, False), (True, False), (False, True)])
async def test_what_clients_encrypted_is_decrypted_again_after_kills(
    make_world: MakeWorld, seaweedfs: SeaweedFS, in_bucket: bool, is_split: bool
) -> None:
    world = await make_world(wish(seaweedfs if in_bucket else None, is_split=is_split))
    account = await world.synapse.register("alice")
    slow_account = await world.synapse.register(f"slow-{secrets.token_hex(3)}")
    async with (
        NioClient(world.synapse.url, account, world.directory / "nio") as alice,
        OlmDevice(world.synapse.url, slow_account) as slow,
    ):
        room = await alice.create_room("Secret", encrypted=True)
        await alice.wait_for_members(room, world.steward.auditbot)
        said = [await alice.send_text(room, f"said {number}") for number in range(3)]
        await until_recorded(world, said)
        await world.steward.kill()
        said += [await alice.send_text(room, f"meanwhile {number}") for number in range(3)]
        await world.steward.start()
        await until_recorded(world, said)

        late = await said_before_its_key(world, slow)
        await world.steward.kill()
        await world.steward.start()
        said.append(await alice.send_text(room, "at last"))
        await until_recorded(world, said)
    await world.steward.stop()

    status, found, told = await officer(world)

    assert (status, {one["result"] for one in found}) == (0, {"agrees"}), told
    assert {one["event_id"] for one in found} == {*said, late}
    assert "8 agree, 0 DIFFER, 0 without a session key" in told
    status, [one], _ = await officer(world, late)
    assert (status, one["result"], one["enc_key_source"]) == (0, "agrees", "direct")
    await nothing_opens_without_an_officer(world, is_split=is_split)
    if not in_bucket:
        await keys_that_were_changed_are_told(world)


async def said_before_its_key(world: World, slow: OlmDevice) -> EventId:
    """Say something whose key comes after it was recorded as not readable."""
    room = await slow.create_room(name="slow")
    await slow.wait_for_members(room, world.steward.auditbot)
    await slow.send_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    await slow.publish()
    await slow.find(world.steward.auditbot)
    await slow.claim()
    late = await slow.say(room, "said before its key")
    await until_recorded(world, [late])
    await slow.share_key(room)
    await until_recorded(world, [late], "decryption")
    return late


async def nothing_opens_without_an_officer(world: World, *, is_split: bool) -> None:
    """The keys lie sealed, once each, and nothing of them is left in Steward's own files."""
    if world.s3 is not None:
        objects = await s3_objects(world.s3, world.prefix)
    else:
        root = world.steward.archive
        objects = {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    sessions = {key: body for key, body in objects.items() if "/sessions/dt=" in key}
    assert sessions
    for body in sessions.values():
        if is_split:
            lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
            parts = [base64.b64decode(line.pop("sealed")) for line in lines]
            assert all("key" not in name for line in lines for name in line)
        else:
            parts = [body]
        assert all(part.startswith(b"age-encryption.org/v1\n") for part in parts)
    database = world.steward.directory / "steward.db"
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT session, sealed FROM audit_session_key").fetchall()
    assert len(rows) == len({name for name, _ in rows}) >= 2, "once for each session"
    assert {sealed for _, sealed in rows} == {None}


async def keys_that_were_changed_are_told(world: World) -> None:
    flip(next(world.steward.archive.rglob("sessions/**/*.jsonl.*")))

    status, found, told = await officer(world)

    assert status == 1
    assert "no session key" in {one["result"] for one in found}
    assert "NOT ALL ROOM KEYS CAN BE USED" in told


def flip(path: Path) -> None:
    """Change the last byte of a file."""
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
