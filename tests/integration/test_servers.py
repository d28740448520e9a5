"""The ground that the other tests stand on: servers start, and real clients read each other."""

import asyncio
import secrets
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
import zstandard
from botocore.exceptions import ClientError

from common.demo.accounts import Account
from common.demo.process import LOOPBACK, Child, Program, ServerError
from common.demo.servers import SeaweedFS, Synapse, SynapseSpec, free_port
from common.demo.steward import read_records
from common.demo.waiting import wait_for
from common.ids import RoomId
from tests.support.clients import NioClient, RawClient, RequestFailedError
from tests.support.forking import start_by_fork
from tests.support.js_client import JsClient
from tests.support.postgres import Postgres
from tests.support.s3 import s3_client, s3_objects
from tests.support.world import MakeWorld, Wish

_PARENT = """
import asyncio, pathlib, sys
from common.demo.accounts import Account
from common.demo.process import LOOPBACK, Child, Program

async def main():
    here = pathlib.Path(sys.argv[1])
    child = Child(Program(name="s", command=["sleep", "600"], log=here / "log", directory=here))
    await child.start()
    while pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes() != b"sleep\\x00600\\x00":
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""

_FORKING_PARENT = """
import asyncio, pathlib, sys
from common.demo.process import LOOPBACK, Child, Program
from tests.support.forking import start_by_fork

async def main():
    here = pathlib.Path(sys.argv[1])
    command = [sys.executable, "-m", "http.server", "--bind", LOOPBACK, "0"]
    child = Child(Program(name="s", command=command, log=here / "log", directory=here))
    start_by_fork(child)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_synapse_registers_people_and_tells_admins_from_others(synapse: Synapse) -> None:
    async with (
        await RawClient.register(synapse, admin=True) as admin,
        await RawClient.register(synapse) as other,
    ):
        # By name: the shared homeserver may have more people than one page holds.
        name = other.user_id[1:].partition(":")[0]
        users = await admin.request("GET", "/_synapse/admin/v2/users", query={"name": name})

        assert other.user_id in {user["name"] for user in users["users"]}
        with pytest.raises(RequestFailedError) as refused:
            await other.request("GET", "/_synapse/admin/v2/users")
        assert refused.value.errcode == "M_FORBIDDEN"


async def test_synapse_puts_the_bots_into_a_new_room_through_the_module(synapse: Synapse) -> None:
    async with await RawClient.register(synapse) as person:
        room_id = await person.create_room()

        create = await person.state(room_id, "m.room.create")
        bot = await person.state(
            room_id, "m.room.member", state_key=f"@auditbot:{synapse.server_name}"
        )

    assert ":" not in room_id, "room version 12"
    assert set(create["additional_creators"]) == {
        f"@adminbot:{synapse.server_name}",
        f"@auditbot:{synapse.server_name}",
    }
    assert bot["membership"] in {"invite", "join"}


async def two_people(synapse: Synapse) -> tuple[Account, Account]:
    """Make two accounts under names that nobody has, if a test is run again either."""
    mark = secrets.token_hex(4)
    return await synapse.register(f"anna-{mark}"), await synapse.register(f"ben-{mark}")


async def test_two_people_read_each_other_in_an_encrypted_room(
    synapse: Synapse, tmp_path: Path
) -> None:
    anna, ben = await two_people(synapse)
    name = ben.user_id[1:].partition(":")[0]
    async with (
        NioClient(synapse.url, anna, tmp_path / "anna") as alice,
        await NioClient.log_in(synapse.url, name, ben.password, tmp_path / "ben") as bob,
    ):
        room_id = await alice.create_room("Secrets", encrypted=True, invite=[bob.user_id])
        await bob.join(room_id, encrypted=True)
        await alice.wait_for_members(room_id, bob.user_id)

        question = await alice.send_text(room_id, "can you read this?")
        read = await bob.wait_for_message(room_id, "can you", sender=alice.user_id)
        await bob.react(room_id, question, "✅")
        await bob.send_text(room_id, "yes")
        answer = await alice.wait_for_message(room_id, after=question, sender=bob.user_id)
        await alice.edit(room_id, question, "can you read that?")
        edit = await bob.wait_for_message(room_id, "read that?")

    assert read.event_id == question
    assert read.encrypted
    assert answer.body == "yes"
    assert edit.content["m.new_content"]["body"] == "can you read that?"
    assert [seen.encrypted for seen in alice.timeline(room_id) if seen.type == "m.reaction"] == [
        False
    ]
    assert await _wire_types(synapse, alice, room_id) == ["m.room.encrypted"] * 3


async def test_a_direct_chat_is_read_by_an_app_that_syncs_all_the_while(
    synapse: Synapse, tmp_path: Path
) -> None:
    anna, ben = await two_people(synapse)
    async with (
        NioClient(synapse.url, anna, tmp_path / "anna") as alice,
        NioClient(synapse.url, ben, tmp_path / "ben") as bob,
        bob.syncing(),
    ):
        room_id = await alice.direct_chat(bob.user_id)
        await bob.join(room_id, encrypted=True)
        await alice.wait_for_members(room_id, bob.user_id)
        await alice.send_text(room_id, "just us")

        assert (await bob.wait_for_message(room_id, "just us")).encrypted


async def test_a_client_keeps_its_keys_when_it_is_opened_again(
    synapse: Synapse, tmp_path: Path
) -> None:
    anna, ben = await two_people(synapse)
    async with NioClient(synapse.url, anna, tmp_path / "anna") as alice:
        async with NioClient(synapse.url, ben, tmp_path / "ben") as bob:
            room_id = await alice.create_room(encrypted=True, invite=[bob.user_id])
            await bob.join(room_id, encrypted=True)
            await alice.wait_for_members(room_id, bob.user_id)
            await alice.send_text(room_id, "first")
            await bob.wait_for_message(room_id, "first")
        await alice.send_text(room_id, "while you were away")

        async with NioClient(synapse.url, ben, tmp_path / "ben") as bob:
            assert (await bob.wait_for_message(room_id, "while you were away")).encrypted


async def test_a_rust_client_shares_keys_with_signed_devices_only(
    synapse: Synapse, tmp_path: Path
) -> None:
    person = await synapse.register(f"js-reader-{secrets.token_hex(4)}")
    async with (
        await JsClient.register(synapse, tmp_path) as js,
        await JsClient.register(synapse, tmp_path) as signed,
        NioClient(synapse.url, person, tmp_path / "unsigned") as unsigned,
    ):
        room_id = await js.create_room(invite=[signed.user_id, unsigned.user_id])
        await signed.join(room_id)
        await unsigned.join(room_id, encrypted=True)
        await js.wait_for_members(room_id, signed.user_id, unsigned.user_id)

        withheld = await js.send_text(room_id, "for signed devices")
        read = await signed.wait_for_message(room_id, "for signed devices")
        await js.call("setDeviceIsolation", mode="all")
        await js.send_text(room_id, "for every device")
        await unsigned.wait_for_message(room_id, "for every device")
        await unsigned.send_text(room_id, "from an unsigned device")
        answer = await js.wait_for_message(room_id, "from an unsigned device")

    assert read["encrypted"]
    assert read["event_id"] == withheld
    assert answer["encrypted"]
    assert {seen.event_id: seen.type for seen in unsigned.timeline(room_id)}[withheld] == (
        "m.room.encrypted"
    )


async def test_the_object_store_keeps_what_it_is_given_and_refuses_strangers(
    seaweedfs: SeaweedFS,
) -> None:
    bucket, key = seaweedfs.bucket, f"{secrets.token_hex(4)}/one"
    async with s3_client(seaweedfs) as s3:
        await s3.put_object(Bucket=bucket, Key=key, Body=b"1", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            await s3.put_object(Bucket=bucket, Key=key, Body=b"2", IfNoneMatch="*")
        await seaweedfs.kill()
        await seaweedfs.restart()

    assert await s3_objects(seaweedfs, key) == {key: b"1"}
    async with (
        aiohttp.ClientSession() as stranger,
        stranger.get(f"{seaweedfs.endpoint_url}/{bucket}/{key}") as response,
    ):
        assert response.status == 403


async def test_synapse_on_postgresql_survives_sigkill(
    postgres: Postgres, make_world: MakeWorld
) -> None:
    world = await make_world(Wish(postgres=postgres, module=False), start=False)
    await world.synapse.start()
    async with await world.person() as person:
        room_id = await person.create_room()
        sent = await person.send_text(room_id, "kept")

        await world.synapse.kill()
        await world.synapse.restart()

        assert (await person.messages(room_id))[-1]["event_id"] == sent


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = Synapse(SynapseSpec(directory=tmp_path, modules=[{"module": "no.such.Module"}]))

    with pytest.raises(ServerError, match=r"(?s)Synapse ended with status 1\..*No module named"):
        await server.start()


async def test_the_port_of_a_stopped_server_is_not_given_away(tmp_path: Path) -> None:
    port = free_port()
    child = Child(
        Program(name="x", command=["true"], log=tmp_path / "x", directory=tmp_path, ports=[port])
    )

    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind((LOOPBACK, port))  # as free_ports asks

    del child
    with socket.socket() as probe:
        probe.bind((LOOPBACK, port))


@pytest.mark.parametrize("script", [_PARENT, _FORKING_PARENT], ids=["started", "forked"])
async def test_a_child_dies_with_its_parent(tmp_path: Path, script: str) -> None:
    (tmp_path / "parent.py").write_text(script)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, tmp_path / "parent.py", tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = Path("/proc") / (await parent.stdout.readline()).decode().strip() / "cmdline"
    assert child.read_bytes()

    parent.kill()
    await parent.wait()

    # Empty: it has ended, and nobody has asked for its exit status yet.
    await wait_for(lambda: not child.exists() or not child.read_bytes(), 60, "the child's end")


@pytest.mark.parametrize("words", [["config", "example"], ["no such command"]])
async def test_what_is_forked_says_and_ends_as_if_it_were_started(
    tmp_path: Path, words: list[str]
) -> None:
    command = [sys.executable, "-m", "common.cli", *words]
    started, forked = (
        Child(Program(name=name, command=command, log=tmp_path / name, directory=tmp_path))
        for name in ("started", "forked")
    )
    start_by_fork(forked)

    statuses = []
    for child in (started, forked):
        await child.start()
        statuses.append(await child.wait(60))

    assert statuses[0] == statuses[1]
    assert (tmp_path / "forked").read_text() == (tmp_path / "started").read_text() != ""


def test_records_are_read_across_frames() -> None:
    frames = b"".join(
        zstandard.ZstdCompressor().compress(line)
        for line in (b'{"room_id":"!a"}\n{"room_id":"!b"}\n', b'{"room_id":"!a","seq":1}\n')
    )

    assert read_records([frames], RoomId("!a")) == [
        {"room_id": "!a"},
        {"room_id": "!a", "seq": 1},
    ]


async def _wire_types(synapse: Synapse, client: NioClient, room_id: RoomId) -> list[str]:
    """Return the types of the message events as the homeserver has them, except reactions."""
    async with RawClient(synapse.url, client.account) as raw:
        events = await raw.messages(room_id)
    return [
        event["type"]
        for event in events
        if "state_key" not in event and event["type"] != "m.reaction"
    ]
