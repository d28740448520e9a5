"""About adminbot itself: help, whoami, version, status."""

from datetime import timedelta
from typing import assert_never

from adminbot.engine.actor import Caller, Role, Standing
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Code,
    Mono,
    Pill,
    Strong,
    answer,
    facts,
    lasting,
    say,
    yes_no,
)
from adminbot.engine.authorize import standing
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command, command
from adminbot.engine.example import example
from adminbot.engine.supply import Available, Health
from adminbot.engine.uses import asks, endpoints
from adminbot.engine.values import Text
from common.crypto.port import Trust
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.server import GetServerVersion
from common.i18n import n, t

_NO_WORDS = Text("")


@command("help", who=Role.ANYONE)
async def help_(available: Available, words: Text = _NO_WORDS) -> Answer:
    """List what you may ask for here, or explain one command.

    Args:
        words: a command, e.g. “user list”, or any word to search for
    """
    asked = " ".join(words.lower().split())
    if not asked:
        return _overview(available.here)
    one = available.all.named(asked)
    if one is not None:
        return explain(one, here=one in available.here.commands)
    found = available.here.group(asked) or tuple(
        each for each in available.here if asked in each.name or asked in each.summary.lower()
    )
    if found:
        return Answer((_listing(found),))
    likely = available.all.only(lambda each: each in available.here.commands).nearest(asked)
    if likely:
        return answer(
            t("Nothing here is called “{words}”. The nearest:", words=asked), _listing(likely)
        )
    return answer(t("Nothing you may ask for here has to do with “{words}”.", words=asked))


def explain(one: Command, *, here: bool = True) -> Answer:
    """Return a command's help page."""
    blocks: list[Block] = [say(Strong(t(one.summary))), Code(one.usage)]
    if one.description:
        blocks.append(say(t(one.description)))
    if one.parameters:
        blocks.append(facts((each.usage, t(each.help)) for each in one.parameters))
    blocks.append(say(t("For example: {line}", line=Mono(example(one)))))
    blocks.append(say(t("For: {whom}.", whom=_for_whom(one))))
    guard = asks(one)
    if guard:
        blocks.append(say(t("It asks before it does something that others notice.")))
    if "typed" in guard:
        blocks.append(say(t("Before the worst of it, it wants a word typed.")))
    if "for good" in guard:
        blocks.append(say(t("Some of what it does cannot be undone.")))
    calls = endpoints(one)
    if calls:
        blocks += [say(t("It calls:")), Code("\n".join(calls))]
    if not here:
        blocks.append(say(t("You may not run it here.")))
    return Answer(tuple(blocks))


@command("whoami", who=Role.ANYONE)
async def whoami(caller: Caller) -> Answer:
    """Show who you are to me, and what you may do here."""
    actor, place = caller.actor, caller.place
    power = caller.target.power if caller.target else None
    level = None if power is None else (t("creator") if power.creator else str(power.level))
    return answer(
        facts(
            [
                (t("You are"), Pill(actor.user)),
                (t("Server admin"), yes_no(actor.server_admin)),
                (t("Compliance officer"), t("yes") if actor.compliance else None),
                (t("This is"), t(place.kind.value)),
                (t("Your power here"), level),
                (
                    t("In this room you are"),
                    _standing(standing(caller.target)) if power else None,
                ),
                (t("Your message"), _how_it_came(caller.trust)),
                (t("Server commands here"), _server_commands(caller)),
            ]
        )
    )


@command("version", who=Role.ANYONE)
async def version(admin: AdminReader, health: Health) -> Answer:
    """Show the versions of Steward and of the homeserver."""
    report = await health.report()
    server = await admin.read(GetServerVersion())
    return answer(facts([(t("Steward"), report.version), (t("Synapse"), server.server_version)]))


@command("status", who=Role.ANYONE, needs=Permission.VIEW)
async def status(admin: AdminReader, caller: Caller, health: Health) -> Answer:
    """Show whether everything is well; server admins see details."""
    server = await admin.read(GetServerVersion())
    report = await health.report()
    troubled = report.entries_set_aside > 0
    said = t("I am up, and so is the homeserver.")
    if not caller.acts_as_server_admin:
        return answer(said)
    return answer(
        say(*((Strong(t("Look at this: ")),) if troubled else ()), said),
        facts(
            [
                (
                    t("Steward"),
                    t("{version}, up {time}", version=report.version, time=_up(report.up_seconds)),
                ),
                (t("Synapse"), server.server_version),
                (t("Database"), report.database),
                (t("Commands waiting"), str(report.commands_waiting)),
                (
                    t("Waiting for their room key"),
                    n("{count} message", "{count} messages", report.commands_unreadable),
                ),
                (
                    t("Set aside as unreadable"),
                    n("{count} entry", "{count} entries", report.entries_set_aside),
                ),
            ]
        ),
    )


def _overview(here: Catalogue) -> Answer:
    """Return what there is: by first word, since nobody reads two hundred lines."""
    groups: dict[str, list[Command]] = {}
    for each in here:
        groups.setdefault(each.words[0], []).append(each)
    alone = tuple(group[0] for group in groups.values() if len(group) == 1)
    lines = tuple(
        (Mono(first), ": ", ", ".join(" ".join(one.words[1:]) or first for one in group))
        for first, group in groups.items()
        if len(group) > 1
    )
    blocks: list[Block] = [say(t("You may ask for this here:")), _listing(alone)]
    if lines:
        blocks += [say(t("And, each followed by a second word:")), Bullets(lines)]
    more = t(
        "{help} explains a command or lists those that begin with a word; {option} behind a "
        "command does too.",
        help=Mono("help COMMAND"),
        option=Mono("--help"),
    )
    return Answer((*blocks, say(more)))


def _listing(commands: tuple[Command, ...]) -> Bullets:
    return Bullets(tuple((Mono(each.outline), " – ", t(each.summary)) for each in commands))


def _for_whom(one: Command) -> str:
    match one.who:
        case Role.ANYONE:
            return t("anyone")
        case Role.ROOM_ADMIN:
            return t("room admins in their room, and server admins")
        case Role.ROOM_MODERATOR:
            return t("room moderators in their room, and server admins")
        case Role.SERVER_ADMIN:
            return t("server admins")
        case Role.COMPLIANCE:
            return t("compliance officers")
        case _:
            assert_never(one.who)


def _standing(one: Standing) -> str:
    match one:
        case Standing.ADMIN:
            return t("admin")
        case Standing.MODERATOR:
            return t("moderator")
        case Standing.NONE:
            return t("neither admin nor moderator")
        case _:
            assert_never(one)


def _how_it_came(trust: Trust | None) -> str:
    match trust:
        case None:
            return t("not encrypted")
        case Trust.CROSS_SIGNED:
            return t("encrypted, from a device that you have verified")
        case Trust.UNVERIFIED_DEVICE:
            return t("encrypted, from a device that you have not verified")
        case Trust.UNKNOWN_DEVICE:
            return t("encrypted, from a device that I do not know")
        case Trust.IDENTITY_CHANGED:
            return t("encrypted; your identity has changed since I first saw it")
        case Trust.MISMATCH:
            return t("encrypted, but not by you")
        case _:
            assert_never(trust)


def _server_commands(caller: Caller) -> str | None:
    if not caller.actor.server_admin:
        return None
    if caller.acts_as_server_admin:
        return t("yes")
    return t("no: ask in a direct chat or an admin room")


def _up(seconds: float) -> str:
    return lasting(timedelta(seconds=int(seconds)))
