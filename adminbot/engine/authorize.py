"""May this person have this done, here? Yes with a grant, or no with a sentence why.

The grant is what may be asked of the homeserver in the person's name; the only door to it
compares each request with the grant, so a command that declares too little still cannot act.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from adminbot.engine.actor import Actor, Place, PlaceKind, Role, Standing, Target
from adminbot.engine.command import Command
from common.crypto.port import Trust
from common.homeserver.port import Grant, Permission
from common.i18n import t
from common.ids import RoomId

_PUBLIC = frozenset({Permission.PUBLIC})
_OF_SELF = frozenset({Permission.VIEW})
"""Everybody may look at their own account."""


@dataclass(frozen=True)
class Refusal:
    """Why not; ``silent`` where saying even that much would be obeying."""

    sentence: str
    silent: bool = False


def authorize(
    command: Command,
    actor: Actor,
    place: Place,
    target: Target | None,
    trust: Trust | None,
) -> Grant | Refusal:
    """Decide from facts that were asked just now; ``trust`` is ``None`` for a plain message."""
    return unheard(actor, trust) or _by_role(command, actor, place, target)


def unheard(actor: Actor, trust: Trust | None) -> Refusal | None:
    """Return why nothing at all of somebody is answered; decided before it is even read."""
    if actor.bridged:
        return Refusal(t("Accounts of bridges and bots are not obeyed."), silent=True)
    if trust is Trust.MISMATCH:
        return Refusal(
            t("The message was not encrypted by who it claims to be from."), silent=True
        )
    if actor.closed is not None:
        return Refusal(
            t("The account is {state}, so it may not command.", state=actor.closed), silent=True
        )
    return None


def _by_role(
    command: Command, actor: Actor, place: Place, target: Target | None
) -> Grant | Refusal:
    match command.who:
        case Role.ANYONE:
            if actor.server_admin and place.private:
                return Grant(_rights(command), of_self=_OF_SELF, user=actor.user)
            return _anyone(command, actor, target)
        case Role.SERVER_ADMIN:
            return _server_admin(command, actor, place)
        case Role.COMPLIANCE:
            return _compliance(command, actor, place)
        case Role.ROOM_MODERATOR:
            return _in_room(command, actor, place, target, Standing.MODERATOR)
        case Role.ROOM_ADMIN:
            return _in_room(command, actor, place, target, Standing.ADMIN)
        case _:
            assert_never(command.who)


def _anyone(command: Command, actor: Actor, target: Target | None) -> Grant:
    """Grant what everybody may; and to look at a room they are in, where the command does that."""
    mine = Grant(_PUBLIC, of_self=_OF_SELF, user=actor.user)
    if command.needs is not Permission.VIEW or target is None or target.power is None:
        return mine
    return replace(mine, in_room=_rights(command), room=target.room)


def may_list(
    command: Command, actor: Actor, place: Place, target: Target | None, trust: Trust | None
) -> bool:
    """Say whether to offer a command to somebody here.

    In a direct chat a command about a room is offered to all: it depends on which room.
    """
    if place.kind is PlaceKind.DIRECT and command.who in {Role.ROOM_ADMIN, Role.ROOM_MODERATOR}:
        return not actor.bridged
    return isinstance(authorize(command, actor, place, target, trust), Grant)


def standing(target: Target | None) -> Standing:
    """Return what the asking person is in the room a command is about."""
    if target is None or target.power is None:
        return Standing.NONE
    if target.power.administers:
        return Standing.ADMIN
    return Standing.MODERATOR if target.power.moderates else Standing.NONE


def _rights(command: Command) -> frozenset[Permission]:
    """Return what a command needs: its own right, and looking before it."""
    if command.needs is Permission.PUBLIC:
        return _PUBLIC
    return _PUBLIC | {Permission.VIEW, command.needs} | command.also


def _server_admin(command: Command, actor: Actor, place: Place) -> Grant | Refusal:
    if not actor.server_admin:
        return Refusal(t("“{command}” is for server admins.", command=command.name))
    if not place.private:
        return Refusal(_elsewhere(command, place, t("admin room")))
    return Grant(_rights(command))


def _compliance(command: Command, actor: Actor, place: Place) -> Grant | Refusal:
    if not actor.compliance:
        return Refusal(t("“{command}” is for compliance officers.", command=command.name))
    if place.kind not in {PlaceKind.DIRECT, PlaceKind.AUDIT} or place.open:
        return Refusal(_elsewhere(command, place, t("audit room")))
    return Grant(_rights(command))


def _elsewhere(command: Command, place: Place, room: str) -> str:
    if place.open and place.kind is not PlaceKind.SHARED:
        return t(
            "Others may join this {kind} or read along, so “{command}” is refused here.",
            kind=t(place.kind.value),
            command=command.name,
        )
    if place.outsider is not None:
        return t(
            "{outsider} is in this {kind} and no server admin, so “{command}” is refused here.",
            outsider=place.outsider,
            kind=t(place.kind.value),
            command=command.name,
        )
    return t(
        "Ask “{command}” in a direct chat with me or in an {room}: others read along here.",
        command=command.name,
        room=room,
    )


def _in_room(
    command: Command, actor: Actor, place: Place, target: Target | None, needed: Standing
) -> Grant | Refusal:
    if actor.server_admin and place.private:
        return Grant(_rights(command))
    if target is None:
        return Refusal(t("“{command}” is about a room; say which.", command=command.name))
    if place.kind is not PlaceKind.DIRECT and place.room != target.room:
        return Refusal(t("Ask in that room or in a direct chat with me."))
    if standing(target) >= needed:
        return _granted_in(command, target.room)
    role = t(command.who.value)
    if actor.server_admin:
        return Refusal(
            t(
                "You are no {role} there. As a server admin ask in a direct chat or in an admin "
                "room.",
                role=role,
            )
        )
    return Refusal(t("“{command}” is for a {role} of that room.", command=command.name, role=role))


def _granted_in(command: Command, room: RoomId) -> Grant:
    return Grant(_PUBLIC, in_room=_rights(command), room=room)
