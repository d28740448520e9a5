"""Whose invitations this server refuses, and which rules there are about somebody."""

from collections.abc import Mapping

import msgspec

from adminbot.commands.protect import own_accounts
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Block, Mono, Pill, Table, answer, say, when
from adminbot.engine.command import command
from adminbot.engine.entity import Entity, Kind, blocks, parse_entity
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Settings
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.client_server.invite_blocks import (
    InviteBlock,
    ListRefusedInviters,
    ReadInviteBlocks,
    WriteInviteBlocks,
)
from common.homeserver.errors import NotFoundError, UnsupportedError
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, n, t
from common.ids import UserId

MOST = 2000
LONGEST_REASON = 200


@command("invite-block add", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def invite_block_add(
    admin: AdminReader, caller: Caller, settings: Settings, entity: str, *, reason: str = ""
) -> Plan:
    """Refuse all invitations from somebody, or from everybody of a server, to people of this one.

    What is refused never reaches them. It needs Steward's module in Synapse.

    Args:
        entity: a user ID or a server's name; * stands for any characters, as in *.example.org
        reason: why, for the list
    """
    await _must_run(admin)
    config = settings.config
    one = parse_entity(entity, config.homeserver.server_name)
    _refuse_unfit(config, one)
    held = await blocks_of(admin, config)
    if one.name in held:
        raise UserError(t("Invitations from {entity} are refused already.", entity=Mono(one.name)))
    if len(held) >= MOST:
        raise UserError(t("There are {most} entries already; remove one.", most=MOST))
    block = InviteBlock(caller.actor.user, ms_of(caller.now), reason[:LONGEST_REASON])
    sentence = t("Refuse invitations from {entity}", entity=Mono(one.name))
    return _writing(config, {**held, one.name: block}, sentence)


@command("invite-block remove", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def invite_block_remove(admin: AdminReader, settings: Settings, entity: str) -> Plan:
    """Let invitations from somebody, or from a server, through again.

    Args:
        entity: as “invite-block list” shows it
    """
    config = settings.config
    held = await blocks_of(admin, config)
    one = parse_entity(entity, config.homeserver.server_name)
    if one.name not in held:
        raise UserError(
            t("There is no such entry; “match {entity}” says what is about it.", entity=one.name)
        )
    left = {name: block for name, block in held.items() if name != one.name}
    return _writing(
        config, left, t("Let invitations from {entity} through", entity=Mono(one.name))
    )


@command("invite-block list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def invite_block_list(admin: AdminReader, caller: Caller, settings: Settings) -> Answer:
    """List whose invitations are refused, and whether the homeserver does so."""
    held = await blocks_of(admin, settings.config)
    blocks: list[Block] = []
    if held:
        rows = tuple(
            (
                Mono(name),
                Pill(block.by),
                when(block.at_ms, caller.now) or "",
                Mono(block.reason),
            )
            for name, block in sorted(held.items())
        )
        blocks.append(Table((t("From"), t("Blocked by"), t("Since"), t("Why")), rows))
    blocks.append(say(await _enforced(admin, held)))
    return answer(*blocks)


async def blocks_of(admin: AdminReader, config: Config) -> Mapping[str, InviteBlock]:
    """Return the blocks as they are now."""
    try:
        return await admin.read(ReadInviteBlocks(_me(config)))
    except NotFoundError:
        return {}


async def _enforced(admin: AdminReader, held: Mapping[str, InviteBlock]) -> Msg:
    try:
        refused = await admin.read(ListRefusedInviters())
    except UnsupportedError:
        return _NOT_THERE
    if {name.lower() for name in held} != set(refused):
        return t("The homeserver has another list at this moment; look again in a minute.")
    if not held:
        return t("No invitations are refused.")
    return n(
        "The homeserver refuses invitations from {count} entry.",
        "The homeserver refuses invitations from {count} entries.",
        len(held),
    )


async def _must_run(admin: AdminReader) -> None:
    try:
        await admin.read(ListRefusedInviters())
    except UnsupportedError:
        raise UserError(_NOT_THERE) from None


_NOT_THERE = t(
    "The homeserver does not run Steward's module, or an older one, so no invitation is refused "
    "(docs/synapse-module.md)."
)


def _refuse_unfit(config: Config, one: Entity) -> None:
    """Refuse what would cut this server off from itself."""
    if one.kind is Kind.ROOM:
        raise UserError(t("Invitations are refused by who sends them, not by their room."))
    server = config.homeserver.server_name
    if one.kind is Kind.SERVER and blocks(one.name, Entity(Kind.SERVER, server)):
        raise UserError(t("That would refuse every invitation within this server."))
    for own in own_accounts(config):
        if blocks(one.name, Entity(Kind.USER, own)):
            raise UserError(t("That would be about {user}, which is left alone.", user=Pill(own)))


def _writing(config: Config, held: Mapping[str, InviteBlock], sentence: Msg) -> Plan:
    plain = {name: msgspec.to_builtins(block) for name, block in held.items()}
    return Plan(
        summary=sentence, steps=(WriteInviteBlocks(_me(config), plain, sentence),), ask=True
    )


def _me(config: Config) -> UserId:
    return UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
