"""The list of accounts, by every filter that people ask for."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from adminbot.bridges.namespaces import Namespaces, namespaces
from adminbot.commands.bridges import one_bridge
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
)
from adminbot.engine.command import command
from adminbot.engine.paging import PAGE_SIZE, page_of, paged
from adminbot.engine.people import ms_of, state
from adminbot.engine.step import OwnReader
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.accounts import BRIDGED, GUEST, PERSON, KindsAmong
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
from common.ids import server_of

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
_SURE = {PERSON, GUEST, BRIDGED}
"""What was found out of an account and never changes; a bot may belong to a bridge or not."""
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
    type: Literal["person", "bot", "support"] | None = None,  # noqa: A002  # the word people type
    bridged: bool = False,
    bridge: str | None = None,
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
        type: only accounts of this type: ordinary ones (person), bots, or those for support
        bridged: with the accounts of bridges and other application services
        bridge: only the accounts that this bridge made, as “bridge list” names it
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
        type=type,
        suspended=suspended,
    )
    covered = None
    if bridge is not None:
        row = await one_bridge(own, bridge)
        covered = namespaces(server_of(caller.actor.user), row.expressions, [row.bot])
    source = _Source(reader, own, bridged, covered)
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
    type: str | None
    suspended: bool | None

    def allows(self, one: UserSummary) -> bool:
        seen, made = one.last_seen_ts or 0, one.creation_ts or 0
        return (
            (self.seen_since is None or seen >= self.seen_since)
            and (self.not_seen_since is None or max(seen, made) < self.not_seen_since)
            and (self.created_since is None or made >= self.created_since)
            and (not self.locked or one.locked)
            and (not self.guests or one.is_guest)
            and (self.type is None or self.type == (one.user_type or "person"))
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
    """Where accounts are read; ``covered`` are those of the one bridge that is asked about."""

    admin: AdminReader
    own: OwnReader
    bridged: bool
    covered: Namespaces | None

    async def selected(self, request: ListUsers, wanted: _Wanted) -> _Found:
        """Return everything that is wanted.

        What is left out is left out before pages are made: among many thousand bridged accounts
        a page would have hardly anybody on it, and nobody would know how many people there are.
        """
        everybody = all_users(self.admin, replace(request, limit=_AT_ONCE))
        found = await self._sorted_out([one async for one in everybody if wanted.allows(one)])
        if wanted.suspended is None:
            return found
        if len(found.lines) > MOST_ASKED_ABOUT:
            raise UserError(
                t(
                    "Who is suspended has to be asked of each account, and these are {count}. "
                    "Narrow it with --name, --created-since or --active-in to {most} at most.",
                    count=len(found.lines),
                    most=MOST_ASKED_ABOUT,
                )
            )
        lines = [await _whole(self.admin, line) for line in found.lines]
        chosen = (line for line in lines if line.more and line.more.suspended == wanted.suspended)
        return replace(found, lines=tuple(chosen))

    async def _sorted_out(self, listed: Sequence[UserSummary]) -> _Found:
        if self.covered is not None:
            ghosts = tuple(_Line(one, None) for one in listed if self.covered.covers(one.name))
            return _Found(ghosts, 0, 0)
        people = [one for one in listed if not is_helper(one)]
        lines = [line for part in _portions(people) for line in await self._lines(part)]
        unsure = sum(1 for line in lines if line.kind not in _SURE)
        if not self.bridged and unsure <= MOST_ASKED_ABOUT:
            lines = [
                line if line.kind in _SURE else await _whole(self.admin, line) for line in lines
            ]
        shown = tuple(line for line in lines if self.bridged or not line.bridged)
        return _Found(shown, len(lines) - len(shown), len(listed) - len(people))

    async def _lines(self, part: Sequence[UserSummary]) -> list[_Line]:
        # What we have looked at before needs not be asked of the homeserver once more.
        kinds = await self.own.read(KindsAmong(tuple(one.name for one in part)))
        return [_Line(one, None, kinds.get(one.name)) for one in part]


def _portions(people: Sequence[UserSummary]) -> Iterator[Sequence[UserSummary]]:
    return (people[at : at + _AT_ONCE] for at in range(0, len(people), _AT_ONCE))


def is_helper(one: UserSummary) -> bool:
    """Say whether this is an account by which Steward made its bot a server admin, long closed."""
    return one.erased and one.deactivated and _HELPER.match(one.name) is not None


async def _as_table(
    source: _Source, caller: Caller, request: ListUsers, wanted: _Wanted, page: Page
) -> Answer:
    found = await source.selected(request, wanted)
    total = len(found.lines)
    said = paged(
        n("{count} account in all.", "{count} accounts in all.", total),
        total,
        page,
        PAGE_SIZE,
        *_left_out(found),
    )
    lines = [await _whole(source.admin, line) for line in page_of(found.lines, page)]
    if not lines:
        return answer(said)
    rows = tuple(_row(line, caller) for line in lines)
    return answer(Table((t("User"), t("Name"), t("State"), t("Last seen")), rows), said)


async def _as_file(source: _Source, request: ListUsers, wanted: _Wanted) -> Answer:
    found = await source.selected(request, wanted)
    whole = len(found.lines) <= MOST_ASKED_ABOUT
    if whole:
        found = replace(
            found, lines=tuple([await _whole(source.admin, line) for line in found.lines])
        )
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


async def _whole(admin: AdminReader, line: _Line) -> _Line:
    """Return a line with what only the account's own page tells."""
    return line if line.more is not None else replace(line, more=await _details(admin, line.one))


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
        one.admin,
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
