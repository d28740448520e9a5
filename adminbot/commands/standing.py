"""What adminbot does in a room by itself: greeting, rules, answers to words, slowing down."""

import json
from datetime import timedelta

from adminbot.commands.here import own_power_for, room_here
from adminbot.commands.protect import refuse
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Span, Table, answer, lasting, written
from adminbot.engine.command import command
from adminbot.engine.lend import lend_act
from adminbot.engine.plan import Plan
from adminbot.engine.standing_orders import AUTOREPLY, BARE, SLOW, WELCOME
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from adminbot.engine.values import Text
from adminbot.own.later import ForgetLater, do_later
from adminbot.own.room_notes import RoomNotes, RulesOf, WriteRoomNote
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, t
from common.ids import RoomId

RULES = "rules"
LONGEST_TEXT = 4_000
LONGEST_WORD = 100
MOST_REPLIES = 50
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(hours=6)


@command("welcome show", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def welcome_show(own: OwnReader, room: RoomId) -> Answer:
    """Show what people are greeted with who come into a room.

    Args:
        room: the current room if left out
    """
    note = (await own.read(RoomNotes(room))).get(WELCOME)
    if note is None:
        return answer(t("Nobody is greeted in this room."))
    found = json.loads(note)
    where = t("In private:") if found["whispered"] else t("In the room:")
    return answer(where, found["text"])


@command("welcome set", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def welcome_set(
    admin: AdminReader, caller: Caller, room: RoomId, text: Text, *, private: bool = False
) -> Plan:
    """Greet everybody who comes into a room.

    Args:
        room: the current room if left out
        text: what is said to them
        private: say it in a direct chat, not in the room
    """
    own_power_for(caller, "m.room.topic")
    await room_here(admin, room)
    value = json.dumps({"text": _short(text), "whispered": private})
    return _noting(room, WELCOME, value, t("Greet everybody who comes into {room}", room=room))


@command("welcome clear", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def welcome_clear(caller: Caller, room: RoomId) -> Plan:
    """Greet nobody any more.

    Args:
        room: the current room if left out
    """
    own_power_for(caller, "m.room.topic")
    return _noting(room, WELCOME, None, t("Greet nobody in {room} any more", room=room))


@command("rules", who=Role.ANYONE)
async def rules(own: OwnReader, caller: Caller, room: RoomId) -> Answer:
    """Show the rules of a room you are in.

    Args:
        room: the current room if left out
    """
    if caller.target is None or caller.target.power is None:
        raise UserError(t("You are not in that room."))
    text = await own.read(RulesOf(room))
    if text is None:
        return answer(t("This room has no rules that I know of."))
    return answer(text)


@command("rules set", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def rules_set(admin: AdminReader, caller: Caller, room: RoomId, text: Text) -> Plan:
    """Set the rules of a room, which everybody in it can ask for with “rules”.

    Args:
        room: the current room if left out
        text: the rules
    """
    own_power_for(caller, "m.room.topic")
    await room_here(admin, room)
    return _noting(room, RULES, _short(text), t("Set the rules of {room}", room=room))


@command("rules clear", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def rules_clear(caller: Caller, room: RoomId) -> Plan:
    """Take the rules of a room away.

    Args:
        room: the current room if left out
    """
    own_power_for(caller, "m.room.topic")
    return _noting(room, RULES, None, t("Take the rules of {room} away", room=room))


@command("autoreply list", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def autoreply_list(own: OwnReader, room: RoomId) -> Answer:
    """Show which words are answered by adminbot in a room.

    Args:
        room: the current room if left out
    """
    notes = await own.read(RoomNotes(room, AUTOREPLY))
    if not notes:
        return answer(t("No word is answered in this room."))
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (Mono(name.removeprefix(AUTOREPLY)), Mono(text)) for name, text in notes.items()
    )
    return answer(Table((t("Words"), t("Answer")), rows))


@command("autoreply add", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def autoreply_add(
    admin: AdminReader, own: OwnReader, caller: Caller, room: RoomId, words: str, text: Text
) -> Plan:
    """Answer whoever says certain words; at most once in ten seconds.

    Args:
        room: the current room if left out
        words: the words, in quotes if there are several
        text: the answer
    """
    own_power_for(caller, "m.room.topic")
    await room_here(admin, room)
    if not 3 <= len(words) <= LONGEST_WORD:  # noqa: PLR2004  # what is shorter is everywhere
        raise UserError(
            t("The words need 3 characters at least, and at most {most}.", most=LONGEST_WORD)
        )
    if len(await own.read(RoomNotes(room, AUTOREPLY))) >= MOST_REPLIES:
        raise UserError(t("There are {most} answers already.", most=MOST_REPLIES))
    summary = t("Answer “{words}” in {room}", words=words, room=room)
    return _noting(room, AUTOREPLY + words.lower(), _short(text), summary)


@command("autoreply remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def autoreply_remove(own: OwnReader, caller: Caller, room: RoomId, words: Text) -> Plan:
    """Answer certain words no more.

    Args:
        room: the current room if left out
        words: the words
    """
    own_power_for(caller, "m.room.topic")
    name = AUTOREPLY + words.strip("\"'").lower()
    if name not in await own.read(RoomNotes(room, AUTOREPLY)):
        raise UserError(t("“{words}” is not answered here; see “autoreply list”.", words=words))
    return _noting(room, name, None, t("Answer “{words}” no more", words=words))


@command("slow", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def slow(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    pause: timedelta,
    *,
    for_: timedelta | None = None,
) -> Plan:
    """Let everybody but moderators write only every so often; what comes sooner is taken back.

    Args:
        room: the current room if left out
        pause: how long between two messages of one person, e.g. 30s; 0s ends it
        for_: end it after this time, e.g. 2h
    """
    refuse(lend_act(caller, "redact"))
    await room_here(admin, room)
    slot = f"slow {room}"
    ended = WriteRoomNote(
        room=room, name=SLOW, value=None, sentence=t("Let everybody write as fast as they like")
    )
    if pause == timedelta(0):
        summary = t("Let everybody write in {room} as fast as they like", room=room)
        return Plan(summary=summary, steps=(ForgetLater(slot), ended))
    if not SHORTEST_PAUSE <= pause <= LONGEST_PAUSE:
        raise UserError(t("The pause is from 2 seconds to 6 hours."))
    summary = t("Let everybody write in {room} once in {pause}", room=room, pause=lasting(pause))
    promise: Step = ForgetLater(slot)
    if for_ is not None:
        due = caller.now + for_
        promise = do_later(
            ended, slot=slot, due=due, requester=caller.actor.user, asked_in=caller.place.room
        )
        summary = t("{what} until {moment}", what=summary, moment=written(due))
    value = str(int(pause.total_seconds() * 1000))
    note = WriteRoomNote(room=room, name=SLOW, value=value, sentence=summary)
    return Plan(summary=summary, steps=(promise, note))


@command("bot ignore", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bot_ignore(
    admin: AdminReader, caller: Caller, room: RoomId, *, off: bool = False
) -> Plan:
    """Have adminbot answer in a room only where it is named: “!admin …”, no longer “!…”.

    Args:
        room: the current room if left out
        off: answer both again
    """
    own_power_for(caller, "m.room.topic")
    await room_here(admin, room)
    if off:
        return _noting(room, BARE, None, t("Listen to every prefix in {room} again", room=room))
    return _noting(room, BARE, "1", t("Listen only to “!admin” in {room}", room=room))


@command("bot why", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def bot_why(admin: AdminReader, caller: Caller, settings: Settings, room: RoomId) -> Answer:
    """Say why the two bots are in a room.

    Args:
        room: the current room if left out
    """
    await room_here(admin, room)
    del caller
    return answer(
        t(
            "The operator of this server has adminbot and auditbot in every room: adminbot takes "
            "commands from who governs the room, auditbot records what is said."
        ),
        t(
            "If one of them is removed, it is brought back. Whether a room may be left out is for "
            "the server's admins to say."
        )
        if not settings.config.rooms.dismissal
        else t(
            "If one of them is removed, it is brought back. The room's admins may have adminbot "
            "leave by “bot leave”; auditbot stays."
        ),
    )


def _noting(room: RoomId, name: str, value: str | None, sentence: Msg) -> Plan:
    step = WriteRoomNote(room=room, name=name, value=value, sentence=sentence)
    return Plan(summary=sentence, steps=(step,))


def _short(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise UserError(t("A text has at most {most} characters.", most=LONGEST_TEXT))
    return text
