"""Widgets of a room: conferences and web pages beside the conversation, as Element adds them.

Element keeps each in a state event ``im.vector.modular.widgets`` with the widget's ID as key.
Its address is a template: the client fills in what begins with “$”. Source: MSC1236, MSC2764,
“Jitsi wrapper” of Element's documentation.
"""

import base64
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from adminbot.commands.here import all_state_in, own_power_for, room_here
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Span, Table, answer
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import Step
from adminbot.engine.supply import Dice, Settings
from common.errors import UserError
from common.homeserver.client_server.server import GetClientWellKnown
from common.homeserver.client_server.state import SetWidget
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId

WIDGETS = "im.vector.modular.widgets"
JITSI = "jitsi"
CUSTOM = "m.custom"
LONGEST_URL = 2_000
_WRAPPER = (
    "conferenceDomain=$domain&conferenceId=$conferenceId&isAudioOnly=$isAudioOnly"
    "&isVideoChannel=$isVideoChannel&displayName=$matrix_display_name"
    "&avatarUrl=$matrix_avatar_url&userId=$matrix_user_id&roomId=$matrix_room_id&theme=$theme"
    "&roomName=$roomName&supportsScreensharing=true"
    "&language=$org.matrix.msc2873.client_language"
)

# Element Call's documentation, “URL parameters”, for a page inside of a client. Of the kind
# “io.element.call”, Element would take it for a call of its own that is going on.
_CALL = (
    "roomId=$matrix_room_id&userId=$matrix_user_id"
    "&deviceId=$org.matrix.msc3819.matrix_device_id&baseUrl=$org.matrix.msc4039.matrix_base_url"
    "&theme=$org.matrix.msc2873.client_theme&lang=$org.matrix.msc2873.client_language"
    "&confineToRoom=true&appPrompt=false"
)


@command("widget jitsi", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def widget_jitsi(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    dice: Dice,
    room: RoomId,
    *,
    domain: str | None = None,
    audio: bool = False,
    auth: Literal["none", "openidtoken-jwt"] = "none",
    name: str | None = None,
) -> Plan:
    """Add a Jitsi conference to a room, as Element does.

    Args:
        room: the current room if left out
        domain: the Jitsi server; the one that this homeserver names to clients if left out
        audio: without pictures
        auth: how people show the Jitsi server who they are, if it asks
        name: what it is called
    """
    own_power_for(caller, WIDGETS)
    details = await room_here(admin, room)
    held = await _widgets(admin, room)
    if any(one.get("type") == JITSI for one in held.values()):
        raise UserError(t("There is a Jitsi conference in this room already; see “widget list”."))
    server = domain or await _preferred(admin) or settings.config.widgets.jitsi_domain
    _check_domain(server)
    conference = _conference(room, dice, auth)
    fragment = _WRAPPER if auth == "none" else f"{_WRAPPER}&auth={auth}"
    wrapper = settings.config.widgets.element_url.rstrip("/")
    data: dict[str, object] = {
        "conferenceId": conference,
        "roomName": details.name or "",
        "isAudioOnly": audio,
        "isVideoChannel": False,
        "domain": server,
    }
    if auth != "none":
        data["auth"] = auth
    content = {
        "type": JITSI,
        "url": f"{wrapper}/jitsi.html?confId={quote(conference)}#{fragment}",
        "name": name or "Jitsi",
        "data": data,
        "creatorUserId": caller.actor.user,
    }
    widget = dice.token(24)
    summary = t("Add a Jitsi conference at {server} to {room}", server=server, room=room)
    return _adding(room, widget, content, summary)


@command("widget element-call", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def widget_element_call(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    dice: Dice,
    room: RoomId,
    *,
    url: str | None = None,
    name: str | None = None,
) -> Plan:
    """Add an Element Call conference to a room as a widget.

    Args:
        room: the current room if left out
        url: where Element Call is; the configured one if left out
        name: what it is called
    """
    own_power_for(caller, WIDGETS)
    details = await room_here(admin, room)
    base = (url or settings.config.widgets.element_call_url).rstrip("/")
    _check_url(base)
    address = f"{base}/room#?{_CALL}"
    held = await _widgets(admin, room)
    if any(str(one.get("url")).startswith(f"{base}/room#?") for one in held.values()):
        raise UserError(
            t("There is an Element Call conference in this room already; see “widget list”.")
        )
    if details.encryption is not None:
        address += "&perParticipantE2EE=true"
    shown = name or "Element Call"
    content = {
        "type": CUSTOM,
        "url": address,
        "name": shown,
        "data": {"title": shown},
        "creatorUserId": caller.actor.user,
    }
    widget = dice.token(24)
    summary = t("Add an Element Call conference at {server} to {room}", server=base, room=room)
    return _adding(room, widget, content, summary)


@command("widget url", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def widget_url(
    caller: Caller, dice: Dice, room: RoomId, url: str, *, name: str | None = None
) -> Plan:
    """Add a web page to a room.

    Args:
        room: the current room if left out
        url: its address, which begins with https://
        name: what it is called
    """
    own_power_for(caller, WIDGETS)
    _check_url(url)
    shown = name or urlsplit(url).hostname or url
    content = {
        "type": CUSTOM,
        "url": url,
        "name": shown,
        "data": {"title": shown},
        "creatorUserId": caller.actor.user,
    }
    summary = t("Add the page {url} to {room}", url=url, room=room)
    return _adding(room, dice.token(24), content, summary)


@command("widget list", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def widget_list(admin: AdminReader, room: RoomId) -> Answer:
    """Show the widgets of a room.

    Args:
        room: the current room if left out
    """
    held = await _widgets(admin, room)
    if not held:
        return answer(t("There are no widgets in this room."))
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (
            Mono(key),
            Mono(str(one.get("name", ""))),
            Mono(str(one.get("type", ""))),
            Mono(str(one.get("url", "")).partition("?")[0].partition("#")[0]),
        )
        for key, one in sorted(held.items(), key=lambda each: (str(each[1].get("name")), each[0]))
    )
    return answer(Table((t("ID"), t("Name"), t("Kind"), t("Address")), rows))


@command("widget remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def widget_remove(admin: AdminReader, caller: Caller, room: RoomId, widget: str) -> Plan:
    """Remove a widget from a room.

    Args:
        room: the current room if left out
        widget: its ID or its kind from “widget list”, e.g. jitsi
    """
    own_power_for(caller, WIDGETS)
    held = await _widgets(admin, room)
    found = [key for key, one in held.items() if widget in {key, one.get("type"), one.get("name")}]
    if len(found) != 1:
        raise UserError(
            t("No single widget of this room is “{widget}”; see “widget list”.", widget=widget)
        )
    step = SetWidget(room, found[0], None)
    return Plan(summary=step.describe(), steps=(step,))


def _adding(room: RoomId, widget: str, content: Mapping[str, Any], summary: Any) -> Plan:
    steps: tuple[Step, ...] = (SetWidget(room, widget, content),)
    return Plan(summary=summary, steps=steps)


async def _widgets(admin: AdminReader, room: RoomId) -> Mapping[str, Mapping[str, Any]]:
    found = await all_state_in(admin, room, WIDGETS)
    return {key: content for key, content in found.items() if content.get("url")}


async def _preferred(admin: AdminReader) -> str | None:
    """Return the Jitsi server that the homeserver names to Element, if it serves that file."""
    try:
        known = await admin.read(GetClientWellKnown())
    except RefusedError:
        return None
    for name in ("io.element.jitsi", "im.vector.riot.jitsi"):
        held = known.get(name)
        domain = held.get("preferredDomain") if isinstance(held, Mapping) else None
        if isinstance(domain, str) and domain:
            return domain
    return None


def _conference(room: RoomId, dice: Dice, auth: str) -> str:
    """Return a conference's ID as Element makes it: from the room's where people are checked."""
    if auth != "none":
        return base64.b32encode(room.encode()).decode().rstrip("=")
    letters = "".join(one for one in dice.token(64) if one.isalpha())[:24]
    return f"Jitsi{letters.capitalize()}"


def _check_domain(domain: str) -> None:
    if (
        urlsplit(f"https://{domain}").netloc != domain
        or not urlsplit(f"https://{domain}").hostname
    ):
        raise UserError(t("“{domain}” is not the name of a server.", domain=domain))


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or len(url) > LONGEST_URL:
        raise UserError(
            t("“{url}” is not the address of a page; one begins with https://.", url=url)
        )
