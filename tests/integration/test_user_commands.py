"""Commands about accounts, each with its effect on a real homeserver."""

import csv
import io
import json
import secrets
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pyrage
import pytest

from common.clock import SystemClock
from common.homeserver.client import AdminClient
from common.homeserver.synapse.account_state import LockUser, SuspendUser
from common.homeserver.synapse.media import ListUserMedia
from common.homeserver.synapse.user_lookup import GetExperimentalFeatures, GetMemberships
from common.homeserver.synapse.user_rights import GetRateLimit
from common.homeserver.synapse.users import GetUser, ListUserDevices, UserDetails
from common.ids import RoomId, UserId
from tests.support.admin_api import admin_api
from tests.support.clients import RawClient, RequestFailedError, wait_for
from tests.support.commanding import Commander
from tests.support.world import MakeWorld, World


@dataclass(frozen=True)
class Desk:
    """A server admin at adminbot, and the same API by other means."""

    world: World
    root: Commander
    api: AdminClient

    async def account(self, user: UserId) -> UserDetails:
        return await self.api.read(GetUser(user))


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Desk]:
    async with desk_in(world) as one:
        yield one


@asynccontextmanager
async def desk_in(world: World) -> AsyncIterator[Desk]:
    """Make a server admin at adminbot in a world, and another one."""
    async with await world.person(admin=True) as client, await world.person(admin=True) as other:
        yield Desk(world, await Commander.of(client, world), admin_api(other))


def new_name() -> str:
    return f"person-{secrets.token_hex(4)}"


async def test_an_account_is_made_named_and_found(desk: Desk) -> None:
    root, name = desk.root, new_name()
    server = desk.world.synapse.server_name
    user = UserId(f"@{name}:{server}")

    made = await root.ask(f'user create {name} --name "Ann Example" --email {name}@Example.org')

    assert f"The account {user} is made." in made
    (secret,) = [each["body"] for each in await root.said() if "Password:" in each["body"]]
    password = secret.rstrip().splitlines()[-1]
    assert password not in made
    assert (await desk.world.synapse.log_in(name, password)).user_id == user
    found = await desk.account(user)
    assert (found.displayname, found.threepids[0].address) == (
        "Ann Example",
        f"{name}@example.org",
    )
    assert user in await root.ask(f"user find {name}@example.org")
    assert user in await root.ask(f"user find {name}")
    await root.ask(f"user set {name} displayname Ann B. Example")
    await root.ask(f"user set {name} type support")
    found = await desk.account(user)
    assert (found.displayname, found.user_type) == ("Ann B. Example", "support")
    assert "cannot be made" in await root.ask(f"user create {name}")
    assert "cannot be made" in await root.ask("user create server")
    assert "own accounts" in await root.ask("user set adminbot displayname Mallory")
    shown = await root.ask(f"user show {name}")
    assert "Ann B. Example" in shown
    assert "Devices:" in shown


async def test_addresses_and_identities_are_added_and_taken_away(desk: Desk) -> None:
    root, api = desk.root, desk.api
    async with await desk.world.person() as person:
        user = person.user_id
        address, identity = f"{user[1:20]}@example.org", secrets.token_hex(6)

        await root.do(f"user email add {user} {address}")
        await root.do(f"user email add {user} second{address}")
        await root.do(f"user sso add {user} oidc-test {identity}")
        assert "already" in await root.ask(f"user email add {user} {address}")
        listed = await root.ask(f"user email list {user}")
        await root.do(f"user email remove {user} second{address}")

        assert f"second{address}" in listed
        found = await desk.account(user)
        assert [each.address for each in found.threepids] == [address]
        assert found.external_ids[0].external_id == identity
        assert user in await root.ask(f"user find {identity} --provider oidc-test")
        assert identity in await root.ask(f"user external-id list {user}")
        await root.do(f"user sso remove {user} oidc-test {identity}")
        assert (await api.read(GetUser(user))).external_ids == ()
        await root.do(f"user external-id add {user} oidc-test 2{identity}")
        (found_id,) = (await api.read(GetUser(user))).external_ids
        assert (found_id.auth_provider, found_id.external_id) == ("oidc-test", f"2{identity}")
        await root.do(f"user external-id remove {user} oidc-test 2{identity}")
        assert (await api.read(GetUser(user))).external_ids == ()


async def test_passwords_and_sessions(desk: Desk) -> None:
    root, world = desk.root, desk.world
    name = new_name()
    account = await world.synapse.register(name, password="first-password")
    second = await world.synapse.log_in(name, "first-password")
    user = account.user_id

    sessions = await root.ask(f"user sessions {name}")
    assert account.device_id in sessions
    await root.do(f"user logout {name} --device {second.device_id}")
    assert [one.device_id for one in await desk.api.read(ListUserDevices(user))] == [
        account.device_id
    ]
    done = await root.do(f"user password {name}")
    (secret,) = [
        each["body"]
        for each in await root.said()
        if user in each["body"] and "-" in each["body"] and "Have them" in each["body"]
    ]
    password = secret.split()[1]
    assert password not in done
    assert await desk.api.read(ListUserDevices(user)) == ()
    third = await world.synapse.log_in(name, password)
    fourth = await world.synapse.log_in(name, password)
    await root.do(f"user logout {name} --keep 1")
    left = [one.device_id for one in await desk.api.read(ListUserDevices(user))]
    assert len(left) == 1
    assert left[0] in {third.device_id, fourth.device_id}
    assert "no such session" in await root.ask(f"user logout {name} --older-than 30d")


async def test_a_service_account_from_its_making_to_its_end(desk: Desk) -> None:
    root, world, name = desk.root, desk.world, new_name()
    user = UserId(f"@{name}:{world.synapse.server_name}")

    async def password() -> str:
        told = [each["body"] for each in await root.said() if "Have them" in each["body"]]
        (*_, secret) = [each for each in told if user in each]
        made = "Password:" in secret
        return str(secret.rstrip().splitlines()[-1] if made else secret.split()[1])

    made = await root.do(f"bot create {name} --name Backups", typed=user)
    first = await password()
    assert first not in made
    assert (await desk.account(user)).user_type == "bot"
    session = await world.synapse.log_in(name, first)
    listed = await root.ask("bot list")
    assert user in listed
    assert "Backups" in listed

    await root.do(f"bot rotate-token {name}", typed=user)
    assert await desk.api.read(ListUserDevices(user)) == ()
    second = await password()
    assert second != first
    assert (await world.synapse.log_in(name, second)).device_id != session.device_id

    await root.do(f"bot disable {name}", typed=user)
    assert (await desk.account(user)).locked
    assert "locked" in await root.ask("bot list")
    assert "is locked" in await root.ask(f"bot disable {name}")
    person = await world.synapse.register(new_name(), password="first-password")
    assert "is no service account" in await root.ask(f"bot disable {person.user_id}")
    assert person.user_id not in await root.ask("bot list")


async def test_locks_and_suspensions_end_by_themselves_and_are_told(desk: Desk) -> None:
    root, world = desk.root, desk.world
    async with await world.person() as person, await world.person() as other:
        user = person.user_id

        await root.do(f"user lock {user} --for 15s --reason “too loud”")
        with pytest.raises(RequestFailedError, match="M_USER_LOCKED"):
            await person.client("GET", "/account/whoami")
        assert "locked" in await root.ask(f"user show {user}")
        await root.do(f"user suspend {other.user_id} --reason spam")
        assert (await desk.account(other.user_id)).suspended
        # Who is suspended can join no room, so they are in there already.
        (notices,) = (await other.sync())["rooms"]["join"]
        assert "spam" in str(await other.messages(RoomId(notices)))
        await root.do(f"user unsuspend {other.user_id}")
        assert not (await desk.account(other.user_id)).suspended
        assert "not suspended" in await root.ask(f"user unsuspend {other.user_id}")

        # By hand, before the time that was said.
        await root.do(f"user lock {other.user_id} --for 7d")
        with pytest.raises(RequestFailedError, match="M_USER_LOCKED"):
            await other.client("GET", "/account/whoami")
        await root.do(f"user unlock {other.user_id}")
        assert (await other.client("GET", "/account/whoami"))["user_id"] == other.user_id
        assert "not locked" in await root.ask(f"user unlock {other.user_id}")

        async def unlocked() -> bool:
            return not (await desk.account(user)).locked

        await wait_for(unlocked, 60, "the end of the lock")
        (notices,) = (await person.sync())["rooms"]["invite"]
        await person.join(RoomId(notices))
        told = await person.wait_for_message(RoomId(notices), "locked by an admin")
        assert "too loud" in told["content"]["body"]
        # Told after it is so.
        await person.wait_for_message(RoomId(notices), "The lock of your account has ended")


async def test_shadow_bans_rate_limits_and_rights(make_world: MakeWorld) -> None:
    # One message cannot hold the names of all server admins of the shared world.
    async with desk_in(await make_world()) as desk:
        await _shadow_bans_rate_limits_and_rights(desk)


async def _shadow_bans_rate_limits_and_rights(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        user = person.user_id

        await root.do(f"user shadowban {user}", typed=user)
        assert (await desk.account(user)).shadow_banned
        await root.do(f"user unshadowban {user}", typed=user)
        assert not (await desk.account(user)).shadow_banned
        await root.ask(f"user ratelimit set {user} 5 50")
        assert "5 messages a second, 50 at once" in await root.ask(f"user ratelimit show {user}")
        await root.ask(f"user ratelimit clear {user}")
        assert await desk.api.read(GetRateLimit(user)) is None
        await root.do(f"user admin grant {user}", typed=user)
        assert (await desk.account(user)).admin
        assert user in await root.ask("user admin list")
        await root.do(f"user admin revoke {user}", typed=user)
        assert not (await desk.account(user)).admin
        assert "your own account" in await root.ask(f"user admin revoke {root.client.user_id}")


async def test_an_acting_token_is_told_to_who_asked_and_expires(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        user = person.user_id

        done = await root.do(f"user token {user} --for 5m", typed=user)

        (secret,) = [each["body"] for each in await root.said() if "Acts as" in each["body"]]
        token = next(line for line in secret.split("\n") if line.startswith("syt_"))
        assert token not in done
        acting = RawClient(root.client.url, replace(person.account, access_token=token))
        async with acting:
            assert (await acting.client("GET", "/account/whoami"))["user_id"] == user
        refused = await root.ask(f"user token {root.client.user_id}")
        assert "your own account" in refused
        assert "at most" in await root.ask("user token --help")


async def test_rooms_are_joined_and_left_and_invitations_rejected(desk: Desk) -> None:
    root, api = desk.root, desk.api
    async with await desk.world.person() as person, await desk.world.person() as owner:
        user = person.user_id
        room = await owner.create_room(name="Lab")
        other = await owner.create_room(name="Attic", invite=[user])
        await owner.wait_for_members(room, root.adminbot)

        await root.do(f"user join {user} {room}")
        assert user in await owner.joined_members(room)
        assert "Lab" in await root.ask(f"user rooms {user}")
        assert "Attic" in await root.ask(f"user invites list {user}")
        await root.do(f"user invites reject {user}")
        await root.do(f"user leave {user} --all --reason bye")

        memberships = await api.read(GetMemberships(user))
        assert {memberships[room], memberships[other]} == {"leave"}
        member = await owner.state(room, "m.room.member", state_key=user)
        assert member == {"membership": "leave", "reason": "bye"}
        # The owner, whose power nobody in a room of version 12 can match, can be taken out too.
        await root.do(f"user leave {owner.user_id} {room}")
        assert (await api.read(GetMemberships(owner.user_id)))[room] == "leave"


async def test_words_and_files_are_taken_back(desk: Desk) -> None:
    root, api = desk.root, desk.api
    async with await desk.world.person() as person:
        user = person.user_id
        room = await person.create_room(name="Lab")
        written = [await person.send_text(room, f"spam {number}") for number in range(3)]
        first = await person.upload(b"one", "one.txt")
        await person.upload(b"two", "two.txt")

        await root.do(f"user redact {user}", typed=user)
        listed = await root.ask(f"user media list {user}")
        await root.do(f"user media delete {user} {first}", typed=user)
        left = await api.read(ListUserMedia(user=user))
        await root.do(f"user media quarantine {user}", typed=user)
        quarantined = await api.read(ListUserMedia(user=user))
        await root.do(f"user media delete {user}", typed=user)

        events = {event["event_id"]: event for event in await person.messages(room)}
        assert all(events[event]["content"] == {} for event in written)
        assert "one.txt" in listed
        assert first in listed
        assert [one.upload_name for one in left.media] == ["two.txt"]
        assert all(one.quarantined_by for one in quarantined.media)
        assert (await api.read(ListUserMedia(user=user))).total == 0


async def test_an_account_is_closed_for_good_and_opened_again(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person, await desk.world.person() as friend:
        user = person.user_id
        room = await person.create_room(name="Den", invite=[friend.user_id])
        await friend.join(room)
        # What the question says of the room depends on whether the bots are in it.
        await person.wait_for_members(room, root.adminbot, desk.world.steward.auditbot)
        await person.upload(b"one", "one.txt")
        said = await person.send_text(room, "something")

        asked = await root.type(f"user deactivate {user} --redact --delete-media")
        question = await root.confirm(asked, typed=user)
        await root.answer(asked, 1)

        assert "is the only admin, besides me, of 1 room" in question
        assert room in question
        assert "cannot be undone" in question
        assert (await desk.account(user)).deactivated
        events = {event["event_id"]: event for event in await friend.messages(room)}
        assert events[said]["content"] == {}
        assert (await desk.api.read(ListUserMedia(user=user))).total == 0
        assert "deactivated already" in await root.ask(f"user deactivate {user}")
        await root.do(f"user reactivate {user}")
        assert not (await desk.account(user)).deactivated


async def test_what_is_protected_is_left_alone(desk: Desk) -> None:
    root, bots = desk.root, desk.world.steward

    for act in ("lock", "suspend", "deactivate", "password", "shadowban", "logout", "redact"):
        assert "left alone" in await root.ask(f"user {act} {bots.auditbot}")
    assert "your own account" in await root.ask(f"user deactivate {root.client.user_id}")
    assert "another server" in await root.ask("user lock @alice:elsewhere.org")
    assert "no account" in await root.ask("user lock nobody-at-all")


async def test_the_list_is_filtered_and_the_file_has_every_page(desk: Desk) -> None:
    root, mark = desk.root, f"zz{secrets.token_hex(3)}"
    for number in range(3):
        await desk.world.synapse.register(f"{mark}-{number}", admin=number == 2)
    server = desk.world.synapse.server_name
    await desk.api.change(SuspendUser(UserId(f"@{mark}-0:{server}")))
    await desk.api.change(LockUser(UserId(f"@{mark}-1:{server}")))

    async def listed(options: str) -> set[str]:
        body = await root.ask(f"user list --name {mark} {options}")
        return {f"{number}" for number in range(3) if f"@{mark}-{number}:" in body}

    assert await listed("") == {"0", "1", "2"}
    assert await listed("--suspended") == {"0"}
    assert await listed("--locked") == {"1"}
    assert await listed("--no-locked --no-suspended") == {"2"}
    assert await listed("--admin") == {"2"}
    assert await listed("--created-since yesterday") == {"0", "1", "2"}
    assert await listed("--created-since tomorrow") == set()
    assert await listed("--inactive-for 1d") == set()
    assert await listed("--active-in 1d") <= {"0", "1", "2"}
    assert await listed("--deactivated") == set()
    assert await listed("--type person") == {"0", "1", "2"}
    await root.ask(f"user set {mark}-1 type bot")
    assert await listed("--type bot") == {"1"}
    assert await listed("--type person") == {"0", "2"}
    assert await listed("--type support") == set()
    assert "files" not in await root.ask(f"user list --name {mark} --csv")
    (data,) = await root.files("users.csv")
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert [row["user"] for row in rows] == [f"'@{mark}-{number}:{server}" for number in range(3)]
    assert [row["state"] for row in rows] == ["suspended", "locked", "active"]


async def test_what_clients_keep_is_listed(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        user = person.user_id
        path = f"/user/{user}/account_data/org.example.colour"
        await person.client("PUT", path, {"colour": "blue"})

        assert "org.example.colour" in await root.ask(f"user accountdata {user}")
        shown = await root.ask(f"user accountdata {user} --kind org.example.colour")
        assert '"colour": "blue"' in shown
        assert "go anywhere" in await root.ask(f"user pushers {user}")
        refused = await root.do(f"user crypto-reset {user}", typed=user)
        assert "failed" in refused  # they never had an identity
        # Where the homeserver lets no account expire, Synapse would keep a date that counts nothing.
        for what in ("renew", "set"):
            until = "2099-01-01" if what == "set" else ""
            said = await root.do(f"user validity {what} {user} {until}")
            assert "account_validity in homeserver.yaml" in said
        assert "Nothing was set" in await root.ask(f"user validity show {user}")


async def test_experimental_features_are_shown_and_switched(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        user = person.user_id

        assert "msc3881" in await root.ask(f"user features {user}")
        assert "Done" in await root.ask(f"user features {user} msc3881 on")

        assert (await desk.api.read(GetExperimentalFeatures(user)))["msc3881"] is True
        await root.ask(f"user features {user} MSC3881 off")
        assert (await desk.api.read(GetExperimentalFeatures(user)))["msc3881"] is False
        assert "no feature" in await root.ask(f"user features {user} msc9999 on")
        assert "Say whether" in await root.ask(f"user features {user} msc3881")


async def test_a_copy_of_what_is_kept_about_somebody(desk: Desk) -> None:
    root = desk.root
    async with await desk.world.person() as person:
        user = person.user_id
        uri = await person.upload(b"a picture", "holiday.png")
        room = await person.create_room(name="Kitchen")
        marker = secrets.token_hex(8)
        await person.client("PUT", f"/user/{user}/account_data/org.example", {"marker": marker})

        done = await root.do(f"user export {user}", typed=user, deadline_seconds=60)

        assert "in your direct chat" in done
        (locked,) = await root.files(*export_names(user))
        passphrase = await _passphrase(root)
        assert passphrase not in done
        assert marker.encode() not in locked
        with zipfile.ZipFile(io.BytesIO(pyrage.passphrase.decrypt(locked, passphrase))) as copy:
            kept = {name: json.loads(copy.read(name)) for name in copy.namelist()}
        assert kept["account.json"]["name"] == user
        assert kept["rooms.json"]["memberships"][room] == "join"
        assert [each["media_id"] for each in kept["media.json"]] == [uri.rpartition("/")[2]]
        assert kept["account-data.json"]["account_data"]["global"]["org.example"] == {
            "marker": marker
        }
        assert kept["sessions.json"]["devices"][0]["device_id"] == person.account.device_id
        assert kept["connections.json"]["devices"]

        # Their own, for a key of theirs.
        chat = await Commander.of(person, desk.world)
        identity = pyrage.x25519.Identity.generate()
        assert "no age public key" in await chat.ask("me export --recipient age1nonsense")
        await chat.do(
            f"me export --recipient {identity.to_public()}", typed=user, deadline_seconds=60
        )
        (locked,) = await chat.files(*export_names(user))
        with zipfile.ZipFile(io.BytesIO(pyrage.decrypt(locked, [identity]))) as copy:
            own = json.loads(copy.read("steward.json"))
        assert any("me export" in line["command"] for line in own["commands"])
        assert "server admin" in await chat.ask(f"user export {root.client.user_id}")


def export_names(user: UserId) -> set[str]:
    """Return what a copy that was just made may be called: midnight may have passed since."""
    now = SystemClock().now()
    return {
        f"export-{user[1:].partition(':')[0]}-{moment:%Y-%m-%d}.zip.age"
        for moment in (now - timedelta(minutes=5), now)
    }


async def _passphrase(root: Commander) -> str:
    async def told() -> str | None:
        said = [str(each["body"]) for each in await root.said()]
        return next((one for one in said if "The passphrase" in one), None)

    found = await wait_for(told, 60, "the passphrase")
    assert found is not None
    return str(found).split()[-1]


async def test_steward_leaves_its_own_closed_helpers_out_of_the_list(desk: Desk) -> None:
    listed = await desk.root.ask("user list --name steward-setup")

    assert "@steward-setup-" not in listed
    assert "1 closed account of my own setup left out." in listed
    assert "@steward-setup-" not in await desk.root.ask("user list")
    await desk.root.ask("user list --csv")
    (data,) = await desk.root.files("users.csv")
    assert desk.root.client.user_id.encode() in data
    assert b"@steward-setup-" not in data
    assert "takes commands" in await desk.root.ask("privacy")
