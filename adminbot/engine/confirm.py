"""A plan is asked about, and the answer judged: right person, in time, once."""

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from adminbot.engine.answer import (
    Answer,
    Bullets,
    Button,
    Code,
    Mono,
    Paragraph,
    Pill,
    Spans,
    Strong,
    say,
)
from adminbot.engine.plan import Plan
from common.homeserver.port import Danger
from common.i18n import n, t
from common.ids import EventId, UserId

LIFETIME_MS = 60_000
SECOND_LIFETIME_MS = 15 * 60_000
"""How long another server admin has to approve."""
YES = "✅"
_VARIATION_SELECTOR = "\ufe0f"
_MOST_STEPS = 20
_SPOKEN = re.compile(r"confirm\s+(?P<word>\S.{0,254})", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Reaction:
    """Somebody reacted to an event with the sign for yes."""

    event: EventId


@dataclass(frozen=True)
class Spoken:
    """Somebody wrote ``confirm WORD``."""

    word: str


Reply = Reaction | Spoken


class Verdict(StrEnum):
    """What a reply to a question means."""

    CONFIRMED = "confirmed"
    EXPIRED = "expired"
    SOMEBODY_ELSE = "somebody else"
    NOT_THIS = "not this"


@dataclass(frozen=True)
class Pending:
    """A question that waits. ``question`` is ``None`` until the homeserver has named the event."""

    requester: UserId
    question: EventId | None
    code: str
    typed: bool
    expires_ms: int


def code_for(command: EventId, fingerprint: str) -> str:
    """Return a short code for a plan; the same after a restart. It identifies, it is no secret."""
    digest = hashlib.sha256(f"{command} {fingerprint}".encode()).digest()
    return base64.b32encode(digest)[:4].decode()


def is_yes(key: object) -> bool:
    """Say whether a reaction's key is the sign for yes, with or without its variation selector."""
    return isinstance(key, str) and key.replace(_VARIATION_SELECTOR, "") == YES


def spoken(text: str) -> Spoken | None:
    """Return the confirmation in a text, or ``None``."""
    match = _SPOKEN.fullmatch(text.strip())
    return Spoken(match["word"].strip()) if match else None


def must_ask(plan: Plan) -> bool:
    """Say whether a plan needs a confirmation at all."""
    return plan.ask or plan.danger is not Danger.NONE or plan.typed is not None


def question(plan: Plan, code: str, *, second: bool = False) -> Answer:
    """Return what is asked before anything happens; ``second``: of another server admin."""
    steps: list[Spans] = [(step.describe(),) for step in plan.steps[:_MOST_STEPS]]
    if len(plan.steps) > _MOST_STEPS:
        more = len(plan.steps) - _MOST_STEPS
        steps.append((n("… and {count} more step", "… and {count} more steps", more),))
    blocks = [
        say(Strong(t("{summary}?", summary=plan.summary))),
        Bullets(tuple(steps)),
        *plan.details,
        Paragraph((_how_second(code) if second else _how(plan, code),)),
    ]
    if plan.danger is Danger.IRREVERSIBLE:
        blocks.insert(1, say(Strong(t("This cannot be undone."))))
    if plan.typed is not None and not second:
        blocks.append(Code(f"confirm {plan.typed}"))
    return Answer(tuple(blocks))


def to_approve(plan: Plan, code: str, requester: UserId) -> Answer:
    """Return what the other server admins are told."""
    asked = question(plan, code, second=True)
    return Answer(
        (say(t("{user} asks for your approval:", user=Pill(requester))), *asked.blocks),
        buttons=(
            Button("✅", t("approve"), f"approve {code}"),
            Button("❌", t("deny"), f"deny {code}"),
        ),
    )


def _how_second(code: str) -> str:
    return t(
        "Another server admin has to approve it within {minutes} minutes: {approve}, or {deny}.",
        minutes=SECOND_LIFETIME_MS // 60_000,
        approve=Mono(f"approve {code}"),
        deny=Mono(f"deny {code}"),
    )


def judge(pending: Pending, sender: UserId, reply: Reply, now_ms: int) -> Verdict:
    """Return what somebody's reply means for a question."""
    if not _meant(pending, reply):
        return Verdict.NOT_THIS
    if sender != pending.requester:
        return Verdict.SOMEBODY_ELSE
    return Verdict.EXPIRED if now_ms >= pending.expires_ms else Verdict.CONFIRMED


def _meant(pending: Pending, reply: Reply) -> bool:
    match reply:
        case Reaction(event=event):
            return not pending.typed and event == pending.question
        case Spoken(word=word):
            return word == pending.code if pending.typed else word.upper() == pending.code


def _how(plan: Plan, code: str) -> str:
    seconds = LIFETIME_MS // 1000
    if plan.typed is not None:
        return t("To go on, write within {seconds} seconds:", seconds=seconds)
    return t(
        "React with {sign} or write “confirm {code}” within {seconds} seconds to go on.",
        sign=YES,
        code=code,
        seconds=seconds,
    )
