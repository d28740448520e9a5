"""A copy of what the server keeps about a person, as one encrypted file for one pair of eyes."""

from datetime import timedelta

from adminbot.commands.protect import account
from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import Answer, Code, Mono, answer, say
from adminbot.engine.command import command
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Dice, Settings
from adminbot.own.export import PARTS, CollectPart, ExportedLately, HandOverExport
from common.age import check_recipient
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import Msg, t
from common.ids import UserId

A_DAY = timedelta(days=1)
MOST_A_DAY = 2


@command("user export", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def user_export(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    user: UserId,
    *,
    recipient: str | None = None,
) -> Plan:
    """Get a copy of what the server keeps about somebody, as one encrypted file.

    Account, sessions, connections, rooms, account data, notifications, the list of files, and what
    I know; no messages, and not the files themselves. It comes to your direct chat alone.

    Args:
        user: about whom
        recipient: an age public key (age1…) that it is encrypted for, instead of a passphrase
    """
    found = await account(admin, settings, user)
    if found.appservice_id is not None:
        raise UserError(t("{user} belongs to an application service, not to a person.", user=user))
    summary = t("Make a copy of what the server keeps about {user}", user=user)
    return _plan(caller, dice, user, recipient, summary)


@command("me export", who=Role.ANYONE)
async def me_export(
    own: OwnReader, caller: Caller, dice: Dice, *, recipient: str | None = None
) -> Plan:
    """Get a copy of what the server keeps about you, as one encrypted file. In a direct chat.

    Account, sessions, connections, rooms, account data, notifications, the list of your files, and
    what I know; no messages, and not the files themselves.

    Args:
        recipient: an age public key (age1…) that it is encrypted for, instead of a passphrase
    """
    if caller.place.kind is not PlaceKind.DIRECT:
        raise UserError(t("Ask in a direct chat with me: others read along here."))
    user = caller.actor.user
    since_ms = ms_of(caller.now - A_DAY)
    if await own.read(ExportedLately(user, since_ms)) >= MOST_A_DAY:
        raise UserError(t("You have had it often in the last day. Try again tomorrow."))
    summary = t("Make a copy of what the server keeps about you")
    return _plan(caller, dice, user, recipient, summary)


def _plan(caller: Caller, dice: Dice, user: UserId, recipient: str | None, summary: Msg) -> Plan:
    if recipient is not None:
        check_recipient(recipient)
    export, to = str(caller.command), caller.actor.user
    passphrase = dice.password() if recipient is None else None
    steps: list[Step] = [CollectPart(export=export, user=user, part=part) for part in PARTS]
    steps.append(
        HandOverExport(
            export=export,
            user=user,
            to=to,
            at_ms=ms_of(caller.now),
            passphrase=passphrase,
            recipient=recipient,
        )
    )
    done = answer(t("The file is in your direct chat."))
    if passphrase is None:
        result = done.followed_by(
            say(t("It opens with the key to {key}.", key=Mono(recipient or "")))
        )
    else:
        secret = answer(
            say(
                t(
                    "The passphrase, which is told this once. “age --decrypt” asks for it; inside "
                    "is a ZIP archive."
                )
            ),
            Code(passphrase.reveal()),
        )
        result = Answer(done.blocks, private=secret)
    return Plan(summary=summary, steps=tuple(steps), typed=user, result=result)
