"""Who may come into a room, read it and find it; and how long what is said stays."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from adminbot.commands.here import (
    memberships_in,
    own_power_for,
    room_here,
    state_in,
    typed_name,
)
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Mono,
    Span,
    Spans,
    Table,
    answer,
    facts,
    lasting,
    say,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Finished, report, tell
from adminbot.engine.plan import Plan
from common.errors import UserError
from common.homeserver.client_server.directory import IsPublished, PublishRoom
from common.homeserver.client_server.server import GetRetention, Retention
from common.homeserver.client_server.settings import (
    JoinRule,
    SetGuestAccess,
    SetHistoryVisibility,
    SetJoinRule,
)
from common.homeserver.client_server.state import ClearRetention, EnableEncryption, SetRetention
from common.homeserver.errors import NotFoundError, UnsupportedError
from common.homeserver.port import AdminReader, Permission
from common.i18n import t
from common.ids import RoomId, server_of
from common.matrix.power import version_number

MOST_SERVERS = 50
_FOR_MEMBERS_OF = {"restricted", "knock_restricted"}
_NEEDS_VERSION = {"knock": 7, "restricted": 8, "knock_restricted": 10}
_SHORTEST = timedelta(days=1)
_Fact = tuple[str, Span | Spans | None]


@command("join-rule", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def join_rule(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    rule: Literal["public", "invite", "knock", "restricted", "knock-restricted"],
    *,
    members_of: RoomId | None = None,
) -> Plan:
    """Set who may come into a room.

    public: everybody. invite: who is invited. knock: who asks and is let in. restricted: members
    of a space or another room, and who is invited. knock-restricted: both.

    Args:
        room: the current room if left out
        rule: which
        members_of: the space or room whose members may come, for the restricted ones
    """
    own_power_for(caller, "m.room.join_rules")
    chosen: JoinRule = "knock_restricted" if rule == "knock-restricted" else rule
    details = await room_here(admin, room)
    needed = _NEEDS_VERSION.get(chosen, 1)
    if version_number(details.version) < needed:
        raise UserError(
            t(
                "That needs a room of version {needed}; this one has {version}. “upgrade” makes a "
                "new one.",
                needed=needed,
                version=details.version or "1",
            )
        )
    before = await state_in(admin, room, "m.room.join_rules") or {}
    allow = _allowed(before) if members_of is None else (members_of,)
    if chosen in _FOR_MEMBERS_OF and not allow:
        raise UserError(t("Say whose members may come in, with --members-of and a space or room."))
    allow = allow if chosen in _FOR_MEMBERS_OF else ()
    step = SetJoinRule(room, chosen, allow)
    if before.get("join_rule") == chosen and _allowed(before) == allow:
        raise UserError(t("That is how it is already."))
    details_shown = _warning(chosen, encrypted=details.encryption is not None)
    return Plan(summary=step.describe(), steps=(step,), details=details_shown)


@command("history", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def history(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    visibility: Literal["joined", "invited", "shared", "world"],
) -> Plan:
    """Set who may read what is said from now on.

    joined: members, since they came. invited: members, since they were invited. shared: members,
    all of it. world: anybody, without being in the room.

    Args:
        room: the current room if left out
        visibility: which
    """
    own_power_for(caller, "m.room.history_visibility")
    details = await room_here(admin, room)
    chosen = "world_readable" if visibility == "world" else visibility
    if details.history_visibility == chosen:
        raise UserError(t("That is how it is already."))
    step = SetHistoryVisibility(room, chosen)
    return Plan(summary=step.describe(), steps=(step,))


@command("guest", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def guest(caller: Caller, room: RoomId, allowed: Literal["allow", "forbid"]) -> Plan:
    """Let people without an account in, or keep them out.

    Args:
        room: the current room if left out
        allowed: which
    """
    own_power_for(caller, "m.room.guest_access")
    step = SetGuestAccess(room, allowed == "allow")
    return Plan(summary=step.describe(), steps=(step,))


@command("encryption on", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def encryption_on(admin: AdminReader, caller: Caller, room: RoomId) -> Plan:
    """Encrypt everything that is said in a room from now on; it can never be switched off.

    Args:
        room: the current room if left out
    """
    own_power_for(caller, "m.room.encryption")
    details = await room_here(admin, room)
    if details.encryption is not None:
        raise UserError(t("This room is encrypted already."))
    details_shown: tuple[Block, ...] = ()
    if details.join_rules == "public":
        said = t(
            "Everybody can join this room and read along, so encryption protects little here."
        )
        details_shown = (say(said),)
    step = EnableEncryption(room)
    return Plan(
        summary=step.describe(), steps=(step,), details=details_shown, typed=typed_name(details)
    )


@command("federation info", who=Role.ROOM_ADMIN, needs=Permission.VIEW)
async def federation_info(admin: AdminReader, room: RoomId) -> Answer:
    """Show which servers take part in a room.

    Args:
        room: the current room if left out
    """
    details = await room_here(admin, room)
    members = await memberships_in(admin, room)
    counts: dict[str, int] = {}
    for user, membership in members.items():
        if membership == "join":
            counts[server_of(user)] = counts.get(server_of(user), 0) + 1
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    acl = await state_in(admin, room, "m.room.server_acl")
    card = facts(
        [
            (t("Other servers"), _taking_part(federates=details.federatable)),
            (t("Servers"), str(len(counts))),
            (t("Shut out"), _listed(acl, "deny")),
            (t("Let in"), _listed(acl, "allow")),
        ]
    )
    rows = tuple((Mono(server), str(number)) for server, number in ranked[:MOST_SERVERS])
    return answer(card, Table((t("Server"), t("Members")), rows))


@command("directory publish", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def directory_publish(admin: AdminReader, caller: Caller, room: RoomId) -> Plan:
    """List a room in this server's room directory, where everybody can find it.

    Args:
        room: the current room if left out
    """
    return await _publishing(admin, caller, room, published=True)


@command("directory unpublish", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def directory_unpublish(admin: AdminReader, caller: Caller, room: RoomId) -> Plan:
    """Take a room out of this server's room directory.

    Args:
        room: the current room if left out
    """
    return await _publishing(admin, caller, room, published=False)


@command("retention show", who=Role.ROOM_MODERATOR, needs=Permission.VIEW)
async def retention_show(admin: AdminReader, room: RoomId) -> Answer:
    """Show how long messages are kept in a room.

    Args:
        room: the current room if left out
    """
    content = await state_in(admin, room, "m.room.retention") or {}
    longest, shortest = _span(content, "max_lifetime"), _span(content, "min_lifetime")
    rows: list[_Fact] = [
        (t("Deleted after"), None if longest is None else lasting(longest)),
        (t("Kept at least"), None if shortest is None else lasting(shortest)),
    ]
    try:
        server = await admin.read(GetRetention())
    except (UnsupportedError, NotFoundError):
        told = t(
            "The server deletes by it only where its configuration has “retention” on; its limits "
            "it tells only with “msc1763_enabled” in experimental_features."
        )
    else:
        rows += _of_the_server(server)
        told = t("The server deletes by this, within its limits.")
    if longest is None and shortest is None:
        own = t(
            "This room has no rule of its own: messages stay as long as the server keeps them."
        )
        return answer(own, facts(rows), told) if any(row[1] for row in rows) else answer(own)
    return answer(facts(rows), told)


@command("retention set", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def retention_set(
    admin: AdminReader, caller: Caller, room: RoomId, longest: timedelta
) -> Plan:
    """Have messages deleted for good once they are older than this.

    Args:
        room: the current room if left out
        longest: how long they are kept, e.g. 90d
    """
    own_power_for(caller, "m.room.retention")
    details = await room_here(admin, room)
    if longest < _SHORTEST:
        raise UserError(t("Messages are kept for a day at least."))
    step = SetRetention(room, int(longest.total_seconds() * 1000))
    note = say(t("The server deletes by it only where its configuration has “retention” on."))
    return Plan(summary=step.describe(), steps=(step,), details=(note,), typed=typed_name(details))


@command("retention clear", who=Role.ROOM_ADMIN, needs=Permission.MANAGE)
async def retention_clear(admin: AdminReader, caller: Caller, room: RoomId) -> Plan:
    """Keep messages in a room as long as the server does.

    Args:
        room: the current room if left out
    """
    own_power_for(caller, "m.room.retention")
    content = await state_in(admin, room, "m.room.retention")
    if not content:
        raise UserError(t("That is how it is already."))
    step = ClearRetention(room)
    return Plan(summary=step.describe(), steps=(step,))


async def _publishing(
    admin: AdminReader, caller: Caller, room: RoomId, *, published: bool
) -> Plan:
    # The directory is the server's: its right is lent to who governs the room, and nobody else.
    own_power_for(caller, "m.room.canonical_alias")
    await room_here(admin, room)
    if await admin.read(IsPublished(room)) == published:
        raise UserError(t("That is how it is already."))
    step = PublishRoom(room, published)
    return Plan(summary=step.describe(), steps=(step,), report="directory")


@report("directory")
def told(finished: Finished) -> Answer:
    """Say what became of it, and what to change where the homeserver lists no rooms."""
    said = tell(finished)
    if finished.all_done:
        return said
    return said.followed_by(
        say(
            t(
                "A homeserver lists only what room_list_publication_rules in its configuration "
                "lets it; a rule that allows my account is enough."
            )
        )
    )


def _allowed(content: Mapping[str, Any]) -> tuple[RoomId, ...]:
    allow = content.get("allow")
    held = allow if isinstance(allow, list) else []
    rooms = [one.get("room_id") for one in held if isinstance(one, Mapping)]
    return tuple(RoomId(one) for one in rooms if isinstance(one, str))


def _warning(rule: str, *, encrypted: bool) -> tuple[Block, ...]:
    if rule == "public" and encrypted:
        said = t("This room is encrypted; whoever joins can read what is said from then on.")
        return (say(said),)
    return ()


def _taking_part(*, federates: bool) -> str:
    return t("may take part") if federates else t("are shut out")


def _listed(acl: Mapping[str, Any] | None, name: str) -> Mono | None:
    held = None if acl is None else acl.get(name)
    if not isinstance(held, list) or not held:
        return None
    return Mono(", ".join(str(one) for one in held[:MOST_SERVERS]))


def _of_the_server(server: Retention) -> list[_Fact]:
    usual, held = server.policies.get("*"), server.limits.max_lifetime
    return [
        (t("Otherwise after, on this server"), _lasting(usual.max_lifetime if usual else None)),
        (t("At the earliest, on this server"), _lasting(held.min)),
        (t("At the latest, on this server"), _lasting(held.max)),
    ]


def _lasting(ms: int | None) -> str | None:
    return None if ms is None else lasting(timedelta(milliseconds=ms))


def _span(content: Mapping[str, Any], name: str) -> timedelta | None:
    ms = content.get(name)
    if not isinstance(ms, int) or isinstance(ms, bool) or not 0 < ms < 10**14:
        return None
    return timedelta(milliseconds=ms)
