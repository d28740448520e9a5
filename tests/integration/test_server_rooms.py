"""Rooms and spaces, looked into, changed and ended by a server admin's commands."""

import csv
import io
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from common.demo.waiting import wait_for
from common.ids import RoomId
from tests.support.clients import RawClient, RequestFailedError
from tests.support.talk import Talk, talk_in
from tests.support.world import MakeWorld, Wish, World


@dataclass(frozen=True)
class Scene:
    """A server admin at their chat, and two people."""

    world: World
    talk: Talk
    alice: RawClient
    bob: RawClient

    async def room(self, name: str = "", **options: Any) -> RoomId:
        """Return a new room of alice's that the bots are in."""
        room = await self.alice.create_room(name=name or secrets.token_hex(4), **options)
        await self.alice.wait_for_members(room, self.world.steward.adminbot)
        return room

    async def admin_api(self, path: str) -> Any:
        """Ask the homeserver itself."""
        return await self.talk.admin.request("GET", f"/_synapse/admin/{path}")

    async def gone(self, room: RoomId) -> bool:
        try:
            await self.admin_api(f"v1/rooms/{room}")
        except RequestFailedError as error:
            return error.status == 404
        return False


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with (
        talk_in(world) as talk,
        await world.person() as alice,
        await world.person() as bob,
    ):
        yield Scene(world, talk, alice, bob)


async def test_rooms_are_found_by_what_they_are(scene: Scene) -> None:
    mark = secrets.token_hex(4)
    encryption = {
        "type": "m.room.encryption",
        "state_key": "",
        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    }
    plain = await scene.room(f"plain {mark}", extra={"room_version": "10"})
    secret = await scene.room(f"secret {mark}", extra={"initial_state": [encryption]})
    space = await scene.room(f"space {mark}", extra={"creation_content": {"type": "m.space"}})
    await scene.alice.send_state(
        space, "m.space.child", {"via": ["steward.localhost"]}, state_key=plain
    )
    await scene.alice.send_text(plain, "just now")
    for room in (plain, secret, space):
        await scene.alice.wait_for_members(room, scene.world.steward.auditbot)
    await scene.talk.admin.wait_until_listed(mark, plain, secret, space, members=3)

    async def listed(options: str) -> set[RoomId]:
        said = await scene.talk.ask(f"room list --name {mark} {options}")
        return {room for room in (plain, secret, space) if room in said}

    assert await listed("") == {plain, secret, space}
    assert await listed("--encrypted") == {secret}
    assert await listed("--no-encrypted --no-spaces") == {plain}
    assert await listed("--version-below 11") == {plain}
    assert await listed("--spaces") == {space}
    assert await listed(f"--within {space}") == {plain, space}
    assert await listed("--members-above 100") == set()
    assert await listed("--members-above 2") == {plain, secret, space}
    assert await listed("--no-local") == set()
    assert await listed("--no-local-admin") == set()
    assert await listed("--dm") == set()
    assert await listed("--inactive-for 1h") == set()
    assert await listed(f"--creator {scene.alice.user_id}") == {plain, secret, space}
    assert await listed("--tombstoned") == set()
    assert await listed("--blocked") == set()
    assert "1 room in all" in await scene.talk.ask(f"room list --name {mark} --spaces")
    chat = await scene.alice.create_room(name=f"chat {mark}", direct=True)
    await scene.alice.request(
        "PUT",
        f"/_matrix/client/v3/user/{scene.alice.user_id}/account_data/m.direct",
        {scene.bob.user_id: [chat]},
    )
    assert chat in await scene.talk.ask(f"room list --name {mark} --dm")
    assert await listed("--no-dm") == {plain, secret, space}
    content = await scene.talk.files(f"room list --name {mark} --csv", "rooms.csv")
    assert content["info"]["mimetype"] == "text/csv"


async def test_a_room_is_looked_into(scene: Scene) -> None:
    room = await scene.room("<b>Lobby</b>")
    await scene.alice.send_text(room, "what <i>alice</i> said")

    state = await scene.talk.ask(f"room state {room} m.room.name")
    overview = await scene.talk.ask(f"room state {room}")
    power = await scene.talk.ask(f"room power {room}")
    read = await scene.talk.answer(f'room read {room} --reason "a report about it"')
    refused = await scene.talk.ask(f"room read {room}")

    assert "<b>Lobby</b>" in state
    assert "m.room.member" in overview
    assert scene.alice.user_id in power
    assert "creator" in power
    assert "what <i>alice</i> said" in read["content"]["body"]
    assert "&lt;i&gt;" in read["content"]["formatted_body"]
    assert "“--reason” is missing" in refused
    assert "forward extremit" in await scene.talk.ask(f"room extremities {room}")
    assert "0 files" in await scene.talk.ask(f"room media {room}")


async def test_a_space_is_shown_as_a_tree_loops_and_all(scene: Scene) -> None:
    is_space = {"creation_content": {"type": "m.space"}}
    top, inner = await scene.room("Top", extra=is_space), await scene.room("Inner", extra=is_space)
    leaf = await scene.room("Leaf")
    for parent, child in ((top, inner), (inner, leaf), (inner, top)):
        await scene.alice.send_state(
            parent, "m.space.child", {"via": ["steward.localhost"]}, state_key=child
        )

    tree = await scene.talk.ask(f"room tree {top}")

    lines = [line for line in tree.splitlines() if "!" in line]
    assert [line.partition("!")[0].rstrip() for line in lines] == [
        f"▸ Top ({3})",
        f"  ▸ Inner ({3})",
        f"    ▸ Top ({3})",
        f"    # Leaf ({3})",
    ] or {line.strip().split(" (")[0] for line in lines} == {"▸ Top", "▸ Inner", "# Leaf"}
    assert sum("↑" in line for line in lines) == 1
    assert "1 room and 2 spaces" in tree
    assert "is a room, not a space" in await scene.talk.ask(f"room tree {leaf}")


async def test_somebody_is_made_admin_where_the_admins_have_left(scene: Scene) -> None:
    room = await scene.room("Left behind", extra={"room_version": "10"})
    await scene.alice.invite(room, scene.bob.user_id)
    await scene.bob.join(room)
    await scene.alice.leave(room)
    found = await orphans(scene)
    # The bots have power there; of people nobody has.
    assert found[room] == f"room admin {room} {scene.bob.user_id}"
    kept = await scene.room("Looked after")
    assert kept not in found
    assert scene.talk.chat not in found
    alone = await scene.talk.ask("room list --no-local-admin")
    assert room in alone
    assert kept not in alone

    said = await scene.talk.do(found[room])

    levels = await scene.bob.state(room, "m.room.power_levels")
    assert levels["users"][scene.bob.user_id] == 100
    assert "Done" in said
    assert room not in await orphans(scene)
    again = await scene.talk.ask(f"room admin {room} {scene.bob.user_id}")
    assert "already" in again
    # Who asks is brought in too.
    await scene.talk.do(f"room admin {room}")
    await scene.bob.wait_for_members(room, scene.talk.admin.user_id)
    assert "not of this server" in await scene.talk.ask(f"room admin {room} @x:elsewhere.org")


async def test_power_and_membership_are_changed(scene: Scene) -> None:
    room = await scene.room("Ruled", extra={"room_version": "11"})
    await scene.alice.invite(room, scene.bob.user_id)
    await scene.bob.join(room)
    bob, talk = scene.bob.user_id, scene.talk

    async def level() -> int:
        return int((await scene.alice.state(room, "m.room.power_levels"))["users"].get(bob, 0))

    await talk.do(f"room power set {room} {bob} 50")
    assert await level() == 50
    await talk.do(f"room demote {room} {bob}")
    assert await level() == 0
    await talk.do(f"room kick {room} {bob} be nice")
    assert bob not in await scene.alice.joined_members(room)
    await talk.do(f"room ban {room} {bob} not again")
    member = await scene.alice.state(room, "m.room.member", state_key=bob)
    assert (member["membership"], member["reason"]) == ("ban", "not again")
    question, _ = await talk.both(f"room unban {room} {bob}")
    assert "to go on" in question
    member = await scene.alice.state(room, "m.room.member", state_key=bob)
    assert member["membership"] == "leave"
    assert "is not banned" in await talk.ask(f"room unban {room} {bob}")
    # As powerful as the bot: that is done in her own name, which nothing but a server admin may ask.
    assert "is as powerful" in await talk.ask(f"room kick {room} {scene.alice.user_id}")
    await talk.do(f"room power set {room} {scene.alice.user_id} 50")
    levels = await scene.alice.state(room, "m.room.power_levels")
    assert levels["users"][scene.alice.user_id] == 50
    await talk.do(f"room demote {room} {scene.alice.user_id}")
    levels = await scene.alice.state(room, "m.room.power_levels")
    assert scene.alice.user_id not in levels["users"]
    assert "The bots stay" in await talk.ask(f"room kick {room} {scene.world.steward.adminbot}")


async def test_a_room_is_blocked_and_the_list_is_kept(scene: Scene) -> None:
    room = await scene.room("Blocked")

    await scene.talk.do(f"room block {room} spam")

    assert (await scene.admin_api(f"v1/rooms/{room}/block"))["block"]
    listed = await scene.talk.pages("room blocked")
    assert room in listed
    assert "spam" in listed
    await scene.talk.do(f"room unblock {room}")
    assert not (await scene.admin_api(f"v1/rooms/{room}/block"))["block"]
    assert room not in await scene.talk.pages("room blocked")


async def test_a_room_is_closed(scene: Scene) -> None:
    room, other = await scene.room("Closing time"), await scene.room("Next door")
    await scene.alice.invite(room, scene.bob.user_id)
    await scene.bob.join(room)

    said = await scene.talk.do(f'room close {room} --message "See you there." --move-to {other}')

    assert "Done" in said
    with pytest.raises(RequestFailedError, match="M_FORBIDDEN"):
        await scene.bob.send_text(room, "one more thing")
    tombstone = await scene.alice.state(room, "m.room.tombstone")
    assert tombstone["replacement_room"] == other
    assert await scene.alice.wait_for_message(room, "See you there.")


async def test_a_closed_room_is_opened_again_as_it_was(scene: Scene) -> None:
    public = {"room_version": "11", "visibility": "public", "preset": "public_chat"}
    room = await scene.room("For a while", extra=public)
    types = ("m.room.join_rules", "m.room.power_levels")
    before = [await scene.alice.state(room, one) for one in types]
    # The directory lists it where the homeserver lets it; what was told is what comes back.
    published = (await scene.admin_api(f"v1/rooms/{room}"))["public"]

    question, _ = await scene.talk.both(f"room close {room}")
    await scene.talk.do(f"room close {room}")  # once more: what it was like is still remembered

    assert "“room reopen” opens it again" in question
    assert (await scene.alice.state(room, "m.room.join_rules"))["join_rule"] == "invite"
    assert not (await scene.admin_api(f"v1/rooms/{room}"))["public"]
    with pytest.raises(RequestFailedError, match="M_FORBIDDEN"):
        await scene.bob.join(room)
    await scene.talk.do(f"room reopen {room}")
    assert [await scene.alice.state(room, one) for one in types] == before
    assert (await scene.admin_api(f"v1/rooms/{room}"))["public"] == published
    await scene.bob.join(room)
    await scene.bob.send_text(room, "open again")
    assert "not closed through me" in await scene.talk.ask(f"room reopen {room}")


async def test_history_is_purged(scene: Scene) -> None:
    room = await scene.room("Old")
    old = await scene.alice.send_text(room, "long ago")
    kept = await scene.alice.send_text(room, "later")
    await scene.alice.send_text(room, "now")
    event = await scene.admin_api(f"v1/fetch_event/{kept}")
    moment_ms = event["event"]["origin_server_ts"]
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat()

    said = await scene.talk.do(f"room history purge {room} --before {moment} --local")

    assert "Done" in said
    with pytest.raises(RequestFailedError):
        await scene.admin_api(f"v1/fetch_event/{old}")
    assert (await scene.admin_api(f"v1/fetch_event/{kept}"))["event"]["type"] == "m.room.message"
    assert "still to come" in await scene.talk.ask(f'room history purge {room} --before "in 2h"')


async def test_a_room_is_deleted_and_people_are_moved(scene: Scene) -> None:
    room = await scene.room("Doomed")

    said = await scene.talk.do(
        f'room delete {room} --block --move-to "After Doomed" --message "It was time."'
    )

    assert "Done" in said
    assert await scene.gone(room)
    assert (await scene.admin_api(f"v1/rooms/{room}/block"))["block"]
    assert room in await scene.talk.pages("room blocked")
    joined = (await scene.alice.request("GET", "/_matrix/client/v3/joined_rooms"))["joined_rooms"]
    (moved,) = joined
    assert f"The new room is {moved}" in said
    assert (await scene.alice.state(moved, "m.room.name"))["name"] == "After Doomed"


async def test_who_cannot_be_taken_out_of_a_room_keeps_it_unless_it_is_forced(
    scene: Scene,
) -> None:
    room, ghost = await scene.room("Stuck"), f"@ghost-{secrets.token_hex(3)}:steward.localhost"
    # Somebody whom the homeserver cannot have leave: an account that it lost, say.
    inside = (f"${secrets.token_hex(8)}", room, ghost)
    database = scene.world.synapse.directory / "homeserver.db"
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "INSERT INTO current_state_events (event_id, room_id, type, state_key, membership)"
            " VALUES (?, ?, 'm.room.member', ?, 'join')",
            inside,
        )
        connection.execute(
            "INSERT INTO local_current_membership (event_id, room_id, user_id, membership)"
            " VALUES (?, ?, ?, 'join')",
            inside,
        )

    kept = await scene.talk.do(f"room delete {room} --no-purge")
    refused = await scene.talk.do(f"room delete {room}")
    there = not await scene.gone(room)
    forced = await scene.talk.do(f"room delete {room} --force")

    assert f"1 person could not be taken out: {ghost}" in kept
    assert f"1 person could not be taken out: {ghost}" in refused
    assert "“room delete” with --force" in refused
    assert there
    assert "Done" in forced
    assert await scene.gone(room)


async def test_a_room_is_deleted_after_a_while(scene: Scene) -> None:
    room = await scene.room("Deleted later")
    said = await scene.alice.send_text(room, "kept for a while")
    both = await scene.talk.ask(f"room delete {room} --grace 7d --no-purge")

    question, done = await scene.talk.both(f"room delete {room} --grace 2s")

    assert "--grace goes with neither" in both
    assert "What was said stays until" in question
    assert "Done" in done
    joined = await scene.alice.request("GET", "/_matrix/client/v3/joined_rooms")
    assert room not in joined["joined_rooms"]
    assert (await scene.admin_api(f"v1/fetch_event/{said}"))["event"]["type"] == "m.room.message"
    await wait_for(lambda: scene.gone(room), 30, "the room to be deleted")


async def test_a_space_is_deleted_with_its_rooms_when_asked(scene: Scene) -> None:
    is_space = {"creation_content": {"type": "m.space"}}
    space, inside = await scene.room("Whole", extra=is_space), await scene.room("Inside")
    outside = await scene.room("Outside")
    await scene.alice.send_state(
        space, "m.space.child", {"via": ["steward.localhost"]}, state_key=inside
    )

    question = await scene.talk.ask(f"room delete {space} --with-rooms --dry-run")
    said = await scene.talk.do(f"room delete {space} --with-rooms")

    assert "2 rooms and spaces" in question
    assert "2 rooms" in said
    assert await scene.gone(space)
    assert await scene.gone(inside)
    assert not await scene.gone(outside)


async def test_rooms_that_everybody_has_left_are_listed_and_deleted(scene: Scene) -> None:
    room, kept = await scene.room("Empty soon"), await scene.room("Somebody is expected")
    hall = await scene.room("Nobody yet")
    for one in (room, kept):
        await scene.alice.wait_for_members(one, scene.world.steward.auditbot)
    await scene.alice.invite(kept, scene.bob.user_id)
    await scene.talk.do(f"default-rooms add {hall}")
    for one in (room, kept, hall):
        await scene.alice.leave(one)

    try:
        # The bots stay; they are nobody.
        found = await orphans(scene)
        assert found[room] == f"room delete {room}"
        assert kept not in found
        for option in ("--empty", "--no-local"):
            assert room in await scene.talk.ask(f"room list --name Empty {option}")
        assert room not in await scene.talk.ask("room list --name Empty --no-empty")
        said = await scene.talk.do("room prune-empty", deadline_seconds=90)
        assert "Deleted" in said or "Done" in said  # of several, or of the one
        assert await scene.gone(room)
        assert not await scene.gone(kept)
        assert not await scene.gone(hall)
    finally:  # or newcomers of other tests would be joined to it
        await scene.talk.do(f"default-rooms remove {hall}")


async def orphans(scene: Scene) -> dict[str, str]:
    """Return the rooms that nobody looks after, with what is proposed."""
    if "Every room" in await scene.talk.ask("room orphans"):
        return {}
    file = await scene.talk.files("room orphans --csv", "orphans.csv")
    text = (await scene.talk.admin.download(file["url"])).decode()
    return {row["room"]: row["proposal"] for row in csv.DictReader(io.StringIO(text))}


async def test_forward_extremities_are_collapsed(scene: Scene) -> None:
    room = await scene.room("Forked")
    # Whoever comes in beside somebody else makes a fork, which the next message joins.
    await scene.alice.wait_for_members(room, scene.world.steward.auditbot)
    first = await scene.alice.send_text(room, "first")
    last = await scene.alice.send_text(room, "last")
    assert "no extremities to collapse" in await scene.talk.ask(
        f"room extremities collapse {room}"
    )
    # As a federation that lost its way leaves it; no client can make it so.
    database = scene.world.synapse.directory / "homeserver.db"
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "INSERT INTO event_forward_extremities (event_id, room_id) VALUES (?, ?)",
            (first, room),
        )
    assert "2 forward extremities" in await scene.talk.ask(f"room extremities {room}")

    question, done = await scene.talk.both(f"room extremities collapse {room}")

    assert "cannot be undone" in question
    assert "Collapse 2 forward extremities" in done
    left = (await scene.admin_api(f"v1/rooms/{room}/forward_extremities"))["results"]
    assert [one["event_id"] for one in left] == [last]
    await scene.alice.send_text(room, "and on it goes")


async def test_a_rooms_media_are_quarantined(scene: Scene) -> None:
    room, other = await scene.room("Pictures"), await scene.room("Others")
    assert "no media" in await scene.talk.ask(f"room media quarantine {room}")
    bad = await scene.alice.upload(b"bad" * 100, "bad.bin")
    good = await scene.alice.upload(b"good" * 100, "good.bin")
    for where, uri in ((room, bad), (other, good)):
        content = {"msgtype": "m.file", "body": "file", "url": uri}
        await scene.alice.send(where, "m.room.message", content)

    question, done = await scene.talk.both(f"room media quarantine {room}")

    assert "Quarantine 1 file" in question
    assert "Done" in done
    with pytest.raises(aiohttp.ClientResponseError):
        await scene.bob.download(bad)
    assert await scene.bob.download(good) == b"good" * 100
    assert "is for server admins" not in done


async def test_the_bots_are_brought_into_rooms_that_were_closed_to_them(
    make_world: MakeWorld,
) -> None:
    world = await make_world(Wish(module=False), start=False)
    await world.synapse.start()
    bots = {world.steward.adminbot, world.steward.auditbot}
    async with await world.person() as alice, await world.person(admin=True) as root:
        rooms = [await alice.create_room(name=f"Closed {number}") for number in range(3)]
        for room in rooms:
            await root.request("PUT", f"/_synapse/admin/v1/rooms/{room}/block", {"block": True})
        await world.steward.start()
        async with talk_in(world) as talk:

            async def known() -> bool:
                missing = await talk.ask("bots missing")
                return all(room in missing for room in rooms)

            await wait_for(known, 60, "the rooms without the bots to be known")
            tried = await talk.do(f"room join-bots {rooms[0]}")
            assert "blocked on this server" in tried
            assert not bots & await alice.joined_members(rooms[0])

            await unblock(root, rooms[0])
            assert "Done" in await talk.do(f"room join-bots {rooms[0]}")
            assert bots <= await alice.joined_members(rooms[0])
            await unblock(root, rooms[1])
            adopted = await talk.do("room adopt")

            # One of the two can be had now, the other is closed still.
            assert bots <= await alice.joined_members(rooms[1])
            assert "Failed: 1" in adopted
            assert rooms[2] in adopted
            levels = await alice.state(rooms[1], "m.room.power_levels")
            assert levels["users"][world.steward.adminbot] >= 100
            missing = await talk.ask("bots missing")
            assert rooms[1] not in missing
            assert rooms[2] in missing


async def unblock(root: RawClient, room: RoomId) -> None:
    """Let local people into a room again; the homeserver tells nobody of it."""
    await root.request("PUT", f"/_synapse/admin/v1/rooms/{room}/block", {"block": False})
