"""A bot's device deleted from outside: noticed, remade under the same identity, told, recorded."""

import json
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.ids import UserId
from tests.support.clients import NioClient, RawClient, wait_for
from tests.support.js_client import JsClient
from tests.support.world import MakeWorld, Wish, World


async def keys_of(person: RawClient, user: UserId) -> dict[str, Any]:
    """Return the master key and the cross-signed devices of a user."""
    answer = await person.client("POST", "/keys/query", {"device_keys": {user: []}})
    self_signing = next(iter(answer["self_signing_keys"][user]["keys"]))
    return {
        "master": answer["master_keys"][user]["keys"],
        "signed": {
            device
            for device, keys in answer["device_keys"][user].items()
            if self_signing in keys["signatures"][user]
        },
    }


async def has_another_device(person: RawClient, user: UserId, before: set[str]) -> bool:
    now = (await keys_of(person, user))["signed"]
    return bool(now) and not now & before


async def lose_device(admin: RawClient, world: World, way: str) -> None:
    """Do what logs the bot out everywhere."""
    bot = world.steward.auditbot
    if way == "password reset":
        body = {"new_password": secrets.token_urlsafe(12), "logout_devices": True}
        await admin.request("POST", f"/_synapse/admin/v1/reset_password/{bot}", body)
    elif way == "a person's own “sign out everywhere”":
        # Somebody who is logged in as the bot, e.g. after `steward login-as`.
        password = secrets.token_urlsafe(12)
        body = {"new_password": password, "logout_devices": False}
        await admin.request("POST", f"/_synapse/admin/v1/reset_password/{bot}", body)
        account = await world.synapse.log_in(bot, password)
        async with RawClient(world.synapse.url, account) as person:
            await person.client("POST", "/logout/all", {})
    else:
        devices = (await admin.request("GET", f"/_synapse/admin/v2/users/{bot}/devices"))[
            "devices"
        ]
        body = {"devices": [device["device_id"] for device in devices]}
        await admin.request("POST", f"/_synapse/admin/v2/users/{bot}/delete_devices", body)


@pytest.mark.parametrize(
    "way",
    ["password reset", "devices deleted", "a person's own “sign out everywhere”"],
    ids=["reset", "deleted", "logout-all"],
)
async def test_a_deleted_device_is_replaced_and_reading_goes_on(
    make_world: MakeWorld, way: str
) -> None:
    world = await make_world(Wish(), start=False)
    await world.synapse.start()
    admin = await world.person("chief", admin=True)
    control_room = await admin.create_room(name="control room")
    config = json.loads(world.steward.config_path.read_text())
    config["adminbot"] = {"control_rooms": [control_room]}
    world.steward.config_path.write_text(json.dumps(config))
    await world.steward.start()
    await admin.wait_for_members(control_room, world.steward.adminbot)
    bot = world.steward.auditbot
    account = await world.synapse.register("alice")
    async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
        room = await alice.create_room("room", encrypted=True)
        await alice.wait_for_members(room, world.steward.adminbot, bot)
        await world.steward.wait_for_event(await alice.send_text(room, "before"))
        before = await keys_of(admin, bot)

        await lose_device(admin, world, way)
        await wait_for(
            partial(has_another_device, admin, bot, before["signed"]), 60, "a new signed device"
        )
        await alice.sync()  # learn of the new device, as an open app does
        after = await world.steward.wait_for_event(await alice.send_text(room, "after"))
        new_room = await alice.create_room("new room", encrypted=True)
        first = await world.steward.wait_for_event(await alice.send_text(new_room, "hello"))

    assert (await keys_of(admin, bot))["master"] == before["master"]
    assert [after["body"], first["body"]] == ["after", "hello"]
    told = await admin.wait_for_message(control_room, "was deleted", sender=world.steward.adminbot)
    assert next(iter(before["signed"])) in told["content"]["body"]
    control = await world.steward.wait_for_records(
        lambda record: record["action"] == "device_replaced", "the replacement"
    )
    assert len(control) == 1
    assert json.loads(control[0]["detail_json"])["account"] == bot
    assert "a bot's device was deleted" in world.steward.log()
    await admin.close()


@pytest.mark.xdist_group("js")
async def test_a_client_that_trusts_signed_devices_only_goes_on_sharing_keys(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world()
    bot = world.steward.auditbot
    async with (
        await world.person("chief", admin=True) as admin,
        await JsClient.register(world.synapse, tmp_path, isolation="only-signed") as js,
    ):
        room = await js.create_room(encrypted=True)
        await js.wait_for_members(room, bot)
        await world.steward.wait_for_event(await js.send_text(room, "before"))
        before = await keys_of(admin, bot)

        await lose_device(admin, world, "password reset")
        await wait_for(
            partial(has_another_device, admin, bot, before["signed"]), 60, "a new signed device"
        )

        async def read() -> str | None:
            event = await js.send_text(room, "after")
            return str((await world.steward.wait_for_event(event))["body"] or "") or None

        # The client learns of the new device through its own /sync, a moment later.
        assert await wait_for(read, 60, "a message that can be read") == "after"


async def test_without_a_control_room_the_server_admins_are_told_in_their_direct_chats(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    adminbot, auditbot = world.steward.adminbot, world.steward.auditbot
    async with (
        await world.person("chief", admin=True) as chief,
        await world.person("second", admin=True) as second,
        await world.person("alice") as alice,
    ):
        chats = {
            person: await person.create_room(invite=[adminbot], direct=True)
            for person in (chief, second, alice)
        }
        shared = await chief.create_room(invite=[second.user_id])
        for person, chat in chats.items():
            await person.wait_for_members(chat, adminbot)
        # Only one of them has ever said something to it.
        asked = await chief.send_text(chats[chief], "!whoami")
        await chief.wait_for_message(chats[chief], "You are", sender=adminbot)
        before = await keys_of(chief, auditbot)

        await lose_device(chief, world, "password reset")

        for person in (chief, second):
            told = await person.wait_for_message(chats[person], "was deleted", sender=adminbot)
            assert next(iter(before["signed"])) in told["content"]["body"]
        for person, room in ((alice, chats[alice]), (chief, shared)):
            texts = [event["content"].get("body", "") for event in await person.messages(room)]
            assert not [text for text in texts if "was deleted" in text]
        assert asked
