"""Server admins, rate limits, tokens to act as somebody, encryption resets, validity."""

from datetime import datetime, timedelta

from adminbot.commands.protect import account, keep_an_admin, own_accounts, target
from adminbot.commands.user_show import limit_told
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    facts,
    lasting,
    moment_of,
    say,
    when,
    written,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, report, tell
from adminbot.engine.people import ms_of, state
from adminbot.engine.plan import Plan
from adminbot.engine.server_steps import KeepValid
from adminbot.engine.step import HandOverToken, OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.trail import ReadTrail
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.user_rights import (
    AllowCrossSigningReset,
    ClearRateLimit,
    GetRateLimit,
    SetRateLimit,
)
from common.homeserver.synapse.users import ListUsers, SetUserAdmin, all_users
from common.i18n import t
from common.ids import UserId

LONGEST_TOKEN = timedelta(hours=24)
MOST_LINES = 10
_HOUR = timedelta(hours=1)


@command("user admin list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_admin_list(admin: AdminReader, caller: Caller, settings: Settings) -> Answer:
    """List the server admins."""
    own = own_accounts(settings.config)
    rows: list[tuple[Span, ...]] = []
    async for one in all_users(admin, ListUsers(admins=True)):
        if one.name not in own:
            seen = when(one.last_seen_ts, caller.now) or t("never")
            rows.append((Pill(one.name), Mono(one.displayname or ""), state(one), seen))
    said = answer(Table((t("User"), t("Name"), t("State"), t("Last seen")), tuple(rows)))
    if settings.config.adminbot.server_admins:
        listed = ", ".join(settings.config.adminbot.server_admins)
        said = said.followed_by(
            say(t("By the configuration I obey as server admins too: {users}", users=listed))
        )
    return said


@command("user admin grant", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def user_admin_grant(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Make somebody a server admin.

    Args:
        user: whom
    """
    found = await target(admin, settings, caller, user)
    if found.admin:
        raise UserError(t("{user} is a server admin already.", user=user))
    if found.deactivated or found.is_guest:
        raise UserError(t("{user} is {state}.", user=user, state=state(found)))
    step = SetUserAdmin(user, admin=True)
    return Plan(summary=t("Make {user} a server admin", user=user), steps=(step,), typed=user)


@command("user admin revoke", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def user_admin_revoke(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Take the server admin right away; the last one cannot lose it.

    Args:
        user: from whom
    """
    found = await target(admin, settings, caller, user)
    if not found.admin:
        raise UserError(t("{user} is no server admin.", user=user))
    await keep_an_admin(admin, settings, [found])
    return Plan(
        summary=t("Take the server admin right away from {user}", user=user),
        steps=(SetUserAdmin(user, admin=False),),
        typed=user,
    )


@command("user ratelimit show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_ratelimit_show(admin: AdminReader, settings: Settings, user: UserId) -> Answer:
    """Show how fast somebody may send messages.

    Args:
        user: who
    """
    await account(admin, settings, user)
    limit = await admin.read(GetRateLimit(user))
    return answer(facts([(t("User"), Pill(user)), (t("Rate limit"), limit_told(limit))]))


@command("user ratelimit set", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_ratelimit_set(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    per_second: int,
    burst: int | None = None,
) -> Plan:
    """Give somebody a rate limit of their own.

    Args:
        user: whom
        per_second: messages a second; 0 means no limit at all
        burst: how many at once; as many as ten seconds' if left out
    """
    await target(admin, settings, caller, user, oneself=True)
    at_once = per_second * 10 if burst is None else burst
    if per_second < 0 or at_once < 0:
        raise UserError(t("A rate limit cannot be negative."))
    step = SetRateLimit(user, per_second, at_once if per_second else 0)
    return Plan(summary=step.describe(), steps=(step,))


@command("user ratelimit clear", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_ratelimit_clear(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Let everybody's rate limit apply to somebody again.

    Args:
        user: to whom
    """
    await target(admin, settings, caller, user, oneself=True)
    step = ClearRateLimit(user)
    return Plan(summary=step.describe(), steps=(step,))


@command("user token", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def user_token(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *,
    for_: timedelta = _HOUR,
) -> Plan:
    """Make an access token with which to act as somebody, for support; only you are told.

    It expires by itself, reads nothing that is encrypted, and shows in no list of sessions. That
    you asked for it stays in the log.

    Args:
        user: as whom
        for_: how long it is valid, at most 24h
    """
    if not timedelta(minutes=1) <= for_ <= LONGEST_TOKEN:
        raise UserError(
            t("It can be valid from one minute to {longest}.", longest=lasting(LONGEST_TOKEN))
        )
    found = await target(admin, settings, caller, user)
    if found.admin:
        # Or a helper's right would become an owner's.
        raise UserError(t("{user} is a server admin; there is no acting as one.", user=user))
    if found.deactivated or found.locked:
        raise UserError(t("{user} is {state}.", user=user, state=state(found)))
    step = HandOverToken(user=user, to=caller.actor.user, minutes=int(for_.total_seconds() // 60))
    return Plan(summary=t("Make a token to act as {user}", user=user), steps=(step,), typed=user)


@command("user crypto-reset", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_crypto_reset(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Let somebody who lost every key set up a new encryption identity, for ten minutes.

    Args:
        user: whom
    """
    await target(admin, settings, caller, user, oneself=True)
    return Plan(
        summary=t("Let {user} replace their encryption identity", user=user),
        steps=(AllowCrossSigningReset(user),),
        typed=user,
        result=answer(
            t(
                "For ten minutes {user} can reset their encryption in the client's settings "
                "without being asked for a password.",
                user=Pill(user),
            )
        ),
    )


@command("user validity show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_validity_show(
    admin: AdminReader, own: OwnReader, settings: Settings, user: UserId
) -> Answer:
    """Show until when an account was made valid from here; the homeserver itself does not tell.

    Args:
        user: whose
    """
    await account(admin, settings, user)
    lines = await own.read(ReadTrail(command="user validity", words=user, steps=True))
    rows = tuple(
        (written(moment), Pill(each.sender), Mono(each.detail))
        for each in lines
        if each.phase == "did" and (moment := moment_of(each.at_ms)) is not None
    )
    if not rows:
        return answer(
            t(
                "Nothing was set for {user} from here. Until when an account is valid the "
                "homeserver does not tell.",
                user=Pill(user),
            )
        )
    return answer(
        Table((t("When"), t("Who"), t("What")), rows[:MOST_LINES]),
        t("What was set elsewhere, or renewed by mail, the homeserver does not tell."),
    )


@command("user validity renew", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_validity_renew(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Renew an account for the configured period, where the homeserver lets accounts expire.

    Args:
        user: whose
    """
    await target(admin, settings, caller, user, oneself=True)
    step = KeepValid(user=user)
    return Plan(
        summary=t("Renew the account of {user}", user=user), steps=(step,), report="validity"
    )


@command("user validity set", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_validity_set(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    until: datetime,
    *,
    mails: bool = True,
) -> Plan:
    """Set until when an account is valid, where the homeserver lets accounts expire.

    Args:
        user: whose
        until: the moment, e.g. 2026-12-31
        mails: send no renewal mails before
    """
    await target(admin, settings, caller, user)
    if until <= caller.now:
        raise UserError(t("That moment has passed; “user deactivate” closes an account."))
    step = KeepValid(user=user, until_ms=ms_of(until), renewal_emails=mails)
    summary = t("Let the account of {user} end on {moment}", user=user, moment=written(until))
    told = t("They get mails before, to renew it.") if mails else t("They get no mails before.")
    return Plan(summary=summary, steps=(step,), details=(say(told),), report="validity")


@report("validity")
def valid(finished: Finished) -> Answer:
    """Say until when an account is valid now."""
    for each in finished.with_fate(Fate.DONE):
        until = moment_of(int(each.detail)) if each.detail.isdecimal() else None
        if isinstance(each.step, KeepValid) and until is not None:
            who = Pill(each.step.user)
            return answer(t("{user} is valid until {moment}.", user=who, moment=written(until)))
    return tell(finished)
