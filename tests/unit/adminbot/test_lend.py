"""Nobody gets done through adminbot what their own power could not; Synapse's rules are asked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from hypothesis import assume, given
from hypothesis import strategies as st

from adminbot.engine.actor import Actor, Caller, Place, PlaceKind, Role, Target
from adminbot.engine.answer import Answer, answer
from adminbot.engine.authorize import authorize
from adminbot.engine.command import Command, command
from adminbot.engine.lend import POWER_LEVELS, lend_act, lend_against, lend_levels
from common.homeserver.port import AdminReader, Grant, Permission
from common.ids import RoomId, UserId
from tests.unit.adminbot.situations import (
    ACTS,
    CO_CREATOR,
    CREATOR,
    PEOPLE,
    TYPES,
    Situation,
    levels_of,
    numbers,
    people,
    situations,
)
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, DIRECT, NOW, SHARED


@given(situation=situations, sender=people, target=people, act=st.sampled_from(["kick", "ban"]))
def test_removing_somebody(situation: Situation, sender: UserId, target: UserId, act: str) -> None:
    assume(sender != target)

    lent = lend_against(situation.caller(sender), act, target, situation.powers) is None

    wanted = {"membership": "ban" if act == "ban" else "leave"}
    assert lent == situation.allows(sender, "m.room.member", target, wanted)


@given(situation=situations, sender=people, target=people, draw_ban=numbers, draw_kick=numbers)
def test_lifting_a_ban(
    situation: Situation, sender: UserId, target: UserId, *, draw_ban: int, draw_kick: int
) -> None:
    assume(sender != target)

    limits = {"ban": draw_ban, "kick": draw_kick}
    situation = replace(situation, levels={**situation.levels, **limits})

    lent = lend_against(situation.caller(sender), "unban", target, situation.powers) is None

    content, banned = {"membership": "leave"}, {target: "ban"}
    assert lent == situation.allows(sender, "m.room.member", target, content, members=banned)


@given(situation=situations, sender=people, target=people)
def test_inviting(situation: Situation, sender: UserId, target: UserId) -> None:
    assume(sender != target)

    lent = lend_act(situation.caller(sender), "invite") is None

    content, away = {"membership": "invite"}, {target: "leave"}
    assert lent == situation.allows(sender, "m.room.member", target, content, members=away)


@given(situation=situations, sender=people, type_=st.sampled_from(["m.room.name", "m.room.topic"]))
def test_settings(situation: Situation, sender: UserId, type_: str) -> None:
    lent = lend_act(situation.caller(sender), type_) is None

    assert lent == situation.allows(sender, type_, "", {})


@given(situation=situations, sender=people, wanted=levels_of())
def test_changing_power(situation: Situation, sender: UserId, wanted: dict[str, Any]) -> None:
    caller = situation.caller(sender)

    lent = lend_levels(caller, situation.powers, wanted) is None

    # Ours may be stricter (what is not given counts as what it stands for), never laxer.
    assert not lent or situation.allows(sender, POWER_LEVELS, "", wanted)


@given(situation=situations, sender=people, target=people, level=numbers, equal=st.booleans())
def test_changing_one_persons_power(
    situation: Situation, sender: UserId, *, target: UserId, level: int, equal: bool
) -> None:
    assume(target not in {CREATOR, CO_CREATOR})
    users = situation.levels["users"]
    if equal and sender in users:
        users = {**users, target: users[sender]}
    levels = {**situation.levels, "users": users, "events": {POWER_LEVELS: 0}}
    situation = replace(situation, levels=levels)
    wanted = {**situation.levels, "users": {**situation.levels["users"], target: level}}
    caller = situation.caller(sender)

    lent = lend_levels(caller, situation.powers, wanted) is None

    assert lent == situation.allows(sender, POWER_LEVELS, "", wanted)


@given(situation=situations, wanted=levels_of(), target=people)
def test_a_server_admin_is_exempt_in_private_only(
    situation: Situation, wanted: dict[str, Any], target: UserId
) -> None:
    private = situation.caller(ALICE, place=Place(DIRECT, PlaceKind.DIRECT), admin=True)
    shared = situation.caller(ALICE, admin=True)
    plain = situation.caller(ALICE)

    judged: list[Callable[[Caller], object]] = [
        lambda caller: lend_levels(caller, situation.powers, wanted),
        lambda caller: lend_against(caller, "ban", target, situation.powers),
        lambda caller: lend_act(caller, "m.room.tombstone"),
    ]
    for judge in judged:
        assert judge(private) is None
        assert judge(shared) == judge(plain)


@given(situation=situations, act=st.sampled_from([*ACTS[:4], *TYPES]))
def test_who_is_not_in_the_room_has_no_power_there(situation: Situation, act: str) -> None:
    nobody = Caller(Actor(BOB), Place(DIRECT, PlaceKind.DIRECT), Target(SHARED, None), None, NOW)

    assert lend_act(nobody, act) is not None
    assert lend_levels(nobody, situation.powers, {}) is not None


def _in_room(who: Role, needs: Permission) -> Command:
    @command("test it", who=who, needs=needs)
    async def it(admin: AdminReader, room: RoomId) -> Answer:
        """Test.

        Args:
            room: a room
        """
        return answer(room)

    return it


@given(
    situation=situations,
    sender=st.sampled_from([*PEOPLE, ADMIN]),
    admin=st.booleans(),
    role=st.sampled_from([Role.ROOM_MODERATOR, Role.ROOM_ADMIN]),
    needs=st.sampled_from(list(Permission)),
    kind=st.sampled_from(list(PlaceKind)),
    here=st.booleans(),
    asked=st.sampled_from(list(Permission)),
)
def test_a_room_command_reaches_no_other_room(
    situation: Situation,
    *,
    sender: UserId,
    admin: bool,
    role: Role,
    needs: Permission,
    kind: PlaceKind,
    here: bool,
    asked: Permission,
) -> None:
    place = Place(SHARED if here else DIRECT, kind)
    power = situation.powers.of(sender)
    actor = Actor(sender, server_admin=admin)

    decision = authorize(_in_room(role, needs), actor, place, Target(SHARED, power), None)

    if isinstance(decision, Grant) and not (admin and place.private):
        assert power.creator or power.level >= (50 if role is Role.ROOM_MODERATOR else 100)
        assert not decision.allows(cast(Any, _Asked(asked, RoomId("!elsewhere")))) or asked is (
            Permission.PUBLIC
        )
        if decision.allows(cast(Any, _Asked(asked, SHARED))):
            assert asked in {Permission.PUBLIC, Permission.VIEW, needs}


@dataclass(frozen=True)
class _Asked:
    permission: Any
    room: RoomId
