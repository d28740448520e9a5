"""What there is to know about the room one is in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from adminbot.commands.here import (
    all_state_in,
    memberships_in,
    powers_in,
    room_here,
)
from adminbot.commands.protect import own_accounts
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    csv_file,
    facts,
    when,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.supply import Settings
from adminbot.engine.text import joined
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.client_server.server import GetRoomVersions
from common.homeserver.client_server.timeline import EventHead, ListEventHeads, heads_back_to
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.reports import EventReport, ListEventReports
from common.homeserver.synapse.rooms import RoomDetails
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId, server_of
from common.matrix.power import ADMIN_LEVEL, RoomPowers, level_in, version_number

PAGE_SIZE = 50
MOST_LOOKED_AT = 5_000
MOST_SHOWN = 10
_WORDS = {
    "public": t("everybody"),
    "invite": t("who is invited"),
    "knock": t("who asks and is let in"),
    "restricted": t("members of other rooms, and who is invited"),
    "knock_restricted": t("members of other rooms, and who asks and is let in"),
    "world_readable": t("anybody in the world"),
    "shared": t("members, all of it"),
    "invited": t("members, since they were invited"),
    "joined": t("members, since they came"),
}


@command("info", who=Role.ANYONE, needs=Permission.VIEW)
async def info(admin: AdminReader, settings: Settings, caller: Caller, room: RoomId) -> Answer:
    """Show a room that you are in, in short; “room show” tells everything.

    Args:
        room: the current room if left out
    """
    _must_be_inside(caller, room)
    found = await room_here(admin, room)
    powers = await powers_in(admin, room)
    members = await memberships_in(admin, room)
    counts = Counter(members.values())
    card = facts(
        [
            (t("Room"), Pill(found.room_id)),
            (t("Name"), Mono(found.name) if found.name else None),
            (t("Topic"), Mono(found.topic) if found.topic else None),
            (t("Address"), Pill(found.canonical_alias) if found.canonical_alias else None),
            (t("Members"), _members(found)),
            (t("Invited"), str(counts["invite"]) if counts["invite"] else None),
            (t("Asking to be let in"), str(counts["knock"]) if counts["knock"] else None),
            (t("Banned"), str(counts["ban"]) if counts["ban"] else None),
            (t("Admins"), str(len(_admins(settings, powers, members)))),
            (t("Version"), found.version),
            (t("Encrypted"), yes_no(found.encryption)),
            (t("Who may join"), _worded(found.join_rules)),
            (t("Who may read back"), _worded(found.history_visibility)),
            (t("In the directory"), yes_no(found.public)),
        ]
    )
    return answer(card)


@command("members", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def members(
    admin: AdminReader,
    settings: Settings,
    room: RoomId,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List who is in a room with their power, the most powerful first.

    Args:
        room: the current room if left out
    """
    powers = await powers_in(admin, room)
    contents = await all_state_in(admin, room, "m.room.member")
    home = settings.config.homeserver.server_name
    joined_ = [
        (UserId(user), content)
        for user, content in contents.items()
        if content.get("membership") == "join"
    ]
    ranked = sorted(
        joined_, key=lambda one: (-_rank(powers, one[0]), server_of(one[0]) != home, one[0])
    )
    told = _paged(len(ranked), page)
    if csv:
        rows = (
            (user, content.get("displayname"), _power(powers, user), server_of(user))
            for user, content in ranked
        )
        file = csv_file("members.csv", ("user", "name", "power", "server"), rows)
        return answer(told).with_file(file)
    shown = ranked[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    table: tuple[tuple[Span, ...], ...] = tuple(
        (Pill(user), Mono(str(content.get("displayname") or "")), _power(powers, user))
        for user, content in shown
    )
    return answer(Table((t("Person"), t("Name"), t("Power level")), table), told)


@command("admins", who=Role.ANYONE, needs=Permission.VIEW)
async def admins(admin: AdminReader, settings: Settings, caller: Caller, room: RoomId) -> Answer:
    """Show who governs a room that you are in: its creators, admins and moderators.

    Args:
        room: the current room if left out
    """
    _must_be_inside(caller, room)
    powers = await powers_in(admin, room)
    members_ = await memberships_in(admin, room)
    own = own_accounts(settings.config)
    people = [
        user
        for user, membership in members_.items()
        if membership == "join" and user not in own and powers.of(user).moderates
    ]
    if not people:
        return answer(t("Nobody in this room is an admin or moderator of it."))
    ranked = sorted(people, key=lambda user: (-_rank(powers, user), user))
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (Pill(user), _power(powers, user)) for user in ranked
    )
    return answer(Table((t("Person"), t("Power level")), rows))


@command("stats", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def stats(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    room: RoomId,
    *,
    since: timedelta = timedelta(days=7),
) -> Answer:
    """Show how much is going on in a room: messages, and people who came and left.

    Args:
        room: the current room if left out
        since: of how much time, e.g. 24h
    """
    since_ms = int((caller.now - since).timestamp() * 1000)
    request = ListEventHeads(room=room)
    heads = [
        head
        async for head in heads_back_to(admin, request, since_ms=since_ms, most=MOST_LOOKED_AT)
    ]
    own = own_accounts(settings.config)
    counted = _count([one for one in heads if own.isdisjoint({one.sender, one.member})])
    told = (
        []
        if len(heads) < MOST_LOOKED_AT
        else [t("Only the latest {most} events are counted.", most=MOST_LOOKED_AT)]
    )
    card = facts(
        [
            (t("Messages"), str(sum(counted.by_person.values()))),
            (t("People who wrote"), str(len(counted.by_person))),
            (t("Came"), str(counted.came)),
            (t("Left"), str(counted.left)),
            (t("Last message"), when(counted.last_ms, caller.now) or t("none")),
        ]
    )
    rows: tuple[tuple[Span, ...], ...] = tuple(
        (Pill(user), str(number)) for user, number in counted.by_person.most_common(MOST_SHOWN)
    )
    table = [Table((t("Who wrote most"), t("Messages")), rows)] if rows else []
    return answer(card, *table, *told)


@command("health", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def health(admin: AdminReader, settings: Settings, room: RoomId) -> Answer:
    """Look for what is wrong with a room, and say what to do about it.

    Args:
        room: the current room if left out
    """
    found = await room_here(admin, room)
    powers = await powers_in(admin, room)
    members_ = await memberships_in(admin, room)
    versions = await admin.read(GetRoomVersions())
    findings = [
        *_about_bots(settings, powers, members_),
        *_about_people(settings, powers, members_),
        *_about_settings(found, versions.default),
    ]
    if not findings:
        return answer(t("I find nothing wrong with this room."))
    lines: tuple[Spans, ...] = tuple((finding,) for finding in findings)
    return answer(Bullets(lines))


@command("reports", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def reports_here(
    admin: AdminReader, caller: Caller, room: RoomId, *, page: Page = FIRST_PAGE
) -> Answer:
    """Show which messages of a room were reported to the server's admins, newest first.

    Who reported them is told to server admins only.

    Args:
        room: the current room if left out
    """
    found = await admin.read(
        ListEventReports(room=room, start=(page - 1) * PAGE_SIZE, limit=PAGE_SIZE)
    )
    # The filter takes parts of room IDs too.
    here = [one for one in found.event_reports if one.room_id == room]
    if not here:
        return answer(t("No message of this room was reported."))
    columns = [t("Message"), t("Written by"), t("Reason"), t("Reported")]
    rows: list[list[Span]] = [_report(one, caller) for one in here]
    if caller.acts_as_server_admin:
        columns.append(t("Reported by"))
        rows = [[*row, Pill(one.user_id)] for row, one in zip(rows, here, strict=True)]
    return answer(Table(tuple(columns), tuple(tuple(row) for row in rows)))


def _must_be_inside(caller: Caller, room: RoomId) -> None:
    """Refuse to tell outsiders, or into another room, what everybody in a room can see."""
    if caller.acts_as_server_admin:
        return
    if caller.target is None or caller.target.power is None:
        raise UserError(t("You are not in that room."))
    if caller.place.kind is not PlaceKind.DIRECT and caller.place.room != room:
        raise UserError(t("Ask in that room or in a direct chat with me."))


def _report(one: EventReport, caller: Caller) -> list[Span]:
    return [
        Mono(one.event_id),
        Pill(one.sender) if one.sender else "?",
        Mono(one.reason or ""),
        when(one.received_ts, caller.now) or "",
    ]


@dataclass(frozen=True)
class _Counted:
    by_person: Counter[UserId]
    came: int
    left: int
    last_ms: int | None


def _count(heads: list[EventHead]) -> _Counted:
    written = [
        one for one in heads if one.type in {"m.room.message", "m.room.encrypted", "m.sticker"}
    ]
    return _Counted(
        Counter(one.sender for one in written),
        sum(one.membership == "join" and one.before != "join" for one in heads),
        sum(one.before == "join" and one.membership in {"leave", "ban"} for one in heads),
        max((one.at_ms for one in written), default=None),
    )


def _about_bots(
    settings: Settings, powers: RoomPowers, members_: Mapping[UserId, str]
) -> list[Msg]:
    config = settings.config
    server = config.homeserver.server_name
    findings: list[Msg] = []
    for localpart in (config.adminbot.localpart, config.auditbot.localpart):
        bot = UserId(f"@{localpart}:{server}")
        if members_.get(bot) != "join":
            findings.append(t("{bot} is not in this room.", bot=bot))
    power = powers.of(UserId(f"@{config.adminbot.localpart}:{server}"))
    if not power.administers:
        findings.append(
            t(
                "I have power level {level} here and cannot do much; make me an admin (100).",
                level=power.level,
            )
        )
    return findings


def _about_people(
    settings: Settings, powers: RoomPowers, members_: Mapping[UserId, str]
) -> list[Msg]:
    findings: list[Msg] = []
    governing = _admins(settings, powers, members_)
    if not governing:
        findings.append(t("No person in this room is an admin of it; “promote” somebody."))
    elif len(governing) == 1:
        findings.append(
            t(
                "{user} is the only admin; if they leave, nobody can govern it. “promote” another.",
                user=governing[0],
            )
        )
    gone = [
        UserId(user)
        for user, level in powers.named.items()
        if level >= ADMIN_LEVEL and members_.get(UserId(user)) != "join"
    ]
    if gone:
        findings.append(
            t("Admins who are not here any more: {people}. “demote” them.", people=joined(gone))
        )
    levels = powers.levels or {}
    if (level_in(levels, "users_default") or 0) >= ADMIN_LEVEL // 2:
        findings.append(t("Everybody who comes in is a moderator: users_default is too high."))
    return findings


def _about_settings(found: RoomDetails, newest: str) -> list[Msg]:
    findings: list[Msg] = []
    if found.tombstoned:
        findings.append(t("This room has been replaced; nobody should write in it any more."))
    if version_number(found.version) < version_number(newest):
        findings.append(
            t(
                "It has version {version}; new rooms have {newest}. “upgrade” makes a new one.",
                version=found.version or "1",
                newest=newest,
            )
        )
    if found.encryption and found.join_rules == "public":
        findings.append(t("It is encrypted, but everybody can join and read along."))
    if found.history_visibility == "world_readable" and found.join_rules != "public":
        findings.append(t("Anybody can read it without being in it; see “history”."))
    return findings


def _admins(
    settings: Settings, powers: RoomPowers, members_: Mapping[UserId, str]
) -> list[UserId]:
    own = own_accounts(settings.config)
    return sorted(
        user
        for user, membership in members_.items()
        if membership == "join" and user not in own and powers.of(user).administers
    )


def _members(found: RoomDetails) -> str:
    return t(
        "{members}, {local} of them of this server",
        members=found.joined_members,
        local=found.joined_local_members,
    )


def _worded(value: str | None) -> str | None:
    return None if value is None else _WORDS.get(value, value)


def _rank(powers: RoomPowers, user: UserId) -> float:
    power = powers.of(user)
    return float("inf") if power.creator else power.level


def _power(powers: RoomPowers, user: UserId) -> str:
    power = powers.of(user)
    return t("creator") if power.creator else str(power.level)


def _paged(total: int, page: int) -> str:
    pages = max(1, -(-total // PAGE_SIZE))
    said: list[str] = [
        t("Page {page} of {pages}.", page=page, pages=pages),
        n("{count} member in all.", "{count} members in all.", total),
    ]
    if page < pages:
        said.append(t("Go on with --page {page}.", page=page + 1))
    return joined(said, " ")
