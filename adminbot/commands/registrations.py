"""New accounts: how they came, who waits for approval, and being told of them."""

from typing import Literal

from adminbot.commands.protect import target, targets
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer, when
from adminbot.engine.command import command
from adminbot.engine.paging import PAGE_SIZE, paged
from adminbot.engine.people import described, ms_of
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, Page
from adminbot.own.accounts import PERSON, KindsAmong
from adminbot.own.arrivals import (
    NONE,
    OPEN,
    TOKEN,
    Arrival,
    Arrivals,
    CountArrivals,
    Watch,
    Watcher,
    Watchers,
)
from adminbot.own.tokens import TokenNote, TokenNotes
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import ApproveUser, DeactivateUser
from common.homeserver.synapse.users import ListUsers, UserDetails, UserSummary
from common.i18n import Msg, n, t
from common.ids import UserId

MOST_WAITING = 500


@command("user approve", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_approve(
    admin: AdminReader, caller: Caller, settings: Settings, *users: UserId
) -> Plan:
    """Let people use the accounts they have made, where those wait for approval.

    Args:
        users: whose accounts
    """
    found = await targets(admin, settings, caller, users)
    for each in found:
        _must_wait(each)
    names = [each.name for each in found]
    return Plan(
        summary=t("Approve the account of {users}", users=described(names)),
        steps=tuple(ApproveUser(name) for name in names),
        bulk=Bulk() if len(names) > 1 else None,
    )


@command("user deny", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def user_deny(admin: AdminReader, caller: Caller, settings: Settings, user: UserId) -> Plan:
    """Close a new account that waits for approval; its name can never be used again.

    Args:
        user: whose account
    """
    found = await target(admin, settings, caller, user)
    _must_wait(found)
    return Plan(
        summary=t("Deny and close the account of {user}", user=user),
        steps=(DeactivateUser(user, erase=True),),
    )


async def _list(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    *,
    waiting: bool = False,
    page: Page = FIRST_PAGE,
) -> Answer:
    """List the newest accounts with the token that each came with, and who waits for approval.

    Args:
        waiting: only those that wait for approval
    """
    pending = await _pending(admin, own)
    if waiting:
        return _waiting(pending, caller)
    total = await own.read(CountArrivals())
    if not total:
        return answer(t("Nobody has made an account since I look."))
    notes = await own.read(TokenNotes())
    found = await own.read(Arrivals(PAGE_SIZE, (page - 1) * PAGE_SIZE))
    names = {one.name for one in pending or ()}
    rows: list[tuple[Span, ...]] = [
        (
            Pill(each.user),
            when(each.created_ms, caller.now) or "",
            *_came(each, notes.get(each.digest or "")),
            t("waits for approval") if each.user in names else "",
        )
        for each in found
    ]
    columns = (t("User"), t("Created"), t("Token of"), t("For"), t("State"))
    in_all = n("{count} account in all.", "{count} accounts in all.", total)
    return answer(Table(columns, tuple(rows)), paged(in_all, total, page))


# What there is to say is the list, whether it is named or not.
registrations = command("registrations", who=Role.SERVER_ADMIN, needs=Permission.VIEW)(_list)
registrations_list = command("registrations list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)(
    _list
)


@command("registrations watch", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def registrations_watch(
    own: OwnReader, caller: Caller, switch: Literal["on", "off"] = "on"
) -> Plan:
    """Tell of each new account here, within a minute; or do so no longer.

    In an admin room everybody there is told, in a direct chat you alone.

    Args:
        switch: on or off
    """
    room = caller.place.room if caller.place.kind is PlaceKind.CONTROL else None
    watcher = Watcher(room, caller.actor.user)
    places = {each.room or each.user for each in await own.read(Watchers())}
    on, there = switch == "on", (room or watcher.user) in places
    if on and there:
        raise UserError(t("New accounts are told of here already."))
    if not on and not there:
        raise UserError(t("New accounts are not told of here."))
    said = t("I tell of new accounts here.") if on else t("I tell of new accounts here no longer.")
    step = Watch(watcher, on, ms_of(caller.now))
    return Plan(summary=step.describe(), steps=(step,), result=answer(said))


def _must_wait(found: UserDetails) -> None:
    if found.approved is None:
        raise UserError(
            t(
                "This homeserver lets every new account in. To have them wait for approval, set "
                "{setting} under experimental_features in homeserver.yaml, and restart it.",
                setting=Mono("msc3866: {enabled: true, require_approval_for_new_accounts: true}"),
            )
        )
    if found.deactivated:
        raise UserError(t("{user} is deactivated already.", user=found.name))
    if found.approved:
        raise UserError(t("{user} does not wait for approval.", user=found.name))


async def _pending(admin: AdminReader, own: OwnReader) -> tuple[UserSummary, ...] | None:
    """Return who waits for approval, ``None`` where the homeserver asks for none."""
    page = await admin.read(
        ListUsers(unapproved=True, deactivated=False, order_by="creation_ts", limit=MOST_WAITING)
    )
    if any(one.approved is None for one in page.users):
        return None  # where it is switched off, the filter is ignored
    # Application services' accounts are never approved, and need not be.
    kinds = await own.read(KindsAmong(tuple(one.name for one in page.users)))
    return tuple(one for one in page.users if kinds.get(one.name, PERSON) == PERSON)


def _waiting(pending: tuple[UserSummary, ...] | None, caller: Caller) -> Answer:
    if not pending:
        return answer(t("No account waits for approval."))
    rows = tuple(
        (Pill(one.name), Mono(one.displayname or ""), when(one.creation_ts, caller.now) or "")
        for one in pending
    )
    return answer(
        Table((t("User"), t("Name"), t("Created")), rows),
        t("“user approve” lets somebody in, “user deny” closes the account."),
    )


def _came(arrival: Arrival, note: TokenNote | None) -> tuple[Span, Span]:
    other: dict[str, Msg] = {
        NONE: t("(no token)"),
        OPEN: t("(not known yet)"),
        TOKEN: t("(not made through me)"),
    }
    if arrival.came == TOKEN and note is not None:
        return Pill(note.creator), Mono(note.note or note.for_user or "")
    return other.get(arrival.came, t("(not known)")), ""
