"""Refused invitations and what “match” knows, on a real Synapse with the module."""

import secrets

import pytest

from common.demo.waiting import wait_for
from common.ids import RoomId
from tests.support.clients import RawClient, RequestFailedError
from tests.support.talk import talk_in
from tests.support.world import MakeWorld, Wish, World

_FORBIDDEN = 403


async def invites(inviter: RawClient, room: RoomId, invitee: RawClient) -> bool:
    """Try to invite somebody; say whether the homeserver let it through."""
    try:
        await inviter.invite(room, invitee.user_id)
    except RequestFailedError as error:
        if error.status == _FORBIDDEN:
            return False
        raise
    return True


async def test_invitations_are_refused_until_they_are_let_through_again(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    async with (
        talk_in(world) as talk,
        await world.person() as spam,
        await world.person() as alice,
        await world.person() as bob,
    ):
        room = await spam.create_room(name="Buy now")
        await spam.wait_for_members(room, world.steward.adminbot)
        assert "No invitations are refused." in await talk.ask("invite-block list")
        assert await invites(spam, room, bob)

        said = await talk.do(f"invite-block add {spam.user_id} --reason adverts")
        assert "Done" in said

        assert not await invites(spam, room, alice)
        listed = await talk.ask("invite-block list")
        assert spam.user_id in listed
        assert "adverts" in listed
        assert "The homeserver refuses invitations from 1 entry." in listed
        assert "refused already" in await talk.ask(f"invite-block add {spam.user_id}")
        matched = await talk.ask(f"match {spam.user_id}")
        assert "Invitations are refused" in matched
        assert "adverts" in matched
        assert "No rule is about" in await talk.ask(f"match {alice.user_id}")
        # Others go on, the bots come into the room of who is refused, and new rooms are made.
        hall = await alice.create_room(name="Hall")
        assert await invites(alice, hall, bob)
        with pytest.raises(RequestFailedError):
            await spam.create_room(name="For you", invite=[alice.user_id])
        other = await spam.create_room(name="More")
        await spam.wait_for_members(other, world.steward.adminbot, world.steward.auditbot)

        # It is the homeserver's own: while Steward is away, and after a restart.
        await world.steward.stop()
        await world.synapse.stop()
        await world.synapse.start()
        assert not await invites(spam, room, alice)
        await world.steward.start()

        await talk.do(f"invite-block remove {spam.user_id}")
        assert await invites(spam, room, alice)
        assert "No such" not in await talk.ask("invite-block list")
        assert "There is no such entry" in await talk.ask(f"invite-block remove {spam.user_id}")


@pytest.mark.parametrize(
    ("entity", "why"),
    [
        ("steward.localhost", "within this server"),
        ("*", "within this server"),
        ("*.localhost", "within this server"),
        ("@adminbot", "left alone"),
        ("@*:steward.localhost", "left alone"),
        ("!room:example.org", "by who sends them"),
        ("#lobby:example.org", "by who sends them"),
        ("exämple.org", "is none"),
    ],
)
async def test_what_would_cut_the_server_off_is_refused(
    world: World, entity: str, why: str
) -> None:
    async with talk_in(world) as talk:
        assert why in await talk.ask(f"invite-block add {entity}")


async def test_without_the_module_it_is_said_that_nothing_is_refused(
    make_world: MakeWorld,
) -> None:
    world = await make_world(Wish(module=False))
    async with talk_in(world) as talk:
        assert "does not run Steward's module" in await talk.ask("invite-block add evil.example")
        assert "does not run Steward's module" in await talk.ask("invite-block list")


async def test_match_finds_every_kind_of_rule(make_world: MakeWorld) -> None:
    world = await make_world()  # not in every room of a world of many is looked for rules
    mark = secrets.token_hex(4)
    bad = f"{mark}.evil.example"
    async with talk_in(world) as talk, await world.person() as alice, await world.person() as bob:
        room = await alice.create_room(name="Rules")
        await alice.wait_for_members(room, world.steward.adminbot)
        state = f"/_matrix/client/v3/rooms/{room}/state"
        acl = {"allow": ["*"], "deny": [bad, "*.other.example"], "allow_ip_literals": True}
        await alice.request("PUT", f"{state}/m.room.server_acl/", acl)
        for kind, entity in (
            ("user", f"@spam*:{mark}.*"),
            ("server", f"*{mark}*"),
            ("room", f"!bad{mark}:*"),
        ):
            rule = {"entity": entity, "recommendation": "m.ban", "reason": f"why {kind}"}
            await alice.request("PUT", f"{state}/m.policy.rule.{kind}/{mark}", rule)
        await alice.invite(room, bob.user_id)
        await bob.join(room)
        ban = f"/_matrix/client/v3/rooms/{room}/ban"
        await alice.request("POST", ban, {"user_id": bob.user_id})
        await talk.do(f"user lock {bob.user_id}")

        async def about_the_user() -> bool:
            said = await talk.ask(f"match @spammer:{bad}")
            return "why user" in said and "why server" in said and "ACL" in said

        await wait_for(about_the_user, 60, "the rules about a user")
        of_server = await talk.ask(f"match {bad}")
        assert "why server" in of_server
        assert "ACL" in of_server
        assert "why user" not in of_server
        of_room = await talk.ask(f"match !bad{mark}:{bad}")
        assert "why room" in of_room
        of_bob = await talk.ask(f"match {bob.user_id}")
        assert "Banned" in of_bob
        assert "locked" in of_bob
        await talk.do(f"room block !gone{mark}:{bad} a reason of {mark}")
        assert f"a reason of {mark}" in await talk.ask(f"match !gone{mark}:{bad}")
        assert "No rule is about" in await talk.ask(f"match {secrets.token_hex(5)}.example.org")
        assert "patterns are what" in await talk.ask("match *.example.org")
