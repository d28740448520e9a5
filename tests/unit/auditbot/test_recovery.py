"""What arrives deleted is recorded as it was sent if the homeserver still has it, and only then."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, RoomVersion, RoomVersions

from auditbot.bot import Auditbot
from auditbot.pipeline.original import proof_of
from auditbot.recovery import AGAIN_SECONDS, PATIENCE_SECONDS
from common.crypto.canonical import canonical_json, unpadded
from common.database.pool import Database
from common.errors import TransientError
from tests.support.databases import open_database, sqlite_url
from tests.support.pdus import pdu_of
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, StoppedClock, entries, event, new_room
from tests.unit.auditbot.world import World

VERSIONS = [one for name, one in KNOWN_ROOM_VERSIONS.items() if name.isdecimal()]
HASHED_NAME = [one for one in VERSIONS if one.event_format > 1]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def name_of(version: RoomVersion) -> dict[str, Any]:
    """Return what an event needs besides to have a name in rooms of this version."""
    if version.event_format > 1:
        return {}
    before = [["$b:example.org", {"sha256": "hash"}]]
    return {
        "event_id": "$1:example.org",
        "origin": "example.org",
        "prev_state": [],
        "prev_events": before,
        "auth_events": before,
    }


@pytest.mark.parametrize("version", VERSIONS, ids=lambda one: one.identifier)
@pytest.mark.parametrize("number", range(5))
def test_an_original_is_proved_in_every_room_version(version: RoomVersion, number: int) -> None:
    """Some times, as the name of a room of version 3 may hold any letter of base64."""
    fields = {**name_of(version), "content": {"body": f"no. {number} – ü"}, "x": 1}
    event_id, pdu = pdu_of(fields, version)

    with_name = {**pdu, "event_id": event_id, "unsigned": {"age": 1}}
    expected = "content_hash" if version.event_format == 1 else "event_id"
    assert proof_of(with_name, event_id) == expected


@pytest.mark.parametrize("version", [RoomVersions.V10, RoomVersions.V11])
def test_a_redaction_that_was_deleted_itself_is_proved_too(version: RoomVersion) -> None:
    said = {
        "type": "m.room.redaction",
        "redacts": "$x",
        "content": {"redacts": "$x", "reason": "r"},
    }
    event_id, pdu = pdu_of(said, version)

    assert proof_of(pdu, event_id) == "event_id"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda one: one.identifier)
@pytest.mark.parametrize(
    "change",
    [
        {"content": {}},
        {"content": {"body": "something else"}},
        {"sender": "@mallory:example.org"},
        {"origin_server_ts": 1},
        {"hashes": {}},
        {"hashes": {"sha256": "!"}},
        {"hashes": None},
        {"content": {"body": 1.5}},
        {"state_key": ""},
        {"type": "m.room.member"},
    ],
)
def test_nothing_else_is_taken_for_it(version: RoomVersion, change: Mapping[str, Any]) -> None:
    event_id, pdu = pdu_of(name_of(version), version)

    assert proof_of({**pdu, **change}, event_id) is None


@pytest.mark.parametrize("version", HASHED_NAME, ids=lambda one: one.identifier)
def test_a_hash_that_fits_is_not_enough_where_the_name_says_otherwise(
    version: RoomVersion,
) -> None:
    """Whoever changes the content can make its hash anew, but not the name."""
    event_id, pdu = pdu_of({}, version)
    _, forged = pdu_of({"content": {"body": "forged"}}, version)

    assert proof_of(pdu, event_id) is not None
    assert proof_of(forged, event_id) is None


def deleted(event_id: str, **fields: object) -> bytes:
    """Return how a message arrives that is deleted by now."""
    because = {"type": "m.room.redaction", "event_id": "$because", "sender": ALICE}
    return event(event_id, {}, unsigned={"redacted_because": because}, **fields)


class Told:
    """auditbot, and a homeserver that keeps what was deleted."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.world = World(database, directory, StoppedClock(NOON))
        self.bot = cast(Auditbot, self.world.restart())

    def keep(self, **fields: object) -> str:
        event_id, pdu = pdu_of({"room_id": ROOM, "sender": ALICE, **fields})
        self.world.admin.events[event_id] = pdu
        return event_id

    async def give(self, *bodies: bytes) -> None:
        await self.world.give(self.bot, entries(bodies))

    async def record(self, event_id: str) -> dict[str, Any]:
        (found,) = [one for one in await self.world.records() if one["event_id"] == event_id]
        return found


@pytest.fixture
async def told(database: Database, tmp_path: Path) -> Told:
    told = Told(database, tmp_path)
    await told.give(*new_room("@bob:example.org"))
    return told


async def test_it_is_recorded_as_it_was_sent_and_proves_itself(told: Told) -> None:
    event_id = told.keep(content={"msgtype": "m.text", "body": "deleted soon"})

    await told.give(deleted(event_id))

    record = await told.record(event_id)
    assert record["content_state"] == "recovered_unredacted"
    assert (record["body"], record["enc_status"]) == ("deleted soon", "clear")
    detail = json.loads(record["detail_json"])
    assert detail == {"recovered": {"proof": "event_id", "redacted_by": "$because"}}
    # As docs/archive-format.md says, with nothing of the writer.
    said = json.loads(record["event_json"])
    assert said.pop("event_id") == event_id
    hashes = said.pop("hashes")
    del said["signatures"]
    digest = hashlib.sha256(canonical_json(said)).digest()
    assert hashes == {"sha256": unpadded(digest)}
    whole = hashlib.sha256(record["event_json"].encode()).hexdigest()
    assert record["payload_sha256"] == whole
    assert told.world.admin.asked == [event_id]


async def test_what_the_homeserver_does_not_have_any_more_arrived_deleted(told: Told) -> None:
    pruned = told.keep()
    told.world.admin.events[pruned]["content"] = {}

    await told.give(deleted(pruned), deleted("$unknown"))

    for event_id in (pruned, "$unknown"):
        record = await told.record(event_id)
        assert (record["content_state"], record["body"]) == ("arrived_redacted", None)


async def test_what_comes_back_is_of_that_room_and_that_sender(told: Told) -> None:
    elsewhere = told.keep(room_id="!another")
    by_another = told.keep(sender="@bob:example.org", depth=3)
    of_another = told.keep(depth=4)
    told.world.admin.events[of_another] = told.world.admin.events[told.keep(depth=5)]

    await told.give(*(deleted(name) for name in (elsewhere, by_another, of_another)))

    for event_id in (elsewhere, by_another, of_another):
        assert (await told.record(event_id))["content_state"] == "arrived_redacted"


async def test_only_what_arrives_deleted_and_new_is_asked_for(told: Told) -> None:
    event_id = told.keep()
    await told.give(deleted(event_id))
    asked = list(told.world.admin.asked)

    await told.give(
        deleted(event_id),
        event("$as sent", {"body": '"redacted_because"'}),
        deleted("$state", type="m.room.topic", state_key=""),
        deleted("not a name"),
    )

    assert told.world.admin.asked == asked
    assert (await told.record("$as sent"))["content_state"] == "as_sent"
    assert (await told.record("$state"))["content_state"] == "arrived_redacted"


async def test_it_can_be_switched_off(database: Database, tmp_path: Path) -> None:
    told = Told(database, tmp_path)
    told.world.recover_redacted = False
    told.bot = cast(Auditbot, told.world.restart())
    event_id = told.keep()

    await told.give(deleted(event_id))

    assert told.world.admin.asked == []
    assert (await told.record(event_id))["content_state"] == "arrived_redacted"


async def test_events_wait_for_a_homeserver_that_is_away_but_not_for_long(told: Told) -> None:
    clock = cast(StoppedClock, told.world.clock)
    event_id, admin = told.keep(), told.world.admin
    admin.failures = [TransientError("away")]

    for _ in range(2):
        with pytest.raises(TransientError):
            await told.give(deleted(event_id))
    clock.moment_ms += int(PATIENCE_SECONDS * 1000)
    await told.give(deleted(event_id))
    assert (await told.record(event_id))["content_state"] == "arrived_redacted"

    later = told.keep(depth=2)
    await told.give(deleted(later))
    assert (await told.record(later))["content_state"] == "arrived_redacted", "nothing waits now"
    clock.moment_ms += int(AGAIN_SECONDS * 1000)
    last = told.keep(depth=3)
    with pytest.raises(TransientError):
        await told.give(deleted(last))
    admin.failures = []
    await told.give(deleted(last))
    assert (await told.record(last))["content_state"] == "recovered_unredacted"


async def test_one_that_the_homeserver_always_fails_on_keeps_no_other_waiting(told: Told) -> None:
    clock = cast(StoppedClock, told.world.clock)
    sound, poison = told.keep(), told.keep(depth=2)
    told.world.admin.poison = poison

    for _ in range(3):
        with pytest.raises(TransientError):
            await told.give(deleted(sound), deleted(poison))
        clock.moment_ms += int(PATIENCE_SECONDS * 1000) // 3
    await told.give(deleted(sound), deleted(poison))

    assert (await told.record(sound))["content_state"] == "recovered_unredacted"
    assert (await told.record(poison))["content_state"] == "arrived_redacted"


async def test_an_answer_of_a_strange_shape_stops_nothing(told: Told) -> None:
    event_id = told.keep()
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    told.world.admin.events[event_id] |= {"content": deep}

    await told.give(deleted(event_id))

    assert (await told.record(event_id))["content_state"] == "arrived_redacted"
