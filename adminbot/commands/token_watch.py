"""Being told who makes an account with a registration token."""

from typing import Literal

from adminbot.commands.token_list import one_token
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Mono, answer
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.own.arrivals import TokenWatchers, WatchToken
from adminbot.own.tokens import digest_of
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.registration_tokens import masked
from common.i18n import t


@command("token watch", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def token_watch(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    token: Secret,
    switch: Literal["on", "off"] = "on",
) -> Plan:
    """Tell you of each account made with a token, in a direct chat; or do so no longer.

    “registrations watch” tells of every new account, whatever it came with.

    Args:
        token: the token or its beginning, as “token list” shows it
        switch: on or off
    """
    found = await one_token(admin, token)
    shown, user, on = Mono(masked(found.token)), caller.actor.user, switch == "on"
    there = user in (await own.read(TokenWatchers())).get(digest_of(found.token), ())
    if on and there:
        raise UserError(t("You are told of accounts made with {token} already.", token=shown))
    if not on and not there:
        raise UserError(t("You are not told of accounts made with {token}.", token=shown))
    step = WatchToken(digest_of(found.token), user, on, masked(found.token))
    said = (
        t("I tell you of each account made with {token}.", token=shown)
        if on
        else t("I tell you of accounts made with {token} no longer.", token=shown)
    )
    return Plan(summary=step.describe(), steps=(step,), result=answer(said))
