"""Missing arguments are asked for by numbers: who may answer, where, for how long, and what with."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, answer
from adminbot.engine.bind import UsageError, bind
from adminbot.engine.choice import Open, completed, number_in
from adminbot.engine.command import command
from adminbot.engine.intake import Ignored, Pick, needs_direct, open_envelope, recognise
from adminbot.engine.line import LineError, parse_line
from common.homeserver.synapse.rooms import ListRoomMembers
from common.ids import UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.test_bot import World, build, numbered
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    SHARED,
    message,
    setting,
    surroundings,
)

CAROL = UserId("@carol:example.org")


@command("test pick", who=Role.ANYONE)
async def pick(kind: Literal["red", "dark green"], *, size: Literal["s", "l"]) -> Answer:
    """Pick something.

    Args:
        kind: which
        size: how large
    """
    return answer(f"{kind} {size}")


# --- The core: any text, any line, any word ---


@given(st.text())
def test_whatever_is_typed_it_is_a_number_or_not(text: str) -> None:
    number = number_in(text)

    assert number is None or 0 <= number <= 999
    assert number is None or str(number) in text


@given(st.integers(0, 999), st.sampled_from(["", ".", ")", " .", " "]))
def test_a_number_is_understood_as_people_write_it(number: int, end: str) -> None:
    assert number_in(f" {number}{end}") == number


@pytest.mark.parametrize("text", ["1 2", "-1", "1.5", "²", "１", "1st", "!1", "1000", "one", ""])
def test_what_is_more_than_a_number_is_none(text: str) -> None:
    assert number_in(text) is None


@given(st.text(), st.none() | st.text(), st.text(min_size=1))
def test_a_completed_line_says_what_was_typed_and_what_was_chosen(
    text: str, formatted: str | None, word: str
) -> None:
    for parameter in pick.parameters:
        whole = completed(text, formatted, parameter, word)
        if whole is None:
            continue
        before = [one.text for one in parse_line(text, formatted).words]
        added = [parameter.spelling, word] if parameter.option else [word]
        assert [one.text for one in parse_line(whole, formatted).words] == [*before, *added]


@given(st.lists(st.sampled_from(["red", "--size", "l", "--", '"', "\\", "x"]), max_size=5))
def test_what_is_said_to_be_missing_is_all_that_is_missing(words: list[str]) -> None:
    text = " ".join(words)
    try:
        bind(pick, parse_line(text), setting())
    except UsageError as error:
        if error.missing is None:
            return
        whole = completed(text, None, error.missing, error.missing.kind.choices[0])
        if whole is None:
            return
        try:
            bind(pick, parse_line(whole), setting())
        except UsageError as again:
            # Another one may be missing too, never the same.
            assert again.missing != error.missing or "--" in words  # noqa: PT017  # both are compared
    except LineError:
        return


@given(st.lists(st.text(min_size=1), max_size=25), st.integers(-5, 999))
def test_a_number_is_one_of_the_choices_or_none(lines: list[str], number: int) -> None:
    chosen = Open(tuple(lines)).chosen(number)

    assert (chosen is not None) == (1 <= number <= len(lines))
    assert chosen is None or lines.index(chosen) <= number - 1


@pytest.mark.parametrize("direct", [True, False])
def test_a_bare_number_may_be_a_choice_wherever_it_is_written(direct: bool) -> None:
    envelope = open_envelope(message("2"), surroundings())
    assert not isinstance(envelope, Ignored)

    found = recognise(envelope, surroundings(), direct=direct)

    assert isinstance(found, Pick)
    assert (found.number, found.request.addressed) == (2, direct)
    assert needs_direct(envelope, surroundings())


# --- From the message to the answer ---


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        made = build(database)
        made.admin.names[SHARED] = "Lobby"
        yield made


async def ask(world: World, number: int, text: str, *, by: str = ADMIN, room: str = DIRECT) -> str:
    """Type a message and return what was said last."""
    before = len(world.messenger.said)
    await world.push(numbered(message(text, sender=by, room=room), number))
    return (await world.until_said(before + 1))[-1]


async def test_a_room_is_chosen_by_its_number(world: World) -> None:
    world.admin.members[DIRECT] = (ALICE, ME)
    async with world.running():
        asked = await ask(world, 2, "reports", by=ALICE, room=DIRECT)
        assert "1: Lobby – !shared:example.org" in asked
        assert "Write 1 within a minute" in asked
        assert "It goes: reports [room]" in asked
        # Anybody may ask, and of large rooms that would be a lot to list.
        assert ListRoomMembers(SHARED) not in world.admin.reads
        said = await ask(world, 3, "1.", by=ALICE, room=DIRECT)

    assert "missing" not in said
    assert "reports !shared:example.org" in await commands_noted(world)


async def test_an_admin_room_that_others_read_along_in_is_as_any_shared_room(
    world: World,
) -> None:
    world.admin.members[CONTROL] = (ADMIN, ALICE, ME)
    world.admin.others[CONTROL] = {CAROL: "knock"}
    async with world.running():
        said = await ask(world, 1, "!admin knocks accept", room=CONTROL)

    assert "“who” is missing." in said
    assert CAROL not in said


async def test_a_number_that_was_sent_before_the_question_chooses_nothing(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
        late = numbered(message("1", sender=ADMIN), 2)
        late["origin_server_ts"] -= 1
        before = len(world.messenger.said)
        await world.push(late)
        said = (await world.until_said(before + 1))[-1]
        assert "There is no command “1”" in said


async def test_who_has_no_say_in_a_room_is_not_offered_it(world: World) -> None:
    async with world.running():
        asked = await ask(world, 1, "join-rule")

    assert "“room” is missing." in asked
    assert "1:" not in asked


async def test_what_there_is_is_offered_to_who_may_see_it(world: World) -> None:
    world.admin.members[DIRECT] = (ALICE, ME)
    world.admin.others[SHARED] = {CAROL: "knock"}
    async with world.running():
        asked = await ask(world, 1, "knocks accept !shared:example.org", by=ALICE, room=DIRECT)
        assert f"1: {CAROL}" in asked
        refused = await ask(world, 2, "knocks accept !control", by=ALICE, room=DIRECT)
        assert "1:" not in refused


async def commands_noted(world: World) -> list[str]:
    rows = await world.database.fetch("SELECT command FROM admin_action")
    return [row["command"] for row in rows]


async def test_what_is_missing_next_is_asked_for_next(world: World) -> None:
    async with world.running():
        asked = await ask(world, 1, "request")
        assert "1: admin" in asked
        assert "6: other" in asked
        asked = await ask(world, 2, "2", by=ADMIN)
        # The administrator of nothing is told how it goes.
        assert "“room” is missing." in asked


async def test_an_unknown_number_is_told_and_the_question_stays(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
        said = await ask(world, 2, "9")
        assert "There is no choice 9; write a number from 1 to 6." in said
        said = await ask(world, 3, "0")
        assert "There is no choice 0" in said
        said = await ask(world, 4, "1")

    assert "“room” is missing." in said


async def test_in_a_shared_room_only_who_asked_can_choose(world: World) -> None:
    async with world.running():
        asked = await ask(world, 1, "!join-rule", by=ALICE, room=SHARED)
        assert "1: public" in asked

        await world.push(numbered(message("1", sender=BOB, room=SHARED), 2))
        await world.push(numbered(message("2", sender=ALICE, room="!other:example.org"), 3))
        said = await ask(world, 4, "7", by=ALICE, room=SHARED)
        assert "There is no choice 7" in said
        said = await ask(world, 5, "2", by=ALICE, room=SHARED)

    assert any(
        "join-rule !shared:example.org invite" in one for one in await commands_noted(world)
    )
    assert await world.database.fetchval("SELECT COUNT(*) FROM admin_choice") == 0


async def test_where_others_read_along_nothing_is_told_of_what_there_is(world: World) -> None:
    world.admin.others[SHARED] = {CAROL: "knock"}
    async with world.running():
        said = await ask(world, 1, "!admin knocks accept", by=ALICE, room=SHARED)

    assert "“who” is missing." in said
    assert CAROL not in said


async def test_a_fresh_command_forgets_the_question(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
        await ask(world, 2, "version")
        said = await ask(world, 3, "1")

    assert "There is no command “1”" in said


async def test_after_a_minute_it_is_too_late(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
        world.clock.forward(61)
        late = numbered(message("1", sender=ADMIN), 2)
        late["origin_server_ts"] += 61_000
        before = len(world.messenger.said)
        await world.push(late)
        said = (await world.until_said(before + 1))[-1]

    assert "That question is over; give the command again." in said


async def test_what_is_over_is_forgotten_words_first(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
    choices = world.bot.intake.choices

    await choices.forget_old()
    assert await world.database.fetchval("SELECT lines FROM admin_choice") != "[]"
    world.clock.forward(61)
    await choices.forget_old()
    assert await world.database.fetchval("SELECT lines FROM admin_choice") == "[]"
    world.clock.forward(600)
    await choices.forget_old()
    assert await world.database.fetchval("SELECT COUNT(*) FROM admin_choice") == 0


async def test_the_question_lasts_its_minute_through_a_restart(world: World) -> None:
    async with world.running():
        await ask(world, 1, "request")
    restarted = build(world.database)
    restarted.admin.events = world.admin.events

    async with restarted.running():
        said = await ask(restarted, 2, "1")

    assert "“room” is missing." in said


async def test_a_number_that_nobody_asked_for_is_talk(world: World) -> None:
    await world.push(numbered(message("2", sender=ALICE, room=SHARED), 1))

    assert await world.waiting() == []


async def test_the_reply_that_a_command_was_is_still_meant_when_it_is_completed(
    world: World,
) -> None:
    async with world.running():
        given = message("request", sender=ADMIN)
        given["content"]["m.relates_to"] = {"m.in_reply_to": {"event_id": "$quoted"}}
        before = len(world.messenger.said)
        await world.push(numbered(given, 1))
        await world.until_said(before + 1)
        await world.push(numbered(message("1", sender=ADMIN), 2))
        row = await world.database.fetchrow(
            "SELECT * FROM admin_command WHERE event_id = '$command2'"
        )

    assert row is not None
    assert row["replies_to"] == "$quoted"
