"""Accounts that people make themselves, by a link: nobody but they ever knows the password.

A homeserver has no such link for an account that is there already. So the account is prepared: a
registration token for one use that is for this name alone; what else the account is to have, it
gets as soon as it is made.
"""

import re
from datetime import timedelta

from adminbot.commands.token_list import REGISTRATION_ON, invitation, registration_must_be_on
from adminbot.engine.actor import Caller
from adminbot.engine.answer import Answer, Code, Mono, Pill, answer, facts, say, when
from adminbot.engine.people import localpart, ms_of
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Dice, Settings
from adminbot.own.tokens import RememberToken
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.registration_tokens import CreateRegistrationToken
from common.i18n import t
from common.ids import UserId

VALID = timedelta(days=7)
FOR = "~for~"
"""As ``common.synapse_registrations`` has it: what follows is the only name to register."""
_SECRET = 24
_LONGEST = 64 - _SECRET - len(FOR)
_FITTING = re.compile(r"[a-z0-9._-]+")


def token_for(user: UserId, dice: Dice) -> Secret:
    """Return a new token that makes the account of this name and no other."""
    name = localpart(user)
    if not _FITTING.fullmatch(name) or len(name) > _LONGEST:
        raise UserError(
            t(
                "A link can be for names of up to {most} letters, digits and . _ - only.",
                most=_LONGEST,
            )
        )
    return Secret(f"{dice.token(_SECRET)}{FOR}{name}")


async def by_link(
    reader: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    user: UserId,
    profile: dict[str, str | None],
) -> Plan:
    """Return the plan that prepares an account; ``profile`` is what it gets when it is made."""
    token = token_for(user, dice)
    await registration_must_be_on(
        reader,
        t(
            "Nobody may register on this homeserver, so a link would lead nowhere. Set "
            "{settings} in homeserver.yaml, and restart it; or leave --invite-link out.",
            settings=REGISTRATION_ON,
        ),
    )
    expires_ms = ms_of(caller.now + VALID)
    given = {name: value for name, value in profile.items() if value is not None}
    public = answer(
        t(
            "The account {user} is prepared. Whoever opens the link makes it and chooses the "
            "password; you are told when it is made.",
            user=Pill(user),
        ),
        facts(
            [
                (t("Valid until"), when(expires_ms, caller.now)),
                (t("Name"), Mono(given["displayname"]) if "displayname" in given else None),
                (t("E-mail"), Mono(given["email"]) if "email" in given else None),
            ]
        ),
    )
    secret = Answer(
        (
            say(t("Hand this on to the person, and to nobody else. The name to choose:")),
            Code(localpart(user)),
            *invitation(settings, token.reveal()).blocks,
        ),
        invitation(settings, token.reveal()).files,
    )
    return Plan(
        summary=t("Prepare the account {user}", user=user),
        steps=(
            CreateRegistrationToken(token=token, uses_allowed=1, expires_ms=expires_ms),
            RememberToken(
                token=token,
                creator=caller.actor.user,
                note="",
                made_ms=ms_of(caller.now),
                for_user=user,
                profile=given,
            ),
        ),
        result=Answer(public.blocks, private=secret),
    )


def first_password(user: UserId, password: Secret, server: str) -> Answer:
    """Return what who makes an account for somebody hands on to them."""
    return answer(
        facts(
            [
                (t("User"), Mono(user)),
                (t("Server"), Mono(server)),
                (t("Password"), Mono(password.reveal())),
            ]
        ),
        say(t("Have them change it when they have signed in. To copy:")),
        Code(password.reveal()),
    )
