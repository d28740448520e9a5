"""What is said when something does not go as it was asked."""

from adminbot.engine.answer import (
    Answer,
    Bullets,
    Code,
    Mono,
    Paragraph,
    Strong,
    answer,
    say,
)
from adminbot.engine.bind import UsageError
from adminbot.engine.catalogue import UnknownCommandError
from adminbot.engine.line import LineError
from adminbot.engine.plan import Plan
from common.errors import UserError
from common.homeserver.errors import NotAllowedError
from common.i18n import n, t

MOST_STEPS = 50


def steps(plan: Plan) -> Bullets:
    """Return what a plan would do."""
    shown = tuple((step.describe(),) for step in plan.steps[:MOST_STEPS])
    more = len(plan.steps) - len(shown)
    rest = ((n("… and {count} more step", "… and {count} more steps", more),),) if more else ()
    return Bullets((*shown, *rest))


def refused(error: UserError) -> Answer:
    """Return a refusal, with a hint where the fault may be ours."""
    if isinstance(error, NotAllowedError):
        return answer(
            str(error), t("I may lack the server admin right myself; “steward doctor” tells.")
        )
    return answer(str(error))


def wrong(reference: str) -> Paragraph:
    """Return that we have a fault, and what to look for in the log."""
    return say(
        t(
            "Something is wrong on my side. An admin of this server finds it in the log as "
            "{reference}.",
            reference=Strong(reference),
        )
    )


def explained(error: LineError, *, private: bool) -> Answer:
    """Return what is wrong with a line; ``private``: only who wrote it reads along."""
    said = answer(str(error))
    # Where others read along the line is not repeated: it may hold what should not stand there
    # once more, and bots may read us too.
    shown = error.caret if private else error.word
    if shown:
        said = said.followed_by(Code(shown))
    if isinstance(error, UsageError):
        said = said.followed_by(say(t("It goes: {usage}", usage=Mono(error.command.usage))))
    if isinstance(error, UnknownCommandError):
        if error.likely:
            nearest = tuple((Mono(one.outline), " – ", t(one.summary)) for one in error.likely)
            said = said.followed_by(say(t("The nearest:")), Bullets(nearest))
        else:
            said = said.followed_by(say(t("Ask {help} for what there is.", help=Mono("help"))))
    return said
