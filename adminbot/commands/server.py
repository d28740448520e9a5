"""The homeserver itself: how it is, what it can, what it does in the background."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from adminbot.commands.bots import troubles_of
from adminbot.commands.room_power import local_rooms
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Span,
    Spans,
    Table,
    answer,
    facts,
    when,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Doctor, Health
from adminbot.own.server_rooms import PausedSince
from common.errors import UserError
from common.homeserver.client_server.server import (
    GetCapabilities,
    GetClientWellKnown,
    GetRoomVersions,
    GetVersions,
)
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.background import (
    BackgroundUpdates,
    EnableBackgroundUpdates,
    GetBackgroundUpdates,
    ListScheduledTasks,
    ResignEvents,
    StartBackgroundJob,
)
from common.homeserver.synapse.rooms import ListRooms
from common.homeserver.synapse.server import GetServerVersion
from common.homeserver.synapse.users import ListUsers
from common.i18n import n, t

MOST_TASKS = 50
RESIGN = "resign"

_FEATURES = {
    "org.matrix.simplified_msc3575": t("sliding sync, which Element X needs"),
    "org.matrix.msc3916.stable": t("media only for who is signed in"),
    "org.matrix.msc4190": t("devices for application services"),
    "uk.tcpip.msc4133.stable": t("extended profiles"),
    "org.matrix.msc4140": t("delayed events, which Element Call needs"),
    "org.matrix.msc4108": t("signing in by QR code"),
    "org.matrix.msc3814": t("dehydrated devices"),
}


@command("server status", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def server_status(
    admin: AdminReader, own: OwnReader, caller: Caller, health: Health
) -> Answer:
    """Show how the homeserver and Steward are doing."""
    server = await admin.read(GetServerVersion())
    versions = await admin.read(GetVersions())
    users = await admin.read(ListUsers(limit=1))
    rooms = await admin.read(ListRooms(limit=1))
    report = await health.report()
    troubles = await troubles_of(own, await local_rooms(admin))
    return answer(
        facts(
            [
                (t("Synapse"), server.server_version),
                (t("Newest Matrix version"), versions.versions[-1] if versions.versions else "?"),
                (t("Accounts"), str(users.total)),
                (t("Rooms"), str(rooms.total_rooms)),
                (t("Database updates"), _updates(await admin.read(GetBackgroundUpdates()))),
                (t("Tasks under way"), await _tasks_under_way(admin)),
                (t("Steward"), report.version),
                (t("Database"), report.database),
                (t("Set aside as unreadable"), str(report.entries_set_aside)),
                (
                    t("Rooms without the bots"),
                    n("{count} room", "{count} rooms", len(troubles)) if troubles else t("none"),
                ),
                (t("Bots enter no rooms since"), when(await own.read(PausedSince()), caller.now)),
            ]
        )
    )


@command("server capabilities", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def server_capabilities(admin: AdminReader) -> Answer:
    """Show what the homeserver can, and where its people sign in."""
    versions = await admin.read(GetVersions())
    capabilities = await admin.read(GetCapabilities())
    rooms = await admin.read(GetRoomVersions())
    stable = [name for name, state in rooms.available.items() if state == "stable"]
    wellknown = await _well_known(admin)
    rows: list[tuple[str, Span | Spans | None]] = [
        (t("Matrix versions"), Mono(", ".join(versions.versions[-5:]))),
        (t("Default room version"), rooms.default),
        (t("Stable room versions"), Mono(", ".join(sorted(stable, key=_numeric)))),
        (t("People may change their password"), _enabled(capabilities, "m.change_password")),
        (t("People may change their name"), _enabled(capabilities, "m.set_displayname")),
        (t("People may change their picture"), _enabled(capabilities, "m.set_avatar_url")),
        (t("Signing in is delegated"), yes_no(_delegated(wellknown))),
    ]
    features = tuple(
        (what, Mono(name), yes_no(versions.unstable_features.get(name)))
        for name, what in _FEATURES.items()
    )
    return answer(facts(rows), Table((t("Feature"), t("Name"), t("On")), features))


@command("tasks", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def tasks(
    admin: AdminReader,
    caller: Caller,
    *,
    status: Literal["scheduled", "active", "complete", "failed", "cancelled"] | None = None,
) -> Answer:
    """List what the homeserver does in the background, e.g. deleting rooms; newest first.

    Args:
        status: only those that stand like this
    """
    found = await admin.read(ListScheduledTasks(status=status))
    if not found:
        return answer(t("There is none."))
    newest = sorted(found, key=lambda one: -one.timestamp_ms)[:MOST_TASKS]
    rows = tuple(
        (
            Mono(one.action),
            Mono(one.resource_id or ""),
            Mono(one.status),
            when(one.timestamp_ms, caller.now) or "",
            Mono(one.error or ""),
        )
        for one in newest
    )
    columns = (t("Task"), t("About"), t("Status"), t("Since"), t("Error"))
    return answer(Table(columns, rows), n("{count} task.", "{count} tasks.", len(found)))


@command("updates status", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def updates_status(admin: AdminReader) -> Answer:
    """Show which updates of its database the homeserver is busy with."""
    found = await admin.read(GetBackgroundUpdates())
    rows = tuple(
        (
            Mono(one.name),
            str(one.total_item_count),
            f"{one.average_items_per_ms * 1000:.0f}" if one.average_items_per_ms else "?",
        )
        for one in found.current_updates.values()
    )
    said = answer(facts([(t("Database updates"), _updates(found))]))
    if not rows:
        return said
    return said.followed_by(Table((t("Update"), t("Items done"), t("Items a second")), rows))


@command("updates pause", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def updates_pause(admin: AdminReader) -> Plan:
    """Have the homeserver leave its database updates alone until they are resumed."""
    if not (await admin.read(GetBackgroundUpdates())).enabled:
        raise UserError(t("They are paused already."))
    return Plan(
        summary=t("Pause the homeserver's database updates"),
        steps=(EnableBackgroundUpdates(enabled=False),),
    )


@command("updates resume", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def updates_resume(admin: AdminReader) -> Plan:
    """Have the homeserver go on with its database updates."""
    if (await admin.read(GetBackgroundUpdates())).enabled:
        raise UserError(t("They are not paused."))
    return Plan(
        summary=t("Resume the homeserver's database updates"),
        steps=(EnableBackgroundUpdates(enabled=True),),
    )


@command("updates run", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def updates_run(
    job: Literal["populate_stats_process_rooms", "regenerate_directory"],
) -> Plan:
    """Have the homeserver count its statistics anew, or build its directory of people anew.

    Args:
        job: which
    """
    return Plan(
        summary=t("Have the homeserver run {job}", job=Mono(job)),
        steps=(StartBackgroundJob(job),),
    )


@command("updates resign", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def updates_resign(*, old_key: str | None = None, before: datetime | None = None) -> Plan:
    """Have the homeserver sign its own events anew, after a signing key was lost or stolen.

    Args:
        old_key: only those signed with this key, e.g. ed25519:a_abcd
        before: only those sent before this moment
    """
    before_ms = None if before is None else int(before.timestamp() * 1000)
    return Plan(
        summary=t("Sign this server's own events anew"),
        steps=(ResignEvents(old_key=old_key, before_ms=before_ms),),
        typed=RESIGN,
    )


@command("doctor", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def doctor(doctor: Doctor) -> Answer:
    """Examine whether everything is set up as it should be, as “steward doctor” does."""
    findings = await doctor.findings()
    wrong: list[Spans] = []
    known: list[Spans] = []
    for one in findings:
        if one.ok is not True:
            line: Spans = (one.what, " → ", Mono(one.mend)) if one.mend else (one.what,)
            (wrong if one.ok is False else known).append(line)
    fine = sum(one.ok is True for one in findings)
    blocks: list[Bullets | str] = []
    if wrong:
        blocks += [t("To be mended:"), Bullets(tuple(wrong))]
    if known:
        blocks += [t("To be known:"), Bullets(tuple(known))]
    blocks.append(
        n("{count} check found nothing wrong.", "{count} checks found nothing wrong.", fine)
    )
    return answer(*blocks)


async def _tasks_under_way(admin: AdminReader) -> str:
    active = await admin.read(ListScheduledTasks(status="active"))
    return str(len(active))


async def _well_known(admin: AdminReader) -> Mapping[str, Any]:
    try:
        return await admin.read(GetClientWellKnown())
    except RefusedError:
        return {}


def _updates(found: BackgroundUpdates) -> str:
    running = n("{count} under way", "{count} under way", len(found.current_updates))
    if not found.enabled:
        return t("paused; {running}", running=running)
    return running if found.current_updates else t("none under way")


def _enabled(capabilities: Mapping[str, Any], name: str) -> str:
    # Specification, "Capabilities negotiation": what is not named is allowed.
    given = capabilities.get(name)
    return yes_no(given.get("enabled", True) if isinstance(given, Mapping) else True)


def _delegated(wellknown: Mapping[str, Any]) -> bool:
    names = ("m.authentication", "org.matrix.msc2965.authentication")
    return any(name in wellknown for name in names)


def _numeric(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdecimal() else (10**6, version)
