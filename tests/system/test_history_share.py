"""Who invites the bot hands over the keys of what was said before (MSC4268)."""

from pathlib import Path

import pytest

from tests.support.js_client import JsClient
from tests.support.world import MakeWorld, Wish


@pytest.mark.xdist_group("js")
async def test_what_was_said_before_the_bot_was_invited_becomes_readable(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = await make_world(Wish(module=False))
    bot = world.steward.auditbot
    async with await JsClient.register(world.synapse, tmp_path) as js:
        # While Steward is away nobody brings the bots in.
        await world.steward.stop()
        room = await js.create_room(encrypted=True)
        said = [await js.send_text(room, f"before the bot, {number}") for number in range(3)]
        await js.invite(room, bot)
        await world.steward.start()

        records = await world.steward.wait_for_records(
            lambda record: record["event_id"] in said and record["body"] is not None,
            "what was said before",
            count=len(said),
            deadline_seconds=60,
        )
        await js.wait_for_members(room, bot)
        after = await world.steward.wait_for_event(await js.send_text(room, "after the bot"))

    assert {record["body"] for record in records} == {f"before the bot, {n}" for n in range(3)}
    assert {record["enc_key_source"] for record in records} == {"history_share"}
    assert {record["enc_trust"] for record in records} == {"unknown_device"}
    assert (after["body"], after["enc_status"]) == ("after the bot", "decrypted")
    assert (after["enc_key_source"], after["enc_trust"]) == ("direct", "cross_signed")
