"""Secure Backup beside a real homeserver: made once, never replaced, enough to start anew with."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.crypto.key_backup import ALGORITHM, BackupKey
from common.crypto.machine import CryptoMachine
from common.crypto.port import Decrypted, EncryptedEvent, KeySource, SessionRef
from common.crypto.secret_storage import BACKUP, SecretStorage
from common.ids import DeviceId, EventId, RoomId
from common.matrix.client import MatrixClient
from tests.support.backup import (
    account_data,
    acting_as,
    add_sessions,
    backup_version,
    config_of,
    database_of,
    on_the_server,
    passphrase_of,
    steward_command,
)
from tests.support.clients import NioClient, wait_for
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish, World

BOTS = ("adminbot", "auditbot")
WITHOUT_PASSPHRASE = "steward restore-keys"


@pytest.mark.parametrize("on_postgres", [False, True])
async def test_a_restart_changes_nothing_on_the_homeserver(
    make_world: MakeWorld, postgres: Postgres, on_postgres: bool
) -> None:
    world = await make_world(Wish(postgres=postgres if on_postgres else None))
    for user in (world.steward.adminbot, world.steward.auditbot):
        async with acting_as(world.steward, user) as bot:
            before = await on_the_server(bot)

            await world.steward.restart()
            await world.steward.kill()
            await world.steward.start()

            assert await on_the_server(bot) == before
            signatures = before["backup"]["auth_data"]["signatures"][user]
            [master] = before["published"]["master_keys"][user]["keys"]
            [device] = before["published"]["device_keys"][user]
            assert set(signatures) == {master, f"ed25519:{device}"}
    first, second = [await passphrase_of(world.steward, name) for name in BOTS]
    assert first != second
    log = world.steward.log()
    assert not any(text in log for text in (*first, *second))
    assert not any(first[0].encode() in path.read_bytes() for path in database_files(world))


async def test_the_passphrase_goes_to_a_terminal_and_into_the_action_log(
    make_world: MakeWorld,
) -> None:
    world = await make_world()

    refused = await steward_command(world.steward, "passphrase", "auditbot")
    shown = await steward_command(world.steward, "passphrase", "auditbot", "--force")

    assert (refused.status, refused.out) == (1, "")
    assert shown.status == 0
    await world.steward.stop()
    async with database_of(world.steward) as database:
        rows = await database.fetch("SELECT * FROM admin_action ORDER BY at_ms, phase")
    assert [(row["phase"], row["command"]) for row in rows] == [
        ("about to", "steward passphrase auditbot"),
        ("did", "steward passphrase auditbot"),
    ]


@pytest.mark.timeout(300)
async def test_an_empty_database_and_the_passphrase_are_enough(make_world: MakeWorld) -> None:
    world = await make_world()
    steward = world.steward
    account = await world.synapse.register("alice")
    async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
        rooms = [await alice.create_room(f"room {n}", encrypted=True) for n in range(3)]
        old: list[tuple[RoomId, EventId]] = []
        for room in rooms:
            await alice.wait_for_members(room, steward.adminbot, steward.auditbot)
            for number in range(2):
                old.append((room, await alice.send_text(room, f"said in {room} {number}")))
                alice.nio.invalidate_outbound_session(room)  # each message has its own session
        for _, event in old:
            assert (await steward.wait_for_event(event))["enc_status"] == "decrypted"
        phrases = {name: await passphrase_of(steward, name) for name in BOTS}
        async with acting_as(steward, steward.auditbot) as bot:
            await wait_for(lambda: has_keys(bot, len(old)), 60, "all room keys in the backup")
            before = await on_the_server(bot)

            await steward.kill()
            for path in database_files(world):
                path.unlink()
            await refuses_to_start(world)
            wrong = await steward_command(steward, "restore-keys", "auditbot", given="wrong one\n")
            assert wrong.status == 1
            assert "does not open" in wrong.err
            # One with the passphrase, one with the recovery key.
            restored = await steward_command(
                steward, "restore-keys", "auditbot", given=f"{phrases['auditbot'][0]}\n"
            )
            assert restored.status == 0, restored.err
            assert f"holds {len(old)} room keys: {len(old)} are new" in restored.out
            other = await steward_command(
                steward, "restore-keys", "adminbot", given=f"{phrases['adminbot'][1]}\n"
            )
            assert other.status == 0, other.err
            await steward.start()

            after = await on_the_server(bot)
            assert after["backup"] == before["backup"]
            assert after["default"] == before["default"]
            for usage in ("master_keys", "self_signing_keys", "user_signing_keys"):
                assert after["published"][usage] == before["published"][usage]
            new_device = signed_device(after["published"], steward.auditbot, before["published"])
        await alice.sync()
        for room in rooms:
            event = await alice.send_text(room, "after the disaster")
            assert (await steward.wait_for_event(event))["enc_status"] == "decrypted"
        await steward.stop()
        for room, event in old:
            assert await read_again(world, new_device, room, event) == f"said in {room} " + (
                "0" if event in [e for r, e in old if r == room][:1] else "1"
            )


async def test_a_configured_passphrase_recovers_by_itself(make_world: MakeWorld) -> None:
    phrases = {f"{name}_passphrase": f"six words for the {name}" for name in BOTS}
    keys = {"pickle_key": "the same key before and after", "one_time_keys": 100}
    world = await make_world(Wish(settings={"encryption": {**keys, **phrases}}))
    steward = world.steward
    await steward.stop()
    await add_sessions(steward, steward.auditbot, [SessionRef("!room", "d") for _ in range(3)])
    await steward.start()
    async with acting_as(steward, steward.auditbot) as bot:
        await wait_for(lambda: has_keys(bot, 3), 60, "the room keys in the backup")
        before = await on_the_server(bot)
        await steward.kill()
        for path in database_files(world):
            path.unlink()

        await steward.start()

        after = await on_the_server(bot)
        assert (after["backup"], after["default"]) == (before["backup"], before["default"])
        assert after["published"]["master_keys"] == before["published"]["master_keys"]
        signed_device(after["published"], steward.auditbot, before["published"])
    await steward.stop()
    async with database_of(steward) as database:
        rows = await database.fetch("SELECT source, backup_due FROM crypto_inbound_session")
    assert [(row["source"], row["backup_due"]) for row in rows] == [("backup", 0)] * 3


async def refuses_to_start(world: World) -> None:
    await world.steward.launch()
    assert await world.steward.child.wait(60) == 1
    last = world.steward.log().strip().splitlines()[-1]
    assert WITHOUT_PASSPHRASE in last


async def has_keys(bot: MatrixClient, count: int) -> bool:
    return int((await backup_version(bot))["count"]) >= count


def keys_at_rest(world: World) -> int:
    """Count the room keys in the database of a homeserver that does not run."""
    path = world.synapse.directory / "homeserver.db"
    with closing(sqlite3.connect(path)) as database:
        (count,) = database.execute("SELECT COUNT(*) FROM e2e_room_keys").fetchone()
    return int(count)


def database_files(world: World) -> list[Path]:
    return list(world.steward.directory.glob("steward.db*"))


def signed_device(after: dict[str, Any], user: str, before: dict[str, Any]) -> DeviceId:
    """Return the new device, which the old identity must have signed."""
    [signing_key] = after["self_signing_keys"][user]["keys"]
    [new] = set(after["device_keys"][user]) - set(before["device_keys"][user])
    assert signing_key in after["device_keys"][user][new]["signatures"][user]
    return DeviceId(new)


async def read_again(world: World, device: DeviceId, room: RoomId, event: EventId) -> str:
    """Read an old message with what the new database holds."""
    steward = world.steward
    async with (
        acting_as(steward, steward.auditbot) as bot,
        database_of(steward) as database,
    ):
        machine = CryptoMachine(
            client=bot.with_device(device),
            database=database,
            clock=SystemClock(),
            pickle_key=config_of(steward).encryption.pickle_key,
            one_time_keys=100,
            session_cache=10,
        )
        found = await bot.request("GET", f"/_matrix/client/v3/rooms/{room}/event/{event}")
        sealed = EncryptedEvent(event, room, found["sender"], found["content"])
        async with database.transaction() as conn:
            [reading] = await machine.decrypt(conn, [sealed])
    assert isinstance(reading, Decrypted), reading
    assert reading.key_source is KeySource.BACKUP
    return str(json.loads(reading.payload)["content"]["body"])


async def test_another_backup_is_left_alone_until_its_key_can_be_had(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    steward = world.steward
    theirs = BackupKey.fresh()
    async with acting_as(steward, steward.auditbot) as bot:
        first = (await backup_version(bot))["version"]
        body = {"algorithm": ALGORITHM, "auth_data": {"public_key": theirs.public}}
        answer = await bot.request("POST", "/_matrix/client/v3/room_keys/version", body)
        account = await world.synapse.register("alice")
        async with NioClient(world.synapse.url, account, world.directory / "nio") as alice:
            room = await alice.create_room(encrypted=True)
            await alice.wait_for_members(room, steward.auditbot)
            await alice.send_text(room, "into which backup?")

            await wait_for(
                lambda: "another client began a key backup" in steward.log(), 60, "the alarm"
            )
            current = await backup_version(bot)
            assert (current["version"], current["count"]) == (answer["version"], 0)
            old = await bot.request("GET", f"/_matrix/client/v3/room_keys/version/{first}")
            assert old["version"] == first

            phrase, _ = await passphrase_of(steward, "auditbot")
            storage = SecretStorage(bot)
            await storage.write(await storage.unlock(phrase), BACKUP, theirs.secret)
            alice.nio.invalidate_outbound_session(room)
            await alice.send_text(room, "into theirs")

            await wait_for(lambda: has_keys(bot, 2), 60, "both room keys in their backup")
            assert (await backup_version(bot))["version"] == answer["version"]
            assert (await account_data(bot, BACKUP))["encrypted"]


@pytest.mark.timeout(300)
async def test_an_outage_in_the_middle_of_an_upload_costs_nothing(make_world: MakeWorld) -> None:
    world = await make_world()
    steward = world.steward
    await steward.stop()
    many = 6_000
    await add_sessions(
        steward,
        steward.auditbot,
        [SessionRef(f"!room{n % 50}", f"device {n}") for n in range(many)],
    )
    async with acting_as(steward, steward.auditbot) as bot:
        await steward.launch()
        await wait_for(lambda: has_keys(bot, 1), 60, "the first room keys in the backup")

        await world.synapse.kill()
        assert keys_at_rest(world) < many
        await world.synapse.start()

        await wait_for(lambda: has_keys(bot, many), 120, "all room keys in the backup")
        assert int((await backup_version(bot))["count"]) == many
    await wait_for(lambda: "room keys wait for their backup" in steward.log(), 30, "the log line")
    assert "room keys are being backed up" in steward.log()
    async with database_of(steward) as database:

        async def nothing_is_due() -> bool:
            due = await database.fetchval(
                "SELECT COUNT(*) FROM crypto_inbound_session WHERE backup_due = 1"
            )
            return int(due) == 0

        # The homeserver has the last keys a moment before Steward reads its answer.
        await wait_for(nothing_is_due, 60, "Steward to know that every key is in the backup")
