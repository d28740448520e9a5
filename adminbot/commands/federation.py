"""Other servers, and how this one looks to them and to clients."""

from collections.abc import Sequence

from adminbot.commands.lists import paged
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Facts,
    Mono,
    Pill,
    Span,
    Spans,
    Strong,
    Table,
    answer,
    csv_file,
    facts,
    lately,
    say,
    when,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Checks, Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.federation import (
    Destination,
    GetDestination,
    ListDestinationRooms,
    ListDestinations,
    ResetConnection,
    all_destinations,
)
from common.homeserver.synapse.user_lookup import GetMemberships
from common.i18n import Msg, n, t
from common.ids import UserId
from common.servercheck.findings import Contact, Finding, Level, Report
from common.servercheck.names import ServerName, parse_server_name

PAGE_SIZE = 50


@command("fed list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def fed_list(
    admin: AdminReader,
    caller: Caller,
    *,
    name: str | None = None,
    failing: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the servers that this one has had to do with.

    Args:
        name: only those whose name contains this
        failing: only those that cannot be reached, the longest ago first
    """
    if failing or csv:
        request = ListDestinations(search=name, limit=PAGE_SIZE * 10)
        found = [one async for one in all_destinations(admin, request)]
        if failing:
            found = sorted((one for one in found if one.failing), key=_since)
        total, shown = len(found), found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    else:
        start = (page - 1) * PAGE_SIZE
        part = await admin.read(ListDestinations(search=name, start=start, limit=PAGE_SIZE))
        total, shown, found = part.total, list(part.destinations), []
    in_all = n("{count} server in all.", "{count} servers in all.", total)
    if csv:
        return answer(in_all).with_file(csv_file("servers.csv", _COLUMNS, map(_csv_row, found)))
    told = paged(in_all, total, page, size=PAGE_SIZE)
    if not shown:
        return answer(told)
    rows = tuple(_row(one, caller) for one in shown)
    return answer(
        Table((t("Server"), t("Failing since"), t("Last try"), t("Next try")), rows), told
    )


@command("fed show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def fed_show(admin: AdminReader, caller: Caller, server: str) -> Answer:
    """Show how it stands between this server and another.

    Args:
        server: the other server's name, e.g. example.org
    """
    found = await _destination(admin, parse_server_name(server))
    rooms = await admin.read(ListDestinationRooms(destination=found.destination, limit=1))
    return answer(
        facts(
            [
                (t("Server"), Mono(found.destination)),
                (t("Reachable"), yes_no(not found.failing)),
                (t("Failing since"), when(found.failure_ts, caller.now)),
                (t("Last try"), when(found.retry_last_ts, caller.now)),
                (t("Next try"), _next_try(found, caller)),
                (t("Rooms shared"), str(rooms.total)),
            ]
        )
    )


@command("fed rooms", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def fed_rooms(admin: AdminReader, server: str, *, page: Page = FIRST_PAGE) -> Answer:
    """List the rooms shared with another server.

    Args:
        server: the other server's name, e.g. example.org
    """
    name = await _destination(admin, parse_server_name(server))
    start = (page - 1) * PAGE_SIZE
    found = await admin.read(
        ListDestinationRooms(destination=name.destination, start=start, limit=PAGE_SIZE)
    )
    said = n("{count} room in all.", "{count} rooms in all.", found.total)
    if not found.rooms:
        return answer(said)
    shown = Bullets(tuple((Pill(one.room_id),) for one in found.rooms))
    if found.total > page * PAGE_SIZE:
        return answer(shown, said, t("Go on with --page {page}.", page=page + 1))
    return answer(shown, said)


@command("fed retry", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def fed_retry(admin: AdminReader, *servers: str | None, failing: bool = False) -> Plan:
    """Try to reach other servers again now, instead of waiting out the pause after failures.

    Args:
        servers: names, e.g. example.org
        failing: all that cannot be reached
    """
    named = [one for one in servers if one is not None]
    if failing == bool(named):
        raise UserError(t("Name the servers, or say --failing for all that fail."))
    if failing:
        every = [one async for one in all_destinations(admin) if one.failing]
        if not every:
            raise UserError(t("No server fails."))
        # Each is one call, and none depends on another: however many there are.
        chosen = every
    else:
        names = dict.fromkeys(parse_server_name(each) for each in named)
        chosen = [await _destination(admin, each) for each in names]
        for one in chosen:
            if not one.retry_last_ts:
                raise UserError(
                    t("{server} is not waited for; nothing to do.", server=Mono(one.destination))
                )
    summary = n(
        "Try to reach {count} server again now",
        "Try to reach {count} servers again now",
        len(chosen),
    )
    steps = tuple(ResetConnection(one.destination) for one in chosen)
    result = answer(t("Tried again from now on; fed list --failing shows who still fails."))
    bulk = Bulk(at_once=4) if len(steps) > 1 else None
    return Plan(summary=summary, steps=steps, result=result, bulk=bulk, ask=failing)


@command("fed user", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def fed_user(admin: AdminReader, user: UserId) -> Answer:
    """List the rooms that somebody of another server shares with people here.

    Args:
        user: their full user ID, e.g. @bob:example.org
    """
    try:
        memberships = await admin.read(GetMemberships(user))
    except NotFoundError:
        raise UserError(t("Nobody called {user} is known here.", user=Pill(user))) from None
    joined = sorted(room for room, is_ in memberships.items() if is_ == "join")
    others = len(memberships) - len(joined)
    said = n(
        "{user} is in {count} room of this server.",
        "{user} is in {count} rooms of this server.",
        len(joined),
        user=Pill(user),
    )
    more = n(
        "{count} more room knows them: invited, left or banned.",
        "{count} more rooms know them: invited, left or banned.",
        others,
    )
    blocks: list[Block | str] = [said, *([more] if others else [])]
    if joined:
        shown: list[Spans] = [(Pill(room),) for room in joined[:PAGE_SIZE]]
        if len(joined) > PAGE_SIZE:
            left = len(joined) - PAGE_SIZE
            shown.append((n("… and {count} more room", "… and {count} more rooms", left),))
        blocks.append(Bullets(tuple(shown)))
    return answer(*blocks)


@command("fed check", who=Role.ANYONE)
async def fed_check(
    checks: Checks, caller: Caller, settings: Settings, server: str | None = None
) -> Answer:
    """Check how clients and other servers find a homeserver, and say what to mend.

    Only server admins may name another server than this one, and not in a room of others.

    Args:
        server: its name, e.g. example.org; this one if left out
    """
    own = own_name(settings)
    name = own if server is None else parse_server_name(server)
    if name != own and not caller.acts_as_server_admin:
        raise UserError(
            t(
                "Only server admins may have other servers checked, in a direct chat or an admin room; leave the name out for this one."
            )
        )
    return told(await checks.check(name))


@command("wellknown check", who=Role.SERVER_ADMIN)
async def wellknown_check(checks: Checks, settings: Settings) -> Answer:
    """Check this server's own files and addresses, and say what to mend.

    That is: client, server and support file with redirects, CORS and content type; delegation;
    federation, keys and certificates; versions, sliding sync, signing in and calls.
    """
    return told(await checks.check(own_name(settings)))


@command("contact", who=Role.ANYONE)
async def contact(checks: Checks, settings: Settings) -> Answer:
    """Say whom to write to about this server."""
    name = own_name(settings)
    support = await checks.support(name)
    where = f"https://{name.in_url}/.well-known/matrix/support"
    if support is None:
        raise UserError(
            t(
                "This server does not say whom to write to. Its admins can change that: a file at "
                "{url} names them.",
                url=where,
            )
        )
    rows = [(_role(one), _reached(one)) for one in support.contacts]
    page = [(t("Page"), (Mono(support.page),))] if support.page else []
    return answer(Facts((*rows, *page)))


def own_name(settings: Settings) -> ServerName:
    """Return this server's name."""
    return parse_server_name(settings.config.homeserver.server_name)


def told(report: Report) -> Answer:
    """Return a report as it is said: what is wrong first, each with what mends it."""
    lines = tuple(_line(same) for same in _alike(report))
    return answer(_headline(report), *([Bullets(lines)] if lines else []))


def _alike(report: Report) -> list[list[Finding]]:
    """Return the findings, worst first; those with one cause together, which is mended once."""
    found: dict[tuple[Msg, Msg | None], list[Finding]] = {}
    for one in sorted(report.findings, key=lambda one: -one.level):
        found.setdefault((one.said, one.mend), []).append(one)
    return list(found.values())


def _line(same: Sequence[Finding]) -> Spans:
    first = same[0]
    about: list[Span] = []
    for one in same:
        about += [", ", Strong(one.about)] if about else [Strong(one.about)]
    mend: Spans = () if first.mend is None or first.level is Level.GOOD else (" ", first.mend)
    return (_SIGNS[first.level], " ", *about, ": ", first.said, *mend)


_SIGNS = {Level.GOOD: "✅", Level.NOTE: "💡", Level.WARNING: "⚠️", Level.PROBLEM: "❌"}


def _headline(report: Report) -> Block:
    name = Mono(report.name)
    if report.worst is Level.PROBLEM:
        number = sum(1 for same in _alike(report) if same[0].level is Level.PROBLEM)
        return say(
            n(
                "{count} thing keeps people or servers from using {server}.",
                "{count} things keep people or servers from using {server}.",
                number,
                server=name,
            )
        )
    if report.worst is Level.WARNING:
        return say(t("{server} works, but not for everybody or not for long.", server=name))
    return say(t("{server} is found by clients and other servers.", server=name))


def _role(one: Contact) -> Msg:
    match one.role:
        case "m.role.admin":
            return t("Admin")
        case "m.role.security":
            return t("Security")
        case _:
            return t("Other")


def _reached(one: Contact) -> Spans:
    ways: list[Span] = []
    for way in (one.matrix_id, one.email):
        if way is not None:
            ways += [", ", Mono(way)] if ways else [Mono(way)]
    return tuple(ways)


async def _destination(admin: AdminReader, name: ServerName) -> Destination:
    try:
        return await admin.read(GetDestination(str(name)))
    except NotFoundError:
        raise UserError(
            t("This server never had to do with {server}.", server=Mono(str(name)))
        ) from None


def _since(one: Destination) -> int:
    return one.failure_ts or 0


def _next_try(one: Destination, caller: Caller) -> str | None:
    if not one.retry_interval:
        return None
    return when(one.retry_last_ts + one.retry_interval, caller.now)


_COLUMNS = ("server", "failing_since_ms", "last_try_ms", "pause_ms")


def _csv_row(one: Destination) -> tuple[object, ...]:
    return (one.destination, one.failure_ts, one.retry_last_ts, one.retry_interval)


def _row(one: Destination, caller: Caller) -> tuple[Span, ...]:
    return (
        Mono(one.destination),
        lately(one.failure_ts, caller.now) or "",
        lately(one.retry_last_ts, caller.now) or "",
        _next_try(one, caller) or "",
    )
