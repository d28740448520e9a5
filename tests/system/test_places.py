"""The same promises wherever state and archive are kept, and whatever client people use."""

import secrets
from pathlib import Path

import pytest

from common.demo.servers import SeaweedFS
from common.demo.steward import Record
from common.ids import EventId
from tests.support.clients import NioClient, wait_for
from tests.support.js_client import JsClient
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish, World


async def archived(world: World, event: EventId) -> Record:
    async def found() -> Record | None:
        for record in await world.records():
            if record["kind"] == "event" and record["event_id"] == event:
                return record
        return None

    record = await wait_for(found, 60, f"{event} in the archive")
    assert record is not None
    return record


async def test_postgresql_and_s3_hold_an_encrypted_message_and_a_command(
    make_world: MakeWorld, postgres: Postgres, seaweedfs: SeaweedFS
) -> None:
    # Started as people start them, too.
    world = await make_world(Wish(postgres=postgres, s3=seaweedfs, forked=False))
    account = await world.synapse.register("alice", admin=True)
    async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
        room = await alice.create_room("Kitchen", encrypted=True)
        event = await alice.send_text(room, "in PostgreSQL, then in S3: é \U0001f373")
        # What was said before adminbot had joined is not for it.
        await alice.wait_for_members(room, world.steward.adminbot)
        asked = await alice.send_text(room, "!whoami")
        answer = await alice.wait_for_message(room, sender=world.steward.adminbot, after=asked)

        record = await archived(world, event)

    assert record["body"] == "in PostgreSQL, then in S3: é \U0001f373"
    assert record["enc_status"] == "decrypted"
    assert answer.encrypted
    assert alice.user_id in answer.body


async def test_postgresql_survives_the_same_kill(
    make_world: MakeWorld, postgres: Postgres
) -> None:
    world = await make_world(Wish(postgres=postgres))
    async with await world.person() as alice:
        room = await alice.create_room()
        await alice.wait_for_members(room, world.steward.auditbot)
        before = await alice.send_text(room, "before")
        await world.steward.kill()
        meanwhile = await alice.send_text(room, "meanwhile \u0000 with a NUL")
        await world.steward.start()

        for event in (before, meanwhile):
            await archived(world, event)
        ids = [record["event_id"] for record in await world.records() if record["event_id"]]
        assert len(ids) == len(set(ids))


@pytest.mark.xdist_group("js")
async def test_clients_with_rust_and_python_cryptography_are_both_read(
    world: World, tmp_path: Path
) -> None:
    account = await world.synapse.register(f"nio-person-{secrets.token_hex(3)}")
    async with (
        NioClient(world.synapse.url, account, tmp_path / "nio") as nio,
        await JsClient.register(world.synapse, tmp_path, isolation="only-signed") as js,
    ):
        nio_room = await nio.create_room("by nio", encrypted=True)
        js_room = await js.create_room(encrypted=True)

        by_nio = await nio.send_text(nio_room, "said by nio")
        by_js = await js.send_text(js_room, "said by matrix-js-sdk")
        from_nio = await world.steward.wait_for_event(by_nio)
        from_js = await world.steward.wait_for_event(by_js)

        # It shares keys only with devices that their owner has signed, and reads only from
        # such devices: so the bot's own device is signed.
        await js.wait_for_members(js_room, world.steward.adminbot)
        await js.send_text(js_room, "!whoami")
        answer = await js.wait_for_message(js_room, "You are", sender=world.steward.adminbot)

    assert (from_nio["body"], from_nio["enc_status"]) == ("said by nio", "decrypted")
    assert (from_js["body"], from_js["enc_status"]) == ("said by matrix-js-sdk", "decrypted")
    assert from_js["enc_trust"] == "cross_signed"
    assert js.user_id in str(answer)
