"""Which events are obeyed: everything else must be ignored without a sound."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adminbot.engine.confirm import Reaction, Spoken
from adminbot.engine.intake import (
    Confirmation,
    Envelope,
    Ignored,
    Meaning,
    Press,
    Request,
    needs_direct,
    open_envelope,
    recognise,
)
from adminbot.engine.line import LineError, parse_line
from adminbot.facts import Facts
from adminbot.intake import Batch, DirectChats, Intake
from adminbot.store import Store
from common.crypto.port import EncryptedEvent, Reading
from common.database.migrations import upgrade_table
from common.database.pool import Connection, Database
from common.ids import EventId
from common.inbox.port import Entry, EntryKind, Source
from tests.unit.adminbot.test_dispatch import the_server
from tests.unit.adminbot.world import ALICE, AUDITBOT, ME, NOW_MS, FakeClock, message, surroundings


def meaning(event: object, *, direct: bool = False) -> Meaning | Ignored:
    envelope = open_envelope(event, surroundings())
    if isinstance(envelope, Ignored):
        return envelope
    return recognise(envelope, surroundings(), direct=direct)


def changed(event: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**event, **fields}


HELP = message("!help")
EDIT = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (message("!help", sender="@alice:evil.org"), Ignored.REMOTE),
        (message("!help", sender="@alice:example.org.evil.org"), Ignored.REMOTE),
        (message("!help", sender="@alice:EXAMPLE.org"), Ignored.REMOTE),
        (message("!help", sender="@аlice:example.org"), Ignored.MALFORMED),  # Cyrillic a
        (message("!help", sender="alice"), Ignored.MALFORMED),
        (message("!help", sender=ME), Ignored.OWN),
        (message("!help", sender=AUDITBOT), Ignored.OWN),
        (changed(HELP, content={"msgtype": "m.notice", "body": "!help"}), Ignored.NOT_TEXT),
        (changed(HELP, content={"msgtype": "m.emote", "body": "!help"}), Ignored.NOT_TEXT),
        (changed(HELP, content={"msgtype": "m.image", "body": "!help"}), Ignored.NOT_TEXT),
        (changed(HELP, content={"body": "!help"}), Ignored.NOT_TEXT),
        (changed(HELP, content={"msgtype": "m.text", "body": ["!help"]}), Ignored.NOT_TEXT),
        (message("!help", EDIT), Ignored.EDIT),
        (message("* !help", {"m.new_content": {"body": "!help"}}), Ignored.EDIT),
        (message("!help", {"m.forwarded": {}}), Ignored.FORWARDED),
        (changed(HELP, unsigned={"redacted_because": {}}), Ignored.REDACTED),
        (changed(HELP, content={}), Ignored.NOT_TEXT),
        (changed(HELP, origin_server_ts=NOW_MS - 300_001), Ignored.OLD),
        (changed(HELP, origin_server_ts="now"), Ignored.MALFORMED),
        (changed(HELP, origin_server_ts=True), Ignored.MALFORMED),
        (changed(HELP, state_key=""), Ignored.NOT_A_MESSAGE),
        (changed(HELP, type="m.sticker"), Ignored.NOT_A_MESSAGE),
        (changed(HELP, event_id="x"), Ignored.MALFORMED),
        (changed(HELP, room_id=None), Ignored.MALFORMED),
        ([], Ignored.MALFORMED),
        (None, Ignored.MALFORMED),
    ],
)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "shared"])
def test_what_is_never_obeyed(event: object, why: Ignored, direct: bool) -> None:
    assert meaning(event, direct=direct) is why


@pytest.mark.parametrize(
    ("body", "text", "addressed"),
    [
        ("!help", "help", False),
        ("! help", "help", False),
        ("!HELP me", "HELP me", False),
        ("!admin help", "help", True),
        ("!ADMIN help", "help", True),
        ("!admin  nonsense", "nonsense", True),
        ("!admin", "help", True),
        ("!user list", "user list", False),
        ("!help\nuser list", "help\nuser list", False),
    ],
)
def test_commands_in_shared_rooms(body: str, text: str, addressed: bool) -> None:
    found = meaning(message(body))

    assert isinstance(found, Request)
    assert (found.text, found.addressed) == (text, addressed)


@pytest.mark.parametrize(
    "body",
    ["help", "hello", "!poll new", "!administrator", "!", "! ", "", "help!", "> !help", "x !help"],
)
def test_what_belongs_to_others_in_shared_rooms_is_ignored(body: str) -> None:
    assert meaning(message(body)) is Ignored.NOT_FOR_US


@pytest.mark.parametrize(
    ("body", "text"), [("help", "help"), ("!help", "help"), ("nonsense", "nonsense")]
)
def test_in_a_direct_chat_the_prefix_may_be_left_out(body: str, text: str) -> None:
    found = meaning(message(body), direct=True)

    assert isinstance(found, Request)
    assert (found.text, found.addressed) == (text, True)


def test_the_quoted_part_of_a_reply_is_no_command() -> None:
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$x"}}}
    quoted = "> <@bob:example.org> !user deactivate alice\n\nthanks"

    assert meaning(message(quoted, reply)) is Ignored.NOT_FOR_US
    found = meaning(message("> <@bob:example.org> hi\n\n!help", reply))
    assert isinstance(found, Request)
    assert found.text == "help"


def test_a_command_in_a_thread_knows_its_root() -> None:
    thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": "$root"}}

    found = meaning(message("!help", thread))

    assert isinstance(found, Request)
    assert found.thread == "$root"


def reaction(key: object, **more: Any) -> dict[str, Any]:
    relation = {"rel_type": "m.annotation", "event_id": "$question", "key": key, **more}
    return changed(HELP, type="m.reaction", content={"m.relates_to": relation})


@pytest.mark.parametrize("key", ["✅", "✅\ufe0f"])
def test_the_sign_for_yes_is_a_confirmation(key: str) -> None:
    found = meaning(reaction(key))

    assert isinstance(found, Confirmation)
    assert (found.sender, found.reply) == (ALICE, Reaction(EventId("$question")))


def test_another_sign_may_be_a_button() -> None:
    found = meaning(reaction("👍"))

    assert isinstance(found, Press)
    assert (found.card, found.key, found.sender) == (EventId("$question"), "👍", ALICE)


@pytest.mark.parametrize(
    "event",
    [reaction(None), reaction("✅", rel_type="x"), reaction("x" * 65), reaction("\ud800")],
)
def test_other_reactions_are_nothing(event: dict[str, Any]) -> None:
    assert meaning(event) is Ignored.NOT_FOR_US


@pytest.mark.parametrize("body", ["confirm AB3D", "!confirm AB3D", "!admin confirm AB3D"])
def test_a_spoken_confirmation(body: str) -> None:
    found = meaning(message(body))

    assert isinstance(found, Confirmation)
    assert found.reply == Spoken("AB3D")


def test_only_what_may_be_unprefixed_needs_to_know_the_room() -> None:
    def needs(event: dict[str, Any]) -> bool:
        envelope = open_envelope(event, surroundings())
        assert isinstance(envelope, Envelope)
        return needs_direct(envelope, surroundings())

    assert needs(message("hello"))
    assert needs(changed(HELP, type="m.room.encrypted", content={}))
    assert not needs(HELP)
    assert not needs(reaction("✅"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["type", "event_id", "room_id", "sender", "origin_server_ts", "content", "unsigned"]
)


@given(fields, json_values, st.booleans())
def test_no_value_anywhere_breaks_the_intake(name: str, value: object, direct: bool) -> None:
    meaning(changed(HELP, **{name: value}), direct=direct)


@given(
    st.sampled_from(["body", "msgtype", "m.relates_to", "formatted_body"]),
    json_values,
    st.sampled_from(["m.room.message", "m.reaction"]),
)
def test_no_content_breaks_the_intake(name: str, value: object, kind: str) -> None:
    content = {**HELP["content"], name: value}
    meaning(changed(HELP, type=kind, content=content), direct=True)
    relation = {"rel_type": "m.annotation", "key": "✅", "event_id": "$q", name: value}
    meaning(changed(HELP, type=kind, content={"m.relates_to": relation}))


class Mute:
    """A crypto machine that is asked nothing."""

    async def decrypt(
        self, connection: Connection, events: Sequence[EncryptedEvent]
    ) -> Sequence[Reading]:
        raise AssertionError(events)


def sort(event: object, database: Database) -> Batch:
    """Sort one event as the bot does, from its bytes."""
    clock = FakeClock()
    facts = Facts(the_server(), ME, frozenset({ME, AUDITBOT}), (), ())
    intake = Intake(
        Mute(),
        DirectChats(facts),
        Store(database, clock),
        clock,
        surroundings(),
        asyncio.Event(),
    )
    body = json.dumps(event).encode()
    entry = Entry(1, EntryKind.EVENT, body, Source.TRANSACTION, "", "", 0)
    return asyncio.run(intake.sort([entry]))


@pytest.fixture(scope="module")
def unopened() -> Database:
    """A database that nothing may ask."""
    return Database("sqlite:nowhere.db", upgrade_table())


@settings(max_examples=150)
@given(fields, json_values)
@example("type", [])
@example("type", {})
@example("room_id", [])
@example("origin_server_ts", 2**63)
def test_no_value_anywhere_breaks_the_sorting(
    unopened: Database, name: str, value: object
) -> None:
    sort(changed(HELP, **{name: value}), unopened)
    sort({**HELP, "type": "m.room.member", "state_key": "", name: value}, unopened)
    sort(changed(message("help"), **{name: value}), unopened)


def test_a_moment_that_no_database_holds_is_malformed() -> None:
    assert meaning(changed(HELP, origin_server_ts=2**53)) is Ignored.MALFORMED


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
def test_what_cannot_be_stored_is_replaced_visibly(bad: str) -> None:
    found = meaning(message(f"!help {bad}x", {"formatted_body": f"<b>{bad}</b>"}))

    assert isinstance(found, Request)
    assert (found.text, found.formatted) == ("help \ufffdx", "<b>\ufffd</b>")
    with pytest.raises(LineError, match="cannot be read"):
        parse_line(found.text)
