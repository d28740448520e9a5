"""What adminbot does in rooms as a member, against the real Synapse, read back as a person."""

import secrets
from collections.abc import AsyncIterator

import pytest

from common.homeserver.client import AdminClient
from common.homeserver.client_server.directory import (
    AddAlias,
    IsPublished,
    ListAliases,
    PublishRoom,
    RemoveAlias,
)
from common.homeserver.client_server.making_rooms import CreateRoom, UpgradeRoom
from common.homeserver.client_server.membership import (
    BanUser,
    InviteUser,
    JoinRoom,
    KickUser,
    LeaveRoom,
    ListMembers,
    UnbanUser,
)
from common.homeserver.client_server.messages import (
    GetContext,
    GetMessages,
    GetRelations,
    RedactEvent,
    SendEvent,
)
from common.homeserver.client_server.server import (
    GetCapabilities,
    GetProfile,
    GetRoomVersions,
    GetVersions,
)
from common.homeserver.client_server.settings import (
    SetGuestAccess,
    SetHistoryVisibility,
    SetJoinRule,
    SetPinned,
    SetRoomAvatar,
    SetRoomName,
    SetRoomTopic,
)
from common.homeserver.client_server.state import (
    ClearRetention,
    EnableEncryption,
    SetCanonicalAlias,
    SetPowerLevels,
    SetRetention,
    SetServerAcl,
    SetSpaceChild,
    SetSpaceParent,
    SetState,
    SetWidget,
    TombstoneRoom,
)
from common.homeserver.errors import NotAllowedError, NotFoundError, RefusedError
from common.homeserver.port import ChangeRequest, Grant, Permission
from common.homeserver.synapse.room_upkeep import BlockRoom
from common.i18n import t
from common.ids import EventId, RoomAlias, RoomId, UserId
from tests.support.admin_api import adminbot_api
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


@pytest.fixture
async def room(world: World, person: RawClient) -> RoomId:
    """A room of theirs with adminbot in it, who is a creator too."""
    made = await person.create_room(name="room")
    await person.wait_for_members(made, world.steward.adminbot, world.steward.auditbot)
    return made


async def membership(person: RawClient, room: RoomId, user: UserId) -> str:
    content = await person.state(room, "m.room.member", state_key=user)
    return str(content["membership"])


async def test_people_come_and_go(
    world: World, admin: AdminClient, person: RawClient, room: RoomId
) -> None:
    async with await world.person() as other:
        user = other.user_id
        await admin.change(InviteUser(room, user, "come in"))
        await admin.change(InviteUser(room, user))
        assert await membership(person, room, user) == "invite"
        await other.join(room)
        with pytest.raises(NotAllowedError, match="already in the room"):
            await admin.change(InviteUser(room, user))

        await admin.change(KickUser(room, user, "out"))
        assert await person.state(room, "m.room.member", state_key=user) == {
            "membership": "leave",
            "reason": "out",
        }
        with pytest.raises(NotAllowedError):
            await admin.change(KickUser(room, user))
        await admin.change(BanUser(room, user))
        await admin.change(BanUser(room, user))
        assert await membership(person, room, user) == "ban"
        (banned,) = await admin.read(ListMembers(room, "ban"))
        assert (banned.state_key, banned.sender) == (user, world.steward.adminbot)
        await admin.change(UnbanUser(room, user))
        assert await membership(person, room, user) == "leave"
        with pytest.raises(RefusedError, match="not banned"):
            await admin.change(UnbanUser(room, user))
        with pytest.raises(RefusedError):
            await admin.change(KickUser(room, person.user_id))  # a creator, as the bot is


async def test_the_bot_leaves_and_joins(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    bot = world.steward.adminbot
    room = await person.create_room()
    await person.send_state(room, "m.room.join_rules", {"join_rule": "public"})
    await person.wait_for_members(room, bot)

    # Or the running Steward may have brought it back before it can leave once more.
    await admin.change(BlockRoom(room))
    await admin.change(LeaveRoom(room, "for now"))
    with pytest.raises(NotAllowedError, match="not in room"):
        await admin.change(LeaveRoom(room))
    await admin.change(BlockRoom(room, block=False))
    assert await admin.change(JoinRoom(room)) == room
    assert await admin.change(JoinRoom(room)) == room

    await person.wait_for_members(room, bot)


async def test_settings(admin: AdminClient, person: RawClient, room: RoomId) -> None:
    message = await person.send_text(room, "pin me")
    changes: list[tuple[ChangeRequest[EventId], str, str, object]] = [
        (SetRoomName(room, "New"), "m.room.name", "name", "New"),
        (SetRoomTopic(room, "All"), "m.room.topic", "topic", "All"),
        (SetRoomAvatar(room, "mxc://a/b"), "m.room.avatar", "url", "mxc://a/b"),
        (SetPinned(room, (message,)), "m.room.pinned_events", "pinned", [message]),
        (SetJoinRule(room, "knock"), "m.room.join_rules", "join_rule", "knock"),
        (
            SetJoinRule(room, "restricted", (RoomId("!other"),)),
            "m.room.join_rules",
            "allow",
            [{"type": "m.room_membership", "room_id": "!other"}],
        ),
        (
            SetHistoryVisibility(room, "joined"),
            "m.room.history_visibility",
            "history_visibility",
            "joined",
        ),
        (SetGuestAccess(room, allowed=True), "m.room.guest_access", "guest_access", "can_join"),
        (
            SetServerAcl(room=room, deny=("*.evil.example",)),
            "m.room.server_acl",
            "deny",
            ["*.evil.example"],
        ),
        (SetRetention(room, 86_400_000), "m.room.retention", "max_lifetime", 86_400_000),
        (
            EnableEncryption(room),
            "m.room.encryption",
            "algorithm",
            "m.megolm.v1.aes-sha2",
        ),
        (
            TombstoneRoom(room, "over"),
            "m.room.tombstone",
            "body",
            "over",
        ),
    ]

    for change, type_, field, value in changes:
        event = await admin.change(change)
        again = await admin.change(change)
        assert (await person.state(room, type_))[field] == value, type_
        assert event == again, type_
        assert change.describe()
    await admin.change(ClearRetention(room))
    assert await person.state(room, "m.room.retention") == {}


async def test_power_and_what_the_homeserver_refuses(
    world: World, admin: AdminClient, person: RawClient, room: RoomId
) -> None:
    async with await world.person() as other:
        levels = await person.state(room, "m.room.power_levels")
        raised = {**levels, "users": {**levels.get("users", {}), other.user_id: 50}}
        await admin.change(SetPowerLevels(room, raised))
        assert (await person.state(room, "m.room.power_levels"))["users"][other.user_id] == 50
    creator = {**levels, "users": {person.user_id: 100}}
    with pytest.raises(RefusedError):
        await admin.change(SetPowerLevels(room, creator))
    with pytest.raises(RefusedError, match="server"):
        await admin.change(SetServerAcl(room=room, allow=("other.example",)))


async def test_widgets_spaces_and_other_state(
    world: World, admin: AdminClient, person: RawClient, room: RoomId
) -> None:
    server = person.user_id.partition(":")[2]
    space = await person.create_room(extra={"creation_content": {"type": "m.space"}})
    await person.wait_for_members(space, world.steward.adminbot)
    widget = {"type": "jitsi", "url": "https://meet.example.org", "name": "Meeting"}

    await admin.change(SetWidget(room, "w/1", widget))
    kind = "im.vector.modular.widgets"
    assert await person.state(room, kind, state_key="w/1") == widget
    await admin.change(SetWidget(room, "w/1", None))
    assert await person.state(room, kind, state_key="w/1") == {}

    await admin.change(
        SetSpaceChild(room=space, child=room, via=(server,), order="a", suggested=True)
    )
    child = await person.state(space, "m.space.child", state_key=room)
    assert child == {"via": [server], "order": "a", "suggested": True}
    await admin.change(SetSpaceParent(room=room, parent=space, via=(server,), canonical=True))
    parent = await person.state(room, "m.space.parent", state_key=space)
    assert parent == {"via": [server], "canonical": True}
    await admin.change(SetSpaceChild(room=space, child=room, via=()))
    await admin.change(SetSpaceParent(room=room, parent=space, via=()))
    assert await person.state(space, "m.space.child", state_key=room) == {}
    assert await person.state(room, "m.space.parent", state_key=space) == {}

    sentence = t("Mark {room}", room=room)
    mark = SetState(room=room, type="org.example", content={"a": 1}, sentence=sentence)
    await admin.change(mark)
    assert await person.state(room, "org.example") == {"a": 1}
    assert mark.describe() == f"Mark {room}"


async def test_messages(admin: AdminClient, person: RawClient, room: RoomId) -> None:
    content = {"msgtype": "m.notice", "body": "hello"}
    send = SendEvent(room=room, content=content, txn_id=f"a/{secrets.token_hex(4)}")

    event = await admin.change(send)

    assert await admin.change(send) == event
    replied = await person.send(
        room,
        "m.reaction",
        {"m.relates_to": {"rel_type": "m.annotation", "event_id": event, "key": "👍"}},
    )
    page = await admin.read(GetMessages(room=room, limit=2))
    assert [one.event_id for one in page.chunk] == [replied, event]
    context = await admin.read(GetContext(room=room, event=event, limit=2))
    assert [one.event_id for one in context.events_after] == [replied]
    for relation in (None, "m.annotation"):
        found = await admin.read(GetRelations(room=room, event=event, relation=relation))
        assert [one.event_id for one in found.chunk] == [replied]
    redact = RedactEvent(room=room, event=replied, txn_id=secrets.token_hex(4), reason="no")
    assert await admin.change(redact) == await admin.change(redact)
    assert (await admin.read(GetRelations(room=room, event=event))).chunk == ()


async def test_the_directory(admin: AdminClient, person: RawClient, room: RoomId) -> None:
    server = person.user_id.partition(":")[2]
    alias = RoomAlias(f"#lobby-{secrets.token_hex(4)}:{server}")
    await person.client("PUT", f"/directory/room/%23{alias[1:]}", {"room_id": room})

    assert await admin.read(ListAliases(room)) == (alias,)
    await admin.change(SetCanonicalAlias(room, alias))
    assert (await person.state(room, "m.room.canonical_alias"))["alias"] == alias
    with pytest.raises(RefusedError):
        await admin.change(SetCanonicalAlias(room, RoomAlias(f"#nothing:{server}")))
    await admin.change(SetCanonicalAlias(room, None))

    assert not await admin.read(IsPublished(room))
    await admin.change(PublishRoom(room))
    assert await admin.read(IsPublished(room))
    await admin.change(PublishRoom(room, published=False))
    assert not await admin.read(IsPublished(room))


async def test_addresses_are_given_and_taken(
    admin: AdminClient, person: RawClient, room: RoomId
) -> None:
    alias = RoomAlias(f"#x-{secrets.token_hex(4)}:{person.user_id.partition(':')[2]}")

    await admin.change(AddAlias(room, alias))
    assert await admin.read(ListAliases(room)) == (alias,)
    with pytest.raises(RefusedError):
        await admin.change(AddAlias(room, alias))
    await admin.change(RemoveAlias(room, alias))
    await admin.change(RemoveAlias(room, alias))
    assert await admin.read(ListAliases(room)) == ()


async def test_rooms_are_made_and_replaced(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    made = await admin.change(
        CreateRoom(name="Made", topic="By the bot", invite=(person.user_id,), space=True)
    )
    await person.join(made)
    assert (await person.state(made, "m.room.create"))["type"] == "m.space"
    assert (await person.state(made, "m.room.name"))["name"] == "Made"

    versions = await admin.read(GetRoomVersions())
    new = await admin.change(UpgradeRoom(made, versions.default, (person.user_id,)))
    tombstone = await person.state(made, "m.room.tombstone")
    assert tombstone["replacement_room"] == new
    await admin.change(InviteUser(new, person.user_id))
    await person.join(new)
    create = await person.state(new, "m.room.create")
    assert create["additional_creators"] == [person.user_id]


async def test_what_the_server_says_of_itself(
    world: World, admin: AdminClient, person: RawClient
) -> None:
    assert "v1.1" in (await admin.read(GetVersions())).versions
    assert "m.room_versions" in await admin.read(GetCapabilities())
    assert (await admin.read(GetRoomVersions())).available["10"] == "stable"
    assert (await admin.read(GetProfile(person.user_id))).displayname
    with pytest.raises(NotFoundError):
        await admin.read(GetProfile(UserId(f"@no.such:{person.user_id.partition(':')[2]}")))


async def test_a_room_admin_is_not_lent_what_is_for_server_admins(
    admin: AdminClient, person: RawClient, room: RoomId
) -> None:
    everything = frozenset(Permission)
    governor = Grant(frozenset(), in_room=everything, room=room)

    assert governor.allows(SetRoomName(room, "Mine"))
    assert not governor.allows(SetRoomName(RoomId("!other"), "Not mine"))
    await admin.executing_for(governor).change(SetRoomName(room, "Mine"))
    with pytest.raises(RequestFailedError):
        await person.state(room, "m.room.topic")
