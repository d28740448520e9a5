"""About yourself and adminbot: language, the action log, what is recorded."""

from collections.abc import Sequence
from datetime import datetime

from adminbot.engine.actor import Caller, PlaceKind, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    csv_file,
    facts,
    moment_of,
    say,
    written,
)
from adminbot.engine.authorize import authorize
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command, command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Available, Health, Settings
from adminbot.engine.text import listed
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page, Text
from adminbot.own.approvals import Approve, Deny, Waiting, WaitingApprovals
from adminbot.own.people import LanguageOf, SetLanguage
from adminbot.own.support import Contact, ReadContact
from adminbot.own.trail import MOST_ROWS, PAGE_SIZE, Action, ReadTrail
from common.errors import UserError
from common.homeserver.port import AdminReader, Grant, Permission
from common.homeserver.synapse.server import GetServerVersion
from common.i18n import languages, n, t, translated
from common.ids import UserId

_NAMES = {"en": "English", "de": "Deutsch"}


async def _language(
    own: OwnReader, caller: Caller, settings: Settings, code: str | None = None
) -> Plan:
    """Choose the language in which I speak to you; without one, show the choice.

    Args:
        code: en or de
    """
    known = languages()
    if code is None:
        now = await own.read(LanguageOf(caller.actor.user)) or settings.config.adminbot.language
        names = ", ".join(f"{each} ({_NAMES.get(each, each)})" for each in known)
        choice = t("I speak {name} to you. There is: {names}.", name=now, names=names)
        return Plan(summary=t("Show the language"), steps=(), result=answer(choice))
    wanted = code.lower().partition("-")[0]
    if wanted not in known:
        raise UserError(
            t("I do not speak “{code}”; there is {codes}.", code=code, codes=listed(known))
        )
    said = t("From now on I speak English to you.")
    return Plan(
        summary=t("Speak to you in “{language}”", language=wanted),
        steps=(SetLanguage(caller.actor.user, wanted),),
        result=answer(translated(said, known[wanted]) + ""),
    )


language = command("language", who=Role.ANYONE)(_language)
lang = command("lang", who=Role.ANYONE)(_language)


@command("ping", who=Role.ANYONE)
async def ping(admin: AdminReader, caller: Caller, health: Health) -> Answer:
    """Show that I hear you, and how fast."""
    # The moment that a command is from is the homeserver's, whose clock may be ahead of ours.
    since_ms = max(0, health.now_ms() - _now_ms(caller))
    before = health.seconds()
    await admin.read(GetServerVersion())
    answered_ms = round((health.seconds() - before) * 1000)
    return answer(
        t("I hear you, {user}.", user=Pill(caller.actor.user)),
        t(
            "Your message has taken {since} ms so far; the homeserver answers me within "
            "{answered} ms.",
            since=since_ms,
            answered=answered_ms,
        ),
    )


@command("can-i", who=Role.ANYONE)
async def can_i(available: Available, caller: Caller, words: Text) -> Answer:
    """Say whether you may run a command here, and if not, why.

    Args:
        words: the command, with or without what it is about, e.g. “user list”
    """
    found = _named_first(available.all, words.lower().removeprefix("!").split())
    if found is None:
        raise UserError(t("There is no command “{word}”.", word=words))
    name = Mono(found.name)
    decision = authorize(found, caller.actor, caller.place, caller.target, caller.trust)
    if isinstance(decision, Grant):
        return answer(t("Yes, you may run {command} here.", command=name))
    if found.who in _OF_ROOMS and caller.place.kind is PlaceKind.DIRECT:
        return answer(
            t(
                "It depends on the room: {command} is for a {role} of it. Name the room with the "
                "command, and the homeserver tells me what you are there.",
                command=name,
                role=t(found.who.value),
            )
        )
    return answer(
        t("No. {why}", why=decision.sentence),
        t("What counts is what the homeserver says of you at that moment, and where you ask."),
    )


_OF_ROOMS = {Role.ROOM_MODERATOR, Role.ROOM_ADMIN}


def _named_first(catalogue: Catalogue, words: Sequence[str]) -> Command | None:
    """Return the command that some words begin with, the one with the longest name."""
    found = (catalogue.named(" ".join(words[:end])) for end in range(len(words), 0, -1))
    return next((one for one in found if one is not None), None)


async def _about(own: OwnReader, settings: Settings) -> Answer:
    """Say why these accounts are in your rooms, and what is recorded."""
    config = settings.config
    server = config.homeserver.server_name
    admin = Pill(UserId(f"@{config.adminbot.localpart}:{server}"))
    audit = Pill(UserId(f"@{config.auditbot.localpart}:{server}"))
    recorded = (
        t(
            "{bot} records what is said in every room of this server, encrypted rooms included, "
            "for the organisation that runs it.",
            bot=audit,
        )
        if config.auditbot.enabled and config.auditbot.destination
        else t("Nothing of what is said is recorded by Steward at the moment.")
    )
    return answer(
        say(
            t(
                "{bot} takes commands from the admins of {server} and of its rooms. Each command "
                "and what became of it is written down.",
                bot=admin,
                server=server,
            )
        ),
        say(recorded),
        say(t("Whoever has questions about it asks the admins of {server}.", server=server)),
        *_reached(await own.read(ReadContact())),
    )


def _reached(contact: Contact | None) -> list[Block]:
    """Return how to reach whom the admins have named for questions, if they have."""
    if contact is None:
        return []
    return [
        facts(
            [
                (t("E-mail"), Mono(contact.email) if contact.email else None),
                (t("Account"), Pill(contact.user) if contact.user else None),
                (t("Page"), Mono(contact.page) if contact.page else None),
            ]
        )
    ]


about = command("about", who=Role.ANYONE)(_about)
# What people look for who ask about it.
privacy = command("privacy", who=Role.ANYONE)(_about)


@command("log", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def log(
    own: OwnReader,
    *,
    user: UserId | None = None,
    command: str | None = None,
    words: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    steps: bool = False,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """Show the action log: who asked for what, where, and what became of it.

    Args:
        user: only what this person asked for
        command: only commands that begin like this, e.g. “user deactivate”
        words: only lines that hold this, e.g. the person it was about
        since: only from then on
        until: only before then
        steps: with every step of every command, before it was taken and after
    """
    request = ReadTrail(
        steps=steps,
        sender=user,
        command=command,
        words=words,
        since_ms=0 if since is None else int(since.timestamp() * 1000),
        until_ms=2**62 if until is None else int(until.timestamp() * 1000),
        limit=MOST_ROWS if csv else PAGE_SIZE,
        start=0 if csv else (page - 1) * PAGE_SIZE,
    )
    found = await own.read(request)
    if csv:
        rows = (
            (each.at_ms, each.sender, each.room, each.command, each.phase, each.detail)
            for each in found
        )
        columns = ("at_ms", "sender", "room", "command", "outcome", "detail")
        said = n("{count} line.", "{count} lines.", len(found))
        return answer(said).with_file(csv_file("log.csv", columns, rows))
    if not found:
        return answer(t("There is none."))
    lines = tuple(_line(each) for each in found)
    heading = (t("When"), t("Who"), t("Command"), t("Outcome"), t("Detail"))
    table = Table(heading, lines)
    if len(found) == PAGE_SIZE:
        return answer(table, t("Go on with --page {page}.", page=page + 1))
    return answer(table)


def _line(each: Action) -> tuple[Span, ...]:
    moment = moment_of(each.at_ms)
    return (
        "" if moment is None else written(moment),
        Pill(each.sender),
        Mono(each.command),
        t(each.phase),
        Mono(each.detail),
    )


@command("approvals", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def approvals(own: OwnReader, caller: Caller) -> Answer:
    """List what other server admins want to do and may not do alone."""
    found = await own.read(WaitingApprovals(_now_ms(caller)))
    if not found:
        return answer(t("There is none."))
    rows = tuple((Mono(each.code), Pill(each.requester), Mono(each.summary)) for each in found)
    return answer(Table((t("Code"), t("Who"), t("What")), rows))


@command("approve", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def approve(own: OwnReader, caller: Caller, code: str) -> Plan:
    """Approve what another server admin wants to do.

    Args:
        code: as I told you
    """
    waiting = await _waiting(own, caller, code)
    if waiting.requester == caller.actor.user:
        raise UserError(t("Somebody else has to approve what you want to do."))
    return Plan(
        summary=t("Approve: {summary}", summary=waiting.summary),
        steps=(Approve(waiting.event, waiting.code, caller.actor.user, _now_ms(caller)),),
        result=answer(
            t("Approved. It begins, and {user} is told how it went.", user=Pill(waiting.requester))
        ),
    )


@command("deny", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def deny(own: OwnReader, caller: Caller, code: str) -> Plan:
    """Deny what another server admin wants to do.

    Args:
        code: as I told you
    """
    waiting = await _waiting(own, caller, code)
    return Plan(
        summary=t("Deny: {summary}", summary=waiting.summary),
        steps=(Deny(waiting.event, waiting.code),),
        result=answer(t("Denied.")),
    )


async def _waiting(own: OwnReader, caller: Caller, code: str) -> Waiting:
    every = await own.read(WaitingApprovals(_now_ms(caller)))
    found = [each for each in every if each.code == code.upper()]
    if len(found) > 1:
        raise UserError(
            t("Several plans wait under “{code}” by chance; have them asked for again.", code=code)
        )
    if not found:
        raise UserError(t("Nothing waits for approval under “{code}”.", code=code))
    return found[0]


def _now_ms(caller: Caller) -> int:
    return int(caller.now.timestamp() * 1000)
