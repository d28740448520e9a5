"""Endpoints about rooms, each against the real Synapse, read back by another way."""

import secrets
from collections.abc import AsyncIterator

import pytest

from common.homeserver.client import AdminClient
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import Danger, Progress
from common.homeserver.synapse.background import ListScheduledTasks
from common.homeserver.synapse.room_content import (
    FetchEvent,
    FindMoment,
    ReadContext,
    ReadMessages,
    ReadSpace,
    all_messages,
    whole_space,
)
from common.homeserver.synapse.room_deletion import (
    DeleteRoom,
    GetHistoryPurge,
    GetRoomDeletion,
    ListRoomDeletions,
    PurgeHistory,
    RoomDeletion,
    ShutDown,
)
from common.homeserver.synapse.room_upkeep import (
    BlockRoom,
    DeleteForwardExtremities,
    GetRoomBlocker,
    ListForwardExtremities,
)
from common.homeserver.synapse.rooms import GetRoom
from common.ids import EventId, RoomId
from tests.support.admin_api import adminbot_api, follow
from tests.support.clients import RawClient, RequestFailedError
from tests.support.world import World


@pytest.fixture
async def admin(world: World) -> AsyncIterator[AdminClient]:
    """The administration API as adminbot."""
    async with adminbot_api(world) as api:
        yield api


@pytest.fixture
async def person(world: World) -> AsyncIterator[RawClient]:
    """Somebody of this server."""
    async with await world.person() as client:
        yield client


async def test_a_room_is_deleted_and_followed(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    room = await person.create_room(name="over")
    await person.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
    change = DeleteRoom(room=room, block=True)

    progress = await follow(admin, change)

    assert progress.failed is None
    assert progress.done == 3  # the person and both bots
    assert change.danger is Danger.IRREVERSIBLE
    with pytest.raises(NotFoundError):
        await admin.read(GetRoom(room))
    (deletion,) = await admin.read(ListRoomDeletions(room))
    assert (deletion.status, deletion.room_id) == ("complete", room)
    assert (await admin.read(GetRoomDeletion(deletion.delete_id))) == deletion
    assert (await admin.read(GetRoomBlocker(room))).user_id == world.steward.adminbot
    tasks = await admin.read(ListScheduledTasks(resource=room, status="complete"))
    assert [one.id for one in tasks] == [deletion.delete_id]
    with pytest.raises(NotFoundError):
        await admin.read(GetRoomDeletion("nosuch"))


async def test_people_of_a_deleted_room_are_led_to_another(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    # A bot that is just coming in would stay.
    room = await settled_room(world, person)

    await follow(
        admin,
        DeleteRoom(
            room=room,
            purge=False,
            new_room_owner=world.steward.adminbot,
            new_room_name="Moved",
            message="Go on here.",
        ),
    )

    (deletion,) = await admin.read(ListRoomDeletions(room))
    assert deletion.shutdown_room is not None
    new = deletion.shutdown_room.new_room_id
    assert new is not None
    assert person.user_id in await person.joined_members(new)
    assert (await admin.read(GetRoom(new))).name == "Moved"
    assert (await admin.read(GetRoom(room))).joined_members == 0  # not purged


@pytest.mark.parametrize(
    ("status", "finished", "fails"),
    [("scheduled", False, False), ("failed", True, True), ("cancelled", True, True)],
)
def test_how_a_deletion_can_end(status: str, finished: bool, fails: bool) -> None:
    half = ShutDown(kicked_users=(), failed_to_kick_users=("@a:b",))  # type: ignore[arg-type]  # plain values will do
    deletion = RoomDeletion(status, "id", RoomId("!a"), half)  # type: ignore[arg-type]  # the same

    progress: Progress = deletion.progress()

    assert progress.finished is finished
    assert (progress.failed is not None) is fails
    assert progress.said == "1 person could not be taken out: @a:b."
    if status == "failed":
        # Where that was asked for already it is something else.
        assert "@a:b. “room delete” with --force" in str(progress.failed)
        assert "--force" not in str(deletion.progress(forced=True).failed)


async def settled_room(world: World, person: RawClient) -> RoomId:
    """Return a room in which nothing more happens by itself."""
    room = await person.create_room()
    await person.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
    return room


async def say(person: RawClient, room: RoomId, text: str) -> EventId:
    """Say something as a notice: the bot would answer what is typed to it alone."""
    return await person.send(room, "m.room.message", {"msgtype": "m.notice", "body": text})


async def test_history_is_purged_and_followed(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    room = await settled_room(world, person)
    first = await say(person, room, "first")
    second = await say(person, room, "second")
    last = await say(person, room, "last")

    progress = await follow(admin, PurgeHistory(room=room, before_event=second, local_too=True))
    assert progress.failed is None
    with pytest.raises(RequestFailedError):
        await person.client("GET", f"/rooms/{room}/event/{first}")
    await person.client("GET", f"/rooms/{room}/event/{second}")

    moment = (await admin.read(FindMoment(room=room, moment_ms=0))).origin_server_ts
    await follow(admin, PurgeHistory(room=room, before_ms=moment + 3_600_000, local_too=True))
    await person.client("GET", f"/rooms/{room}/event/{last}")
    with pytest.raises(NotFoundError, match="no event to be purged"):
        await admin.change(PurgeHistory(room=room, before_ms=1))
    with pytest.raises(NotFoundError):
        await admin.read(GetHistoryPurge("nosuch"))
    with pytest.raises(RefusedError, match="must specify"):
        await admin.change(PurgeHistory(room=room))


async def test_what_was_said_is_read_without_being_there(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    room = await settled_room(world, person)
    sent = [await say(person, room, f"message {number}") for number in range(5)]

    backwards = [
        event.content["body"]
        async for event in all_messages(admin, ReadMessages(room=room, limit=2))
        if event.type == "m.room.message" and event.sender == person.user_id
    ]
    context = await admin.read(ReadContext(room=room, event=sent[2], limit=2))
    onwards = await admin.read(ReadMessages(room=room, start=context.end, direction="f"))
    fetched = await admin.read(FetchEvent(sent[0]))
    at = context.event.origin_server_ts
    before = await admin.read(FindMoment(room=room, moment_ms=at - 1, direction="b"))

    assert backwards == [f"message {number}" for number in range(4, -1, -1)]
    assert context.event.content["body"] == "message 2"
    assert context.events_before[0].event_id == sent[1]
    assert context.events_after[0].event_id == sent[3]
    assert sent[4] in [event.event_id for event in onwards.chunk]
    assert fetched["content"]["body"] == "message 0"
    assert before.origin_server_ts < at
    with pytest.raises(NotFoundError):
        await admin.read(FetchEvent(EventId("$nosuch")))
    with pytest.raises(NotFoundError):
        await admin.read(ReadContext(room=room, event=EventId("$nosuch")))


async def test_a_space_is_read_as_a_tree(admin: AdminClient, person: RawClient) -> None:
    server = person.user_id.partition(":")[2]
    spaces = [
        await person.create_room(name=name, extra={"creation_content": {"type": "m.space"}})
        for name in ("top", "below")
    ]
    room = await person.create_room(name="leaf")
    for parent, child in ((spaces[0], spaces[1]), (spaces[1], room)):
        await person.send_state(parent, "m.space.child", {"via": [server]}, state_key=child)

    tree = [one async for one in whole_space(admin, ReadSpace(room=spaces[0], limit=2))]
    shallow = await admin.read(ReadSpace(room=spaces[0], max_depth=1))

    assert [one.room_id for one in tree] == [*spaces, room]
    assert [one.room_type for one in tree] == ["m.space", "m.space", None]
    assert [child.state_key for child in tree[0].children_state] == [spaces[1]]
    assert [one.room_id for one in shallow.rooms] == spaces


async def test_a_room_is_blocked(world: World, admin: AdminClient, person: RawClient) -> None:
    room = await person.create_room()
    await person.send_state(room, "m.room.join_rules", {"join_rule": "public"})

    await admin.change(BlockRoom(room))
    await admin.change(BlockRoom(room))

    async with await world.person() as other:
        with pytest.raises(RequestFailedError, match="blocked"):
            await other.join(room)
        await admin.change(BlockRoom(room, block=False))
        assert not (await admin.read(GetRoomBlocker(room))).block
        await other.join(room)
    unseen = RoomId(f"!{secrets.token_hex(6)}:elsewhere.org")
    await admin.change(BlockRoom(unseen))
    assert (await admin.read(GetRoomBlocker(unseen))).block


async def test_forward_extremities_are_counted_and_collapsed(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    room = await settled_room(world, person)
    last = await say(person, room, "last")

    found = await admin.read(ListForwardExtremities(room))

    assert [one.event_id for one in found] == [last]
    assert await admin.change(DeleteForwardExtremities(room)) == 0
