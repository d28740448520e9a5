"""Which rules are about somebody, a server or a room: everything that could be in their way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adminbot.commands.invite_block import blocks_of
from adminbot.commands.room_power import local_rooms
from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer
from adminbot.engine.command import command
from adminbot.engine.entity import Entity, Kind, blocks, matches, parse_entity, shut_out
from adminbot.engine.people import state
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.server_rooms import BlockedRooms
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.rooms import GetRoomBlock, GetRoomState, ResolveAlias, StateEvent
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.users import GetUser
from common.i18n import n, t
from common.ids import RoomId, UserId, parse_room_alias, parse_room_id

MOST_ROOMS = 200
SHOWN = 50
# Specification, "Moderation policy lists".
_RULES: Mapping[Kind, str] = {
    Kind.USER: "m.policy.rule.user",
    Kind.SERVER: "m.policy.rule.server",
    Kind.ROOM: "m.policy.rule.room",
}

_Row = tuple[Span, ...]


@dataclass(frozen=True)
class _Asked:
    admin: AdminReader
    own: OwnReader
    settings: Settings
    entity: Entity


@command("match", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def match(admin: AdminReader, own: OwnReader, settings: Settings, entity: str) -> Answer:
    """Show which rules are about somebody, a server or a room.

    Looks at the account, at bans, blocked rooms and blocked invitations, and in this server's
    rooms at server ACLs and policy lists.

    Args:
        entity: a user ID, a server's name, or a room's ID or address
    """
    one = parse_entity(entity, settings.config.homeserver.server_name)
    if one.is_pattern:
        raise UserError(t("Name one person, server or room; patterns are what the rules have."))
    if one.kind is Kind.ROOM:
        one = Entity(Kind.ROOM, await _room(admin, one.name))
    asked = _Asked(admin, own, settings, one)
    rooms = await local_rooms(admin)
    rows = [*await _of_the_server(asked), *await _of_rooms(asked, rooms[:MOST_ROOMS])]
    looked = n("Looked in {count} room.", "Looked in {count} rooms.", min(len(rooms), MOST_ROOMS))
    if not rows:
        return answer(t("No rule is about {entity}.", entity=Mono(one.name)), looked)
    columns = (t("Rule"), t("Where"), t("About"), t("Why"))
    said = answer(Table(columns, tuple(rows[:SHOWN])), looked)
    if len(rows) > SHOWN:
        more = len(rows) - SHOWN
        said = said.followed_by(
            *answer(n("… and {count} more rule", "… and {count} more rules", more)).blocks
        )
    return said


async def _room(admin: AdminReader, name: str) -> RoomId:
    if not name.startswith("#"):
        return parse_room_id(name)
    try:
        return await admin.read(ResolveAlias(parse_room_alias(name)))
    except NotFoundError:
        raise UserError(t("There is no room with the address {address}.", address=name)) from None


async def _of_the_server(asked: _Asked) -> list[_Row]:
    """Return what this server as a whole has about it."""
    rows: list[_Row] = []
    one, config = asked.entity, asked.settings.config
    server = config.homeserver.server_name
    if one.kind is not Kind.ROOM:
        for name, block in sorted((await blocks_of(asked.admin, config)).items()):
            if blocks(name, one):
                rows.append((t("Invitations are refused"), server, Mono(name), Mono(block.reason)))
    if one.kind is Kind.USER:
        rows += await _of_the_account(asked, UserId(one.name))
    if one.kind is Kind.ROOM:
        rows += await _of_the_room(asked, RoomId(one.name))
    return rows


async def _of_the_account(asked: _Asked, user: UserId) -> list[_Row]:
    rows: list[_Row] = []
    server = asked.settings.config.homeserver.server_name
    if user in asked.settings.config.adminbot.protected_accounts:
        rows.append((t("Protected by the configuration"), server, Pill(user), ""))
    if asked.entity.server == server:
        try:
            found = await asked.admin.read(GetUser(user))
        except NotFoundError:
            return rows
        if found.deactivated or found.locked or found.suspended or found.shadow_banned:
            rows.append((t("State of the account"), server, Pill(user), state(found)))
    try:
        memberships = await asked.admin.read(GetMemberships(user))
    except NotFoundError:
        return rows
    rows += [
        (t("Banned"), Pill(room), Pill(user), "")
        for room, membership in sorted(memberships.items())
        if membership == "ban"
    ]
    return rows


async def _of_the_room(asked: _Asked, room: RoomId) -> list[_Row]:
    if not await asked.admin.read(GetRoomBlock(room)):
        return []
    known = {one.room: one.reason for one in await asked.own.read(BlockedRooms())}
    server = asked.settings.config.homeserver.server_name
    return [(t("Blocked"), server, Pill(room), Mono(known.get(room, "")))]


async def _of_rooms(asked: _Asked, rooms: Sequence[RoomId]) -> list[_Row]:
    """Return what single rooms have about it: their ACLs, and the policy lists that they are."""
    rows: list[_Row] = []
    for room in rooms:
        try:
            if asked.entity.server and asked.entity.kind is not Kind.ROOM:
                acl = await asked.admin.read(GetRoomState(room, "m.room.server_acl"))
                rows += _by_acl(acl, room, asked.entity)
            for kind in _kinds(asked.entity):
                rules = await asked.admin.read(GetRoomState(room, _RULES[kind]))
                rows += _by_policy(rules, room, kind, asked.entity)
        except RefusedError:
            continue  # gone meanwhile
    return rows


def _kinds(entity: Entity) -> tuple[Kind, ...]:
    """Return which rules can be about it: a rule about a server is about its people, too."""
    return (Kind.USER, Kind.SERVER) if entity.kind is Kind.USER else (entity.kind,)


def _by_acl(acl: Sequence[StateEvent], room: RoomId, entity: Entity) -> Iterator[_Row]:
    for event in acl:
        if not event.state_key and event.content and shut_out(event.content, entity.server):
            yield (t("Shut out by the room's ACL"), Pill(room), Mono(entity.server), "")


def _by_policy(
    rules: Sequence[StateEvent], room: RoomId, kind: Kind, entity: Entity
) -> Iterator[_Row]:
    name = entity.server if kind is Kind.SERVER else entity.name
    for event in rules:
        rule, why = event.content.get("entity"), event.content.get("reason")
        if isinstance(rule, str) and name and matches(rule, name):
            recommended = event.content.get("recommendation")
            what = recommended if isinstance(recommended, str) else ""
            yield (
                t("Policy list: {recommendation}", recommendation=Mono(what)),
                Pill(room),
                Mono(rule),
                Mono(why if isinstance(why, str) else ""),
            )
