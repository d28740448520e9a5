"""The trust & safety contact: who gets reports, and whom the world is told to write to."""

import json
import re

from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, Code, Mono, Pill, answer, facts, say
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.support import Contact, ReadContact, SetContact, well_known
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.users import GetUser
from common.i18n import t
from common.ids import UserId, server_of

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,190}")
_PAGE = re.compile(r"https://[^\s\x00-\x1f\"<>]{1,500}")


@command("contact show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def contact_show(own: OwnReader, settings: Settings) -> Answer:
    """Show the trust & safety contact and the public document that names it."""
    found = await own.read(ReadContact())
    if found is None:
        return answer(
            t(
                "There is no trust & safety contact yet; {command} names one.",
                command=Mono("contact set --user USER --email ADDRESS"),
            )
        )
    return _shown(found, settings)


@command("contact set", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def contact_set(
    admin: AdminReader,
    settings: Settings,
    *,
    email: str | None = None,
    user: UserId | None = None,
    page: str | None = None,
) -> Plan:
    """Name the trust & safety contact: new reports go there, and the world may write there.

    Args:
        email: an address for takedown notices and the like
        user: an account of this server; new reports are sent to it where no room is configured
        page: a web page about support, https only
    """
    if email is None and user is None:
        raise UserError(t("Name an address with --email, an account with --user, or both."))
    if email is not None and not _EMAIL.fullmatch(email):
        raise UserError(t("“{text}” is no e-mail address.", text=email))
    if page is not None and not _PAGE.fullmatch(page):
        raise UserError(
            t("“{text}” is no address of a page; one begins with https://.", text=page)
        )
    if user is not None:
        if server_of(user) != settings.config.homeserver.server_name:
            raise UserError(t("{user} is of another server; reports stay on this one.", user=user))
        await admin.read(GetUser(user))
    contact = Contact(email, user, page)
    return Plan(
        summary=t("Name the trust & safety contact"),
        steps=(SetContact(contact),),
        details=(
            say(
                t(
                    "Everybody can read it. Reports show what people said: they go to an "
                    "account that is a server admin only."
                )
            ),
        ),
        result=_shown(contact, settings),
    )


@command("contact clear", who=Role.SERVER_ADMIN, needs=Permission.OWN)
async def contact_clear() -> Plan:
    """Name no trust & safety contact any more."""
    return Plan(summary=t("Name no trust & safety contact"), steps=(SetContact(None),))


def _shown(contact: Contact, settings: Settings) -> Answer:
    server = settings.config.homeserver.server_name
    return answer(
        facts(
            [
                (t("E-mail"), Mono(contact.email) if contact.email else None),
                (t("Account"), Pill(contact.user) if contact.user else None),
                (t("Page"), Mono(contact.page) if contact.page else None),
            ]
        ),
        t(
            "Steward serves this at {path} of its own address; have your web server pass "
            "{public} on to it, or put it there as a file:",
            path=Mono("/.well-known/matrix/support"),
            public=Mono(f"https://{server}/.well-known/matrix/support"),
        ),
        Code(json.dumps(well_known(contact), indent=2, ensure_ascii=False)),
    )
