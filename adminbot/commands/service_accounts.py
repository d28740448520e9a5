"""Service accounts: ordinary accounts of the type “bot”, for programs that log in by themselves."""

from adminbot.commands.protect import own_accounts, target
from adminbot.commands.user_accounts import free_name
from adminbot.commands.user_invite import first_password
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Span, Table, answer, say, when
from adminbot.engine.command import command
from adminbot.engine.people import localpart, state
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Dice, Settings
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import LockUser
from common.homeserver.synapse.accounts import CreateUser, ResetPassword
from common.homeserver.synapse.users import ListUsers, UserDetails, all_users
from common.i18n import t
from common.ids import UserId

TYPE = "bot"


@command("bot list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def bot_list(admin: AdminReader, caller: Caller, settings: Settings) -> Answer:
    """List the service accounts: those of the type “bot”."""
    own = own_accounts(settings.config)
    rows: list[tuple[Span, ...]] = [
        (
            Pill(one.name),
            Mono(one.displayname or ""),
            state(one),
            when(one.last_seen_ts, caller.now) or t("never"),
        )
        async for one in all_users(admin, ListUsers(limit=500))
        if one.user_type == TYPE and one.name not in own
    ]
    if not rows:
        return answer(t("There is no service account. To make one: bot create NAME"))
    return answer(Table((t("User"), t("Name"), t("State"), t("Last seen")), tuple(rows)))


@command("bot create", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def bot_create(
    admin: AdminReader, dice: Dice, settings: Settings, user: UserId, *, name: str | None = None
) -> Plan:
    """Make a service account, with a password that only you are told.

    It is an ordinary account of the type “bot”: it counts as no person, and a program logs in to it
    with the password. Nothing that is read or done with it is Steward's.

    Args:
        user: the local name, e.g. backup-bot; it can never be changed
        name: the display name
    """
    await free_name(admin, settings, user)
    password = dice.password()
    public = answer(t("The account {user} is made.", user=Pill(user)))
    secret = first_password(user, password, settings.config.homeserver.server_name)
    return Plan(
        summary=t("Create the service account {user}", user=user),
        steps=(CreateUser(user=user, password=password, display_name=name, user_type=TYPE),),
        typed=user,
        result=Answer(public.blocks, private=secret),
    )


@command("bot disable", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def bot_disable(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Keep a service account from doing anything; “user unlock” lets it again.

    Args:
        user: which account
    """
    found = await _service_account(admin, caller, settings, user)
    if found.locked or found.deactivated:
        raise UserError(t("{user} is {state}.", user=user, state=state(found)))
    return Plan(
        summary=t("Disable the service account {user}", user=user),
        steps=(LockUser(user),),
        typed=user,
    )


@command("bot rotate-token", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def bot_rotate_token(
    admin: AdminReader, caller: Caller, dice: Dice, settings: Settings, user: UserId
) -> Plan:
    """End all access tokens of a service account, and give it a new password to get another with.

    Only you are told the password. Keys of encrypted rooms that only its sessions had are lost.

    Args:
        user: which account
    """
    found = await _service_account(admin, caller, settings, user)
    if found.deactivated:
        raise UserError(t("{user} is {state}.", user=user, state=state(found)))
    return Plan(
        summary=t("End the access tokens of the service account {user}", user=user),
        steps=(ResetPassword(user, dice.password(), logout_devices=True),),
        details=(say(t("Every program that uses it has to log in anew.")),),
        typed=user,
        report="passwords",
    )


async def _service_account(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> UserDetails:
    found = await target(admin, settings, caller, user)
    if found.user_type != TYPE:
        raise UserError(
            t(
                "{user} is no service account. To make it one: user set {name} type bot",
                user=user,
                name=localpart(user),
            )
        )
    return found
