"""Who may do what in a room: people's power levels, and what each act asks for."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from adminbot.commands.here import memberships_of, not_protected, person, powers_in
from adminbot.commands.protect import refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Block, Mono, Pill, Span, Table, answer, say
from adminbot.engine.command import command
from adminbot.engine.lend import lend_levels
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import AdjustPower, StepDown
from adminbot.engine.step import Step
from adminbot.engine.supply import Settings
from adminbot.engine.text import listed, nearest
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, t
from common.ids import RoomId, UserId, server_of
from common.matrix.power import ADMIN_LEVEL, DEFAULT_STATE_LEVEL, RoomPowers, level_in

HIGHEST = 2**53 - 1
"""Canonical JSON, “integers”."""
LEVELS = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "invite": 0,
    "kick": 50,
    "ban": 50,
    "redact": 50,
}
TEMPLATES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "open": {
        "levels": {"events_default": 0, "invite": 0, "redact": 50, "kick": 50, "ban": 50},
        "events": {"m.room.name": 50, "m.room.topic": 50, "m.room.avatar": 50},
    },
    "announcement": {
        "levels": {"events_default": 50, "invite": 50, "redact": 50, "kick": 50, "ban": 50},
        "events": {"m.reaction": 0, "m.room.name": 50, "m.room.topic": 50, "m.room.avatar": 50},
    },
    "strict": {
        "levels": {"events_default": 0, "invite": 50, "redact": 50, "kick": 50, "ban": 50},
        "events": {
            "m.room.name": 100,
            "m.room.topic": 100,
            "m.room.avatar": 100,
            "m.room.pinned_events": 50,
            "im.vector.modular.widgets": 100,
        },
    },
}


@command("promote", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def promote(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    level: int = DEFAULT_STATE_LEVEL,
) -> Plan:
    """Give somebody more power in a room.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        level: 50 for a moderator, 100 for an admin, or any number
    """
    user = person(who, settings)
    powers = await powers_in(admin, room)
    before = powers.of(user)
    if not before.creator and before.level >= level:
        raise UserError(
            t("{user} has power level {level} already.", user=user, level=before.level)
        )
    return await _giving(admin, caller, settings, powers, room, user, level)


@command("demote", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def demote(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    who: str,
    level: int | None = None,
) -> Plan:
    """Take power from somebody in a room, or from yourself.

    Somebody of this server with as much power as the bot steps down in their own name: where they
    ask for it themselves, or a server admin does.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
        level: what is left to them; as much as everybody has if left out
    """
    user = person(who, settings)
    powers = await powers_in(admin, room)
    before = powers.of(user)
    usual = level_in(powers.levels or {}, "users_default") or 0
    if not before.creator and before.level <= (usual if level is None else level):
        raise UserError(
            t("{user} has no more than power level {level}.", user=user, level=before.level)
        )
    return await _giving(admin, caller, settings, powers, room, user, level, lowering=True)


@command("handover", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def handover(
    admin: AdminReader, caller: Caller, settings: Settings, room: RoomId, who: str
) -> Plan:
    """Give your own power in a room to somebody else, and step down.

    Args:
        room: the current room if left out
        who: a mention, a user ID or a local name
    """
    user, me = person(who, settings), caller.actor.user
    powers = await powers_in(admin, room)
    not_protected(settings, [user])
    mine, theirs = powers.of(me), powers.of(user)
    if user == me:
        raise UserError(t("That is you."))
    if mine.creator:
        raise UserError(
            t(
                "You created this room, which nobody can hand over. “promote” makes {user} an "
                "admin beside you; after an “upgrade” of the room its power is new.",
                user=user,
            )
        )
    if theirs.creator or theirs.level >= mine.level:
        raise UserError(t("{user} has as much power as you already.", user=user))
    give = AdjustPower(
        room=room,
        users={user: mine.level},
        sentence=t("Give {user} power level {level}", user=user, level=mine.level),
    )
    down = AdjustPower(room=room, users={me: None}, sentence=t("Take yours away"))
    refuse(lend_levels(caller, powers, give.applied_to(powers.levels or {})))
    summary = t("Hand your power in {room} over to {user}", room=room, user=user)
    if _bot_stands_above(settings, powers, mine.level):
        return Plan(summary=summary, steps=(give, down), ask=True)
    if _of_this_server(settings, me):
        stepping = StepDown(room=room, user=me, level=None, by=me)
        return Plan(summary=summary, steps=(give, stepping), ask=True)
    said = t(
        "{user} has power level {level} now. I have no more power than you, so I cannot take "
        "yours away: step down yourself, in Element with “/deop {me}”.",
        user=user,
        level=mine.level,
        me=me,
    )
    return Plan(summary=give.sentence, steps=(give,), ask=True, result=answer(said))


@command("powerlevel show", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def powerlevel_show(admin: AdminReader, room: RoomId) -> Answer:
    """Show who has which power in a room, and what each act asks for.

    Args:
        room: the current room if left out
    """
    powers = await powers_in(admin, room)
    levels = powers.levels or {}
    people: list[tuple[Span, ...]] = [
        (Pill(user), t("creator")) for user in sorted(powers.creators)
    ]
    ranked = sorted(powers.named.items(), key=lambda one: (-one[1], one[0]))
    people += [(Pill(user), str(level)) for user, level in ranked]
    acts: list[tuple[Span, ...]] = []
    for name, usual in LEVELS.items():
        given = level_in(levels, name)
        acts.append((Mono(name), str(usual if given is None else given)))
    acts += [(Mono(name), str(level)) for name, level in sorted(_event_levels(levels).items())]
    return answer(
        Table((t("Person"), t("Power level")), tuple(people)),
        Table((t("What"), t("Needs")), tuple(acts)),
        t("Change it with “powerlevel set”, “promote” and “demote”."),
    )


@command("powerlevel set", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def powerlevel_set(
    admin: AdminReader, caller: Caller, room: RoomId, key: str, level: int
) -> Plan:
    """Set which power level an act asks for.

    Args:
        room: the current room if left out
        key: ban, kick, redact, invite, events_default, state_default, users_default, or a type of
            event such as m.room.name
        level: the power level
    """
    if key not in LEVELS and "." not in key:
        likely = nearest(key, LEVELS, limit=1)
        known = likely[0] if likely else listed(LEVELS)
        raise UserError(t("There is no “{key}”; did you mean {likely}?", key=key, likely=known))
    changes = {key: _level(level)}
    act = AdjustPower(
        room=room,
        levels=changes if key in LEVELS else {},
        events={} if key in LEVELS else changes,
        sentence=t("Let “{key}” need power level {level}", key=key, level=level),
    )
    powers = await powers_in(admin, room)
    summary = t("Let “{key}” need power level {level} in {room}", key=key, level=level, room=room)
    return changing(caller, powers, act, summary)


@command("powerlevel template", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def powerlevel_template(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    name: Literal["open", "announcement", "strict"],
) -> Plan:
    """Set what each act asks for by a template; people keep their power.

    open: everybody writes and invites. announcement: only moderators write, everybody reacts.
    strict: moderators invite, only admins change name, topic and widgets.

    Args:
        room: the current room if left out
        name: which
    """
    act = template_step(room, name)
    powers = await powers_in(admin, room)
    summary = t("Set the power levels of {room} as in “{name}”", room=room, name=name)
    return changing(caller, powers, act, summary)


def template_step(room: RoomId, name: str) -> AdjustPower:
    """Return the step that sets what each act asks for by a template."""
    return AdjustPower(
        room=room,
        levels=TEMPLATES[name]["levels"],
        events=TEMPLATES[name]["events"],
        sentence=t("Set what each act asks for as in “{name}”", name=name),
    )


def changing(caller: Caller, powers: RoomPowers, act: AdjustPower, summary: Msg) -> Plan:
    """Return the plan for a change of power levels, with what will be different."""
    before = powers.levels or {}
    after = act.applied_to(before)
    refuse(lend_levels(caller, powers, after))
    rows = tuple(differences(before, after))
    if not rows:
        raise UserError(t("That is how it is already."))
    table: Block = Table((t("What"), t("Now"), t("Then")), rows)
    return Plan(summary=summary, steps=(act,), details=(table,), ask=True)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
    """Yield what becomes different: its name, before and after."""
    for name, usual in LEVELS.items():
        old, new = level_in(before, name), level_in(after, name)
        if (usual if old is None else old) != (usual if new is None else new):
            yield (Mono(name), str(usual if old is None else old), str(new))
    olds, news = _event_levels(before), _event_levels(after)
    for name in sorted({*olds, *news}):
        if olds.get(name) != news.get(name):
            yield (Mono(name), _given(olds.get(name)), _given(news.get(name)))


def _given(level: int | None) -> Span:
    return t("as usual") if level is None else str(level)


def _event_levels(levels: Mapping[str, Any]) -> dict[str, int]:
    events = levels.get("events")
    held = events if isinstance(events, Mapping) else {}
    found = {str(name): level_in(held, str(name)) for name in held}
    return {name: level for name, level in found.items() if level is not None}


async def _giving(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    powers: RoomPowers,
    room: RoomId,
    user: UserId,
    level: int | None,
    *,
    lowering: bool = False,
) -> Plan:
    not_protected(settings, [user])
    before = powers.of(user)
    if before.creator:
        raise UserError(
            t(
                "{user} created this room and stands above every power level; that can be neither "
                "raised nor taken away.",
                user=user,
            )
        )
    wanted = None if level is None else _level(level)
    sentence = (
        t("Take {user}'s power level away", user=user)
        if wanted is None
        else t("Give {user} power level {level}", user=user, level=wanted)
    )
    act = AdjustPower(room=room, users={user: wanted}, sentence=sentence)
    refuse(lend_levels(caller, powers, act.applied_to(powers.levels or {})))
    step: Step = act
    if not _bot_stands_above(settings, powers, before.level):
        wished = user == caller.actor.user or caller.acts_as_server_admin
        if not (lowering and wished and _of_this_server(settings, user)):
            raise UserError(_only_they_themselves(caller, user, before.level))
        if (await memberships_of(admin, room, [user])).get(user) != "join":
            raise UserError(
                t(
                    "{user} has as much power as I have and is not in {room}, so nobody can take "
                    "it away.",
                    user=user,
                    room=room,
                )
            )
        step = StepDown(room=room, user=user, level=wanted, by=caller.actor.user)
    details: tuple[Block, ...] = (_change(user, before.level, wanted),)
    if wanted is not None and wanted >= ADMIN_LEVEL:
        details = (*details, say(t("Nobody with the same power can take it away again.")))
    summary = t("{what} in {room}", what=sentence, room=room)
    return Plan(summary=summary, steps=(step,), details=details, ask=True)


def _only_they_themselves(caller: Caller, user: UserId, level: int) -> Msg:
    if user == caller.actor.user:
        return t(
            "You have at least as much power here as I have, so only you yourself can give it up, in "
            "Element with “/deop {user}”.",
            user=user,
        )
    return t(
        "{user} has power level {level}, at least as much as I have: only they themselves can give "
        "it up, in Element with “/deop {user}”.",
        user=user,
        level=level,
    )


def _of_this_server(settings: Settings, user: UserId) -> bool:
    return server_of(user) == settings.config.homeserver.server_name


def _change(user: UserId, before: int, after: int | None) -> Block:
    rows = ((Pill(user), str(before), _given(after)),)
    return Table((t("Person"), t("Now"), t("Then")), rows)


def _bot_stands_above(settings: Settings, powers: RoomPowers, level: int) -> bool:
    adminbot = UserId(
        f"@{settings.config.adminbot.localpart}:{settings.config.homeserver.server_name}"
    )
    power = powers.of(adminbot)
    return power.creator or power.level > level


def _level(level: int) -> int:
    if not -HIGHEST <= level <= HIGHEST:
        raise UserError(t("“{level}” is too much for a power level.", level=level))
    return level
