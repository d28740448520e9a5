"""What is said and deleted while Steward is down, with a real homeserver that keeps it for a while."""

import asyncio
import csv
import json
import secrets
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event

from common.demo.servers import Synapse
from common.ids import EventId, RoomId
from tests.support.backup import steward_command
from tests.support.olm_device import OlmDevice
from tests.support.world import MakeWorld, Wish, World
from tests.unit.auditbot.test_media import PNG

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


@dataclass(frozen=True)
class Deleted:
    """What was said and deleted while nobody archived it."""

    room: RoomId
    clear: EventId
    sealed: EventId
    picture: EventId
    redaction: EventId
    forgotten: EventId


async def deleted_in_between(world: World) -> Deleted:
    """Have somebody say and delete things while Steward is down."""
    bot = world.steward.auditbot
    account = await world.synapse.register(f"quick-{secrets.token_hex(3)}")
    async with AsyncExitStack() as stack:
        quick = await stack.enter_async_context(OlmDevice(world.synapse.url, account))
        room = await quick.create_room(name="quick")
        await quick.wait_for_members(room, bot)
        await quick.send_state(room, "m.room.encryption", ENCRYPTION)
        await quick.publish()
        await quick.find(bot)
        await quick.claim()
        await quick.share_key(room)
        await world.steward.wait_for_event(await quick.say(room, "before"))
        await world.steward.stop()

        clear = await quick.send_text(room, "clear, and deleted at once")
        sealed = await quick.say(room, "encrypted, and deleted at once")
        uri = await quick.upload(PNG, "a.png")
        content = {"msgtype": "m.image", "body": "a.png", "url": uri}
        picture = await quick.send(room, "m.room.message", content)
        forgotten = await quick.send_text(room, "deleted long ago")
        redaction = await quick.redact(room, clear, "typo")
        for event in (sealed, picture, forgotten):
            await quick.redact(room, event)
        return Deleted(room, clear, sealed, picture, redaction, forgotten)


def forget(synapse: Synapse, event: EventId) -> None:
    """Do what Synapse does once redaction_retention_period is over; it must not run meanwhile."""
    with closing(sqlite3.connect(synapse.directory / "homeserver.db")) as database, database:
        text, version = database.execute(
            "SELECT json, room_version FROM event_json JOIN rooms USING (room_id)"
            " WHERE event_id = ?",
            (event,),
        ).fetchone()
        whole = make_event_from_dict(json.loads(text), KNOWN_ROOM_VERSIONS[version])
        pruned = json.dumps(prune_event(whole).get_pdu_json())
        database.execute("UPDATE event_json SET json = ? WHERE event_id = ?", (pruned, event))


async def test_what_was_deleted_before_it_was_seen_is_recovered_and_marked(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world()
    said = await deleted_in_between(world)
    await world.synapse.stop()
    forget(world.synapse, said.forgotten)
    await world.synapse.start()
    await world.steward.start()

    clear = await world.steward.wait_for_event(said.clear)
    sealed = await world.steward.wait_for_event(said.sealed)
    picture = await world.steward.wait_for_event(said.picture)
    forgotten = await world.steward.wait_for_event(said.forgotten)
    redaction = await world.steward.wait_for_event(said.redaction)
    (media,) = await world.steward.wait_for_records(
        lambda one: one["kind"] == "media" and one["event_id"] == said.picture, "the picture"
    )

    assert clear["content_state"] == "recovered_unredacted"
    assert clear["body"] == "clear, and deleted at once"
    assert json.loads(clear["detail_json"])["recovered"] == {
        "proof": "event_id",
        "redacted_by": said.redaction,
    }
    assert sealed["content_state"] == "recovered_unredacted"
    assert (sealed["enc_status"], sealed["body"]) == (
        "decrypted",
        "encrypted, and deleted at once",
    )
    assert json.loads(sealed["wire_json"])["event_id"] == said.sealed
    assert picture["media_mxc"] is not None
    assert media["media_status"] == "stored"
    assert (forgotten["content_state"], forgotten["body"]) == ("arrived_redacted", None)
    assert (redaction["redacts"], redaction["redaction_reason"]) == (said.clear, "typo")
    await world.steward.stop()
    await is_shown_as_deleted_and_recovered(world, said, tmp_path)


async def is_shown_as_deleted_and_recovered(world: World, said: Deleted, folder: Path) -> None:
    verified = await steward_command(world.steward, "audit", "verify", f"--home={folder}")
    assert verified.status == 0, verified.out
    files = {form: folder / f"transcript.{form}" for form in ("csv", "html")}
    for form, file in files.items():
        wrote = await steward_command(
            world.steward,
            *("audit", "transcript", said.room, f"--home={folder}"),
            *(f"--format={form}", f"--output={file}"),
        )
        assert wrote.status == 0, wrote.err
    with files["csv"].open(encoding="utf-8-sig", newline="") as table:
        rows = {row["event_id"]: row for row in csv.DictReader(table)}
    assert rows[said.clear]["text"] == "clear, and deleted at once"
    assert rows[said.clear]["deletion_reason"] == "typo"
    assert rows[said.clear]["deleted_by"] != ""
    assert "recovered from the homeserver" in rows[said.clear]["notes"]
    assert rows[said.sealed]["text"] == "encrypted, and deleted at once"
    assert "recovered from the homeserver" in rows[said.sealed]["notes"]
    assert rows[said.forgotten]["text"] == ""
    assert "recovered" not in rows[said.forgotten]["notes"]
    page = await asyncio.to_thread(files["html"].read_text)
    assert page.count("recovered from the homeserver") == 3
    assert "clear, and deleted at once" in page


async def test_where_that_is_switched_off_it_arrived_deleted(make_world: MakeWorld) -> None:
    world = await make_world(Wish(settings={"auditbot": {"recover_redacted": False}}))
    said = await deleted_in_between(world)
    await world.steward.start()

    for event in (said.clear, said.sealed):
        record = await world.steward.wait_for_event(event)
        assert (record["content_state"], record["body"]) == ("arrived_redacted", None)
