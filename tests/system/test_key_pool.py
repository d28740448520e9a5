"""More devices claim a key than there are while Steward is away: nobody's message is lost."""

import asyncio
import re
from collections.abc import Iterator
from functools import partial

import aiohttp
import pytest

from common.demo.servers import free_port
from common.ids import EventId
from tests.support.clients import RawClient, wait_for
from tests.support.olm_device import OlmDevice
from tests.support.world import MakeWorld, Wish, World

WANTED = 2000
CLAIMS = 3000
AT_ONCE = 6
PEOPLE = 6
EVERY = 50
"""One in so many claims is made by a device that then speaks."""


@pytest.mark.timeout(400)
async def test_three_thousand_devices_claim_a_key_while_steward_is_away(
    make_world: MakeWorld,
) -> None:
    port = free_port()
    settings = {"encryption": {"one_time_keys": WANTED}, "metrics": {"listen_port": port}}
    world = await make_world(Wish(settings=settings))
    bot = world.steward.auditbot
    devices = await log_in_devices(world, CLAIMS // EVERY)
    room = await devices[0].create_room(extra=ENCRYPTED)
    await devices[0].wait_for_members(room, world.steward.adminbot, bot)
    for device in {device.user_id: device for device in devices[1:]}.values():
        if device.user_id != devices[0].user_id:
            await devices[0].invite(room, device.user_id)
            await device.join(room)
    # As many as Synapse keeps, which is less; what goes beyond is the fallback key's work.
    held = int(await figure(port, bot))
    assert 400 < held <= WANTED
    for device in devices:
        await device.publish()
        await device.find(bot)

    await world.steward.stop()
    assert await claim_many(devices[0], CLAIMS, iter(devices), bot) == CLAIMS - held
    sent: dict[EventId, str] = {}
    for number, device in enumerate(devices):
        await device.share_key(room)
        sent[await device.say(room, f"first message of device {number}")] = f"{number}"
    await world.steward.start()

    records = await world.steward.wait_for_records(
        lambda record: record["event_id"] in sent,
        "the first messages",
        count=len(sent),
        deadline_seconds=120,
    )
    unread = [record["enc_error"] for record in records if record["enc_status"] != "decrypted"]
    assert not unread
    assert {record["body"] for record in records} == {
        f"first message of device {number}" for number in range(len(devices))
    }
    await wait_for(partial(is_full, port, bot, held), 60, "a full pool")
    # The pool is filled at the start; that the fallback key was used is told with the messages.
    await wait_for(partial(fallback_was_used, port, bot), 60, "the use of the fallback key")
    assert await figure(port, bot, "steward_fallback_key_used_total") == 1
    assert "the fallback key was used" in world.steward.log()
    for device in devices:
        await device.close()


ENCRYPTED = {
    "initial_state": [
        {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
    ]
}


async def log_in_devices(world: World, count: int) -> list[OlmDevice]:
    accounts = [await world.synapse.register(f"person-{number}") for number in range(PEOPLE)]
    found = []
    for number in range(count):
        account = accounts[number % PEOPLE]
        if number >= PEOPLE:
            localpart = account.user_id.partition(":")[0].removeprefix("@")
            account = await world.synapse.log_in(localpart, account.password)
        found.append(OlmDevice(world.synapse.url, account))
    return found


async def claim_many(
    stranger: RawClient, count: int, speakers: Iterator[OlmDevice], bot: str
) -> int:
    """Claim keys one by one, as that many devices would; some of them will speak.

    Returns how often the fallback key was given.
    """
    answer = await stranger.client("POST", "/keys/query", {"device_keys": {bot: []}})
    (device,) = answer["device_keys"][bot]
    body = {"one_time_keys": {bot: {device: "signed_curve25519"}}}
    numbers = iter(range(count))
    fallback = 0

    async def claim_some() -> None:
        nonlocal fallback
        for number in numbers:
            if number % EVERY:
                answer = await stranger.client("POST", "/keys/claim", body)
                (key,) = answer["one_time_keys"][bot][device].values()
            else:
                key = await next(speakers).claim()
            fallback += bool(key.get("fallback"))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(claim_some())
    return fallback


async def figure(port: int, bot: str, name: str = "steward_one_time_keys") -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        text = await response.text()
    assert "\nsteward_archive_figures_up 1\n" in text
    assert "\nsteward_archive_exporting 1\n" in text
    found = re.search(rf'^{name}{{account="{re.escape(bot)}"}} (\S+)$', text, re.MULTILINE)
    assert found, text
    return float(found[1])


async def fallback_was_used(port: int, bot: str) -> bool:
    return await figure(port, bot, "steward_fallback_key_used_total") > 0


async def is_full(port: int, bot: str, held: int) -> bool:
    return await figure(port, bot) >= held
