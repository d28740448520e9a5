"""How adminbot speaks to somebody, and the digest, read by their own client."""

import re

from common.demo.waiting import wait_for
from tests.support.databases import open_database
from tests.support.people import hall
from tests.support.talk import talk_in
from tests.support.world import World


async def test_answers_come_as_they_are_wanted(world: World) -> None:
    async with hall(world, people=1) as here:
        alice, room = here.alice, here.room
        usual = await alice.ask(room, "!settings")
        assert usual.content["m.relates_to"]["rel_type"] == "m.thread"
        assert "<table>" in usual.content["formatted_body"]
        assert "Answers:" in usual.body
        assert "in a thread" in usual.body
        assert "Digest" not in usual.body  # for server admins

        changed = await alice.ask(room, "!settings replies reply")
        assert "rel_type" not in changed.content["m.relates_to"]
        assert "by replies" in changed.body
        changed = await alice.ask(room, "!settings formatting plain")
        assert "formatted_body" not in changed.content
        shown = await alice.ask(room, "!settings")
        assert "by a reply" in shown.body
        assert "Formatting: none" in shown.body
        assert "format" not in shown.content
        # A command in a thread is answered in there all the same.
        root = usual.content["m.relates_to"]["event_id"]
        extra = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        inside = await alice.client.send_text(room, "!ping", extra=extra)
        answered = await alice.client.sync_until(
            lambda: next(
                (
                    one
                    for one in alice.client.timeline(room)
                    if one.content.get("m.relates_to", {}).get("m.in_reply_to", {}).get("event_id")
                    == inside
                ),
                None,
            ),
            "the answer in the thread",
        )
        assert answered is not None
        assert answered.content["m.relates_to"]["rel_type"] == "m.thread"

        await alice.ask(room, "!settings replies thread")
        await alice.ask(room, "!settings formatting full")
        again = await alice.ask(room, "!settings")
        assert again.content["m.relates_to"]["rel_type"] == "m.thread"
        assert "formatted_body" in again.content
        wrong = await alice.ask(room, "!settings formatting colourful")
        assert "is none of full" in wrong.body


async def test_a_digest_comes_again_and_again_until_it_is_ended(world: World) -> None:
    url = f"sqlite:///{world.steward.directory / 'steward.db'}"
    async with talk_in(world) as talk, open_database(url) as database:
        now = await talk.ask("digest")
        for fact in ("Most people seen on a day:", "Messages:", "New accounts:", "New reports:"):
            assert fact in now
        assert "The week of" in await talk.ask("digest weekly")
        assert "You get no digest." in await talk.ask("digest unsubscribe")
        assert "no time of the day" in await talk.ask("digest subscribe daily --at 25:00")

        said = await talk.do("digest subscribe weekly --at 7:30")
        assert re.search(r"You get it from .* 07:30 UTC on", said)
        await talk.do("digest subscribe daily")
        shown = await talk.ask("settings")
        assert re.search(r"Digest: +daily, next .* 08:00 UTC", shown)
        listed = await talk.ask("schedule list")
        theirs = [line for line in listed.splitlines() if talk.admin.user_id in line]
        assert len([line for line in theirs if "digest" in line]) == 1

        before = {event["event_id"] for event in await talk.admin.messages(talk.chat)}
        async with database.transaction() as connection:
            # As if it were eight o'clock.
            await connection.execute(
                "UPDATE admin_schedule SET next_ms = $1 WHERE owner = $2 AND next_ms IS NOT NULL",
                1,
                talk.admin.user_id,
            )

        async def come() -> bool:
            return any(
                "The day of" in str(event["content"].get("body"))
                for event in await talk.admin.messages(talk.chat)
                if event["event_id"] not in before
            )

        await wait_for(come, 60, "the digest")
        assert re.search(r"Digest: +daily, next .* 08:00 UTC", await talk.ask("settings"))
        await talk.do("digest unsubscribe")
        assert re.search(r"Digest: +none", await talk.ask("settings"))


async def test_a_digest_is_for_the_direct_chat_of_a_server_admin(world: World) -> None:
    async with talk_in(world) as talk, await world.person() as alice:
        chat = await alice.create_room(direct=True, invite=[world.steward.adminbot])
        await alice.wait_for_members(chat, world.steward.adminbot)
        await alice.send_text(chat, "digest subscribe daily")
        refused = await alice.wait_for_message(
            chat, "is for server admins", sender=world.steward.adminbot
        )
        assert refused
        assert "Ask for it" not in await talk.ask("digest subscribe daily --dry-run")
