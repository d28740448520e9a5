"""Commands typed by real clients to a running Steward, and the endpoints that they stand on."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from common.crypto.port import SessionRef, Undecryptable, Why
from common.demo.clients import NioClient, Seen
from common.homeserver.errors import NotAllowedError, NotFoundError, RefusedError
from common.homeserver.synapse.rooms import (
    GetEvent,
    GetRoom,
    GetRoomBlock,
    GetRoomState,
    GetStateEvent,
    ListRoomMembers,
    ListRooms,
    MakeRoomAdmin,
    ResolveAlias,
    all_rooms,
)
from common.homeserver.synapse.server import GetServerVersion
from common.homeserver.synapse.users import (
    GetUser,
    GetUserAdmin,
    JoinUser,
    ListUserDevices,
    ListUserRooms,
    ListUsers,
    SetUserAdmin,
    all_users,
)
from common.ids import EventId, RoomAlias, RoomId, UserId
from tests.support.admin_api import admin_api
from tests.support.asking import Asking
from tests.support.clients import RawClient
from tests.support.databases import open_database
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, World
from tests.unit.adminbot.test_bot import build, decrypted
from tests.unit.adminbot.world import ADMIN, DIRECT, message

STOP = "To stop it:"


@dataclass(frozen=True)
class People:
    """A server admin and two ordinary people, each with an encrypted client."""

    admin: NioClient
    alice: NioClient
    bob: NioClient
    adminbot: UserId

    async def answer(self, person: NioClient, room: RoomId, asked: EventId) -> Seen:
        """Return what answers a message; what all server admins are told may come before it."""

        def found() -> Seen | None:
            said = person.messages(room, sender=self.adminbot)
            # How far something is is shown in one message of its own.
            answers = [one for one in said if answered(one) == asked and STOP not in one.body]
            return answers[0] if answers else None

        answer = await person.sync_until(found, f"an answer to {asked}")
        assert answer is not None
        return answer

    async def ask(self, person: NioClient, room: RoomId, text: str) -> Seen:
        """Type a command and return the answer, which must be in the command's thread."""
        answer = await self.answer(person, room, await person.send_text(room, text))
        assert answer.content["msgtype"] == "m.notice"
        assert answer.content["m.mentions"] == {}
        return answer


def answered(seen: Seen) -> object:
    """Return the message that one of adminbot's replies to, if it is a reply."""
    relation = seen.content.get("m.relates_to", {})
    return relation.get("m.in_reply_to", {}).get("event_id")


@asynccontextmanager
async def people_of(world: World) -> AsyncIterator[People]:
    """Make three new people."""
    async with AsyncExitStack() as stack:

        async def client(localpart: str, *, admin: bool = False) -> NioClient:
            name = f"{localpart}-{secrets.token_hex(3)}"
            account = await world.synapse.register(name, admin=admin)
            directory = world.directory / name
            return await stack.enter_async_context(
                NioClient(world.synapse.url, account, directory)
            )

        yield People(
            admin=await client("root", admin=True),
            alice=await client("alice"),
            bob=await client("bob"),
            adminbot=world.steward.adminbot,
        )


@pytest.fixture
async def people(world: World) -> AsyncIterator[People]:
    """Three people of the shared world."""
    async with people_of(world) as three:
        yield three


async def own_room(people: People, *, encrypted: bool) -> RoomId:
    """Return a new room of alice's with bob in it."""
    room = await people.alice.create_room("Café <b>", encrypted=encrypted)
    await people.alice.request(
        "POST", f"/_matrix/client/v3/rooms/{room}/invite", {"user_id": people.bob.user_id}
    )
    await people.bob.join(room, encrypted=encrypted)
    await people.alice.wait_for_members(room, people.adminbot, people.bob.user_id)
    return room


async def direct_chat(people: People, person: NioClient, *, encrypted: bool = True) -> RoomId:
    """Return a new direct chat with adminbot."""
    chat = await person.direct_chat(people.adminbot, encrypted=encrypted)
    await person.wait_for_members(chat, people.adminbot)
    return chat


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_room_admin_commands_in_their_room(people: People, encrypted: bool) -> None:
    room = await own_room(people, encrypted=encrypted)

    helped = await people.ask(people.alice, room, "!help")
    shown = await people.ask(people.alice, room, "!room show")
    members = await people.ask(people.alice, room, "!admin room members")

    assert helped.encrypted == shown.encrypted == encrypted
    assert "• room: " in helped.body
    assert "• user: " not in helped.body
    assert "Café <b>" in shown.body
    assert "Café &lt;b&gt;" in shown.content["formatted_body"]
    assert people.bob.user_id in members.body


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_server_admin_commands_in_a_direct_chat(people: People, encrypted: bool) -> None:
    chat = await direct_chat(people, people.admin, encrypted=encrypted)
    admin, alice = people.admin, people.alice.user_id

    assert "• user: " in (await people.ask(admin, chat, "help")).body
    assert "Synapse" in (await people.ask(admin, chat, "version")).body
    assert "Commands waiting" in (await people.ask(admin, chat, "!status")).body
    local = alice.removeprefix("@").partition(":")[0]
    shown = await people.ask(admin, chat, f"user show {local}")
    card = dict(line.split(None, 1) for line in shown.body.splitlines() if ":  " in line)
    assert (card["User:"], card["State:"], card["Rooms:"]) == (alice, "active", "0")
    listed = await people.ask(admin, chat, f"user list --name {local}")
    assert alice in listed.body
    assert "1 account in all" in listed.body
    assert "room" in (await people.ask(admin, chat, "room list --sort members")).body
    nearest = await people.ask(admin, chat, "user lst")
    assert "user list" in nearest.body


async def test_the_whole_user_list_has_everybody(people: People) -> None:
    chat = await direct_chat(people, people.admin)

    # Others of the shared world fill pages too.
    number, listed = 1, ""
    while f"--page {number}" in listed or number == 1:
        listed += (await people.ask(people.admin, chat, f"user list --page {number}")).body
        number += 1

    for person in (people.admin, people.alice, people.bob):
        assert person.user_id in listed


async def test_steward_bots_are_left_out_of_the_user_list(people: People) -> None:
    chat = await direct_chat(people, people.admin)

    listed = await people.ask(people.admin, chat, "user list --name adminbot")
    shown = await people.ask(people.admin, chat, "user list --name adminbot --bridged")

    assert people.adminbot not in listed.body
    assert "1 bridged account left out" in listed.body
    assert people.adminbot in shown.body


async def test_a_mention_names_a_person(people: People) -> None:
    chat = await direct_chat(people, people.admin)
    html = f'user show <a href="https://matrix.to/#/{people.alice.user_id}">Alice of Sales</a>'
    asked = await people.admin.send_text(
        chat,
        "user show Alice of Sales",
        extra={"format": "org.matrix.custom.html", "formatted_body": html},
    )

    answer = await people.answer(people.admin, chat, asked)

    assert people.alice.user_id in answer.body


async def test_what_others_may_not_do_is_refused(people: People) -> None:
    room = await own_room(people, encrypted=True)
    chat = await direct_chat(people, people.bob)

    in_chat = await people.ask(people.bob, chat, "user list")
    in_room = await people.ask(people.bob, room, "!room show")
    about_room = await people.ask(people.bob, chat, f"room members {room}")

    assert "for server admins" in in_chat.body
    assert "for a room admin" in in_room.body
    assert "for a room admin" in about_room.body
    assert people.alice.user_id not in about_room.body


async def test_a_server_admin_is_not_answered_where_others_read_along(people: People) -> None:
    room = await people.admin.create_room("with others", encrypted=True)
    await people.admin.wait_for_members(room, people.adminbot)
    await people.admin.request(
        "POST", f"/_matrix/client/v3/rooms/{room}/invite", {"user_id": people.bob.user_id}
    )
    await people.bob.join(room, encrypted=True)
    await people.admin.wait_for_members(room, people.bob.user_id)

    answer = await people.ask(people.admin, room, "!user list")

    assert "direct chat" in answer.body
    assert people.bob.user_id not in answer.body


async def test_what_is_no_command_is_not_answered(people: People) -> None:
    room = await own_room(people, encrypted=True)
    alice = people.alice

    ignored = [
        await alice.send(room, "m.room.message", {"msgtype": "m.notice", "body": "!help"}),
        await alice.send_text(room, "!poll new"),
        await alice.send_text(room, "help"),
    ]
    ignored.append(await alice.edit(room, ignored[2], "!help"))
    quoted = "> <@x:example.org> !help\n\nindeed"
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": ignored[0]}}}
    ignored.append(await alice.send_text(room, quoted, extra=reply))

    answer = await people.ask(alice, room, "!whoami")

    said = [seen.event_id for seen in alice.messages(room, sender=people.adminbot)]
    assert said == [answer.event_id]


async def test_a_direct_chat_ends_when_somebody_joins(people: People) -> None:
    chat = await direct_chat(people, people.admin)
    await people.ask(people.admin, chat, "version")

    await people.admin.request(
        "POST", f"/_matrix/client/v3/rooms/{chat}/invite", {"user_id": people.bob.user_id}
    )
    await people.bob.join(chat, encrypted=True)
    await people.admin.wait_for_members(chat, people.bob.user_id)
    ignored = await people.admin.send_text(chat, "user list")
    answer = await people.ask(people.admin, chat, "!user list")

    later = [
        seen.event_id
        for seen in people.admin.messages(chat, sender=people.adminbot)
        if answered(seen) == ignored
    ]
    assert later == []
    assert "direct chat" in answer.body


async def test_what_somebody_asks_for_is_granted_or_declined_by_a_button(world: World) -> None:
    mark, bot = f"choir-{secrets.token_hex(3)}", world.steward.adminbot
    async with await world.person(admin=True) as root, await world.person() as alice:
        chief = await Asking.in_direct_chat(root, bot)
        asking = await Asking.in_direct_chat(alice, bot)
        room = await alice.create_room(name="Choir", extra={"room_version": "10"})
        await alice.wait_for_members(room, bot)

        async def press(sign: str, wish: str, asked: str) -> EventId:
            """Ask, and have a server admin press a button of the card; return the reaction."""
            await asking.ask(asked, "The server admins know.")
            card = await chief.hear(f"{alice.user_id} asks for {wish}", after=start)
            about = {"rel_type": "m.annotation", "event_id": card["event_id"], "key": sign}
            return await root.send(chief.room, "m.reaction", {"m.relates_to": about})

        start = await root.send_text(chief.room, "ping")
        room_start = await alice.send_text(asking.room, "ping")
        await press("✅", "an address", f"request alias {room} --address #{mark}")
        await asking.hear("granted what you asked for: an address", after=room_start)
        address = quote(f"#{mark}:{world.synapse.server_name}")
        assert (await alice.client("GET", f"/directory/room/{address}"))["room_id"] == room

        pressed = await press("✅", "a newer version", f"request upgrade {room} Too old.")
        question = await chief.hear("To go on, write", after=pressed)
        word = question["content"]["body"].rpartition("confirm ")[2].strip()
        await root.send_text(chief.room, f"confirm {word}")
        await asking.hear("granted what you asked for: a newer version", after=room_start)
        assert (await alice.state(room, "m.room.tombstone"))["replacement_room"] != room

        await press("❌", "something", f"request other {room}")
        await asking.hear("has declined what you asked for", after=room_start)


async def test_a_lost_admin_right_counts_at_once(world: World, people: People) -> None:
    chat = await direct_chat(people, people.admin)
    await people.ask(people.admin, chat, "user list")
    async with await world.person(admin=True) as other:
        await admin_api(other).change(SetUserAdmin(people.admin.user_id, admin=False))

    answer = await people.ask(people.admin, chat, "user list")

    assert "for server admins" in answer.body


async def test_commands_given_while_steward_is_down_are_answered_once(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    async with people_of(world) as people:
        chat = await direct_chat(people, people.admin)
        await people.ask(people.admin, chat, "version")
        await world.steward.kill()
        asked = await people.admin.send_text(chat, "whoami")

        await world.steward.start()

        answer = await people.answer(people.admin, chat, asked)
        assert people.admin.user_id in answer.body
        last = await people.ask(people.admin, chat, "status")
        said = people.admin.messages(chat, sender=people.adminbot)
        assert said.index(last) > said.index(answer)
        assert [seen for seen in said if answered(seen) == asked] == [answer]


async def test_the_tables_work_on_postgresql_too(postgres: Postgres) -> None:
    target = await postgres.create_database()
    async with open_database(target.url) as database:
        bot = build(database)
        asked = {**message("test close alice", sender=ADMIN), "event_id": "$one"}
        late = {**message("", sender=ADMIN), "event_id": "$two", "type": "m.room.encrypted"}
        bot.crypto.readings["$two"] = Undecryptable(Why.NO_SESSION, "s1")
        async with bot.running():
            await bot.push(asked, late)
            await bot.until_said(1)
            relation = {"event_id": bot.messenger.question(), "rel_type": "m.annotation"}
            yes = {**asked, "event_id": "$yes", "type": "m.reaction"}
            await bot.push({**yes, "content": {"m.relates_to": {**relation, "key": "✅"}}})
            await bot.until_said(2)
            bot.crypto.readings["$two"] = decrypted("version")
            await bot.bot.keys_arrived({SessionRef(DIRECT, "s1")})
            said = await bot.until_said(3)
        await bot.bot.worker.store.forget_old()

    assert said[1] == "Done: Close @alice:example.org and 0 shadows."
    assert "1.163.2" in said[2]


@pytest.fixture
async def root(prepared_world: World, synapse: object) -> AsyncIterator[RawClient]:
    """A server admin."""
    async with await prepared_world.person(admin=True) as client:
        yield client


@pytest.fixture
async def person(prepared_world: World, synapse: object) -> AsyncIterator[RawClient]:
    """An ordinary person."""
    async with await prepared_world.person() as client:
        yield client


async def test_endpoints_about_accounts(root: RawClient, person: RawClient) -> None:
    admin, user = admin_api(root), person.user_id
    room = await person.create_room(name="one")

    found = await admin.read(GetUser(user))
    devices = await admin.read(ListUserDevices(user))
    rooms = await admin.read(ListUserRooms(user))
    by_name = await admin.read(ListUsers(name=user.partition(":")[0][1:]))
    admins = await admin.read(ListUsers(admins=True, deactivated=False, not_user_type="bot"))

    assert found.created_ms is not None
    created = datetime.fromtimestamp(found.created_ms / 1000, UTC)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=10)  # noqa: TID251  # a real one
    assert not found.admin
    assert found.appservice_id is None
    assert [device.device_id for device in devices] == [person.account.device_id]
    assert rooms == (room,)
    assert [one.name for one in by_name.users] == [user]
    assert root.user_id in {one.name for one in admins.users}
    assert user not in {one.name for one in admins.users}
    assert user in {one.name async for one in all_users(admin, ListUsers(limit=2))}


async def test_endpoints_about_rooms(root: RawClient, person: RawClient) -> None:
    admin = admin_api(root)
    alias = f"lobby-{secrets.token_hex(4)}"
    room = await person.create_room(name="two", extra={"room_alias_name": alias})
    event = await person.send_text(room, "hello")
    server = person.user_id.partition(":")[2]

    assert (await admin.read(GetServerVersion())).server_version.startswith("1.")
    assert await admin.read(ResolveAlias(RoomAlias(f"#{alias}:{server}"))) == room
    details = await admin.read(GetRoom(room))
    assert (details.version, details.tombstoned) == ("12", False)
    assert person.user_id in await admin.read(ListRoomMembers(room))
    (create,) = await admin.read(GetRoomState(room, "m.room.create"))
    assert create.sender == person.user_id
    assert not await admin.read(GetRoomBlock(room))
    assert room in {one.room_id async for one in all_rooms(admin, ListRooms(limit=2))}
    own = admin_api(person)
    member = await own.read(GetStateEvent(room, "m.room.member", person.user_id))
    assert member.content["membership"] == "join"
    assert (await own.read(GetEvent(room, event))).sender == person.user_id
    await person.redact(room, event)
    assert "redacted_because" in (await own.read(GetEvent(room, event))).unsigned


async def test_endpoints_that_change(
    prepared_world: World, root: RawClient, person: RawClient
) -> None:
    admin = admin_api(root)
    room = await person.create_room(name="three")

    await admin.change(MakeRoomAdmin(room, root.user_id))
    # Invited by that; the join endpoint needs the asking account to be in the room.
    with pytest.raises(NotAllowedError):
        await admin.change(JoinUser(root.user_id, room))
    await root.join(room)
    async with await prepared_world.person() as third:
        assert await admin.change(JoinUser(third.user_id, room)) == room
        with pytest.raises(NotAllowedError, match="already in the room"):
            await admin.change(JoinUser(third.user_id, room))
        assert third.user_id in await admin.read(ListRoomMembers(room))
    await admin.change(SetUserAdmin(person.user_id, admin=True))
    await admin.change(SetUserAdmin(person.user_id, admin=True))

    assert await admin.read(GetUserAdmin(person.user_id))


async def test_refusals_of_a_real_homeserver_have_names(
    root: RawClient, person: RawClient
) -> None:
    with pytest.raises(NotFoundError):
        await admin_api(root).read(GetUser(UserId(f"@nobody:{root.user_id.partition(':')[2]}")))
    with pytest.raises(NotFoundError):
        await admin_api(root).read(GetRoom(RoomId("!no/../such?room#x")))
    with pytest.raises(NotAllowedError):
        await admin_api(person).read(GetUser(root.user_id))
    with pytest.raises(RefusedError):
        await admin_api(root).read(GetUser(UserId("@alice:elsewhere.org")))
    with pytest.raises(RefusedError):
        await admin_api(root).read(GetEvent(RoomId("!nowhere"), EventId("$nothing")))
