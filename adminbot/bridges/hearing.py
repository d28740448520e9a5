"""What a bridge's bot has answered so far, and what that means; pure.

Bots answer in messages, pictures, reactions, edits and by taking a message back; some ask
something in between, some say nothing and leave, some hang. Whatever is recognised is decided
here; who waits, and how long, is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adminbot.bridges.kind import Phrases, Step
from adminbot.bridges.phrase import parse_phrase
from common.i18n import t
from common.ids import EventId

QUIET_SECONDS = 1.5
"""A pause after which an answer of several messages is taken to be complete."""

PUZZLED_SECONDS = 5.0
"""A pause after which an answer that nothing expects is handed on as it is."""


class SaidKind(StrEnum):
    """How a bot says something."""

    TEXT = "text"
    IMAGE = "image"
    EDIT = "edit"
    REACTION = "reaction"
    REDACTION = "redaction"
    INVITED = "invited"
    LEFT = "left"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Said:
    """One thing a bot did after words were typed to it.

    ``text`` is the body, the reaction's key, or of an image its caption (QR codes: the payload;
    never to be logged). ``about`` is the event that is edited, taken back or reacted to.
    """

    kind: SaidKind
    text: str
    event: EventId
    at: float
    about: EventId | None = None


@dataclass(frozen=True)
class Waiting:
    """Nothing decisive yet; ``showing`` is a picture of a code that is up at the moment."""

    showing: EventId | None = None


@dataclass(frozen=True)
class Done:
    """It worked. ``found`` is what the phrase remembers."""

    text: str
    found: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """The bridge says no, in its own words."""

    text: str


@dataclass(frozen=True)
class Unknown:
    """The bridge does not know the command: it speaks another version's words."""

    text: str


@dataclass(frozen=True)
class Asked:
    """The bot asks; ``reply`` is what to type, ``None`` if only the person can answer."""

    text: str
    reply: str | None
    secret: bool
    event: EventId


@dataclass(frozen=True)
class Puzzling:
    """It answered something that this kind's words do not name."""

    text: str


@dataclass(frozen=True)
class Unreadable:
    """It answered encrypted: what, only those in the room can read."""


@dataclass(frozen=True)
class Silent:
    """It did not answer in time."""

    seconds: float


Meaning = Waiting | Done | Failed | Unknown | Asked | Puzzling | Unreadable | Silent


def meaning(
    step: Step,
    unknown: Phrases,
    said: Sequence[Said],
    *,
    waited: float,
    now: float,
    answered: frozenset[EventId] = frozenset(),
) -> Meaning:
    """Return what a bot's answers mean.

    Args:
        step: what was typed
        unknown: how this vocabulary says that it does not know a command
        said: everything it did since, oldest first
        waited: seconds since the words were typed, or since the last question was answered
        now: the moment, on the same clock as ``Said.at``
        answered: questions that were replied to already
    """
    for one in said:
        if one.event in answered:
            continue
        found = _alone(step, unknown, one)
        if found is not None and not (isinstance(found, Done) and step.ends == "gathered"):
            return found
    texts = _left(said, answered)
    quiet = now - said[-1].at if said else 0.0
    if texts and step.ends == "gathered" and quiet >= QUIET_SECONDS:
        return _gathered(step, texts)
    showing = _showing(said)
    if texts and showing is None and step.ends in {"said", "invited"} and quiet >= PUZZLED_SECONDS:
        return Puzzling("\n".join(one.text for one in texts))
    hidden = not texts and any(one.kind is SaidKind.UNREADABLE for one in said)
    if hidden and step.ends in {"said", "gathered"} and quiet >= PUZZLED_SECONDS:
        return Unreadable()
    if waited >= step.timeout_seconds:
        return Unreadable() if hidden else Silent(waited)
    return Waiting(showing)


def _left(said: Sequence[Said], answered: frozenset[EventId]) -> Sequence[Said]:
    """Return the texts that are not explained by something that came after them.

    What was said before a question or a code belongs to that: “Scan this …”.
    """
    explained = max(
        (
            place
            for place, one in enumerate(said)
            if one.event in answered or one.kind in {SaidKind.IMAGE, SaidKind.REDACTION}
        ),
        default=-1,
    )
    return [one for one in said[explained + 1 :] if one.kind is SaidKind.TEXT]


def _alone(step: Step, unknown: Phrases, one: Said) -> Meaning | None:
    """Return what one thing decides by itself."""
    match one.kind:
        case SaidKind.LEFT:
            return (
                Done("", {})
                if step.ends == "left"
                else Failed(t("The bridge's bot left the room."))
            )
        case SaidKind.INVITED:
            return Done("", {}) if step.ends == "invited" else None
        case SaidKind.REACTION:
            wanted = step.reaction is not None and _bare(one.text) == _bare(step.reaction)
            return Done(one.text, {}) if wanted else None
        case SaidKind.TEXT | SaidKind.EDIT:
            return _of_text(step, unknown, one)
        case _:
            return None


def _of_text(step: Step, unknown: Phrases, one: Said) -> Meaning | None:
    if _first(unknown, one.text) is not None:
        return Unknown(one.text)
    if _first(step.failed, one.text) is not None:
        return Failed(one.text)
    for ask in step.asks:
        if _first((ask.hears,), one.text) is not None:
            return Asked(one.text, ask.reply, ask.secret, one.event)
    found = _first(step.done, one.text)
    return None if found is None else Done(one.text, found)


def _gathered(step: Step, texts: Sequence[Said]) -> Meaning:
    whole = "\n".join(one.text for one in texts)
    for one in texts:
        found = _first(step.done, one.text)
        if found is not None:
            return Done(whole, found)
    return Puzzling(whole)


def _showing(said: Sequence[Said]) -> EventId | None:
    """Return the picture that was sent and not taken back; an edit replaces its content only."""
    up: EventId | None = None
    for one in said:
        if one.kind is SaidKind.IMAGE:
            up = one.event
        elif one.kind is SaidKind.REDACTION and one.about == up:
            up = None
    return up


def _first(phrases: Phrases, text: str) -> Mapping[str, str] | None:
    for phrase in phrases:
        found = parse_phrase(phrase).found_in(text)
        if found is not None:
            return found
    return None


def _bare(key: str) -> str:
    """Return a reaction without the sign that asks for its coloured form."""
    return key.replace("\ufe0f", "")
