"""A plan: what a command wants to change, as a value that can be shown, stored and compared."""

import hashlib
from dataclasses import dataclass

from adminbot.engine.answer import Answer, Block, File
from adminbot.engine.step import Step, canonical
from common.homeserver.port import Danger


@dataclass(frozen=True)
class Bulk:
    """Many like steps that do not depend on each other: one that fails does not stop the rest.

    ``at_once`` are under way together, at most ``per_second`` begin in a second. ``chain`` steps
    at a time belong together: they are taken one after the other, and when one fails the rest of
    its chain is not done.
    """

    at_once: int = 8
    per_second: float | None = None
    chain: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps that are decided but not taken.

    ``details`` is shown with the question, ``result`` when all is done. Where ``typed`` is set,
    only that word confirms (say, the name of what is destroyed), no reaction. ``report`` names
    the function that says what became of each step (``adminbot.engine.outcome``). ``ask``:
    whether to ask although no step by itself is dangerous. ``files`` go with the question and
    with a dry run. ``acts_as`` is another command whose plan this is too: what takes two people
    there takes two here.
    """

    summary: str
    steps: tuple[Step, ...]
    details: tuple[Block, ...] = ()
    result: Answer | None = None
    typed: str | None = None
    bulk: Bulk | None = None
    report: str | None = None
    ask: bool = False
    files: tuple[File, ...] = ()
    acts_as: str | None = None

    @property
    def danger(self) -> Danger:
        """The worst of the steps'."""
        return max((step.danger for step in self.steps), default=Danger.NONE)

    @property
    def fingerprint(self) -> str:
        """A digest of exactly the calls that will be made; a changed world gives another."""
        calls = [canonical(step) for step in self.steps]
        return hashlib.sha256("\n".join(calls).encode()).hexdigest()


Outcome = Answer | Plan
