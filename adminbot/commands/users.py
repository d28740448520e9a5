"""Accounts of this homeserver."""

from collections.abc import Iterable
from typing import Literal

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    count,
    csv_block,
    facts,
    when,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import (
    GetUser,
    ListUserDevices,
    ListUserRooms,
    ListUsers,
    UserDetails,
    UserSummary,
)
from common.ids import UserId

PAGE_SIZE = 50
MOST_ROOMS_SHOWN = 20
_ORDERS: dict[str, Literal["name", "creation_ts", "last_seen_ts"]] = {
    "name": "name",
    "created": "creation_ts",
    "seen": "last_seen_ts",
}


@command("user list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_list(
    admin: AdminReader,
    caller: Caller,
    *,
    name: str | None = None,
    admins: bool | None = None,
    deactivated: bool | None = None,
    locked: bool = True,
    guests: bool = False,
    bridged: bool = False,
    sort: Literal["name", "created", "seen"] = "name",
    reverse: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the accounts of this server.

    Accounts that belong to bridges and other application services are left out unless you ask
    for them.

    Args:
        name: only those whose user ID or display name contains this
        admins: only server admins; --no-admins for everybody else
        deactivated: only closed accounts; --no-deactivated for open ones
        locked: leave locked accounts out
        guests: with guests
        bridged: with the accounts of bridges and other application services
        sort: by name, by when they were created, or by when they were last seen
        reverse: the last first
    """
    request = ListUsers(
        name=name,
        admins=admins,
        deactivated=deactivated,
        locked=locked,
        guests=guests,
        order_by=_ORDERS[sort],
        direction="b" if reverse else "f",
        start=(page - 1) * PAGE_SIZE,
        limit=PAGE_SIZE,
    )
    found = await admin.read(request)
    people = found.users
    if not bridged:
        # The list does not say to whom an account belongs; each account does.
        people = tuple([one for one in people if not await _is_bridged(admin, one.name)])
    if csv:
        return answer(csv_block(_COLUMNS, (_csv_row(one) for one in people)))
    rows = tuple(_row(one, caller) for one in people)
    table = Table(("User", "Name", "State", "Last seen"), rows)
    said = _told(len(people), len(found.users), found.total, page)
    return answer(table, said) if rows else answer(said)


@command("user show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_show(admin: AdminReader, caller: Caller, user: UserId) -> Answer:
    """Show one account: its state, addresses, devices and rooms.

    Args:
        user: a mention, a full user ID, or the local name
    """
    try:
        found = await admin.read(GetUser(user))
    except NotFoundError:
        raise UserError(f"There is no account {user} on this server.") from None
    devices = await admin.read(ListUserDevices(user))
    rooms = await admin.read(ListUserRooms(user))
    card = facts(
        [
            ("User", Pill(found.name)),
            ("Name", _written(found.displayname)),
            ("State", state(found)),
            ("Server admin", yes_no(found.admin)),
            ("Kind", found.user_type),
            ("Belongs to", _written(found.appservice_id)),
            ("Created", when(found.created_ms, caller.now)),
            ("Last seen", when(found.last_seen_ts, caller.now) or "never"),
            ("Addresses", _many(each.address for each in found.threepids)),
            (
                "Signs in with",
                _many(f"{each.auth_provider}: {each.external_id}" for each in found.external_ids),
            ),
            ("Devices", str(len(devices))),
            ("Rooms", str(len(rooms))),
        ]
    )
    shown: list[Spans] = [(Pill(room),) for room in rooms[:MOST_ROOMS_SHOWN]]
    if len(rooms) > len(shown):
        shown.append((f"… and {count(len(rooms) - len(shown), 'more room')}",))
    return answer(card, Bullets(tuple(shown))) if shown else answer(card)


def state(found: UserDetails | UserSummary) -> str:
    """Return an account's state in a word or two."""
    claims = {
        "erased": found.erased,
        "deactivated": found.deactivated and not found.erased,
        "suspended": isinstance(found, UserDetails) and found.suspended,
        "locked": found.locked,
        "shadow-banned": found.shadow_banned,
        "guest": found.is_guest,
    }
    return ", ".join(word for word, claim in claims.items() if claim) or "active"


_COLUMNS = ("user", "name", "admin", "state", "created_ms", "last_seen_ms")


def _csv_row(one: UserSummary) -> tuple[object, ...]:
    return (
        one.name,
        one.displayname,
        yes_no(one.admin),
        state(one),
        one.creation_ts,
        one.last_seen_ts,
    )


def _row(one: UserSummary, caller: Caller) -> tuple[Span, ...]:
    said = state(one) + (", admin" if one.admin else "")
    seen = when(one.last_seen_ts, caller.now) or "never"
    return (Pill(one.name), Mono(one.displayname or ""), said, seen)


def _told(shown: int, listed: int, total: int, page: int) -> str:
    pages = max(1, -(-total // PAGE_SIZE))
    said = [f"Page {page} of {pages}, {count(total, 'account')} in all."]
    if listed > shown:
        said.append(f"{count(listed - shown, 'bridged account')} left out; --bridged shows them.")
    if page < pages:
        said.append(f"Go on with --page {page + 1}.")
    return " ".join(said)


async def _is_bridged(admin: AdminReader, user: UserId) -> bool:
    try:
        return (await admin.read(GetUser(user))).appservice_id is not None
    except NotFoundError:
        return False


def _written(text: str | None) -> Span | None:
    return Mono(text) if text else None


def _many(texts: Iterable[str]) -> Spans | None:
    spans: list[Span] = []
    for text in texts:
        spans.extend([", ", Mono(text)] if spans else [Mono(text)])
    return tuple(spans) or None
