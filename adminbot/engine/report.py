"""A report: what was reported, by whom and why, around which words, and what can be done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adminbot.engine.answer import (
    Answer,
    Bullets,
    Button,
    Mono,
    Pill,
    Spans,
    Strong,
    facts,
    say,
    when,
)
from adminbot.engine.text import cut, joined
from common.errors import UserError
from common.i18n import Msg, t
from common.ids import EventId, RoomId, UserId

LONGEST_WORDS = 600
KINDS = ("event", "user", "room")
_BY_LETTER = {kind[0]: kind for kind in KINDS}


@dataclass(frozen=True)
class ReportRef:
    """Which report: the homeserver numbers each kind by itself."""

    kind: str
    number: int

    @property
    def name(self) -> str:
        """As people write it: “e12” is report 12 on a message."""
        return f"{self.kind[0]}{self.number}"


def parse_report(word: str) -> ReportRef:
    """Return the report that a name means, or raise ``UserError``."""
    kind, digits = _BY_LETTER.get(word[:1].lower()), word[1:]
    if kind is None or not digits.isascii() or not digits.isdecimal() or len(digits) > 15:  # noqa: PLR2004  # below 2**53
        raise UserError(
            t(
                "“{word}” is no report; one looks like e12, u3 or r4 (see “reports list”).",
                word=word,
            )
        )
    return ReportRef(kind, int(digits))


@dataclass(frozen=True)
class Said:
    """A message near a report; ``words`` is ``None`` where nobody here can read it."""

    event: EventId
    sender: UserId
    words: str | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report of any kind, with what is known of what it is about; times are milliseconds."""

    ref: ReportRef
    received_ms: int
    reporter: UserId
    reason: str | None
    room: RoomId | None = None
    event: EventId | None = None
    user: UserId | None = None
    context: tuple[Said, ...] = ()


def words_of(content: Mapping[str, Any]) -> str:
    """Return what a message says, cut; the name of its kind for what says nothing."""
    body = content.get("body")
    if isinstance(body, str) and body.strip():
        return cut(" ".join(body.split()), LONGEST_WORDS)
    kind = content.get("msgtype")
    return f"({kind})" if isinstance(kind, str) else "(…)"


def card(report: Report, now: datetime) -> Answer:
    """Return a report with the buttons that deal with it."""
    headline = {
        "event": t("A message was reported: {name}", name=report.ref.name),
        "user": t("A person was reported: {name}", name=report.ref.name),
        "room": t("A room was reported: {name}", name=report.ref.name),
    }[report.ref.kind]
    known = facts(
        [
            (t("When"), when(report.received_ms, now)),
            (t("By"), Pill(report.reporter)),
            (t("Why"), Mono(report.reason) if report.reason else None),
            (t("About"), Pill(report.user) if report.user else None),
            (t("Room"), Pill(report.room) if report.room else None),
        ]
    )
    said = Answer((say(Strong(headline)), known), buttons=tuple(_buttons(report)))
    if report.context:
        said = said.followed_by(Bullets(tuple(_line(report, each) for each in report.context)))
    elif report.event is not None:
        said = said.followed_by(say(t("I cannot read the message.")))
    legend = joined(joined((each.key, each.label), " ") for each in said.buttons)
    return said.followed_by(say(legend))


def _line(report: Report, said: Said) -> Spans:
    words: Mono | Msg = t("(cannot be read)") if said.words is None else Mono(said.words)
    marked = (Strong("▶ "),) if said.event == report.event else ()
    return (*marked, Pill(said.sender), ": ", words)


def _buttons(report: Report) -> list[Button]:
    name = report.ref.name
    buttons = [Button("☑️", t("dismiss"), f"reports dismiss {name}")]
    if report.event is not None:
        buttons.append(Button("✂️", t("redact"), f"reports redact {name}"))
    if report.event is not None and report.user is not None:
        buttons.append(Button("🚫", t("ban"), f"reports ban {name}"))
    if report.user is not None:
        buttons.append(Button("⏸️", t("suspend"), f"reports suspend {name}"))
    return buttons
