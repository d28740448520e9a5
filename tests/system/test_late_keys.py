"""A room key that comes late: recorded at once as unreadable, then as what was said."""

import asyncio
import json
import secrets
import sys

from common.ids import EventId
from tests.support.clients import wait_for
from tests.support.olm_device import OlmDevice
from tests.support.world import World

LATE_SECONDS = 10.0


async def coverage(world: World) -> dict[str, object]:
    """Return what ``steward audit coverage --json`` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # What is not signed yet too: the next manifest is minutes away.
        *("-m", "common.cli", "audit", "coverage", "--unsigned", "--json"),
        *("--home", str(world.steward.archive.with_name("officer"))),
        *("--destination", f"file:{world.steward.archive}"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return dict(json.loads(output))


async def test_a_key_that_is_ten_seconds_late(world: World) -> None:
    bot = world.steward.auditbot
    account = await world.synapse.register(f"slow-{secrets.token_hex(3)}")
    async with OlmDevice(world.synapse.url, account) as slow:
        encryption = {"algorithm": "m.megolm.v1.aes-sha2"}
        room = await slow.create_room(name="slow")
        await slow.wait_for_members(room, bot)
        await slow.send_state(room, "m.room.encryption", encryption)
        await slow.publish()
        await slow.find(bot)
        await slow.claim()

        said = await slow.say(room, "said long before its key")
        first = await world.steward.wait_for_event(said)
        loop = asyncio.get_running_loop()
        due = loop.time() + LATE_SECONDS
        await wait_for(lambda: loop.time() >= due, 2 * LATE_SECONDS, "a late key")
        await slow.share_key(room)
        late = await decryption_of(world, said)

    assert (first["enc_status"], first["enc_error"]) == ("undecryptable", "no_session")
    # What the daily statement counts of transactions rests on their being numbered.
    assert (first["source"] != "transaction") or str(first["source_pos"]).isdigit()
    assert late["body"] == "said long before its key"
    assert (late["enc_status"], late["of_seq"]) == ("late", first["seq"])
    assert late["ts_received"] - first["ts_received"] >= LATE_SECONDS * 1000
    counts = await coverage(world)
    (in_room,) = [each for each in counts["rooms"] if each["room_id"] == room]  # type: ignore[attr-defined]  # its static type is a wider one
    assert in_room["late_decrypted"] == 1
    assert in_room["undecryptable"] == {}


async def decryption_of(world: World, event: EventId) -> dict[str, object]:
    records = await world.steward.wait_for_records(
        lambda record: record["kind"] == "decryption" and record["event_id"] == event,
        f"what {event} says",
    )
    return records[0]
