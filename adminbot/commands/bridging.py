"""Using a bridge: one's own log-in and chats, and a room's connection to the other network.

What is somebody's own is asked for by them alone, in a direct chat.
"""

from dataclasses import dataclass

from adminbot.bridges.arguments import checked, needed, says_which_room
from adminbot.bridges.hookshot import KIND as HOOKSHOT
from adminbot.bridges.kind import Command as Spoken
from adminbot.bridges.kind import Kind
from adminbot.bridges.known import kinds_of
from adminbot.bridges.steps import PrepareRoom, SpeakForPerson, SpeakToBridge
from adminbot.commands.bridges import one_bridge
from adminbot.commands.encrypted import is_encrypted, nothing_in_clear, warning
from adminbot.commands.here import own_power_for
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Mono,
    Pill,
    Span,
    Spans,
    answer,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.lend import POWER_LEVELS
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from adminbot.own.bridges import BridgedRoom, BridgeRow, BridgesOfRoom
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId

_WAYS = {
    "login": "bridge login",
    "logout": "bridge logout",
    "pm": "bridge pm",
    "sync": "bridge sync",
    "joinspace": "bridge joinspace",
    "guilds": "bridge guild",
    "connect": "bridge connect",
    "disconnect": "bridge disconnect",
    "relay": "bridge relay",
    "relay-bot": "bridge relay",
    "github": "github connect",
    "webhook": "webhook add",
}
"""By which command a bridge is asked for something."""


@command("bridge login", who=Role.ANYONE)
async def bridge_login(
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    *,
    flow: str | None = None,
    network: str | None = None,
) -> Plan:
    """Log in to another network through a bridge, with your own account there.

    Codes to scan are shown to you alone. Nobody can log in for somebody else.

    Args:
        name: the bridge, as “bridge list” names it
        flow: which way of logging in, where it has several (qr, phone, token, …)
        network: which network, where the bridge knows several (IRC)
    """
    given = {"flow": flow, "network": network}
    return await _own_matter(_Asking(own, settings, caller, name), "login", given)


@command("bridge logout", who=Role.ANYONE)
async def bridge_logout(
    own: OwnReader, settings: Settings, caller: Caller, name: str, login: str | None = None
) -> Plan:
    """Log out of another network.

    Args:
        name: the bridge, as “bridge list” names it
        login: which log-in, where you have several
    """
    return await _own_matter(_Asking(own, settings, caller, name), "logout", {"login": login})


@command("bridge pm", who=Role.ANYONE)
async def bridge_pm(
    own: OwnReader, settings: Settings, caller: Caller, name: str, who: str
) -> Plan:
    """Begin a private chat with somebody at the other network.

    Args:
        name: the bridge, as “bridge list” names it
        who: a telephone number or user name, as that network writes it
    """
    return await _own_matter(_Asking(own, settings, caller, name), "pm", {"who": who})


@command("bridge sync", who=Role.ANYONE)
async def bridge_sync(
    own: OwnReader, settings: Settings, caller: Caller, name: str, target: str | None = None
) -> Plan:
    """Bring your chats or contacts over from the other network.

    Args:
        name: the bridge, as “bridge list” names it
        target: what, e.g. groups or contacts (WhatsApp), chats or contacts (Telegram)
    """
    return await _own_matter(_Asking(own, settings, caller, name), "sync", {"target": target})


@command("bridge joinspace", who=Role.ANYONE)
async def bridge_joinspace(own: OwnReader, settings: Settings, caller: Caller, name: str) -> Plan:
    """Join the space with the channels of your team at the other network (Teams).

    Args:
        name: the bridge, as “bridge list” names it
    """
    return await _own_matter(_Asking(own, settings, caller, name), "joinspace", {})


@command("bridge guild", who=Role.ANYONE)
async def bridge_guild(
    own: OwnReader, settings: Settings, caller: Caller, name: str, guild: str
) -> Plan:
    """Bring a Discord guild over, so that its channels can be connected.

    Args:
        name: the bridge, as “bridge list” names it
        guild: the guild's number
    """
    return await _own_matter(_Asking(own, settings, caller, name), "guilds", {"guild": guild})


@command("bridge status", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def bridge_status(own: OwnReader, caller: Caller, room: RoomId) -> Answer:
    """Say to which networks a room is bridged.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = await own.read(BridgesOfRoom(room))
    if not found:
        return answer(t("No bridge is at work in {room}.", room=Pill(room)))
    return answer(Bullets(tuple(_described(one, caller) for one in found)))


@command("bridge connect", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bridge_connect(  # half of them are supplies
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    remote: str,
    room: RoomId,
    *,
    network: str | None = None,
    guild: str | None = None,
) -> Plan:
    """Connect a room with a channel or group of the other network.

    Args:
        name: the bridge, as “bridge list” names it
        remote: the channel or group there, e.g. #channel or a number
        room: an address, a room ID or a link; the current room if left out
        network: which network, where the bridge knows several (IRC)
        guild: the guild's number (Discord)
    """
    given = {"remote": remote, "network": network, "guild": guild}
    return await _room_matter(admin, _Asking(own, settings, caller, name), "connect", given, room)


@command("bridge set", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bridge_set(  # half of them are supplies
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    remote: str,
    room: RoomId,
    *,
    network: str | None = None,
    guild: str | None = None,
) -> Plan:
    """Connect a room with a channel or group of the other network, as “bridge connect” does.

    Args:
        name: the bridge, as “bridge list” names it
        remote: the channel or group there, e.g. #channel or a number
        room: an address, a room ID or a link; the current room if left out
        network: which network, where the bridge knows several (IRC)
        guild: the guild's number (Discord)
    """
    given = {"remote": remote, "network": network, "guild": guild}
    return await _room_matter(admin, _Asking(own, settings, caller, name), "connect", given, room)


@command("bridge disconnect", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bridge_disconnect(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    room: RoomId,
    *,
    remote: str | None = None,
    network: str | None = None,
) -> Plan:
    """End a room's connection to the other network; the room and its people stay.

    Args:
        name: the bridge, as “bridge list” names it
        room: an address, a room ID or a link; the current room if left out
        remote: the channel or group there, if I do not know it
        network: which network, where the bridge knows several (IRC)
    """
    asking = _Asking(own, settings, caller, name)
    given = await _known_connection(own, name, room)
    wanted = {"remote": remote or given["remote"], "network": network or given["network"]}
    if wanted != given and not caller.acts_as_server_admin:
        row = await one_bridge(own, name)
        if not says_which_room(_spoken(_kind(settings, row), row, "disconnect")):
            raise UserError(
                t("I do not know that of {room}; ask a server admin.", room=Pill(room))
            )
    return await _room_matter(admin, asking, "disconnect", wanted, room)


@command("bridge unset", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bridge_unset(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    room: RoomId,
) -> Plan:
    """End a room's connection to the other network, as “bridge disconnect” does.

    Args:
        name: the bridge, as “bridge list” names it
        room: an address, a room ID or a link; the current room if left out
    """
    given = await _known_connection(own, name, room)
    return await _room_matter(
        admin, _Asking(own, settings, caller, name), "disconnect", given, room
    )


@command("bridge relay", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def bridge_relay(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    room: RoomId,
    *,
    login: str | None = None,
    off: bool = False,
) -> Plan:
    """Have the bridge pass on what people say who have no account at the other network.

    Args:
        name: the bridge, as “bridge list” names it
        room: an address, a room ID or a link; the current room if left out
        login: through which log-in, where there are several
        off: end it
    """
    row = await one_bridge(own, name)
    words = _kind(settings, row).vocabulary(row.vocabulary)
    if not off and words.command("relay") is None and words.command("relay-bot") is not None:
        # Telegram: the relay is a bot of its own, which has to come into the room.
        step = SpeakToBridge(
            bridge=row.name, verb="relay-bot", asked_by=caller.actor.user, room=room
        )
        return Plan(
            summary=t("Ask {bridge} for its relay bot", bridge=row.name),
            steps=(step,),
            report="bridge",
            result=answer(
                t(
                    "It passes on what people say here, if it is in the group there; somebody who "
                    "is logged in can bring it there by inviting it into this room."
                )
            ),
        )
    verb = "unrelay" if off else "relay"
    return await _room_matter(
        admin, _Asking(own, settings, caller, name), verb, {"login": login}, room
    )


@dataclass(frozen=True)
class _Asking:
    """What every command here is handed, and which bridge it is about."""

    own: OwnReader
    settings: Settings
    caller: Caller
    name: str


async def _own_matter(asking: _Asking, verb: str, given: dict[str, str | None]) -> Plan:
    """Return the plan for what is somebody's own; only they can ask, and only alone."""
    if asking.caller.place.kind is not PlaceKind.DIRECT:
        raise UserError(t("This is personal: ask me in a direct chat."))
    row = await one_bridge(asking.own, asking.name)
    kind = _kind(asking.settings, row)
    spoken = _spoken(kind, row, verb)
    arguments = _arguments(kind, spoken, verb, given, room=None)
    step = SpeakForPerson(
        bridge=row.name, verb=verb, arguments=arguments, person=asking.caller.actor.user
    )
    return Plan(
        summary=t("{bridge}: {verb}", bridge=row.name, verb=verb), steps=(step,), report="bridge"
    )


async def _room_matter(
    admin: AdminReader, asking: _Asking, verb: str, given: dict[str, str | None], room: RoomId
) -> Plan:
    """Return the plan for a room's connection; asked about first."""
    row = await one_bridge(asking.own, asking.name)
    kind = _kind(asking.settings, row)
    spoken = _spoken(kind, row, verb)
    arguments = _arguments(kind, spoken, verb, given, room=room)
    details: list[Block] = [say(note) for note in spoken.noted()]
    if await is_encrypted(admin, room):
        nothing_in_clear(asking.settings, row, kind, spoken, arguments, room)
        if verb != "disconnect":
            details.append(warning(room))
    steps: list[Step] = []
    if verb != "disconnect":
        # For the bot that is invited, and given power.
        own_power_for(asking.caller, "invite", POWER_LEVELS)
        steps.append(PrepareRoom(bridge=row.name, bot=row.bot, room=room))
    if spoken.by == "person":
        steps.append(
            SpeakForPerson(
                bridge=row.name,
                verb=verb,
                arguments=arguments,
                about=room,
                person=asking.caller.actor.user,
            )
        )
    else:
        steps.append(
            SpeakToBridge(
                bridge=row.name,
                verb=verb,
                arguments=arguments,
                room=room,
                asked_by=asking.caller.actor.user,
            )
        )
    return Plan(
        summary=_summary(verb, row, room, given.get("remote")),
        steps=tuple(steps),
        details=tuple(details),
        report="bridge",
        ask=True,
    )


def _summary(verb: str, row: BridgeRow, room: RoomId, remote: str | None) -> str:
    if verb == "connect":
        return t(
            "Connect {room} with {remote} through {bridge}",
            room=Pill(room),
            remote=Mono(remote or "?"),
            bridge=row.name,
        )
    if verb == "disconnect":
        return t("Disconnect {room} from {bridge}", room=Pill(room), bridge=row.name)
    return t("{bridge}: {verb} in {room}", bridge=row.name, verb=verb, room=Pill(room))


def _arguments(
    kind: Kind,
    spoken: Spoken,
    verb: str,
    given: dict[str, str | None],
    *,
    room: RoomId | None,
) -> tuple[tuple[str, str], ...]:
    """Return the arguments that the words have a place for, each fit to be typed.

    Those that only another version's words have a place for too: it may turn out to be that.

    Raises:
        UserError: one is missing, or could mean something else.
    """
    others = [each.command(verb) for each in kind.vocabularies]
    places = {
        **{name: False for other in others if other for name in needed(other)},
        **needed(spoken),
    }
    found: list[tuple[str, str]] = []
    for name, required in places.items():
        value = room if name == "room" else given.get(name)
        if value is None and required:
            raise UserError(_missing(kind, name))
        if value is not None and name != "room":
            found.append((name, checked(kind, name, value)))
    return tuple(found)


def _missing(kind: Kind, name: str) -> str:
    if name in {"network", "guild", "flow"}:
        return t("{kind} needs to be told the {name}: --{name} …", kind=kind.name, name=name)
    return t("{kind} needs to be told the {name}.", kind=kind.name, name=name)


def _kind(settings: Settings, row: BridgeRow) -> Kind:
    kind = kinds_of(settings.config).get(row.kind)
    if kind is None:
        raise UserError(t("{bridge} is of a kind that I do not know.", bridge=row.name))
    return kind


def _spoken(kind: Kind, row: BridgeRow, verb: str) -> Spoken:
    words = kind.vocabulary(row.vocabulary)
    found = words.command(verb)
    if found is not None:
        return found
    ways = [way for each, way in _WAYS.items() if words.command(each) is not None]
    if kind.id == HOOKSHOT:
        ways = ["feed add", *ways]
    if not ways:
        raise UserError(t("{kind} has no words for “{verb}”.", kind=kind.name, verb=verb))
    raise UserError(
        t(
            "{kind} has no words for “{verb}”; with it you can: {ways}",
            kind=kind.name,
            verb=verb,
            ways=", ".join(ways),
        )
    )


async def _known_connection(own: OwnReader, name: str, room: RoomId) -> dict[str, str | None]:
    known = [one for one in await own.read(BridgesOfRoom(room)) if one.bridge == name.lower()]
    first: BridgedRoom | None = next(iter(known), None)
    return {
        "remote": first.remote if first else None,
        "network": first.network if first else None,
    }


def _described(one: BridgedRoom, caller: Caller) -> Spans:
    there = one.remote_name or one.remote
    spans: list[Span] = [Mono(one.bridge)]
    if there:
        spans += [" – ", Mono(there)]
    if one.network:
        spans += [" ", t("at {network}", network=Mono(one.network))]
    came = when(one.in_ms, caller.now)
    if came:
        spans += ["; ", t("last message from there {when}", when=came)]
    return tuple(spans)
