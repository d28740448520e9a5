"""Spaces: which rooms are in one, in which order, and who of it belongs into a room."""

from typing import Any

from adminbot.commands.here import all_state_in, own_power_for, room_here
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer, yes_no
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.room_step import InviteFrom
from adminbot.engine.supply import Settings
from common.errors import UserError
from common.homeserver.client_server.state import SetSpaceChild
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, t
from common.ids import RoomId

CHILD = "m.space.child"
LONGEST_ORDER = 50


@command("space list", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def space_list(admin: AdminReader, space: RoomId) -> Answer:
    """Show which rooms are in a space, in their order.

    Args:
        space: the current room if left out
    """
    await _space(admin, space)
    children = await _children(admin, space)
    if not children:
        return answer(t("This space is empty."))
    ranked = sorted(children.items(), key=lambda one: (str(one[1].get("order") or "~"), one[0]))
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (
            Pill(child),
            Mono(str(content.get("order") or "")),
            yes_no(content.get("suggested") is True),
        )
        for child, content in ranked
    )
    return answer(Table((t("Room"), t("Order"), t("Suggested")), rows))


@command("space add", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def space_add(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    space: RoomId,
    child: RoomId,
    *,
    suggested: bool = False,
    order: str | None = None,
) -> Plan:
    """Put a room into a space.

    Args:
        space: the current room if left out
        child: the room
        suggested: propose it to everybody who comes into the space
        order: a word by which the space's rooms are sorted
    """
    own_power_for(caller, CHILD)
    await _space(admin, space)
    if child == space:
        raise UserError(t("Name the room that is to be in the space."))
    if child in await _children(admin, space):
        raise UserError(t("{room} is in this space already.", room=child))
    step = SetSpaceChild(
        room=space,
        child=child,
        via=(settings.config.homeserver.server_name,),
        order=_order(order),
        suggested=suggested,
    )
    return Plan(summary=step.describe(), steps=(step,), ask=False)


@command("space remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def space_remove(admin: AdminReader, caller: Caller, space: RoomId, child: RoomId) -> Plan:
    """Take a room out of a space; the room stays as it is.

    Args:
        space: the current room if left out
        child: the room
    """
    own_power_for(caller, CHILD)
    await _in_space(admin, space, child)
    step = SetSpaceChild(room=space, child=child, via=())
    return Plan(summary=step.describe(), steps=(step,))


@command("space order", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def space_order(
    admin: AdminReader, caller: Caller, space: RoomId, child: RoomId, order: str
) -> Plan:
    """Say where a room stands in a space: rooms are sorted by this word.

    Args:
        space: the current room if left out
        child: the room
        order: the word, e.g. 010
    """
    sentence = t(
        "Sort {room} by “{order}” in the space {space}", room=child, order=order, space=space
    )
    return await _changed(admin, caller, space, child, {"order": _order(order)}, sentence)


@command("space suggest", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def space_suggest(
    admin: AdminReader, caller: Caller, space: RoomId, child: RoomId, *, off: bool = False
) -> Plan:
    """Propose a room of a space to everybody who comes into it.

    Args:
        space: the current room if left out
        child: the room
        off: do not propose it any more
    """
    sentence = (
        t("Propose {room} no longer to who comes into the space {space}", room=child, space=space)
        if off
        else t("Propose {room} to who comes into the space {space}", room=child, space=space)
    )
    return await _changed(admin, caller, space, child, {"suggested": not off}, sentence)


@command("space sync-members", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def space_sync_members(
    admin: AdminReader, caller: Caller, room: RoomId, space: RoomId
) -> Plan:
    """Invite everybody who is in a space into a room, too.

    You must be a moderator of the space yourself.

    Args:
        room: the room they are to come into; the current room if left out
        space: the space, or another room
    """
    own_power_for(caller, "invite")
    await room_here(admin, room)
    if room == space:
        raise UserError(t("Name the space whose members are to come in."))
    sentence = t("Invite everybody in {space} to {room} who is not there", space=space, room=room)
    requester = None if caller.acts_as_server_admin else caller.actor.user
    step = InviteFrom(room=room, source=space, requester=requester, sentence=sentence)
    return Plan(summary=sentence, steps=(step,))


async def _changed(
    admin: AdminReader,
    caller: Caller,
    space: RoomId,
    child: RoomId,
    changes: dict[str, Any],
    sentence: Msg,
) -> Plan:
    own_power_for(caller, CHILD)
    content = {**await _in_space(admin, space, child), **changes}
    order, via = content.get("order"), content.get("via")
    step = SetSpaceChild(
        room=space,
        child=child,
        via=tuple(str(one) for one in via) if isinstance(via, list) else (),
        order=order if isinstance(order, str) else None,
        suggested=content.get("suggested") is True,
        sentence=sentence,
    )
    return Plan(summary=sentence, steps=(step,))


async def _space(admin: AdminReader, space: RoomId) -> None:
    if (await room_here(admin, space)).room_type != "m.space":
        raise UserError(t("{room} is no space.", room=space))


async def _children(admin: AdminReader, space: RoomId) -> dict[RoomId, dict[str, Any]]:
    found = await all_state_in(admin, space, CHILD)
    return {RoomId(child): dict(one) for child, one in found.items() if one.get("via")}


async def _in_space(admin: AdminReader, space: RoomId, child: RoomId) -> dict[str, Any]:
    await _space(admin, space)
    content = (await _children(admin, space)).get(child)
    if content is None:
        raise UserError(t("{room} is not in this space.", room=child))
    return content


def _order(order: str | None) -> str | None:
    if order is not None and not (
        len(order) <= LONGEST_ORDER and order.isascii() and order.isprintable()
    ):
        raise UserError(
            t("An order has at most {most} plain letters and digits.", most=LONGEST_ORDER)
        )
    return order
