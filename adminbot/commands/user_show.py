"""One account: everything the homeserver knows of it, and finding it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from adminbot.commands.protect import account
from adminbot.commands.seen_from import network_meant, seen_from
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Code,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    facts,
    size,
    when,
    written,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.people import many, mono, state
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.text import cut
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.later import DueLater
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import AdminReader, Permission, ReadRequest
from common.homeserver.synapse.media import ListUserMedia
from common.homeserver.synapse.reports import ListEventReports, ListUserReports
from common.homeserver.synapse.user_lookup import (
    FindUserByExternalId,
    FindUserByThreepid,
    GetAccountData,
    ListPushers,
)
from common.homeserver.synapse.user_rights import GetRateLimit, RateLimit
from common.homeserver.synapse.users import (
    ListUserDevices,
    ListUserRooms,
    ListUsers,
    UserDetails,
)
from common.i18n import n, t
from common.ids import RoomId, UserId

MOST_ROOMS_SHOWN = 20
MOST_FOUND = 20
LONGEST_DATA = 4_000

T = TypeVar("T")


@command("user show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_show(
    admin: AdminReader, own: OwnReader, caller: Caller, settings: Settings, user: UserId
) -> Answer:
    """Show one account: its state, addresses, devices, files, reports and rooms.

    Args:
        user: a mention, a full user ID, or the local name
    """
    found = await account(admin, settings, user)
    rooms = await admin.read(ListUserRooms(user))
    ends = await own.read(DueLater((f"lock {user}", f"suspend {user}")))
    card = facts(
        [
            *_person(found, caller.now, ends),
            (t("Devices"), str(len(await admin.read(ListUserDevices(user))))),
            (t("Notifications to"), await _pushers(admin, user)),
            (t("Files"), await _files(admin, user)),
            (t("Reports about them"), await _reports(admin, user)),
            (t("Rate limit"), await _limit(admin, user)),
            (t("Rooms"), str(len(rooms))),
        ]
    )
    return Answer((card, *_rooms(rooms)))


@command("user find", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_find(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    what: str,
    *,
    provider: str | None = None,
    device: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """Find an account by e-mail, telephone, single sign-on identity, name, IP address or device.

    Pages and files are of what is found by an IP address, network or device.

    Args:
        what: an e-mail or IP address, a network, a number as +49301234567, an identity or part of a name
        provider: at which single sign-on provider the identity is, e.g. oidc-keycloak
        device: it is a session's ID, or a word of a session's name
    """
    if device and provider is not None:
        raise UserError(t("Give either --device or --provider, not both."))
    network = None if device or provider is not None else network_meant(what)
    if device or network is not None:
        days = settings.config.adminbot.seen_from_days
        return await seen_from(own, caller, days, network or what, page=page, csv=csv)
    if csv or page != FIRST_PAGE:
        raise UserError(t("--page and --csv are for an IP address, a network or a device."))
    try:
        if provider is not None:
            user = await admin.read(FindUserByExternalId(provider, what))
        elif "@" in what[1:]:
            user = await admin.read(FindUserByThreepid("email", what.lower()))
        elif what.lstrip("+").isdecimal():
            user = await admin.read(FindUserByThreepid("msisdn", what.lstrip("+")))
        else:
            return await _by_name(admin, what)
    except NotFoundError:
        raise UserError(t("No account has {what}.", what=Mono(what))) from None
    return answer(facts([(t("User"), Pill(user))]))


@command("user pushers", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_pushers(admin: AdminReader, settings: Settings, user: UserId) -> Answer:
    """List where an account's notifications go.

    Args:
        user: whose
    """
    await account(admin, settings, user)
    found = await admin.read(ListPushers(user))
    if not found:
        return answer(t("No notifications of {user} go anywhere.", user=Pill(user)))
    rows = tuple(
        (
            Mono(each.app_display_name or each.app_id),
            Mono(each.device_display_name or ""),
            Mono((each.pushkey if each.kind == "email" else each.kind) or ""),
            yes_no(each.enabled),
        )
        for each in found
    )
    return answer(Table((t("App"), t("Device"), t("To"), t("On")), rows))


@command("user accountdata", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_accountdata(
    admin: AdminReader, settings: Settings, user: UserId, *, kind: str | None = None
) -> Answer:
    """List what clients keep for an account at the server, by kind; or show one kind.

    Args:
        user: whose
        kind: show what is kept of this kind, e.g. m.direct
    """
    await account(admin, settings, user)
    found = await admin.read(GetAccountData(user))
    if kind is not None:
        if kind not in found.global_:
            raise UserError(t("Nothing of the kind {kind} is kept there.", kind=Mono(kind)))
        return answer(Code(cut(_json(found.global_[kind]), LONGEST_DATA)))
    rows: list[tuple[Span, ...]] = [
        (Mono(each), "", size(len(_json(held)))) for each, held in sorted(found.global_.items())
    ]
    rows += [
        (Mono(each), Pill(room), size(len(_json(held))))
        for room, kinds in sorted(found.rooms.items())
        for each, held in sorted(kinds.items())
    ]
    if not rows:
        return answer(t("Nothing is kept for {user}.", user=Pill(user)))
    return answer(Table((t("Kind"), t("Room"), t("Size, about")), tuple(rows)))


def _person(
    found: UserDetails, now: datetime, ends: Mapping[str, datetime]
) -> list[tuple[str, Span | Spans | None]]:
    identities = (f"{each.auth_provider}: {each.external_id}" for each in found.external_ids)
    return [
        (t("User"), Pill(found.name)),
        (t("Name"), mono(found.displayname)),
        (t("Picture"), mono(found.avatar_url)),
        (t("State"), state(found)),
        (t("Until"), ", ".join(written(each) for each in sorted(ends.values())) or None),
        (t("Server admin"), yes_no(found.admin)),
        (t("Kind"), found.user_type),
        (t("Belongs to"), mono(found.appservice_id)),
        (t("Created"), when(found.created_ms, now)),
        (t("Last seen"), when(found.last_seen_ts, now) or t("never")),
        (t("Addresses"), many(each.address for each in found.threepids)),
        (t("Signs in with"), many(identities)),
    ]


async def _if_told(admin: AdminReader, request: ReadRequest[T]) -> T | None:
    """Return what an older homeserver, or one with MAS, may not tell."""
    try:
        return await admin.read(request)
    except RefusedError:
        return None


async def _pushers(admin: AdminReader, user: UserId) -> Spans | None:
    found = await _if_told(admin, ListPushers(user)) or ()
    return many(dict.fromkeys(each.app_display_name or each.app_id for each in found))


async def _files(admin: AdminReader, user: UserId) -> str | None:
    found = await _if_told(admin, ListUserMedia(user=user, limit=1))
    return None if found is None else str(found.total)


async def _reports(admin: AdminReader, user: UserId) -> str | None:
    messages = await _if_told(admin, ListEventReports(sender=user, limit=1))
    person = await _if_told(admin, ListUserReports(user=user, limit=1))
    total = (messages.total if messages else 0) + (person.total if person else 0)
    return str(total) if total else None


async def _limit(admin: AdminReader, user: UserId) -> str | None:
    try:
        return limit_told(await admin.read(GetRateLimit(user)))
    except RefusedError:
        return None


def limit_told(limit: RateLimit | None) -> str:
    """Return a rate limit in words."""
    if limit is None:
        return t("everybody's")
    if not limit.messages_per_second:
        return t("none")
    return t(
        "{rate} messages a second, {burst} at once",
        rate=limit.messages_per_second,
        burst=limit.burst_count,
    )


def _rooms(rooms: tuple[RoomId, ...]) -> tuple[Block, ...]:
    shown: list[Spans] = [(Pill(room),) for room in rooms[:MOST_ROOMS_SHOWN]]
    if len(rooms) > len(shown):
        more = len(rooms) - len(shown)
        shown.append((n("… and {count} more room", "… and {count} more rooms", more),))
    return (Bullets(tuple(shown)),) if shown else ()


async def _by_name(admin: AdminReader, what: str) -> Answer:
    found = await admin.read(ListUsers(name=what, guests=False, limit=MOST_FOUND))
    if not found.users:
        raise UserError(t("No account has {what} in its name.", what=Mono(what)))
    rows = tuple((Pill(one.name), Mono(one.displayname or ""), state(one)) for one in found.users)
    said = answer(Table((t("User"), t("Name"), t("State")), rows))
    if found.total > len(rows):
        more = t("There are {total}; “user list --name” has all.", total=found.total)
        said = answer(*said.blocks, more)
    return said


def _json(held: object) -> str:
    return json.dumps(held, ensure_ascii=False, indent=2)
