"""Bridges for server admins: restarting one, and who may use one."""

from adminbot.bridges.known import kinds_of, settings_of
from adminbot.bridges.steps import LetUse, RestartBridge, SpeakToBridge
from adminbot.commands.bridges import one_bridge
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Pill, say
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Settings
from common.errors import UserError
from common.homeserver.port import Permission
from common.i18n import t
from common.ids import UserId

_PATTERN = "*?[]"
"""What bridges read as “anybody like this”; no account made today has these signs."""


@command("bridge restart", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_restart(own: OwnReader, settings: Settings, name: str) -> Plan:
    """Restart a bridge by the operator's hook, and see that it answers again.

    Args:
        name: the bridge, as “bridge list” names it
    """
    row = await one_bridge(own, name)
    if not settings_of(settings.config, row.name).on_restart:
        raise UserError(
            t(
                "No hook restarts {bridge}. Set on_restart for it in the file that "
                "bridges.settings names, e.g. [systemctl, restart, {unit}].",
                bridge=row.name,
                unit=row.kind,
            )
        )
    step = RestartBridge(bridge=row.name)
    return Plan(summary=step.describe(), steps=(step,), report="bridge")


@command("bridge allow", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_allow(
    own: OwnReader, settings: Settings, caller: Caller, name: str, user: UserId
) -> Plan:
    """Let somebody use a bridge: by its own word or your hook; else I say what to change where.

    Args:
        name: the bridge, as “bridge list” names it
        user: who
    """
    return await _whoever(own, settings, caller, name, user, allowed=True)


@command("bridge deny", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def bridge_deny(
    own: OwnReader, settings: Settings, caller: Caller, name: str, user: UserId
) -> Plan:
    """Keep somebody from using a bridge: by its own word or your hook; else I say what to change.

    Args:
        name: the bridge, as “bridge list” names it
        user: who
    """
    return await _whoever(own, settings, caller, name, user, allowed=False)


async def _whoever(
    own: OwnReader, settings: Settings, caller: Caller, name: str, user: UserId, *, allowed: bool
) -> Plan:
    if any(sign in user for sign in _PATTERN):
        raise UserError(t("“{user}” is a pattern; name one person.", user=user))
    row = await one_bridge(own, name)
    kind = kinds_of(settings.config).get(row.kind)
    hooks, verb = settings_of(settings.config, row.name), "allow" if allowed else "deny"
    words = kind.vocabulary(row.vocabulary).command(verb) if kind else None
    step: Step
    if hooks.on_allow if allowed else hooks.on_deny:
        step = LetUse(bridge=row.name, user=user, allowed=allowed)
    elif words is not None:
        step = SpeakToBridge(
            bridge=row.name,
            verb=verb,
            arguments=(("user", user),),
            asked_by=caller.actor.user,
        )
    else:
        raise UserError(
            t(
                "{bridge} is told that in its own configuration. {how} Or set a hook for it "
                "({hook}).",
                bridge=row.name,
                how=kind.who_may() if kind else "",
                hook="on_allow" if allowed else "on_deny",
            )
        )
    summary = (
        t("Let {user} use {bridge}", user=Pill(user), bridge=row.name)
        if allowed
        else t("Keep {user} from {bridge}", user=Pill(user), bridge=row.name)
    )
    notes = tuple(say(note) for note in words.noted()) if words is not None else ()
    return Plan(summary=summary, steps=(step,), details=notes, report="bridge", ask=True)
