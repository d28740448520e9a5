"""Notices that were sent: shown, changed, taken back; and what new people are told."""

from adminbot.commands.notice_plans import SHOWN_CHARACTERS, bulk_of, content_of, quoted_content
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Strong,
    Table,
    answer,
    csv_file,
    facts,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, Taken, report
from adminbot.engine.plan import Plan
from adminbot.engine.server_steps import EditNotice, RecallNotice, SendNotice
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.text import cut
from adminbot.engine.values import Text
from adminbot.own.notices import Motd, Notice, NoticeReaders, Notices, ReviseNotice, SetMotd
from common.errors import UserError
from common.homeserver.port import Permission
from common.i18n import n, t

NO_WORDS = Text("")
MOST_WRONG = 10


@command("notice status", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def notice_status(own: OwnReader, caller: Caller, number: int | None = None) -> Answer:
    """Show the last notices, or one of them: to whom it went, and whether it was changed.

    Args:
        number: which; left out, the last ones
    """
    if number is not None:
        one = await _notice(own, number)
        return answer(
            facts(
                [
                    (t("Notice"), str(one.number)),
                    (t("Sent by"), Pill(one.sent_by)),
                    (t("Sent"), when(one.sent_ms, caller.now)),
                    (t("To"), Mono(one.audience)),
                    (t("Have it"), str(one.sent)),
                    (t("May have it"), str(one.unsure) if one.unsure else None),
                    (t("Taken back from"), str(one.recalled) if one.recalled else None),
                    (t("Changed"), n("{count} time", "{count} times", one.revision)),
                    (t("It says"), Mono(cut(one.text, SHOWN_CHARACTERS))),
                ]
            )
        )
    found = await own.read(Notices())
    if not found:
        return answer(t("No notice was sent yet."))
    rows = tuple(
        (
            str(one.number),
            when(one.sent_ms, caller.now) or "",
            Mono(one.audience),
            str(one.sent),
            str(one.recalled),
            Mono(one.text),
        )
        for one in found
    )
    columns = (t("Number"), t("Sent"), t("To"), t("Have it"), t("Taken back"), t("It says"))
    return answer(Table(columns, rows))


@command("notice edit", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_edit(
    own: OwnReader,
    attached: Attached,
    settings: Settings,
    number: int,
    words: Text = NO_WORDS,
) -> Plan:
    """Change what a notice says, for everybody who has it.

    Args:
        number: which, as “notice status” shows it
        words: what it says now; left out, it is the message that you reply to
    """
    one = await _notice(own, number)
    content = await content_of(attached, words)
    people = await own.read(NoticeReaders(one.notice))
    if not people:
        raise UserError(t("Nobody has the notice {number}.", number=number))
    revision = one.revision + 1
    return Plan(
        summary=n(
            "Change the notice {number} for {count} person",
            "Change the notice {number} for {count} people",
            len(people),
            number=number,
        ),
        steps=(
            ReviseNotice(one.notice, revision, content),
            *(EditNotice(one.notice, user, revision) for user in people),
        ),
        details=quoted_content(content),
        bulk=bulk_of(settings, None),
        report="notice",
    )


@command("notice recall", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def notice_recall(own: OwnReader, settings: Settings, number: int) -> Plan:
    """Take a notice back from everybody who has it.

    Args:
        number: which, as “notice status” shows it
    """
    one = await _notice(own, number)
    people = await own.read(NoticeReaders(one.notice))
    if not people:
        raise UserError(t("Nobody has the notice {number}.", number=number))
    return Plan(
        summary=n(
            "Take the notice {number} back from {count} person",
            "Take the notice {number} back from {count} people",
            len(people),
            number=number,
        ),
        steps=tuple(RecallNotice(one.notice, user) for user in people),
        bulk=bulk_of(settings, None),
        report="notice",
    )


@command("motd", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def motd(own: OwnReader) -> Answer:
    """Show what new people are told by the server."""
    text = await own.read(Motd())
    if text is None:
        return answer(t("New people are told nothing. “motd set” changes that."))
    return answer(t("New people are told:"), say(Mono(text)))


@command("motd set", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def motd_set(caller: Caller, words: Text) -> Plan:
    """Have the server tell every new person something, within seconds of their registration.

    Args:
        words: what
    """
    return Plan(
        summary=t("Tell new people from now on: “{text}”", text=Mono(words)),
        steps=(SetMotd(words, caller.actor.user),),
    )


@command("motd clear", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def motd_clear(caller: Caller) -> Plan:
    """Tell new people nothing any more."""
    return Plan(
        summary=t("Tell new people nothing any more"), steps=(SetMotd(None, caller.actor.user),)
    )


@report("notice")
def noticed(finished: Finished) -> Answer:
    """Tell to how many people a notice went, and to whom it did not."""
    people = [each for each in finished.taken if isinstance(each.step, _TO_ONE)]
    done = [each for each in people if each.fate is Fate.DONE]
    wrong = [each for each in people if each.fate in {Fate.FAILED, Fate.UNSURE}]
    rest = [each for each in people if each.fate in {Fate.WAITING, Fate.BEGUN}]
    said = answer(
        say(Strong(finished.summary)),
        facts(
            [
                (t("Done"), n("{count} person", "{count} people", len(done))),
                (t("Failed"), str(len(wrong)) if wrong else None),
                (t("Not begun"), str(len(rest)) if rest else None),
            ]
        ),
    )
    if not wrong:
        return said
    said = said.followed_by(
        Table(
            (t("Person"), t("Why")),
            tuple((Pill(_user(each)), each.detail) for each in wrong[:MOST_WRONG]),
        )
    )
    if len(wrong) > MOST_WRONG:
        rows = [(_user(each), each.fate.value, each.detail) for each in wrong]
        said = said.with_file(csv_file("failed.csv", ("user", "fate", "why"), rows))
    return said


_TO_ONE = (SendNotice, EditNotice, RecallNotice)


def _user(taken: Taken) -> str:
    return str(getattr(taken.step, "user", ""))


async def _notice(own: OwnReader, number: int) -> Notice:
    found = await own.read(Notices(number=number))
    if not found:
        raise UserError(
            t("There is no notice {number}; “notice status” shows them.", number=number)
        )
    return found[0]
