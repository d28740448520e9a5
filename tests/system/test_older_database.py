"""A database restored from an older copy: keys are never used twice, and the bots go on."""

import shutil
from pathlib import Path

from tests.support.clients import NioClient, RawClient, wait_for
from tests.support.world import MakeWorld, World

CLAIMS = 60


async def own_device(person: RawClient, world: World) -> str:
    answer = await person.client(
        "POST", "/keys/query", {"device_keys": {world.steward.auditbot: []}}
    )
    devices = answer["device_keys"][world.steward.auditbot]
    return str(max(devices))


async def claim(person: RawClient, world: World, device: str) -> None:
    body = {"one_time_keys": {world.steward.auditbot: {device: "signed_curve25519"}}}
    for _ in range(CLAIMS):
        await person.client("POST", "/keys/claim", body)


def times_published(world: World) -> int:
    return world.steward.log().count("one-time keys published")


def copy_of(world: World, place: Path) -> list[Path]:
    place.mkdir()
    return [
        Path(shutil.copy2(file, place)) for file in world.steward.directory.glob("steward.db*")
    ]


async def test_an_older_copy_of_the_database_gets_a_new_device(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world()
    person = await world.person()
    device = await own_device(person, world)
    await world.steward.stop()
    older = copy_of(world, tmp_path / "older")
    await claim(person, world, device)
    before = times_published(world)
    await world.steward.start()  # publishes new keys in place of the claimed ones
    await wait_for(lambda: times_published(world) > before, 60, "new keys")
    await world.steward.stop()
    await claim(person, world, device)
    for file in world.steward.directory.glob("steward.db*"):
        file.unlink()
    for file in older:
        shutil.copy2(file, world.steward.directory)

    await world.steward.start()

    account = await world.synapse.register("alice")
    async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
        room = await alice.create_room("after", encrypted=True)
        await alice.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
        record = await world.steward.wait_for_event(await alice.send_text(room, "still read"))
    assert record["body"] == "still read"
    assert "older copy" in world.steward.log()
    await person.close()
