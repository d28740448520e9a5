"""An archive that does not keep what a message was read from."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from auditbot.reader.recheck.comparing import State
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.megolm import Device
from tests.unit.auditbot.test_operations import Office
from tests.unit.auditbot.test_session_keys import Expert, states, wrong


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def test_what_was_read_is_kept_without_its_ciphertext_and_what_was_not_with_it(
    database: Database, tmp_path: Path
) -> None:
    office, device = Office(database, tmp_path), Device()
    office.world.crypto, office.world.ciphertext = device, False
    office.start()
    early = device.say("$early", "its key comes later")
    await office.say(*new_room("@bob:example.org"), message("$clear"), early)
    device.give()
    await office.say(device.say("$read", "its key is there"))
    await office.store()

    checked = office.check()
    said = {one["event_id"]: one for one in checked.of_kind("event")}
    assert said["$read"]["enc_status"] == "decrypted"
    assert said["$read"].get("wire_json") is None
    assert said["$read"].get("detail_json") is None
    assert "its key is there" in said["$read"]["event_json"]
    assert said["$early"]["enc_status"] == "undecryptable"
    assert "ciphertext" in json.loads(said["$early"]["wire_json"])["content"]
    assert said["$clear"]["body"] is not None
    assert {one["ciphertext_kept"] for found in checked.manifests.values() for one in found} == {
        False
    }
    expert = Expert(office, device, tmp_path / "cache")
    found, faults = await expert.rechecks("$read")
    assert (states(found), faults) == ({"$read": State.NOT_KEPT}, [])
    assert wrong(await expert.verified()) == []
