"""The list of accounts, by every filter that people ask for."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    csv_file,
    lately,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.paging import PAGE_SIZE, page_of, paged
from adminbot.engine.people import ms_of, state
from adminbot.engine.step import OwnReader
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.accounts import BRIDGED, KindsAmong
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import (
    GetUser,
    ListUsers,
    UserDetails,
    UserOrder,
    UserSummary,
    all_users,
)
from common.i18n import n, t

_ORDERS: dict[str, UserOrder] = {
    "name": "name",
    "display-name": "displayname",
    "created": "creation_ts",
    "seen": "last_seen_ts",
    "admin": "admin",
}
_AT_ONCE = 500
MOST_ASKED_ABOUT = 2_000
"""Of so many accounts each is asked about by itself; it takes some seconds."""
_HELPER = re.compile(r"@steward-setup-[0-9a-f]{12}:")


@command("user list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_list(
    reader: AdminReader,
    own: OwnReader,
    caller: Caller,
    *,
    name: str | None = None,
    active_in: timedelta | None = None,
    inactive_for: timedelta | None = None,
    created_since: datetime | None = None,
    admin: bool | None = None,
    locked: bool | None = None,
    suspended: bool | None = None,
    deactivated: bool | None = None,
    guest: bool = False,
    bridged: bool = False,
    sort: Literal["name", "display-name", "created", "seen", "admin"] = "name",
    reverse: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the accounts of this server.

    Accounts that belong to bridges and other application services are left out unless you ask
    for them. A file (--csv) has every page.

    Args:
        name: only those whose user ID or display name contains this
        active_in: only those seen within this time, e.g. 7d
        inactive_for: only open ones not seen for this time, e.g. 90d, or never
        created_since: only those made since this date
        admin: only server admins; --no-admin for everybody else
        locked: only locked ones; --no-locked leaves them out
        suspended: only suspended ones; --no-suspended leaves them out (each is asked about)
        deactivated: only closed accounts; --no-deactivated for open ones
        guest: only guests
        bridged: with the accounts of bridges and other application services
        sort: by name, display-name, created, seen or admin
        reverse: the other way round
    """
    by_activity = active_in is not None or inactive_for is not None
    request = ListUsers(
        name=name,
        admins=admin,
        deactivated=False if by_activity and deactivated is None else deactivated,
        locked=locked is not False,
        guests=guest,
        order_by=_ORDERS[sort],
        direction="b" if reverse else "f",
    )
    wanted = _Wanted(
        seen_since=None if active_in is None else ms_of(caller.now - active_in),
        not_seen_since=None if inactive_for is None else ms_of(caller.now - inactive_for),
        created_since=None if created_since is None else ms_of(created_since),
        locked=bool(locked),
        guests=guest,
        suspended=suspended,
    )
    source = _Source(reader, own, bridged)
    if csv:
        return await _as_file(source, request, wanted)
    return await _as_table(source, caller, request, wanted, page)


@dataclass(frozen=True)
class _Wanted:
    """What the homeserver cannot select by; milliseconds."""

    seen_since: int | None
    not_seen_since: int | None
    created_since: int | None
    locked: bool
    guests: bool
    suspended: bool | None

    @property
    def nothing(self) -> bool:
        return self == _Wanted(None, None, None, locked=False, guests=False, suspended=None)

    def allows(self, one: UserSummary) -> bool:
        seen, made = one.last_seen_ts or 0, one.creation_ts or 0
        return (
            (self.seen_since is None or seen >= self.seen_since)
            and (self.not_seen_since is None or max(seen, made) < self.not_seen_since)
            and (self.created_since is None or made >= self.created_since)
            and (not self.locked or one.locked)
            and (not self.guests or one.is_guest)
        )


@dataclass(frozen=True)
class _Line:
    """An account of the list; ``more`` is what only its own page tells, where that was read."""

    one: UserSummary
    more: UserDetails | None
    kind: str | None = None

    @property
    def bridged(self) -> bool:
        if self.more is not None:
            return self.more.appservice_id is not None
        return self.kind == BRIDGED


@dataclass(frozen=True)
class _Found:
    """What is listed, and how many were left out of it."""

    lines: tuple[_Line, ...]
    bridged: int
    helpers: int


@dataclass(frozen=True)
class _Source:
    """Where accounts are read."""

    admin: AdminReader
    own: OwnReader
    bridged: bool

    async def found(self, listed: Sequence[UserSummary], *, details: bool = True) -> _Found:
        """Return what of some accounts is shown; ``details``: read each one's own page."""
        people = [one for one in listed if not is_helper(one)]
        lines: list[_Line] = []
        for at in range(0, len(people), _AT_ONCE):
            part = people[at : at + _AT_ONCE]
            # What we have looked at before needs not be asked of the homeserver once more.
            kinds = await self.own.read(KindsAmong(tuple(one.name for one in part)))
            for one in part:
                kind = kinds.get(one.name)
                if kind == BRIDGED and not self.bridged:
                    lines.append(_Line(one, None, kind))
                else:
                    more = await _details(self.admin, one) if details else None
                    lines.append(_Line(one, more, kind))
        shown = tuple(line for line in lines if self.bridged or not line.bridged)
        return _Found(shown, len(lines) - len(shown), len(listed) - len(people))


def is_helper(one: UserSummary) -> bool:
    """Say whether this is an account by which Steward made its bot a server admin, long closed."""
    return one.erased and one.deactivated and _HELPER.match(one.name) is not None


async def _as_table(
    source: _Source, caller: Caller, request: ListUsers, wanted: _Wanted, page: Page
) -> Answer:
    if wanted.nothing:
        start = (page - 1) * PAGE_SIZE
        listing = await source.admin.read(replace(request, start=start, limit=PAGE_SIZE))
        listed, total = listing.users, listing.total
    else:
        everybody = await _selected(source.admin, request, wanted)
        listed, total = tuple(page_of(everybody, page)), len(everybody)
    found = await source.found(listed)
    said = paged(
        n("{count} account in all.", "{count} accounts in all.", total),
        total,
        page,
        PAGE_SIZE,
        *_left_out(found),
    )
    if not found.lines:
        return answer(said)
    rows = tuple(_row(line, caller) for line in found.lines)
    return answer(Table((t("User"), t("Name"), t("State"), t("Last seen")), rows), said)


async def _as_file(source: _Source, request: ListUsers, wanted: _Wanted) -> Answer:
    selected = await _selected(source.admin, request, wanted)
    whole = len(selected) <= MOST_ASKED_ABOUT
    found = await source.found(selected, details=whole)
    said: list[str] = [
        n(
            "{count} account is in the file.",
            "{count} accounts are in the file.",
            len(found.lines),
        ),
        *_left_out(found),
    ]
    if not whole:
        said.append(
            t(
                "Of more than {most} accounts the file does not say who is suspended, nor the "
                "e-mail addresses: each would have to be asked about by itself.",
                most=MOST_ASKED_ABOUT,
            )
        )
    file = csv_file("users.csv", _COLUMNS, (_csv_row(line) for line in found.lines))
    return answer(*said).with_file(file)


async def _selected(
    admin: AdminReader, request: ListUsers, wanted: _Wanted
) -> tuple[UserSummary, ...]:
    """Return all pages of what is wanted."""
    found = [
        one
        async for one in all_users(admin, replace(request, limit=_AT_ONCE))
        if wanted.allows(one)
    ]
    if wanted.suspended is None:
        return tuple(found)
    if len(found) > MOST_ASKED_ABOUT:
        raise UserError(
            t(
                "Who is suspended has to be asked of each account, and these are {count}. Narrow "
                "it with --name, --created-since or --active-in to {most} at most.",
                count=len(found),
                most=MOST_ASKED_ABOUT,
            )
        )
    chosen = []
    for one in found:
        more = await _details(admin, one)
        if more is not None and more.suspended == wanted.suspended:
            chosen.append(one)
    return tuple(chosen)


async def _details(admin: AdminReader, one: UserSummary) -> UserDetails | None:
    # The list says neither to whom an account belongs nor whether it is suspended.
    try:
        return await admin.read(GetUser(one.name))
    except NotFoundError:
        return None


_COLUMNS = (
    "user",
    "displayname",
    "admin",
    "state",
    "type",
    "email",
    "application_service",
    "created_ms",
    "last_seen_ms",
)


def _csv_row(line: _Line) -> tuple[object, ...]:
    one, more = line.one, line.more
    return (
        one.name,
        one.displayname,
        yes_no(one.admin),
        state(more or one),
        one.user_type,
        " ".join(_emails(more)),
        more.appservice_id if more else line.kind if line.bridged else None,
        one.creation_ts,
        one.last_seen_ts,
    )


def _emails(more: UserDetails | None) -> Iterable[str]:
    return (each.address for each in (more.threepids if more else ()) if each.medium == "email")


def _row(line: _Line, caller: Caller) -> tuple[Span, ...]:
    one, found = line.one, state(line.more or line.one)
    said = t("{state}, admin", state=found) if one.admin else found
    seen = lately(one.last_seen_ts, caller.now) or t("never")
    return (Pill(one.name), Mono(one.displayname or ""), said, seen)


def _left_out(found: _Found) -> list[str]:
    said: list[str] = []
    if found.bridged:
        said.append(
            n(
                "{count} bridged account left out; --bridged shows them.",
                "{count} bridged accounts left out; --bridged shows them.",
                found.bridged,
            )
        )
    if found.helpers:
        said.append(
            n(
                "{count} closed account of my own setup left out.",
                "{count} closed accounts of my own setup left out.",
                found.helpers,
            )
        )
    return said
