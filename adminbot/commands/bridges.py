"""Bridges for server admins: which there are, how they are, who uses them, their limits."""

from collections.abc import Iterable

from adminbot.bridges.activity import WINDOW_DAYS, day_of, first_day
from adminbot.bridges.instance import unknown_bridge
from adminbot.bridges.kind import Kind
from adminbot.bridges.known import kinds_of
from adminbot.bridges.limit import Means, Stage, stage_of
from adminbot.bridges.namespaces import namespaces
from adminbot.bridges.steps import ProbeBridge
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
    csv_file,
    facts,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Finished, report, tell
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.text import cut, joined
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.bridges import (
    BridgeFigures,
    BridgeRow,
    FiguresOfBridges,
    GhostsOfBridge,
    ListBridges,
    LoginsOfBridge,
    RoomsOfBridge,
)
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import ListUsers, all_users
from common.i18n import Msg, n, t
from common.ids import server_of

PAGE_SIZE = 50
LONGEST_QUOTE = 1500
_NOTHING = BridgeFigures()


@command("bridge list", who=Role.ANYONE, needs=Permission.VIEW)
async def bridge_list(own: OwnReader, settings: Settings, caller: Caller) -> Answer:
    """List the bridges to other networks; for server admins with how they are and their figures.

    Active are bridged people who sent something on enough days of the last 31, as Element's
    bridges count them.
    """
    rows = await own.read(ListBridges())
    if not rows:
        return answer(
            t(
                "No bridge is known. A server admin can name its registration in Steward's "
                "configuration (bridges)."
            )
        )
    kinds = kinds_of(settings.config)
    if not caller.acts_as_server_admin:
        items: list[Spans] = [
            (Mono(row.name), " – ", _network(kinds.get(row.kind)), " ", Pill(row.bot))
            for row in rows
        ]
        return answer(Bullets(tuple(items)), t("To log in to one: bridge login NAME"))
    figures = await own.read(_figures(settings, caller))
    table = Table(
        (
            t("Bridge"),
            t("Network"),
            t("State"),
            t("Its bot answered"),
            t("Rooms"),
            t("Active"),
            t("Last from there"),
            t("Last to there"),
        ),
        tuple(_row(row, figures.get(row.name, _NOTHING), kinds, caller) for row in rows),
    )
    return answer(table)


@command("bridge show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_show(own: OwnReader, settings: Settings, caller: Caller, name: str) -> Answer:
    """Show one bridge: what it is, how it is spoken to, its figures and its limit.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    kind = kinds_of(settings.config).get(row.kind)
    figures = (await own.read(_figures(settings, caller))).get(row.name, _NOTHING)
    words = kind.vocabulary(row.vocabulary) if kind else None
    card = facts(
        [
            (t("Bridge"), Mono(row.name)),
            (t("Kind"), kind.name if kind else Mono(row.kind)),
            (t("Network"), _network(kind)),
            (t("Bot"), Pill(row.bot)),
            (t("Known from"), _source(row.source)),
            (t("State"), _state(row)),
            (t("Last looked at"), when(row.checked_ms, caller.now)),
            (t("Its bot last answered"), when(row.answered_ms, caller.now)),
            (t("Words"), Mono(words.name) if words else None),
            (t("Words of versions"), words.versions if words else None),
            (t("Other words known"), _others(kind, words.name if words else "")),
            (t("Rooms"), str(figures.rooms)),
            (t("Active people"), _active(row, figures)),
            (t("Suspended by its limit"), str(figures.suspended) if figures.suspended else None),
            (t("Log-ins seen"), str(figures.logins)),
            (t("Last from there"), when(figures.in_ms, caller.now) or t("never")),
            (t("Last to there"), when(figures.out_ms, caller.now) or t("never")),
            (t("Counted since"), when(row.first_seen_ms, caller.now)),
            (t("Its metrics"), _metrics(row)),
            (t("Kept from sending by"), joined(_means(each) for each in row.means) or None),
        ]
    )
    verbs = sorted(words.commands) if words else []
    said = answer(card, say(t("Understands: {verbs}", verbs=", ".join(verbs))))
    notes = kind.notes.in_general() if kind else ()
    return said.followed_by(Bullets(tuple((note,) for note in notes))) if notes else said


@command("bridge health", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_health(own: OwnReader, caller: Caller) -> Answer:
    """Say of every bridge whether it is up, as it was seen last; “bridge ping” asks anew."""
    rows = await own.read(ListBridges())
    if not rows:
        return answer(unknown_bridge("", ()))
    table = Table(
        (t("Bridge"), t("State"), t("Looked at"), t("Its bot answered"), t("Its metrics")),
        tuple(
            (
                Mono(row.name),
                _state(row),
                when(row.checked_ms, caller.now) or t("never"),
                when(row.answered_ms, caller.now) or t("never"),
                _metrics(row) or "",
            )
            for row in rows
        ),
    )
    return answer(table)


@command("bridge ping", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_ping(own: OwnReader, name: str) -> Plan:
    """Ask a bridge at once whether it is up: through the homeserver, and its bot.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    return Plan(
        summary=t("Ask {bridge} whether it is up", bridge=row.name),
        steps=(ProbeBridge(bridge=row.name),),
        report="bridge",
    )


@command("bridge users", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_users(
    own: OwnReader, settings: Settings, caller: Caller, name: str, *, csv: Csv = NO_CSV
) -> Answer:
    """List the bridged people who count as active this month.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    least = settings.config.bridges.active_days
    found = await own.read(GhostsOfBridge(row.name, _since(caller), least))
    said = n(
        "{count} bridged person sent something on at least {days} days of the last {window}.",
        "{count} bridged people sent something on at least {days} days of the last {window}.",
        len(found),
        days=least,
        window=WINDOW_DAYS,
    )
    if csv:
        rows = ((one.user, one.days, one.suspended) for one in found)
        return answer(said).with_file(csv_file("active.csv", ("user", "days", "suspended"), rows))
    shown = tuple(
        (Pill(one.user), str(one.days), t("suspended") if one.suspended else "")
        for one in found[:PAGE_SIZE]
    )
    return answer(Table((t("User"), t("Days"), ""), shown), said) if shown else answer(said)


@command("bridge ghosts", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_ghosts(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    name: str,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List every account that a bridge made for people of the other network.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    covered = namespaces(server_of(caller.actor.user), row.expressions, [row.bot])
    accounts = [
        one async for one in all_users(admin, ListUsers(limit=500)) if covered.covers(one.name)
    ]
    said = n("{count} bridged account.", "{count} bridged accounts.", len(accounts))
    if csv:
        lines = ((one.name, one.displayname, one.creation_ts) for one in accounts)
        return answer(said).with_file(
            csv_file("ghosts.csv", ("user", "name", "created_ms"), lines)
        )
    shown = accounts[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    items: tuple[Spans, ...] = tuple(
        (Pill(one.name), " ", Mono(one.displayname or "")) for one in shown
    )
    return answer(Bullets(items), said) if items else answer(said)


@command("bridge logins", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_logins(own: OwnReader, caller: Caller, name: str) -> Answer:
    """List who is known to have logged in at a bridge through me.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    found = await own.read(LoginsOfBridge(row.name))
    if not found:
        return answer(t("Nobody has logged in at {bridge} through me.", bridge=row.name))
    rows = tuple(
        (
            Pill(one.user),
            Mono(one.remote or ""),
            t("logged in") if one.state == "in" else t("logged out"),
            when(one.at_ms, caller.now) or "",
        )
        for one in found
    )
    return answer(Table((t("User"), t("There"), t("State"), t("Since")), rows))


@command("bridge rooms", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bridge_rooms(
    own: OwnReader, caller: Caller, name: str, *, page: Page = FIRST_PAGE
) -> Answer:
    """List the rooms a bridge is at work in, those with the newest messages first.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    found = await own.read(RoomsOfBridge(row.name, (page - 1) * PAGE_SIZE, PAGE_SIZE))
    if not found:
        return answer(t("No room of {bridge} is known.", bridge=row.name))
    rows = tuple(
        (
            Pill(one.room),
            Mono(one.remote_name or one.remote or ""),
            when(one.in_ms, caller.now) or t("never"),
            when(one.out_ms, caller.now) or t("never"),
        )
        for one in found
    )
    return answer(Table((t("Room"), t("There"), t("Last from there"), t("Last to there")), rows))


@report("bridge")
def bridge_report(finished: Finished) -> Answer:
    """Say what a bridge answered."""
    said = tell(finished)
    answered = [each.detail for each in finished.taken if each.detail] if finished.all_done else []
    return said.followed_by(*(_quoted(text) for text in answered))


def _quoted(text: str) -> Block:
    short = cut(text, LONGEST_QUOTE)
    return Code(short) if "\n" in short else say(Mono(short))


async def one_bridge(own: OwnReader, name: str) -> BridgeRow:
    """Return a bridge by its name; ``UserError`` names those there are."""
    rows = await own.read(ListBridges())
    found = next((row for row in rows if row.name == name.lower()), None)
    if found is None:
        raise UserError(unknown_bridge(name, (row.name for row in rows)))
    return found


def _figures(settings: Settings, caller: Caller) -> FiguresOfBridges:
    return FiguresOfBridges(_since(caller), settings.config.bridges.active_days)


def _since(caller: Caller) -> int:
    return first_day(day_of(int(caller.now.timestamp() * 1000)))


def _row(
    row: BridgeRow, figures: BridgeFigures, kinds: "dict[str, Kind]", caller: Caller
) -> tuple[Span, ...]:
    return (
        Mono(row.name),
        _network(kinds.get(row.kind)),
        _state(row),
        when(row.answered_ms, caller.now) or t("never"),
        str(figures.rooms),
        _active(row, figures),
        when(figures.in_ms, caller.now) or t("never"),
        when(figures.out_ms, caller.now) or t("never"),
    )


def _source(source: str) -> str:
    words = {
        "settings": t("the settings"),
        "registration": t("its registration"),
        "protocols": t("what the homeserver says of third parties"),
        "state": t("the state of a room"),
        "account": t("its account, an application service's"),
    }
    return words.get(source, source)


def _means(means: str) -> str:
    words = {
        Means.OWN.value: t("own limit"),
        Means.SUSPEND.value: t("suspending ghosts"),
        Means.HOOK.value: t("operator's hook"),
    }
    return words.get(means, means)


def _network(kind: Kind | None) -> str:
    return kind.network if kind else t("unknown")


def _active(row: BridgeRow, figures: BridgeFigures) -> str:
    if row.limit is None:
        return str(figures.active)
    stage = stage_of(row.limit, figures.active)
    share = t("{active} of {limit}", active=figures.active, limit=row.limit)
    return t("{share}, near the limit", share=share) if stage is Stage.NEAR else share


def _state(row: BridgeRow) -> Msg:
    if row.paused_by is not None:
        return t("paused by its limit") if row.paused_by == "limit" else t("paused")
    if row.blocked:
        return t("blocked by its own limit")
    if row.up is None:
        return t("not known")
    if not row.up:
        return t("down: {why}", why=Mono(row.trouble or "?"))
    # By the homeserver's ping, where it can be asked.
    return t("up") if row.ping_ms is None else t("up, reached in {ms} ms", ms=row.ping_ms)


def _metrics(row: BridgeRow) -> Span | None:
    found = ", ".join(f"{name} {value:g}" for name, value in row.metrics.items())
    return Mono(found) if found else None


def _others(kind: Kind | None, current: str) -> Span | None:
    others: Iterable[str] = (
        [each.name for each in kind.vocabularies if each.name != current] if kind else []
    )
    text = ", ".join(others)
    return Mono(text) if text else None
