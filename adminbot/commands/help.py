"""About adminbot itself: help, whoami, version, status."""

from datetime import timedelta
from typing import assert_never

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Code,
    Mono,
    Pill,
    Strong,
    answer,
    count,
    facts,
    say,
    yes_no,
)
from adminbot.engine.authorize import standing
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command, command
from adminbot.engine.supply import Available, Health
from adminbot.engine.values import Text
from common.crypto.port import Trust
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.server import GetServerVersion

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
    found = tuple(
        each for each in available.here if asked in each.name or asked in each.summary.lower()
    )
    if found:
        return Answer((_listing(found),))
    likely = available.all.only(lambda each: each in available.here.commands).nearest(asked)
    if likely:
        return answer(f"Nothing here is called “{asked}”. The nearest:", _listing(likely))
    return answer(f"Nothing you may ask for here has to do with “{asked}”.")


def explain(one: Command, *, here: bool = True) -> Answer:
    """Return a command's help page."""
    blocks: list[Block] = [say(Strong(one.summary)), Code(one.usage)]
    if one.description:
        blocks.append(say(one.description))
    if one.parameters:
        blocks.append(facts((each.usage, each.help) for each in one.parameters))
    blocks.append(say(f"For: {_for_whom(one)}.{' Asks before it does it.' * one.changes_things}"))
    if not here:
        blocks.append(say("You may not run it here."))
    return Answer(tuple(blocks))


@command("whoami", who=Role.ANYONE)
async def whoami(caller: Caller) -> Answer:
    """Show who you are to me, and what you may do here."""
    actor, place = caller.actor, caller.place
    power = caller.target.power if caller.target else None
    level = None if power is None else ("creator" if power.creator else str(power.level))
    return answer(
        facts(
            [
                ("You are", Pill(actor.user)),
                ("Server admin", yes_no(actor.server_admin)),
                ("Compliance officer", "yes" if actor.compliance else None),
                ("This is", f"a {place.kind.value}".replace("a a", "an a")),
                ("Your power here", level),
                ("In this room you are", standing(caller.target).name.lower() if power else None),
                ("Your message", _how_it_came(caller.trust)),
                ("Server commands here", _server_commands(caller)),
            ]
        )
    )


@command("version", who=Role.ANYONE)
async def version(admin: AdminReader, health: Health) -> Answer:
    """Show the versions of Steward and of the homeserver."""
    report = await health.report()
    server = await admin.read(GetServerVersion())
    return answer(facts([("Steward", report.version), ("Synapse", server.server_version)]))


@command("status", who=Role.ANYONE, needs=Permission.VIEW)
async def status(admin: AdminReader, caller: Caller, health: Health) -> Answer:
    """Show whether everything is well; server admins see details."""
    server = await admin.read(GetServerVersion())
    report = await health.report()
    troubled = report.entries_set_aside > 0
    said = "I am up, and so is the homeserver."
    if not caller.acts_as_server_admin:
        return answer(said)
    return answer(
        say(Strong("Look at this: " if troubled else ""), said),
        facts(
            [
                ("Steward", f"{report.version}, up {_up(report.up_seconds)}"),
                ("Synapse", server.server_version),
                ("Database", report.database),
                ("Commands waiting", str(report.commands_waiting)),
                (
                    "Waiting for their room key",
                    count(report.commands_unreadable, "message"),
                ),
                (
                    "Set aside as unreadable",
                    count(report.entries_set_aside, "entry", "entries"),
                ),
            ]
        ),
    )


def _overview(here: Catalogue) -> Answer:
    return Answer(
        (
            say("You may ask for this here:"),
            _listing(here.commands),
            say("Put ", Mono("--help"), " behind a command, or ask ", Mono("help COMMAND"), "."),
        )
    )


def _listing(commands: tuple[Command, ...]) -> Bullets:
    return Bullets(tuple((Mono(each.outline), f" – {each.summary}") for each in commands))


def _for_whom(one: Command) -> str:
    match one.who:
        case Role.ANYONE:
            return "anyone"
        case Role.ROOM_ADMIN | Role.ROOM_MODERATOR:
            return f"{one.who.value}s in their room, and server admins"
        case _:
            return f"{one.who.value}s"


def _how_it_came(trust: Trust | None) -> str:
    match trust:
        case None:
            return "not encrypted"
        case Trust.CROSS_SIGNED:
            return "encrypted, from a device that you have verified"
        case Trust.UNVERIFIED_DEVICE:
            return "encrypted, from a device that you have not verified"
        case Trust.UNKNOWN_DEVICE:
            return "encrypted, from a device that I do not know"
        case Trust.IDENTITY_CHANGED:
            return "encrypted; your identity has changed since I first saw it"
        case Trust.MISMATCH:
            return "encrypted, but not by you"
        case _:
            assert_never(trust)


def _server_commands(caller: Caller) -> str | None:
    if not caller.actor.server_admin:
        return None
    return "yes" if caller.acts_as_server_admin else "no: ask in a direct chat or an admin room"


def _up(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
