"""Making accounts, their names and addresses, passwords, and opening closed ones again."""

import re
from collections.abc import Mapping
from typing import Literal

from adminbot.commands.protect import account, refuse, target, targets, why_never
from adminbot.commands.user_invite import by_link, first_password
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Table,
    answer,
    csv_file,
    facts,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, report, tell
from adminbot.engine.people import described, localpart
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import Step
from adminbot.engine.supply import Dice, Settings
from adminbot.engine.values import Text
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import ReactivateUser
from common.homeserver.synapse.accounts import (
    CreateUser,
    ResetPassword,
    SetDisplayName,
    SetExternalIds,
    SetThreepids,
    SetUserAvatar,
    SetUserType,
)
from common.homeserver.synapse.user_lookup import (
    FindUserByExternalId,
    FindUserByThreepid,
    why_unavailable,
)
from common.homeserver.synapse.users import ExternalId, SetUserAdmin, ThirdPartyId
from common.i18n import t
from common.ids import UserId, server_of

_NO_WORDS = Text("")
_NAMED_IN_CHAT = 20
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


@command("user create", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT, also=(Permission.OWN,))
async def user_create(
    reader: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    user: UserId,
    *,
    name: str | None = None,
    email: str | None = None,
    type: Literal["bot", "support"] | None = None,  # noqa: A002  # it is the option's name
    admin: bool = False,
    invite_link: bool = False,
) -> Plan:
    """Make an account with a one-time password, which only you are told.

    With --invite-link the person makes it, by a link for this name alone: then nobody but they
    ever knows the password.

    Args:
        user: the local name, e.g. alice; it can never be changed
        name: the display name
        email: an e-mail address of theirs
        type: bot for a service account, support for one that counts as no ordinary person
        admin: make them a server admin
        invite_link: prepare it, for the person to make it by a link and choose the password
    """
    await free_name(reader, settings, user)
    if email is not None:
        await _free_email(reader, user, email)
    if invite_link:
        if admin:
            raise UserError(t("Make them a server admin when they have made the account."))
        profile = {"displayname": name, "email": email and email.lower(), "type": type}
        return await by_link(reader, caller, dice, settings, user, profile)
    password = dice.password()
    addresses = () if email is None else (ThirdPartyId("email", email.lower()),)
    steps: list[Step] = [
        CreateUser(
            user=user,
            password=password,
            display_name=name,
            user_type=type,
            threepids=addresses,
        )
    ]
    if admin:
        steps.append(SetUserAdmin(user, admin=True))
    public = answer(t("The account {user} is made.", user=Pill(user)))
    secret = first_password(user, password, settings.config.homeserver.server_name)
    return Plan(
        summary=t("Create the account {user}", user=user),
        steps=tuple(steps),
        result=Answer(public.blocks, private=secret),
    )


@command("user set", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_set(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    what: Literal["displayname", "avatar", "type"],
    value: Text = _NO_WORDS,
) -> Plan:
    """Set an account's display name, picture or type; nothing after it takes it away.

    Args:
        user: whose
        what: displayname, avatar or type
        value: the name, an mxc:// address of a picture, or bot or support
    """
    await target(admin, settings, caller, user, oneself=True)
    step: Step
    match what:
        case "displayname":
            step = SetDisplayName(user, value)
        case "avatar":
            if value and not re.fullmatch(r"mxc://[^/\s]+/[^/\s]+", value):
                raise UserError(t("{value} is no mxc:// address.", value=Mono(value)))
            step = SetUserAvatar(user, value)
        case _:
            if value not in {"", "bot", "support"}:
                raise UserError(t("A type is bot, support or nothing."))
            step = SetUserType(user, value or None)
    return Plan(summary=step.describe(), steps=(step,))


@command("user email list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_email_list(admin: AdminReader, settings: Settings, user: UserId) -> Answer:
    """List an account's e-mail addresses and telephone numbers.

    Args:
        user: whose
    """
    found = await account(admin, settings, user)
    if not found.threepids:
        return answer(t("{user} has no address.", user=Pill(user)))
    kinds = {"email": t("e-mail"), "msisdn": t("telephone")}
    rows = tuple(
        (kinds.get(each.medium, Mono(each.medium)), Mono(each.address)) for each in found.threepids
    )
    return answer(Table((t("Kind"), t("Address")), rows))


@command("user email add", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_email_add(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId, address: str
) -> Plan:
    """Add an e-mail address to an account; it counts as verified.

    Args:
        user: whose
        address: the e-mail address
    """
    found = await target(admin, settings, caller, user, oneself=True)
    await _free_email(admin, user, address)
    new = ThirdPartyId("email", address.lower())
    step = SetThreepids(user, (*found.threepids, new))
    return Plan(
        summary=t("Add the address {address} to {user}", address=new.address, user=user),
        steps=(step,),
    )


@command("user email remove", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_email_remove(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId, address: str
) -> Plan:
    """Take an e-mail address or telephone number from an account.

    Args:
        user: whose
        address: as “user email list” shows it
    """
    found = await target(admin, settings, caller, user, oneself=True)
    left = tuple(each for each in found.threepids if each.address != address.lower())
    if len(left) == len(found.threepids):
        raise UserError(t("{user} has no address {address}.", user=user, address=Mono(address)))
    return Plan(
        summary=t("Take the address {address} from {user}", address=address, user=user),
        steps=(SetThreepids(user, left),),
    )


async def _sso_list(admin: AdminReader, settings: Settings, user: UserId) -> Answer:
    """List with which single sign-on identities somebody signs in.

    Args:
        user: whose
    """
    found = await account(admin, settings, user)
    if not found.external_ids:
        return answer(t("{user} has no single sign-on identity.", user=Pill(user)))
    rows = tuple((Mono(one.auth_provider), Mono(one.external_id)) for one in found.external_ids)
    return answer(Table((t("Provider"), t("Identity")), rows))


async def _sso_add(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    provider: str,
    identity: str,
) -> Plan:
    """Let somebody sign in with a single sign-on identity.

    Args:
        user: whose account
        provider: the homeserver's name for the provider, e.g. oidc-keycloak
        identity: what the provider calls the person
    """
    found = await target(admin, settings, caller, user, oneself=True)
    new = ExternalId(provider, identity)
    if new in found.external_ids:
        raise UserError(t("{user} signs in with it already.", user=user))
    try:
        holder = await admin.read(FindUserByExternalId(provider, identity))
    except NotFoundError:
        return Plan(
            summary=t("Let {user} sign in as {identity}", user=user, identity=identity),
            steps=(SetExternalIds(user, (*found.external_ids, new)),),
        )
    raise UserError(t("That identity belongs to {user} already.", user=holder))


async def _sso_remove(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    provider: str,
    identity: str,
) -> Plan:
    """Let somebody sign in with a single sign-on identity no more.

    Args:
        user: whose account
        provider: the homeserver's name for the provider, e.g. oidc-keycloak
        identity: what the provider calls the person
    """
    found = await target(admin, settings, caller, user, oneself=True)
    old = ExternalId(provider, identity)
    if old not in found.external_ids:
        raise UserError(t("{user} does not sign in with it.", user=user))
    left = tuple(one for one in found.external_ids if one != old)
    return Plan(
        summary=t("Let {user} sign in as {identity} no more", user=user, identity=identity),
        steps=(SetExternalIds(user, left),),
    )


_VIEWED = command("user sso list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
user_sso_list = _VIEWED(_sso_list)
user_sso_add = command("user sso add", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)(_sso_add)
user_sso_remove = command("user sso remove", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)(
    _sso_remove
)
# The same by the name that Element's own administration has for it.
user_external_id_list = command(
    "user external-id list", who=Role.SERVER_ADMIN, needs=Permission.VIEW
)(_sso_list)
user_external_id_add = command(
    "user external-id add", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT
)(_sso_add)
user_external_id_remove = command(
    "user external-id remove", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT
)(_sso_remove)


@command("user password", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_password(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    *users: UserId,
    keep_sessions: bool = False,
) -> Plan:
    """Give people new passwords, which only you are told.

    Their sessions are ended, and with them the keys that only those had.

    Args:
        users: whose
        keep_sessions: let them stay signed in where they are
    """
    found = await targets(admin, settings, caller, users, oneself=True)
    for each in found:
        if each.deactivated:
            raise UserError(
                t("{user} is deactivated; “user reactivate” opens it again.", user=each.name)
            )
    steps = tuple(
        ResetPassword(each.name, dice.password(), logout_devices=not keep_sessions)
        for each in found
    )
    return Plan(
        summary=t("New password for {users}", users=described(each.name for each in found)),
        steps=steps,
        bulk=Bulk() if len(steps) > 1 else None,
        report="passwords",
    )


@command("user reactivate", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_reactivate(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    *users: UserId,
    password: bool = True,
) -> Plan:
    """Open closed accounts again, with new passwords that only you are told.

    Rooms, addresses and what was erased do not come back.

    Args:
        users: whose
        password: without a password, for those who sign in elsewhere
    """
    found = await targets(admin, settings, caller, users)
    for each in found:
        if not each.deactivated:
            raise UserError(t("{user} is not deactivated.", user=each.name))
    steps = tuple(
        ReactivateUser(each.name, dice.password() if password else None) for each in found
    )
    return Plan(
        summary=t("Open the account of {users} again", users=described(one.name for one in found)),
        steps=steps,
        bulk=Bulk() if len(steps) > 1 else None,
        report="passwords",
    )


@report("passwords")
def passwords(finished: Finished) -> Answer:
    """Say how it went, and the passwords to who asked alone."""
    rows = []
    for each in finished.with_fate(Fate.DONE, Fate.UNSURE):
        password = getattr(each.step, "password", None)
        if isinstance(password, Secret):
            rows.append((str(getattr(each.step, "user", "")), password.reveal()))
    said = tell(finished)
    if not rows:
        return said
    if len(rows) > _NAMED_IN_CHAT:
        note = t("{count} passwords are in the file.", count=len(rows))
        secret = answer(note).with_file(csv_file("passwords.csv", ("user", "password"), rows))
    else:
        secret = answer(
            facts((user, Mono(password)) for user, password in rows),
            t("Have them change it when they have signed in."),
        )
    return Answer(said.blocks, said.files, said.buttons, private=secret)


async def free_name(admin: AdminReader, settings: Settings, user: UserId) -> None:
    """Raise a ``UserError`` unless an account of this name can be made."""
    server = settings.config.homeserver.server_name
    if server_of(user) != server:
        raise UserError(t("Accounts can be made on {server} only.", server=server))
    refuse(why_never(settings.config, user))
    reason = await why_unavailable(admin, localpart(user))
    if reason is not None:
        why = _why_not(user).get(reason.errcode, reason.message)
        raise UserError(t("{user} cannot be made: {reason}", user=user, reason=why))


def _why_not(user: UserId) -> Mapping[str, str]:
    return {
        "M_USER_IN_USE": t(
            "there is or was such an account; {command} tells more.",
            command=Mono(f"user show {localpart(user)}"),
        ),
        "M_INVALID_USERNAME": t(
            "a name has only small letters from a to z, digits and any of {signs}",
            signs=Mono("= _ - . / +"),
        ),
        "M_EXCLUSIVE": t("such names belong to a bridge or another application service."),
    }


async def _free_email(admin: AdminReader, user: UserId, address: str) -> None:
    if not _EMAIL.fullmatch(address):
        raise UserError(t("{address} is no e-mail address.", address=Mono(address)))
    try:
        holder = await admin.read(FindUserByThreepid("email", address.lower()))
    except NotFoundError:
        return
    if holder == user:
        raise UserError(t("{user} has that address already.", user=user))
    raise UserError(t("That address belongs to {user} already.", user=holder))
