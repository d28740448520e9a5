"""Whether accounts may be used: locks and suspensions, with a time or without, shadow bans."""

from datetime import timedelta

from adminbot.commands.protect import keep_an_admin, targets
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, answer, lasting, written
from adminbot.engine.command import command
from adminbot.engine.people import described
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import InformPerson, OwnReader, Step
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.userlist import named_users
from adminbot.own.later import TOLD, DueLater, ForgetLater, do_later
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import LockUser, SuspendUser
from common.homeserver.synapse.user_rights import ShadowBanUser
from common.homeserver.synapse.users import UserDetails
from common.i18n import t
from common.ids import UserId

_SHORTEST = timedelta(seconds=1)


@command("user lock", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_lock(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    for_: timedelta | None = None,
    reason: str | None = None,
    tell: bool = True,
) -> Plan:
    """Lock accounts: they can do nothing until they are unlocked; their sessions are kept.

    Args:
        users: whose; or attach or reply to a file of user IDs
        for_: unlock by itself after this time, e.g. 7d
        reason: why, which they are told
        tell: do not tell them
    """
    found = await _open(admin, settings, caller, attached, users)
    await keep_an_admin(admin, settings, found)
    ending = await _ending(own, "lock", found)
    steps: list[Step] = []
    for each in found:
        steps += _until(caller, "lock", LockUser(each.name, locked=False), for_, ending)
        steps.append(LockUser(each.name))
        if tell:
            said = _said(t("Your account was locked by an admin of this server."), reason)
            steps.append(InformPerson(user=each.name, said=_with_end(said, caller, for_)))
    return _plan(t("Lock {users}", users=_names(found)), steps, found)


@command("user unlock", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_unlock(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    tell: bool = True,
) -> Plan:
    """Unlock accounts.

    Args:
        users: whose; or attach or reply to a file of user IDs
        tell: do not tell them
    """
    found = await _open(admin, settings, caller, attached, users)
    ending = await _ending(own, "lock", found)
    steps: list[Step] = []
    for each in found:
        if not each.locked:
            raise UserError(t("{user} is not locked.", user=each.name))
        steps.append(LockUser(each.name, locked=False))
        steps += _for_good("lock", each.name, ending)
        if tell:
            steps.append(_over(each.name, t("Your account is unlocked.")))
    return _plan(t("Unlock {users}", users=_names(found)), steps, found)


@command("user suspend", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_suspend(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    for_: timedelta | None = None,
    reason: str | None = None,
    tell: bool = True,
) -> Plan:
    """Suspend accounts: they can read and leave, but not write, join or invite.

    Args:
        users: whose; or attach or reply to a file of user IDs
        for_: let them write again by itself after this time, e.g. 7d
        reason: why, which they are told
        tell: do not tell them
    """
    found = await _open(admin, settings, caller, attached, users)
    await keep_an_admin(admin, settings, found)
    said = _said(
        t("Your account is suspended by an admin of this server: you can read, not write."), reason
    )
    ending = await _ending(own, "suspend", found)
    steps: list[Step] = []
    for each in found:
        steps += _until(caller, "suspend", SuspendUser(each.name, suspended=False), for_, ending)
        if tell:
            # Before: once suspended they could not enter the room in which they are told.
            words = _with_end(said, caller, for_)
            steps.append(InformPerson(user=each.name, said=words, bring_in=not each.suspended))
        steps.append(SuspendUser(each.name))
    return _plan(t("Suspend {users}", users=_names(found)), steps, found)


@command("user unsuspend", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_unsuspend(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    tell: bool = True,
) -> Plan:
    """Let suspended accounts write again.

    Args:
        users: whose; or attach or reply to a file of user IDs
        tell: do not tell them
    """
    found = await _open(admin, settings, caller, attached, users)
    ending = await _ending(own, "suspend", found)
    steps: list[Step] = []
    for each in found:
        if not each.suspended:
            raise UserError(t("{user} is not suspended.", user=each.name))
        steps.append(SuspendUser(each.name, suspended=False))
        steps += _for_good("suspend", each.name, ending)
        if tell:
            steps.append(_over(each.name, t("Your account may write again.")))
    return _plan(t("Let {users} write again", users=_names(found)), steps, found)


@command("user shadowban", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_shadowban(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Let what somebody does reach nobody, without telling them. A last resort.

    Args:
        user: whom
    """
    found = await targets(admin, settings, caller, (user,))
    await keep_an_admin(admin, settings, found)
    if found[0].shadow_banned:
        raise UserError(t("{user} is shadow-banned already.", user=user))
    return Plan(
        summary=t("Shadow-ban {user}", user=user), steps=(ShadowBanUser(user),), typed=user
    )


@command("user unshadowban", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_unshadowban(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Lift a shadow ban.

    Args:
        user: whose
    """
    found = await targets(admin, settings, caller, (user,))
    if not found[0].shadow_banned:
        raise UserError(t("{user} is not shadow-banned.", user=user))
    step = ShadowBanUser(user, banned=False)
    return Plan(summary=t("Lift the shadow ban of {user}", user=user), steps=(step,), typed=user)


async def _open(
    admin: AdminReader,
    settings: Settings,
    caller: Caller,
    attached: Attached,
    users: tuple[UserId | None, ...],
) -> tuple[UserDetails, ...]:
    """Return the accounts that are meant; a closed one can be neither locked nor opened here."""
    named = await named_users(users, attached, settings.config.homeserver.server_name)
    found = await targets(admin, settings, caller, named)
    for each in found:
        if each.deactivated:
            raise UserError(t("{user} is deactivated.", user=each.name))
    return found


async def _ending(own: OwnReader, act: str, found: tuple[UserDetails, ...]) -> frozenset[UserId]:
    """Return for whom there may be a promise that something ends by itself."""
    if len(found) > 1:
        # Of many everybody has the same steps; one that finds nothing to forget does no harm.
        return frozenset(each.name for each in found)
    due = await own.read(DueLater(tuple(f"{act} {each.name}" for each in found)))
    return frozenset(each.name for each in found if f"{act} {each.name}" in due)


def _until(
    caller: Caller, act: str, undo: Step, time: timedelta | None, ending: frozenset[UserId]
) -> list[Step]:
    """Return what is to be written down before an act: that it ends by itself, or does not."""
    user = UserId(str(getattr(undo, "user", "")))
    if time is None:
        return _for_good(act, user, ending)
    if time < _SHORTEST:
        raise UserError(t("That is too short: at least {time}.", time=lasting(_SHORTEST)))
    words = {
        "lock": t("The lock of your account has ended."),
        "suspend": t("The suspension of your account has ended: you can write again."),
    }
    over = (
        (f"{act} {user}", undo),
        (f"{act} {user}{TOLD}", InformPerson(user=user, said=answer(words[act]))),
    )
    return [
        do_later(
            step,
            slot=slot,
            # One after the other, so that it is told when it is so.
            due=caller.now + time + timedelta(milliseconds=number),
            requester=caller.actor.user,
            asked_in=caller.place.room,
        )
        for number, (slot, step) in enumerate(over)
    ]


def _for_good(act: str, user: UserId, ending: frozenset[UserId]) -> list[Step]:
    return [ForgetLater(f"{act} {user}")] if user in ending else []


def _said(sentence: str, reason: str | None) -> Answer:
    if reason is None:
        return answer(sentence)
    return answer(sentence, t("Reason: {reason}", reason=reason))


def _with_end(said: Answer, caller: Caller, time: timedelta | None) -> Answer:
    if time is None:
        return said
    end = t("It ends by itself on {moment}.", moment=written(caller.now + time))
    return answer(*said.blocks, end)


def _over(user: UserId, sentence: str) -> Step:
    return InformPerson(user=user, said=answer(sentence))


def _names(found: tuple[UserDetails, ...]) -> str:
    return described(each.name for each in found)


def _plan(summary: str, steps: list[Step], found: tuple[UserDetails, ...]) -> Plan:
    # Of one person the steps follow each other; of many none waits for another's trouble.
    bulk = Bulk(chain=len(steps) // len(found)) if len(found) > 1 else None
    return Plan(summary=summary, steps=tuple(steps), bulk=bulk)
