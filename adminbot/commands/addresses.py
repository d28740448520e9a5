"""Addresses of a room: those that lead to it, and which one it shows.

Synapse lets an application service make and take away only addresses in its own namespace
(``M_EXCLUSIVE`` otherwise), so Steward's registration names every address of this server, not
exclusively.
"""

from collections.abc import Mapping
from typing import Any

from adminbot.commands.here import own_power_for, room_here, state_in
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Pill, Span, Table, answer, yes_no
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import Step
from adminbot.engine.supply import Settings
from common.errors import UserError
from common.homeserver.client_server.directory import AddAlias, ListAliases, RemoveAlias
from common.homeserver.client_server.state import SetCanonicalAlias
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import ResolveAlias
from common.i18n import t
from common.ids import RoomAlias, RoomId

_CANONICAL = "m.room.canonical_alias"


@command("alias add", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def alias_add(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    address: RoomAlias,
    *,
    main: bool = False,
) -> Plan:
    """Let another address lead to a room.

    Args:
        room: the current room if left out
        address: the address, e.g. #lobby or #lobby:example.org
        main: show it as the room's address
    """
    own_power_for(caller, _CANONICAL)
    _of_this_server(settings, address)
    await room_here(admin, room)
    led = await _leads_to(admin, address)
    if led is not None and led != room:
        raise UserError(t("{address} leads to another room; see “alias move”.", address=address))
    steps: list[Step] = [] if led == room else [AddAlias(room, address)]
    if main:
        main_now, others = await _shown(admin, room)
        rest = tuple(one for one in (main_now, *others) if one is not None and one != address)
        steps.append(SetCanonicalAlias(room, address, rest))
    if not steps:
        raise UserError(t("That is how it is already."))
    return Plan(
        summary=t("Let {address} lead to {room}", address=address, room=room), steps=tuple(steps)
    )


@command("alias remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def alias_remove(
    admin: AdminReader, caller: Caller, settings: Settings, room: RoomId, address: RoomAlias
) -> Plan:
    """Take an address away from a room.

    Args:
        room: the current room if left out
        address: the address
    """
    own_power_for(caller, _CANONICAL)
    _of_this_server(settings, address)
    if await _leads_to(admin, address) != room:
        raise UserError(t("{address} does not lead to this room.", address=address))
    steps = (*await _hiding(admin, room, address), RemoveAlias(room, address))
    return Plan(
        summary=t("Take the address {address} from {room}", address=address, room=room),
        steps=steps,
    )


@command("alias main", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def alias_main(admin: AdminReader, caller: Caller, room: RoomId, address: RoomAlias) -> Plan:
    """Show one of a room's addresses as its address.

    Args:
        room: the current room if left out
        address: the address, which must lead here already
    """
    own_power_for(caller, _CANONICAL)
    if await _leads_to(admin, address) != room:
        raise UserError(
            t("{address} does not lead to this room; see “alias add”.", address=address)
        )
    main, others = await _shown(admin, room)
    if main == address:
        raise UserError(t("That is how it is already."))
    rest = tuple(one for one in (main, *others) if one is not None and one != address)
    step = SetCanonicalAlias(room, address, rest)
    return Plan(summary=step.describe(), steps=(step,))


@command("alias list", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def alias_list(admin: AdminReader, room: RoomId) -> Answer:
    """Show which addresses lead to a room.

    Args:
        room: the current room if left out
    """
    await room_here(admin, room)
    leading = await admin.read(ListAliases(room))
    main, others = await _shown(admin, room)
    every = dict.fromkeys(one for one in (main, *others, *leading) if one is not None)
    if not every:
        return answer(t("No address leads to this room."))
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (Pill(one), yes_no(one == main), yes_no(one in others or one == main)) for one in every
    )
    return answer(Table((t("Address"), t("Main"), t("Shown to people")), rows))


@command("alias move", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def alias_move(
    admin: AdminReader, caller: Caller, settings: Settings, room: RoomId, address: RoomAlias
) -> Plan:
    """Let an address that leads to another room lead to this one.

    Only server admins can take an address from a room they do not govern; everybody else uses
    “alias remove” in the other room first.

    Args:
        room: the room it is to lead to; the current room if left out
        address: the address
    """
    own_power_for(caller, _CANONICAL)
    _of_this_server(settings, address)
    await room_here(admin, room)
    led = await _leads_to(admin, address)
    if led is None or led == room:
        raise UserError(t("{address} leads to no other room; see “alias add”.", address=address))
    if not caller.acts_as_server_admin:
        raise UserError(
            t(
                "{address} leads to another room. Use “alias remove” there first, then “alias add” "
                "here; or have a server admin do it in a direct chat with me.",
                address=address,
            )
        )
    steps = (
        *await _hiding(admin, led, address),
        RemoveAlias(led, address),
        AddAlias(room, address),
    )
    return Plan(
        summary=t(
            "Let {address} lead to {room} instead of {other}",
            address=address,
            room=room,
            other=led,
        ),
        steps=steps,
    )


async def _hiding(admin: AdminReader, room: RoomId, address: RoomAlias) -> tuple[Step, ...]:
    """Return the step after which a room does not show an address, if it does now."""
    main, others = await _shown(admin, room)
    if address != main and address not in others:
        return ()
    rest = tuple(one for one in others if one != address)
    return (SetCanonicalAlias(room, None if main == address else main, rest),)


async def _shown(
    admin: AdminReader, room: RoomId
) -> tuple[RoomAlias | None, tuple[RoomAlias, ...]]:
    content: Mapping[str, Any] = await state_in(admin, room, _CANONICAL) or {}
    main, more = content.get("alias"), content.get("alt_aliases")
    held = more if isinstance(more, list) else []
    return (
        RoomAlias(main) if isinstance(main, str) and main else None,
        tuple(RoomAlias(one) for one in held if isinstance(one, str)),
    )


async def _leads_to(admin: AdminReader, address: RoomAlias) -> RoomId | None:
    try:
        return await admin.read(ResolveAlias(address))
    except NotFoundError:
        return None


def _of_this_server(settings: Settings, address: RoomAlias) -> None:
    server = settings.config.homeserver.server_name
    if address.partition(":")[2] != server:
        raise UserError(
            t(
                "{address} is of another server; only addresses of {server} can be changed here.",
                address=address,
                server=server,
            )
        )
