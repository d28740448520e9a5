"""What became of a plan's steps, and how it is told."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType

from adminbot.engine.answer import (
    Answer,
    Bullets,
    Spans,
    Strong,
    answer,
    csv_file,
    facts,
    say,
)
from adminbot.engine.step import Step
from common.i18n import n, t

MOST_SHOWN = 10


class Fate(StrEnum):
    """How far one step came."""

    WAITING = "waiting"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    UNSURE = "unsure"
    """It was cut short, and may or may not have happened."""


@dataclass(frozen=True)
class Taken:
    """One step and its fate; ``detail`` is why it failed, or what the homeserver answered."""

    number: int
    step: Step
    fate: Fate
    detail: str = ""


@dataclass(frozen=True)
class Finished:
    """A plan that is over. ``result`` is what its command had to say if all went well."""

    summary: str
    taken: tuple[Taken, ...]
    result: Answer | None = None
    cancelled: bool = False
    bulk: bool = False

    def with_fate(self, *fates: Fate) -> tuple[Taken, ...]:
        """Return the steps with one of some fates."""
        return tuple(each for each in self.taken if each.fate in fates)

    @property
    def all_done(self) -> bool:
        """Whether every step was done."""
        return all(each.fate is Fate.DONE for each in self.taken)


Tell = Callable[[Finished], Answer]


@dataclass(frozen=True)
class Report:
    """How one command tells what became of its plan, by a name that is stored with the plan."""

    name: str
    tell: Tell


def report(name: str) -> Callable[[Tell], Report]:
    """Make a report of a function; ``reports`` finds it."""
    return lambda function: Report(name, function)


def reports(modules: Iterable[ModuleType]) -> Mapping[str, Tell]:
    """Return every report of some modules."""
    return {
        value.name: value.tell
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Report)
    }


def tell(finished: Finished) -> Answer:
    """Say what became of a plan that has no report of its own."""
    if finished.all_done and not finished.bulk:
        return finished.result or answer(t("Done: {summary}.", summary=finished.summary))
    return _summed_up(finished) if finished.bulk else _stopped(finished)


def _stopped(finished: Finished) -> Answer:
    done = len(finished.with_fate(Fate.DONE))
    rest = len(finished.with_fate(Fate.WAITING))
    lines: list[Spans] = [(n("{count} step done", "{count} steps done", done),)]
    lines += [
        (t("failed: {step} – {why}", step=each.step.describe(), why=each.detail),)
        for each in finished.with_fate(Fate.FAILED)
    ]
    lines += [
        (t("may or may not have happened: {step}", step=each.step.describe()),)
        for each in finished.with_fate(Fate.UNSURE)
    ]
    if rest:
        lines.append((n("{count} step not begun", "{count} steps not begun", rest),))
    return answer(
        say(Strong(_headline(finished))),
        Bullets(tuple(lines)),
        t("Look at the result, and ask again for what is missing."),
    )


def _summed_up(finished: Finished) -> Answer:
    fates = [
        (t("Done"), Fate.DONE),
        (t("Failed"), Fate.FAILED),
        (t("May or may not have happened"), Fate.UNSURE),
        (t("Not begun"), Fate.WAITING),
    ]
    numbers = [(name, len(finished.with_fate(fate))) for name, fate in fates]
    card = facts((name, str(number) if number else None) for name, number in numbers)
    said = answer(say(Strong(_headline(finished))), card)
    wrong = finished.with_fate(Fate.FAILED, Fate.UNSURE)
    shown: list[Spans] = [
        (each.step.describe(), *((" – ", each.detail) if each.detail else ()))
        for each in wrong[:MOST_SHOWN]
    ]
    if shown:
        said = said.followed_by(Bullets(tuple(shown)))
    if len(wrong) > len(shown):
        rows = ((each.step.describe(), each.fate.value, each.detail) for each in wrong)
        said = said.with_file(csv_file("failed.csv", ("step", "fate", "why"), rows))
    if finished.result is not None and finished.with_fate(Fate.DONE):
        said = said.followed_by(*finished.result.blocks).with_file(*finished.result.files)
    return said


def _headline(finished: Finished) -> str:
    if finished.cancelled:
        return t("Cancelled: {summary}", summary=finished.summary)
    if finished.all_done:
        return t("Done: {summary}", summary=finished.summary)
    if finished.bulk:
        return t("Done, not all of it: {summary}", summary=finished.summary)
    return t("Stopped: {summary}", summary=finished.summary)
