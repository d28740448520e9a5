"""Accounts that are left alone, whoever asks: the bots, those of bridges, the last server admin.

It is asked before a plan is made, and again when it is confirmed, since the plan is made anew.
"""

from collections.abc import Iterable

from adminbot.engine.actor import Caller
from adminbot.engine.people import localpart
from adminbot.engine.supply import Settings
from common.config.schema import Config
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.user_lookup import why_unavailable
from common.homeserver.synapse.users import GetUser, ListUsers, UserDetails, all_users
from common.i18n import Msg, t
from common.ids import UserId, server_of

MANY = 20
_RESERVED = "M_EXCLUSIVE"


def own_accounts(config: Config) -> frozenset[UserId]:
    """Return Steward's accounts: both bots and the silent sender."""
    names = (
        config.adminbot.localpart,
        config.auditbot.localpart,
        config.appservice.sender_localpart,
    )
    return frozenset(UserId(f"@{name}:{config.homeserver.server_name}") for name in names)


def why_never(config: Config, user: UserId) -> Msg | None:
    """Return why an account is left alone by its name alone, or ``None``."""
    if user in own_accounts(config):
        return t("{user} is one of Steward's own accounts; it is left alone.", user=user)
    if user in config.adminbot.protected_accounts:
        return t(
            "{user} is protected by the configuration (adminbot.protected_accounts).", user=user
        )
    return None


async def account(admin: AdminReader, settings: Settings, user: UserId) -> UserDetails:
    """Return an account of this server, or raise a ``UserError`` that says what is wrong."""
    server = settings.config.homeserver.server_name
    if server_of(user) != server:
        raise UserError(
            t(
                "{user} is of another server; only accounts of {server} are managed here.",
                user=user,
                server=server,
            )
        )
    try:
        return await admin.read(GetUser(user))
    except NotFoundError:
        raise UserError(t("There is no account {user} on this server.", user=user)) from None


async def target(
    admin: AdminReader,
    settings: Settings,
    caller: Caller,
    user: UserId,
    *,
    oneself: bool = False,
    among_many: bool = False,
) -> UserDetails:
    """Return an account that something may be done to, or raise a ``UserError``.

    ``oneself``: whether people may do it to themselves. ``among_many``: whether to spare the
    homeserver the question if the name is a reserved one, which no ordinary account has.
    """
    refuse(why_never(settings.config, user))
    found = await account(admin, settings, user)
    if found.appservice_id is not None:
        raise UserError(
            t(
                "{user} belongs to the application service {service}, a bridge for example; it has "
                "to be managed there.",
                user=user,
                service=found.appservice_id,
            )
        )
    if not oneself and user == caller.actor.user:
        raise UserError(t("That is your own account; have another server admin do it."))
    reason = None if among_many else await why_unavailable(admin, localpart(user))
    if reason is not None and reason.errcode == _RESERVED:
        # The account of server notices, or in the namespace of a bridge.
        raise UserError(
            t(
                "{user} is reserved by the homeserver, for server notices or a bridge; it is left "
                "alone.",
                user=user,
            )
        )
    return found


async def targets(
    admin: AdminReader,
    settings: Settings,
    caller: Caller,
    users: Iterable[UserId],
    *,
    oneself: bool = False,
) -> tuple[UserDetails, ...]:
    """Return several such accounts, each once; the first that may not be touched stops all."""
    named = tuple(dict.fromkeys(users))
    many = len(named) > MANY
    return tuple(
        [
            await target(admin, settings, caller, user, oneself=oneself, among_many=many)
            for user in named
        ]
    )


async def keep_an_admin(
    admin: AdminReader, settings: Settings, losing: Iterable[UserDetails]
) -> None:
    """Refuse to take the last server admin away; only people count, no bots."""
    going = {one.name for one in losing if one.admin}
    if not going:
        return
    own = own_accounts(settings.config)
    request = ListUsers(admins=True, deactivated=False, locked=False)
    async for one in all_users(admin, request):
        person = one.admin and one.user_type != "bot" and one.name not in own
        if person and one.name not in going and await _can_command(admin, one.name):
            return
    raise UserError(
        t(
            "No server admin would be left but {users}; make somebody else one first.",
            users=", ".join(sorted(going)),
        )
    )


async def _can_command(admin: AdminReader, user: UserId) -> bool:
    found = await admin.read(GetUser(user))
    return found.appservice_id is None and not found.suspended


def refuse(reason: Msg | None) -> None:
    """Raise a ``UserError`` if there is a reason to."""
    if reason is not None:
        raise UserError(reason)
