"""A person logs in as a bot with matrix-js-sdk, and reads everything with the passphrase alone."""

import re
import secrets

import pytest

from common.demo.process import ServerError
from common.demo.servers import Synapse
from common.ids import EventId, RoomId
from tests.support.backup import acting_as, backup_version, passphrase_of, steward_command
from tests.support.clients import wait_for
from tests.support.js_client import JsClient
from tests.support.world import MakeWorld, Wish, World

pytestmark = pytest.mark.timeout(300)

TOKENS = {"login_via_existing_session": {"enabled": True, "require_ui_auth": False}}


async def said_in_rooms(world: World) -> dict[EventId, RoomId]:
    """Have somebody say things, before and after auditbot's restart; return when all is kept."""
    steward = world.steward
    said: dict[EventId, RoomId] = {}
    async with await JsClient.register(world.synapse, world.directory / "js") as alice:
        rooms = [await alice.create_room(name=f"room {n}") for n in range(2)]
        for room in rooms:
            await alice.wait_for_members(room, steward.auditbot)
            for number in range(3):
                said[await alice.send_text(room, f"message {number}")] = room
        await steward.restart()
        for room in rooms:
            said[await alice.send_text(room, "after the restart")] = room
    records = [await steward.wait_for_event(event) for event in said]
    assert {record["enc_status"] for record in records} == {"decrypted"}
    sessions = {record["enc_session_id"] for record in records}

    async with acting_as(steward, steward.auditbot) as bot:

        async def all_backed_up() -> bool:
            return int((await backup_version(bot))["count"]) >= len(sessions)

        await wait_for(all_backed_up, 60, "the room keys in the backup")
    return said


async def reads_everything(person: JsClient, said: dict[EventId, RoomId]) -> None:
    restored = await person.restore_key_backup()
    assert restored["imported"] == restored["total"] > 0
    for room in set(said.values()):
        await person.call("waitUntilKnown", roomId=room)
        seen = {event["event_id"]: event for event in await person.history(room)}
        assert not [event for event in seen.values() if event["failed"]]
        for event, where in said.items():
            if where == room:
                assert seen[event]["type"] == "m.room.message"
                assert seen[event]["encrypted"]


async def test_with_a_one_use_token_and_the_passphrase(make_world: MakeWorld) -> None:
    world = await make_world(Wish(extra=TOKENS))
    said = await said_in_rooms(world)
    phrase, _ = await passphrase_of(world.steward, "auditbot")
    answer = await steward_command(
        world.steward, "login-as", "auditbot", "--force", "--element", "https://element.test/"
    )
    assert answer.status == 0, answer.err
    found = re.search(r"https://element\.test/\?loginToken=(\S+)", answer.out)
    assert found is not None

    async with JsClient(world.directory / "person") as person:
        await person.log_in_with_token(world.synapse.url, found[1])
        assert person.user_id == world.steward.auditbot
        with pytest.raises(ServerError, match="wrong key"):
            await person.unlock("not the passphrase")
        unlocked = await person.unlock(phrase)
        assert unlocked["cross_signing"] is True
        assert (unlocked["backup"]["trusted"], unlocked["backup"]["matches"]) == (True, True)
        await reads_everything(person, said)

    async with JsClient(world.directory / "another") as another:
        with pytest.raises(ServerError, match="M_FORBIDDEN"):
            await another.log_in_with_token(world.synapse.url, found[1])


async def test_with_a_password_and_the_recovery_key(make_world: MakeWorld) -> None:
    world = await make_world()
    said = await said_in_rooms(world)
    _, recovery_key = await passphrase_of(world.steward, "auditbot")
    password = await set_password(world, world.synapse)

    async with JsClient(world.directory / "person") as person:
        await person.log_in(world.synapse.url, "auditbot", password)
        unlocked = await person.unlock(recovery_key)
        assert unlocked["cross_signing"] is True
        await reads_everything(person, said)


async def set_password(world: World, synapse: Synapse) -> str:
    """Have a server admin set auditbot's password, and leave its devices alone."""
    password = secrets.token_urlsafe(16)
    async with await world.person("root", admin=True) as root:
        path = f"/_synapse/admin/v1/reset_password/{world.steward.auditbot}"
        await root.request("POST", path, {"new_password": password, "logout_devices": False})
    return password


async def test_what_to_switch_on_is_said(make_world: MakeWorld) -> None:
    world = await make_world()

    answer = await steward_command(world.steward, "login-as", "auditbot", "--force")

    assert answer.status == 1
    assert "login_via_existing_session:\n  enabled: true\n  require_ui_auth: false" in answer.err
