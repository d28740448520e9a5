"""Hookshot from chat: feeds, GitHub repositories, webhooks, and the way from the old NEB bots."""

from collections.abc import Iterable

from adminbot.bridges.hookshot import (
    FEED,
    GITHUB,
    KIND,
    WEBHOOK,
    Connected,
    feed,
    feeds,
    repositories,
    repository,
    webhooks,
)
from adminbot.bridges.known import kinds_of
from adminbot.bridges.steps import Arguments, PrepareRoom, SpeakForPerson, WriteConnection
from adminbot.commands.encrypted import is_encrypted, nothing_in_clear, warning
from adminbot.commands.here import own_power_for
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Spans,
    Strong,
    answer,
)
from adminbot.engine.command import command
from adminbot.engine.lend import POWER_LEVELS
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.bridges import BridgeRow, ListBridges
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import GetRoomState, StateEvent
from common.i18n import t
from common.ids import RoomId

MOST_SHOWN = 40


@command("feed add", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def feed_add(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    url: str,
    room: RoomId,
    *,
    title: str | None = None,
    template: str | None = None,
) -> Plan:
    """Have a room follow an RSS or Atom feed, through Hookshot.

    The first look is silent: only what is new afterwards is written.

    Args:
        url: the feed's address
        room: an address, a room ID or a link; the current room if left out
        title: what to call the feed
        template: how an entry is written, e.g. “New post in $FEEDNAME: $LINK”
    """
    wanted = feed(url, title, template)
    own_power_for(caller, "invite", POWER_LEVELS, FEED)
    hookshot = await known_hookshot(own)
    encrypted = await is_encrypted(admin, room)
    return Plan(
        summary=t("Have {room} follow {url}", room=Pill(room), url=Mono(url)),
        details=(warning(room),) if encrypted else (),
        ask=encrypted,
        steps=(
            PrepareRoom(bridge=hookshot.name, bot=hookshot.bot, room=room),
            WriteConnection(
                bot=hookshot.bot,
                room=room,
                type=FEED,
                key=wanted.url,
                content=wanted.content(),
                what=wanted.url,
            ),
        ),
        report="bridge",
    )


@command("feed list", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def feed_list(admin: AdminReader, room: RoomId) -> Answer:
    """List the feeds that a room follows.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = feeds(await state_of(admin, room, FEED))
    if not found:
        return answer(t("{room} follows no feed.", room=Pill(room)))
    items: list[Spans] = [
        (Strong(one.label), " ", Mono(one.url)) if one.label else (Mono(one.url),) for one in found
    ]
    return answer(Bullets(tuple(items)))


@command("feed remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def feed_remove(
    admin: AdminReader, own: OwnReader, caller: Caller, url: str, room: RoomId
) -> Plan:
    """Have a room follow a feed no more.

    Args:
        url: the feed's address, as “feed list” shows it
        room: an address, a room ID or a link; the current room if left out
    """
    own_power_for(caller, FEED)
    found = feeds(await state_of(admin, room, FEED))
    if url not in {one.url for one in found}:
        raise UserError(t("{room} does not follow {url}.", room=Pill(room), url=Mono(url)))
    hookshot = await known_hookshot(own)
    step = WriteConnection(bot=hookshot.bot, room=room, type=FEED, key=url, what=url)
    return Plan(summary=step.describe(), steps=(step,), report="bridge", ask=True)


@command("github connect", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def github_connect(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    repo: str,
    room: RoomId,
) -> Plan:
    """Have a room hear of what happens in a GitHub repository, through Hookshot.

    You must be logged in to GitHub at Hookshot (“bridge login”), with the right to write to the
    repository.

    Args:
        repo: its address, e.g. https://github.com/ORG/REPO
        room: an address, a room ID or a link; the current room if left out
    """
    org, name = repository(repo)
    own_power_for(caller, "invite", POWER_LEVELS, GITHUB)
    hookshot = await known_hookshot(own)
    asked = (("remote", f"https://github.com/{org}/{name}"),)
    await _typed_in_clear(admin, settings, hookshot, "github", asked, room)
    return Plan(
        summary=t("Connect {what} with {room}", what=Mono(f"{org}/{name}"), room=Pill(room)),
        steps=(
            PrepareRoom(bridge=hookshot.name, bot=hookshot.bot, room=room),
            SpeakForPerson(
                bridge=hookshot.name,
                verb="github",
                arguments=asked,
                about=room,
                person=caller.actor.user,
            ),
        ),
        report="bridge",
    )


@command("github list", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def github_list(admin: AdminReader, room: RoomId) -> Answer:
    """List the GitHub repositories that a room hears of.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = repositories(await state_of(admin, room, GITHUB))
    return _listed(found, t("{room} hears of no repository.", room=Pill(room)))


@command("github remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def github_remove(
    admin: AdminReader, own: OwnReader, caller: Caller, repo: str, room: RoomId
) -> Plan:
    """Have a room hear of a GitHub repository no more.

    Args:
        repo: the repository, as “github list” shows it
        room: an address, a room ID or a link; the current room if left out
    """
    own_power_for(caller, GITHUB)
    wanted = "/".join(repository(repo))
    found = repositories(await state_of(admin, room, GITHUB))
    one = next((each for each in found if each.name.lower() == wanted), None)
    return await _removal(own, room, GITHUB, one, wanted)


@command("webhook add", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def webhook_add(
    admin: AdminReader,
    own: OwnReader,
    settings: Settings,
    caller: Caller,
    name: str,
    room: RoomId,
) -> Plan:
    """Have Hookshot write into a room what other programs send to an address of its own.

    The address is secret: Hookshot sends it to you alone.

    Args:
        name: what to call it, 3 to 64 characters
        room: an address, a room ID or a link; the current room if left out
    """
    if not 3 <= len(name) <= 64:  # noqa: PLR2004  # Hookshot's own limits
        raise UserError(t("A webhook's name has 3 to 64 characters."))
    own_power_for(caller, "invite", POWER_LEVELS, WEBHOOK)
    hookshot = await known_hookshot(own)
    asked = (("name", name),)
    await _typed_in_clear(admin, settings, hookshot, "webhook", asked, room)
    return Plan(
        summary=t("Make the webhook {name} for {room}", name=Mono(name), room=Pill(room)),
        steps=(
            PrepareRoom(bridge=hookshot.name, bot=hookshot.bot, room=room),
            SpeakForPerson(
                bridge=hookshot.name,
                verb="webhook",
                arguments=asked,
                about=room,
                person=caller.actor.user,
            ),
        ),
        report="bridge",
    )


@command("webhook list", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def webhook_list(admin: AdminReader, room: RoomId) -> Answer:
    """List a room's webhooks; their secret addresses are not known to me.

    Args:
        room: an address, a room ID or a link; the current room if left out
    """
    found = webhooks(await state_of(admin, room, WEBHOOK))
    return _listed(found, t("{room} has no webhook.", room=Pill(room)))


@command("webhook remove", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def webhook_remove(
    admin: AdminReader, own: OwnReader, caller: Caller, name: str, room: RoomId
) -> Plan:
    """End a webhook.

    Args:
        name: as “webhook list” shows it
        room: an address, a room ID or a link; the current room if left out
    """
    own_power_for(caller, WEBHOOK)
    found = webhooks(await state_of(admin, room, WEBHOOK))
    one = next((each for each in found if each.name == name), None)
    return await _removal(own, room, WEBHOOK, one, name)


async def _removal(
    own: OwnReader, room: RoomId, type_: str, one: Connected | None, wanted: str
) -> Plan:
    if one is None:
        raise UserError(
            t("{what} is not connected with {room}.", what=Mono(wanted), room=Pill(room))
        )
    hookshot = await known_hookshot(own)
    step = WriteConnection(
        bot=hookshot.bot,
        room=room,
        type=type_,
        key=one.key,
        content=(("disabled", True),),
        what=one.name,
    )
    return Plan(summary=step.describe(), steps=(step,), report="bridge", ask=True)


async def _typed_in_clear(
    admin: AdminReader,
    settings: Settings,
    hookshot: BridgeRow,
    verb: str,
    asked: Arguments,
    room: RoomId,
) -> None:
    """Refuse what would be typed in clear into an encrypted room."""
    kind = kinds_of(settings.config)[KIND]
    command = kind.vocabulary(hookshot.vocabulary).command(verb)
    if command is not None and await is_encrypted(admin, room):
        nothing_in_clear(settings, hookshot, kind, command, asked, room)


async def known_hookshot(own: OwnReader) -> BridgeRow:
    """Return the Hookshot of this server; ``UserError`` if none is known."""
    found = next((row for row in await own.read(ListBridges()) if row.kind == KIND), None)
    if found is None:
        raise UserError(
            t(
                "No Hookshot is known. A server admin can name its registration in Steward's "
                "configuration (bridges)."
            )
        )
    return found


async def state_of(admin: AdminReader, room: RoomId, type_: str) -> tuple[StateEvent, ...]:
    """Return a room's state of one type; ``UserError`` if there is no such room."""
    try:
        return await admin.read(GetRoomState(room, type_))
    except NotFoundError:
        raise UserError(t("This server is in no room {room}.", room=room)) from None


def _listed(found: Iterable[Connected], nothing: str) -> Answer:
    items: tuple[Spans, ...] = tuple(
        (Mono(one.name), f" ({one.detail})") if one.detail else (Mono(one.name),) for one in found
    )
    return answer(Bullets(items)) if items else answer(nothing)
