from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.confirm import (
    LIFETIME_MS,
    Pending,
    Reaction,
    Reply,
    Spoken,
    Verdict,
    code_for,
    judge,
    must_ask,
    question,
    spoken,
)
from adminbot.engine.plan import Plan
from adminbot.engine.render import render
from adminbot.engine.step import canonical
from common.config.secret import Secret
from common.homeserver.port import ChangeRequest, Danger, HttpChange, Json, Permission
from common.ids import EventId, UserId
from tests.unit.adminbot.world import ALICE, BOB, Close, Rename

ASKED = EventId("$question")
PENDING = Pending(ALICE, ASKED, "AB3D", typed=False, expires_ms=LIFETIME_MS)


@pytest.mark.parametrize(
    ("sender", "reply", "now_ms", "verdict"),
    [
        (ALICE, Reaction(ASKED), 0, Verdict.CONFIRMED),
        (ALICE, Reaction(ASKED), LIFETIME_MS - 1, Verdict.CONFIRMED),
        (ALICE, Reaction(ASKED), LIFETIME_MS, Verdict.EXPIRED),
        (BOB, Reaction(ASKED), 0, Verdict.SOMEBODY_ELSE),
        (ALICE, Reaction(EventId("$x")), 0, Verdict.NOT_THIS),
        (ALICE, Spoken("ab3d"), 0, Verdict.CONFIRMED),
        (ALICE, Spoken("ab3"), 0, Verdict.NOT_THIS),
        (BOB, Spoken("AB3D"), 0, Verdict.SOMEBODY_ELSE),
        (ALICE, Spoken("AB3D"), LIFETIME_MS, Verdict.EXPIRED),
    ],
)
def test_the_verdict(sender: UserId, reply: Reply, now_ms: int, verdict: Verdict) -> None:
    assert judge(PENDING, sender, reply, now_ms) is verdict


def test_a_question_without_a_name_yet_is_not_confirmed_by_reaction() -> None:
    pending = Pending(ALICE, None, "AB3D", typed=False, expires_ms=LIFETIME_MS)

    assert judge(pending, ALICE, Reaction(ASKED), 0) is Verdict.NOT_THIS


@given(st.text(max_size=40))
def test_only_the_word_after_confirm_is_spoken(text: str) -> None:
    found = spoken(text)

    assert (found is not None) == (
        len(text.split(maxsplit=1)) > 1 and text.split(maxsplit=1)[0].lower() == "confirm"
    ) or "\n" in text


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_fingerprint_tells_different_calls_apart(one: str, other: str) -> None:
    first = Plan(summary="x", steps=(Close(ALICE, one),))
    second = Plan(summary="y", steps=(Close(ALICE, other),))

    assert (first.fingerprint == second.fingerprint) == (one == other)


def test_the_fingerprint_depends_on_order_and_number_of_steps() -> None:
    plans: list[tuple[ChangeRequest[object], ...]] = [
        (),
        (Close(ALICE),),
        (Close(ALICE), Close(BOB)),
        (Close(BOB), Close(ALICE)),
        (Close(ALICE), Close(ALICE)),
        (Rename(ALICE),),
    ]

    prints = {Plan(summary="x", steps=steps).fingerprint for steps in plans}

    assert len(prints) == 6


@dataclass(frozen=True)
class SetPassword:
    """Something with a generated secret in it."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    password: Secret

    def to_http(self) -> HttpChange:
        return HttpChange(method="POST", path="/password", body={"new": self.password})

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> str:
        return "Set a new password"


def test_a_generated_secret_is_neither_compared_nor_written() -> None:
    one, other = SetPassword(Secret("first")), SetPassword(Secret("second"))

    assert canonical(one) == canonical(other)
    assert "first" not in canonical(one)


def test_the_danger_is_that_of_the_worst_step() -> None:
    assert Plan(summary="x", steps=(Rename(ALICE),)).danger is Danger.NONE
    assert Plan(summary="x", steps=(Rename(ALICE), Close(ALICE))).danger is Danger.IRREVERSIBLE
    assert not must_ask(Plan(summary="x", steps=(Rename(ALICE),)))
    assert must_ask(Plan(summary="x", steps=(Close(ALICE),)))
    assert must_ask(Plan(summary="x", steps=(Rename(ALICE),), typed="alice"))


def test_the_question_says_what_will_be_done() -> None:
    plan = Plan(summary="Close two accounts", steps=(Close(ALICE), Close(BOB)))

    body = render(question(plan, "AB3D")).body

    assert body == (
        "Close two accounts?\n\n"
        "This cannot be undone.\n\n"
        "• Close the account of @alice:example.org\n"
        "• Close the account of @bob:example.org\n\n"
        "React with ✅ or write “confirm AB3D” within 60 seconds to go on."
    )


def test_the_code_is_the_same_after_a_restart_and_another_for_another_plan() -> None:
    assert code_for(EventId("$a"), "f") == code_for(EventId("$a"), "f")
    assert code_for(EventId("$a"), "f") != code_for(EventId("$b"), "f")
