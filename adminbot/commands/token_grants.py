"""Letting people who are no server admins invite others: so many registration tokens a month."""

import re
from datetime import UTC, timedelta

from adminbot.commands.protect import target
from adminbot.commands.token_list import invitation, registration_must_be_on
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, facts, when
from adminbot.engine.command import command
from adminbot.engine.paging import page_of, paged
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Dice, Settings
from adminbot.engine.text import cut
from adminbot.engine.values import FIRST_PAGE, Page, Text
from adminbot.own.grants import GrantOf, MakeGrantedToken, SetTokenGrant, TokenGrants
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.registration_tokens import masked
from common.i18n import n, t
from common.ids import UserId

MOST_A_MONTH = 1_000
LONGEST_NOTE = 200
VALID = timedelta(days=7)
_NO_WORDS = Text("")
_QUOTA = re.compile(r"([0-9]{1,6})(?:/month)?", re.IGNORECASE)


@command("token grant", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def token_grant(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId, quota: str
) -> Plan:
    """Let somebody invite people: make so many registration tokens a month, each for one account.

    They ask for one by “me token-request”. A second time sets another number.

    Args:
        user: whom
        quota: how many a calendar month, e.g. 3/month
    """
    found = await target(admin, settings, caller, user, oneself=True)
    if found.deactivated or found.is_guest:
        raise UserError(t("{user} has no account that could invite anybody.", user=user))
    read = _QUOTA.fullmatch(quota)
    if read is None or not 1 <= int(read[1]) <= MOST_A_MONTH:
        raise UserError(
            t(
                "“{quota}” is no quota; one looks like 3/month, and is at most {most}.",
                quota=quota,
                most=MOST_A_MONTH,
            )
        )
    step = SetTokenGrant(user, int(read[1]), caller.actor.user, ms_of(caller.now))
    return Plan(summary=step.describe(), steps=(step,), ask=True)


@command("token grant list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def token_grant_list(own: OwnReader, caller: Caller, *, page: Page = FIRST_PAGE) -> Answer:
    """List who may make registration tokens, and how many they made this month."""
    found = await own.read(TokenGrants(_month(caller)))
    if not found:
        return answer(t("Nobody but server admins may make registration tokens."))
    rows = tuple(
        (
            Pill(each.user),
            str(each.per_month),
            str(each.used),
            Pill(each.granted_by),
            when(each.granted_ms, caller.now) or "",
        )
        for each in page_of(found, page)
    )
    columns = (t("User"), t("A month"), t("Made this month"), t("Granted by"), t("Since"))
    in_all = n("{count} person in all.", "{count} people in all.", len(found))
    return answer(Table(columns, rows), paged(in_all, len(found), page))


@command("token grant revoke", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def token_grant_revoke(own: OwnReader, caller: Caller, user: UserId) -> Plan:
    """Let somebody make registration tokens no longer; those they made stay.

    Args:
        user: whom
    """
    if await own.read(GrantOf(user, _month(caller))) is None:
        raise UserError(t("{user} may make no registration tokens.", user=user))
    step = SetTokenGrant(user, 0, caller.actor.user, ms_of(caller.now))
    return Plan(summary=step.describe(), steps=(step,))


@command("me token-request", who=Role.ANYONE)
async def me_token_request(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    who: Text = _NO_WORDS,
) -> Plan:
    """Make a registration token for one person, if the server admins let you. In a direct chat.

    Args:
        who: whom it is for; the server admins see it
    """
    if caller.place.kind is not PlaceKind.DIRECT:
        raise UserError(t("Ask in a direct chat with me: others read along here."))
    user, month = caller.actor.user, _month(caller)
    grant = await own.read(GrantOf(user, month))
    if grant is None:
        raise UserError(
            t("Ask the server admins for it: they can let you invite people to this server.")
        )
    if grant.used >= grant.per_month:
        raise UserError(
            n(
                "You may make {count} token a month, and have made it.",
                "You may make {count} tokens a month, and have made them.",
                grant.per_month,
            )
        )
    await registration_must_be_on(
        admin,
        t("Nobody may register on this server at present; the server admins can change that."),
    )
    token = dice.token()
    expires_ms = ms_of(caller.now + VALID)
    step = MakeGrantedToken(
        user=user,
        token=Secret(token),
        note=cut(who, LONGEST_NOTE),
        made_ms=ms_of(caller.now),
        expires_ms=expires_ms,
        month=month,
    )
    public = facts(
        [
            (t("Token"), Mono(masked(token))),
            (t("Accounts"), "1"),
            (t("Expires"), when(expires_ms, caller.now)),
            (t("For"), Mono(step.note) if step.note else None),
            (t("Left this month"), str(grant.per_month - grant.used - 1)),
        ]
    )
    return Plan(
        summary=t("Make a registration token"),
        steps=(step,),
        result=Answer((public,), private=invitation(settings, token)),
    )


def _month(caller: Caller) -> str:
    return f"{caller.now.astimezone(UTC):%Y-%m}"
