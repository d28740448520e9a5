"""An entry that an earlier version could not deal with is dealt with by this one."""

import json

from common.clock import SystemClock
from common.inbox.aside import set_aside
from common.inbox.port import Entry, EntryKind, Source
from tests.support.backup import config_of, steward_command
from tests.support.databases import open_database
from tests.support.world import MakeWorld


async def test_what_was_set_aside_is_shown_and_archived_at_the_next_start(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    steward = world.steward
    async with await world.person() as alice:
        room = await alice.create_room()
        await alice.wait_for_members(room, steward.auditbot)
        await steward.wait_for_event(await alice.send_text(room, "before"))
        sender = alice.user_id
    await steward.stop()
    now = SystemClock().now_ms()
    event = {
        "event_id": "$poison",
        "room_id": room,
        "sender": sender,
        "type": "m.room.message",
        "origin_server_ts": now,
        "content": {"msgtype": "m.text", "body": "what a bug did not let through"},
    }
    body = json.dumps(event).encode()
    entry = Entry(7, EntryKind.EVENT, body, Source.TRANSACTION, "12", "", now - 1000)
    async with (
        open_database(config_of(steward).database.url.reveal()) as database,
        database.transaction() as connection,
    ):
        await set_aside(connection, "auditbot", entry, "KeyError", now_ms=now)

    listed = await steward_command(steward, "inbox", "list")
    asked = await steward_command(steward, "inbox", "retry")
    await steward.start()
    record = await steward.wait_for_event(event["event_id"])  # type: ignore[arg-type]  # JSON of a test server
    left = await steward_command(steward, "inbox", "list")

    assert (listed.status, asked.status) == (0, 0)
    assert "auditbot: event at 7: KeyError" in listed.out
    assert "what a bug" not in listed.out + asked.out
    assert "tried at the next start" in asked.out
    assert record["body"] == "what a bug did not let through"
    assert (record["source_pos"], record["ts_received"]) == ("12", now - 1000)
    assert left.out == "Nothing is set aside.\n"
