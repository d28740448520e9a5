"""Bridges for server admins: how many people may be active, pausing, and whose words it speaks."""

from adminbot.bridges.known import kinds_of
from adminbot.bridges.steps import HoldToLimits
from adminbot.commands.bridges import one_bridge
from adminbot.engine.actor import Caller, Role
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.bridges import PauseBridge, ResumeBridge, SetBridgeLimit, SetBridgeVocabulary
from common.errors import UserError
from common.homeserver.port import Permission
from common.i18n import t


@command("bridge limit", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_limit(own: OwnReader, name: str, number: str) -> Plan:
    """Limit how many people of the other network may be active in a month.

    At 80 % the admins are warned; above it the bridge is paused until the limit is raised or
    fewer are active.

    Args:
        name: the bridge, as “bridge list” names it
        number: how many, or “off”
    """
    row = await one_bridge(own, name)
    if number.lower() in {"off", "none", "no"}:
        limit = None
    elif number.isdecimal() and len(number) <= len(str(10**9)):
        limit = int(number)
    else:
        raise UserError(t("“{word}” is no limit; give a number, or “off”.", word=number))
    step = SetBridgeLimit(bridge=row.name, limit=limit)
    return Plan(
        summary=step.describe(), steps=(step, HoldToLimits(bridge=row.name)), report="bridge"
    )


@command("bridge pause", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_pause(own: OwnReader, caller: Caller, name: str) -> Plan:
    """Keep everybody of a bridge from sending, until “bridge resume”.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    step = PauseBridge(bridge=row.name, by=caller.actor.user)
    return Plan(
        summary=step.describe(), steps=(step, HoldToLimits(bridge=row.name)), report="bridge"
    )


@command("bridge resume", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_resume(own: OwnReader, name: str) -> Plan:
    """Let a bridge send again that was paused by hand; its limit still holds.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    if row.paused_by is None:
        raise UserError(t("{bridge} is not paused.", bridge=row.name))
    if row.paused_by == "limit":
        raise UserError(
            t(
                "{bridge} is paused by its limit. Raise that: bridge limit {name} NUMBER",
                bridge=row.name,
                name=row.name,
            )
        )
    step = ResumeBridge(bridge=row.name)
    return Plan(
        summary=step.describe(), steps=(step, HoldToLimits(bridge=row.name)), report="bridge"
    )


@command("bridge words", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_words(own: OwnReader, settings: Settings, name: str, words: str) -> Plan:
    """Speak to a bridge in the words of another version, where it does not know mine.

    Args:
        name: the bridge, as “bridge list” names it
        words: which words, as “bridge show” names them
    """
    row = await one_bridge(own, name)
    kind = kinds_of(settings.config).get(row.kind)
    known = [each.name for each in kind.vocabularies] if kind else []
    if words not in known:
        raise UserError(t("“{words}” is none of {known}.", words=words, known=", ".join(known)))
    step = SetBridgeVocabulary(bridge=row.name, vocabulary=words)
    return Plan(
        summary=step.describe(), steps=(step, HoldToLimits(bridge=row.name)), report="bridge"
    )
