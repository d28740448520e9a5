"""A plan: what a command wants to change, as a value that can be shown, stored and compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from adminbot.engine.answer import Answer, Block
from common.config.secret import Secret
from common.homeserver.port import ChangeRequest, Danger


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps that are decided but not taken.

    ``details`` is shown with the question, ``result`` when all is done. Where ``typed`` is set,
    only that word confirms (say, the name of what is destroyed), no reaction.
    """

    summary: str
    steps: tuple[ChangeRequest[object], ...]
    details: tuple[Block, ...] = ()
    result: Answer | None = None
    typed: str | None = None

    @property
    def danger(self) -> Danger:
        """The worst of the steps'."""
        return max((step.danger for step in self.steps), default=Danger.NONE)

    @property
    def fingerprint(self) -> str:
        """A digest of exactly the calls that will be made; a changed world gives another."""
        calls = [canonical_call(step) for step in self.steps]
        return hashlib.sha256("\n".join(calls).encode()).hexdigest()


Outcome = Answer | Plan


def canonical_call(step: ChangeRequest[object]) -> str:
    """Return a step's HTTP call in one canonical spelling.

    A generated secret is different every time a plan is made, so only its place counts; it is
    never written down either.
    """
    call = step.to_http()
    return json.dumps(
        [call.method, call.path, _masked(call.body)],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )


def _masked(value: object) -> object:
    match value:
        case Secret():
            return {"secret": True}
        case Mapping():
            return {str(name): _masked(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_masked(inner) for inner in value]
        case _:
            return value
