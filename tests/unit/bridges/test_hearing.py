"""What a bot's answers mean, with the texts that the bridges really say."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.bridges.hearing import (
    Asked,
    Done,
    Failed,
    Meaning,
    Puzzling,
    Said,
    SaidKind,
    Silent,
    Unknown,
    Unreadable,
    Waiting,
    meaning,
)
from adminbot.bridges.kind import Step
from adminbot.bridges.load import load_kinds
from adminbot.bridges.phrase import parse_phrase
from common.ids import EventId

KINDS = load_kinds()


def step_of(kind: str, verb: str, vocabulary: str | None = None, number: int = 0) -> Step:
    command = KINDS[kind].vocabulary(vocabulary).commands[verb]
    assert command is not None
    return command.steps[number]


def said(
    text: str = "",
    kind: SaidKind = SaidKind.TEXT,
    *,
    at: float = 0.0,
    name: str = "1",
    about: str = "",
) -> Said:
    return Said(kind, text, EventId(f"${name}"), at, EventId(f"${about}") if about else None)


def heard(step: Step, *things: Said, now: float = 0.0, waited: float = 0.0) -> Meaning:
    return meaning(step, ("Unknown command",), things, waited=waited, now=now)


def test_a_telegram_log_in_from_the_picture_to_the_end() -> None:
    step = step_of("mautrix-telegram", "login")
    picture = said("tg://login?token=x", SaidKind.IMAGE, name="qr")
    refreshed = said("tg://login?token=y", SaidKind.EDIT, name="edit", about="qr")
    taken_back = said("", SaidKind.REDACTION, name="gone", about="qr")

    assert heard(step, picture) == Waiting(showing=EventId("$qr"))
    assert heard(step, picture, refreshed, now=60) == Waiting(showing=EventId("$qr"))
    assert heard(step, picture, taken_back) == Waiting(showing=None)
    done = heard(step, picture, said("Successfully logged in as @alice"))
    assert isinstance(done, Done)
    assert done.found == {"remote": "@alice"}


def test_a_log_in_that_times_out_says_so_in_an_edit() -> None:
    step = step_of("mautrix-telegram", "login")
    timed_out = said("Login timed out", SaidKind.EDIT, name="e", about="qr")
    assert heard(step, said("x", SaidKind.IMAGE, name="qr"), timed_out) == Failed(
        "Login timed out"
    )


def test_a_question_that_we_can_answer_and_one_that_only_the_person_can() -> None:
    connect = step_of("mautrix-telegram", "connect")
    text = (
        "That Telegram chat has no existing portal. To confirm bridging the chat to this room, "
        "use `!tg continue`"
    )
    asked = heard(connect, said(text))
    assert isinstance(asked, Asked)
    assert asked.reply == "continue"
    login = step_of("mautrix-telegram", "login")
    password = heard(
        login,
        said("Your account has two-factor authentication. Please send your password here."),
    )
    assert isinstance(password, Asked)
    assert password.reply is None
    assert password.secret


def test_an_answered_question_is_not_asked_again() -> None:
    step = step_of("mautrix-telegram", "connect")
    question = said("To confirm bridging the chat to this room, use `!tg continue`", name="q")
    answered = frozenset({EventId("$q")})
    things = [
        question,
        said("Bridging complete. Portal synchronization should begin momentarily."),
    ]
    assert isinstance(meaning(step, (), things, waited=0, now=0, answered=answered), Done)
    assert meaning(step, (), [question], waited=0, now=0, answered=answered) == Waiting()


def test_leaving_the_room_is_success_only_where_it_is_meant() -> None:
    left = said("", SaidKind.LEFT)
    assert heard(step_of("mautrix-whatsapp", "disconnect"), left) == Done("", {})
    assert isinstance(heard(step_of("mautrix-whatsapp", "connect"), left), Failed)


def test_a_reaction_can_be_the_whole_answer() -> None:
    step = step_of("mautrix-whatsapp", "sync")
    assert heard(step, said("✅\ufe0f", SaidKind.REACTION)) == Done("✅\ufe0f", {})
    assert heard(step, said("👎", SaidKind.REACTION)) == Waiting()


def test_an_answer_of_several_messages_is_complete_after_a_pause() -> None:
    step = step_of("heisenbridge", "ping")
    lines = (
        said("Configured networks:", name="a"),
        said("\tlibera (2 servers)", at=0.2, name="b"),
    )
    assert heard(step, *lines, now=0.4) == Waiting()
    whole = heard(step, *lines, now=2.0)
    assert whole == Done("Configured networks:\n\tlibera (2 servers)", {})


def test_an_unknown_command_is_no_failure_of_the_network() -> None:
    step = step_of("mautrix-whatsapp", "login")
    text = "Unknown command, use the `help` command for help."
    assert isinstance(heard(step, said(text)), Unknown)


def test_an_unexpected_answer_is_handed_on_after_a_pause() -> None:
    step = step_of("heisenbridge", "connect")
    assert heard(step, said("Moo."), now=1) == Waiting()
    assert heard(step, said("Moo."), now=6) == Puzzling("Moo.")


def test_what_introduces_a_question_or_a_code_is_no_answer_of_its_own() -> None:
    step = step_of("mautrix-meta", "login")
    things = [
        said("Enter a JSON object with your cookies, or a cURL command.", name="i"),
        said("Login URL: <https://www.facebook.com/>", name="q"),
    ]
    answered = frozenset({EventId("$q")})
    assert meaning(step, (), things, waited=9, now=9, answered=answered) == Waiting()
    more = [*things, said("Moo.", at=9, name="m")]
    assert meaning(step, (), more, waited=20, now=20, answered=answered) == Puzzling("Moo.")

    step = step_of("mautrix-gmessages", "login")
    scanned = [
        said("Scan the QR code using the Google Messages app", name="i"),
        said("payload", SaidKind.IMAGE, name="qr"),
        said("", SaidKind.REDACTION, name="gone", about="qr"),
    ]
    assert meaning(step, (), scanned, waited=30, now=30) == Waiting()


def test_an_invitation_ends_only_what_is_to_end_with_one() -> None:
    invited = said("", SaidKind.INVITED)
    assert heard(step_of("teams", "joinspace"), invited) == Done("", {})
    assert heard(step_of("teams", "login"), invited) == Waiting()


def test_no_answer_at_all_is_named_as_such() -> None:
    step = step_of("mautrix-telegram", "login")
    assert heard(step, waited=149) == Waiting()
    assert heard(step, waited=150) == Silent(150)


def test_an_encrypted_answer_is_no_silence() -> None:
    step = step_of("mautrix-telegram", "logout")
    hidden = said("", SaidKind.UNREADABLE)
    assert heard(step, hidden, now=1) == Waiting()
    assert heard(step, hidden, now=6) == Unreadable()
    leaving = step_of("mautrix-telegram", "disconnect")
    assert heard(leaving, hidden, now=6) == Waiting()
    assert heard(leaving, hidden, said("", SaidKind.LEFT, name="l"), now=6) == Done("", {})
    assert heard(leaving, hidden, now=99, waited=99) == Unreadable()
    readable = said("Logged out successfully.", name="r")
    assert isinstance(heard(step, hidden, readable, now=6), Done)


@pytest.mark.parametrize(
    ("kind", "verb", "text", "expected"),
    [
        ("heisenbridge", "connect", "Network does not exist", Failed),
        ("heisenbridge", "login", "You have been invited to libera", Done),
        ("matrix-appservice-irc", "connect", "Room plumbed.", Done),
        ("matrix-appservice-irc", "connect", "Could not join the target room, you may need to invite the bot", Failed),
        ("matrix-appservice-discord", "connect", "The bridge has been declined by the Discord guild.", Failed),
        ("matrix-appservice-discord", "connect", "I have bridged this room to your channel", Done),
        ("matrix-appservice-slack", "connect", "Room is now ready", Done),
        ("matrix-appservice-slack", "connect", "Cannot link - Bot doesn't have visibility on channel. Is it invited on slack?", Failed),
        ("matrix-appservice-slack", "login", "Follow https://slack.com/oauth?x to connect your account.", Done),
        ("mautrix-signal", "pm", "Created chat with Bob: [Bob](https://matrix.to/#/!x)", Done),
        ("mautrix-discord", "connect", "Room successfully bridged", Done),
        ("teams", "login", "You are now authenticated as **Ann**", Done),
        ("matrix-hookshot", "webhook", "Room configured to bridge webhooks. See admin room for secret url.", Done),
    ],
)  # fmt: skip
def test_the_answers_that_bridges_give(
    kind: str, verb: str, text: str, expected: type[Meaning]
) -> None:
    # An answer of several messages is complete after a pause.
    assert isinstance(heard(step_of(kind, verb), said(text), now=2), expected)


texts = st.text(max_size=80)


@given(
    st.lists(
        st.builds(
            Said, st.sampled_from(SaidKind), texts, st.just(EventId("$x")), st.floats(0, 10)
        ),
        max_size=6,
    )
)
def test_whatever_a_bot_says_something_is_meant(things: Sequence[Said]) -> None:
    for kind in ("mautrix-telegram", "heisenbridge", "mautrix-whatsapp"):
        meaning(step_of(kind, "connect"), (), things, waited=1000, now=20)


@given(texts, texts, texts)
def test_a_phrase_finds_its_pieces_in_any_surroundings(
    before: str, middle: str, after: str
) -> None:
    text = f"{before}Logged in as [{middle}](x){after}"
    assert parse_phrase("logged IN as [{name}](").found_in(text) is not None


def test_a_phrase_costs_no_more_on_a_hostile_text() -> None:
    hostile = "a" * 1_000_000
    assert parse_phrase("aa{x}aa{y}aa{z}b").found_in(hostile) is None
