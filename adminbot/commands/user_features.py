"""Synapse's experimental features, switched on for single accounts."""

from typing import Literal

from adminbot.commands.protect import account, target
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Mono, Table, answer, say
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Settings
from adminbot.engine.text import listed
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.user_lookup import GetExperimentalFeatures
from common.homeserver.synapse.user_rights import SetExperimentalFeatures
from common.i18n import t
from common.ids import UserId


@command("user features", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_features(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    feature: str | None = None,
    switch: Literal["on", "off"] | None = None,
) -> Plan:
    """Show which experimental features of the homeserver an account has, or switch one.

    A feature that is on for everybody shows as off here unless it was switched on for them.

    Args:
        user: whose
        feature: which, as the list names it, e.g. msc3881
        switch: on or off
    """
    await account(admin, settings, user)
    there = await admin.read(GetExperimentalFeatures(user))
    if feature is None:
        rows = tuple(
            (Mono(name), t("switched on") if on else t("off")) for name, on in there.items()
        )
        shown = answer(
            say(t("Experimental features of {user}:", user=user)),
            Table((t("Feature"), t("State")), rows),
        )
        # Nothing to do: what is asked for is what there is to say.
        return Plan(summary=t("Show the features of {user}", user=user), steps=(), result=shown)
    if feature.lower() not in there:
        raise UserError(
            t(
                "This homeserver has no feature “{feature}” for single accounts; there is {all}.",
                feature=Mono(feature),
                all=listed(sorted(there)),
            )
        )
    if switch is None:
        raise UserError(t("Say whether to switch {feature} on or off.", feature=Mono(feature)))
    await target(admin, settings, caller, user, oneself=True)
    step = SetExperimentalFeatures(user, {feature.lower(): switch == "on"})
    return Plan(summary=step.describe(), steps=(step,))
