from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.commands import catalogue
from adminbot.engine.actor import Role
from adminbot.engine.answer import Answer, answer
from adminbot.engine.bind import Bound, HelpAsked, UsageError, bind, without_secrets
from adminbot.engine.catalogue import UnknownCommandError
from adminbot.engine.command import Command, command
from adminbot.engine.line import Line, parse_line
from adminbot.engine.values import NO_ROOMS, ByteSize, RoomAddress, Rooms, Text
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader
from common.ids import EventId, RoomAlias, RoomId, UserId
from tests.unit.adminbot.world import NOW, SHARED, setting

NO_WORDS = Text("")


@command("test everything", who=Role.ANYONE)
async def everything(
    admin: AdminReader,
    room: RoomId,
    user: UserId,
    number: int = 1,
    words: Text = NO_WORDS,
    *,
    event: EventId | None = None,
    last: timedelta | None = None,
    since: datetime | None = None,
    size: ByteSize | None = None,
    colour: Literal["red", "green"] = "red",
    loud: bool = False,
    tidy: bool = True,
    admins: bool | None = None,
    password: Secret | None = None,
) -> Answer:
    """Take everything.

    Args:
        room: a room
        user: a person
        number: a number
        words: the rest
        event: an event
        last: how long
        since: from when
        size: how big
        colour: which
        loud: with noise
        tidy: without order
        admins: admins or not
        password: a secret
    """
    return answer(f"{room} {user}")


@command("test many", who=Role.ANYONE)
async def many(admin: AdminReader, *users: UserId) -> Answer:
    """Take several people.

    Args:
        users: people
    """
    return answer(" ".join(users))


def arguments(
    text: str, of: Command = everything, *, room: RoomId | None = None
) -> dict[str, Any]:
    bound = bind(of, parse_line(text), setting(room=room))
    assert isinstance(bound, Bound)
    return dict(bound.arguments)


def refusal(text: str, of: Command = everything, *, room: RoomId | None = None) -> UsageError:
    with pytest.raises(UsageError) as raised:
        bind(of, parse_line(text), setting(room=room))
    return raised.value


def test_positional_words_and_defaults() -> None:
    found = arguments("!room alice 7 and the rest of it")

    assert found["room"] == "!room"
    assert found["user"] == "@alice:example.org"
    assert found["number"] == 7
    assert found["words"] == "and the rest of it"
    assert found["colour"] == "red"
    assert found["tidy"] is True


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("--event $e", "event", "$e"),
        ("--event https://matrix.to/#/!r/$e?via=x", "event", "$e"),
        ("--last 7d", "last", timedelta(days=7)),
        ("--last=1h30m", "last", timedelta(minutes=90)),
        ("--since 2026-12-01", "since", datetime(2026, 12, 1, tzinfo=UTC)),
        ("--since '2026-12-01 09:00'", "since", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("--since 'in 2h'", "since", NOW + timedelta(hours=2)),
        ("--since 'tomorrow 9:00'", "since", datetime(2026, 11, 24, 9, tzinfo=UTC)),
        ("--size 1.5GiB", "size", 1_610_612_736),
        ("--size 20M", "size", 20 * 2**20),
        ("--size 500kB", "size", 500_000),
        ("--colour GREEN", "colour", "green"),
        ("--loud", "loud", True),
        ("--loud=no", "loud", False),
        ("--no-loud", "loud", False),
        ("--no-tidy", "tidy", False),
        ("--admins", "admins", True),
        ("--no-admins", "admins", False),
        ("--password geheim", "password", Secret("geheim")),
    ],
)
def test_options(options: str, name: str, value: object) -> None:
    assert arguments(f"!room alice {options}")[name] == value


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alice", "@alice:example.org"),
        ("@alice", "@alice:example.org"),
        ("@alice:remote.org", "@alice:remote.org"),
        ("https://matrix.to/#/@alice:example.org", "@alice:example.org"),
        ("matrix:u/alice:example.org", "@alice:example.org"),
    ],
)
def test_ways_to_name_a_person(typed: str, meant: str) -> None:
    assert arguments(f"!room {typed}")["user"] == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("!room", "!room"),
        ("!room:example.org", "!room:example.org"),
        ("#lobby", RoomAddress(RoomAlias("#lobby:example.org"))),
        ("#lobby:remote.org", RoomAddress(RoomAlias("#lobby:remote.org"))),
        ("https://matrix.to/#/!room?via=x", "!room"),
        ("matrix:r/lobby:remote.org", RoomAddress(RoomAlias("#lobby:remote.org"))),
    ],
)
def test_ways_to_name_a_room(typed: str, meant: object) -> None:
    assert arguments(f"{typed} alice")["room"] == meant


@command("test move", who=Role.ANYONE)
async def move(
    admin: AdminReader, room: RoomId, address: RoomAlias, *, for_: timedelta | None = None
) -> Answer:
    """Take an address.

    Args:
        room: a room
        address: an address
        for_: how long
    """
    return answer(room)


@pytest.mark.parametrize(
    ("typed", "room", "address"),
    [
        ("#new", SHARED, "#new:example.org"),
        ("new", SHARED, "#new:example.org"),
        ("!other #new", "!other", "#new:example.org"),
        ("https://matrix.to/#/%23new:example.org", SHARED, "#new:example.org"),
    ],
)
def test_one_address_where_one_is_needed_is_not_the_room(
    typed: str, room: object, address: str
) -> None:
    found = arguments(typed, move, room=SHARED)

    assert (found["room"], found["address"]) == (room, address)


def test_elsewhere_the_room_must_be_named_before_an_address() -> None:
    assert "“address” is missing" in str(refusal("#new", move))


def test_options_may_stand_behind_the_rest_of_the_line() -> None:
    found = arguments("!room alice 7 and --the rest of --it --loud --last 2h")

    assert found["words"] == "and --the rest of --it"
    assert (found["loud"], found["last"]) == (True, timedelta(hours=2))
    assert arguments("!room alice 7 say '--loud' to me")["words"] == "say '--loud' to me"


def test_an_option_may_be_named_by_a_word_that_python_keeps() -> None:
    assert arguments("!r #new --for 7d", move)["for_"] == timedelta(days=7)
    assert "--for <duration>" in move.usage


def test_the_room_may_be_left_out_in_a_shared_room_only() -> None:
    assert arguments("alice", room=SHARED)["room"] == SHARED
    assert arguments("!other alice", room=SHARED)["room"] == "!other"
    assert "“alice” is not a room" in str(refusal("alice"))


@pytest.mark.parametrize(
    ("text", "sentence", "under"),
    [
        ("!room alice --colour gren", "did you mean green?", "gren"),
        ("!room alice --colur red", "Did you mean --colour?", "--colur"),
        ("!room а̀lice", "is not a user ID", "а̀lice"),
        ("!room alice many", "is not a whole number", "many"),
        ("!room alice --last soon", "is not a duration", "soon"),
        ("!room alice --since never", "is not a date", "never"),
        ("!room alice --size big", "is not a size", "big"),
        ("!room alice --loud=perhaps", "neither yes nor no", "--loud=perhaps"),
        ("!room alice --loud --loud", "is given twice", "--loud"),
        ("!room alice --last", "needs a value", "--last"),
        ("!room alice --last 999999w999999w", "is too long", "999999w999999w"),
    ],
)
def test_what_is_wrong_is_said_and_pointed_at(text: str, sentence: str, under: str) -> None:
    if not under:
        arguments(text)
        return
    error = refusal(text)

    assert sentence in str(error)
    assert error.caret is not None
    line, caret = error.caret.split("\n")
    start = caret.index("^")
    assert line[start : start + caret.count("^")] == under


def test_too_many_words_and_too_few() -> None:
    one = catalogue().named("user show")
    assert one is not None

    assert "one word too many" in str(refusal("alice bob", one))
    assert "“user” is missing" in str(refusal("", one))


def test_several_people() -> None:
    assert arguments("alice bob", many)["users"] == ("@alice:example.org", "@bob:example.org")
    assert "missing" in str(refusal("", many))


def test_help_is_asked_for_anywhere_but_in_quotes() -> None:
    assert isinstance(bind(everything, parse_line("nonsense? !x --help"), setting()), HelpAsked)
    assert arguments("!room alice 1 '--help'")["words"] == "--help"


def test_after_two_dashes_nothing_is_an_option() -> None:
    assert arguments("!room alice 1 -- --loud")["words"] == "--loud"


def test_secrets_are_not_written_down() -> None:
    bound = bind(everything, parse_line("!room alice --password geheim --loud"), setting())

    assert isinstance(bound, Bound)
    written = without_secrets(bound)
    assert "geheim" not in written
    assert written == "test everything !room @alice:example.org --loud --password (secret)"


@given(st.text(max_size=60), st.sampled_from([*catalogue(), everything, many]), st.booleans())
def test_any_words_give_arguments_or_a_user_error(text: str, of: Command, shared: bool) -> None:
    try:
        bound = bind(of, parse_line(text), setting(room=SHARED if shared else None))
    except UserError:
        return
    if isinstance(bound, Bound):
        without_secrets(bound)
        assert set(bound.arguments) == {one.name for one in of.parameters}


option_like = st.sampled_from(
    ["--last", "--since", "--size", "--event", "--colour", "--admins", "--page", "--csv", "--no-"]
)


@given(st.lists(option_like | st.text(alphabet="0123456789dhmswkMG.:-T $#!@=in", max_size=12)))
def test_any_values_give_arguments_or_a_user_error(parts: list[str]) -> None:
    try:
        bind(everything, parse_line("!room alice 1 " + " ".join(parts)), setting())
        bind(everything, parse_line("!room alice " + "=".join(parts)), setting())
    except UserError:
        pass


@given(st.text(max_size=40))
def test_finding_a_command_gives_one_or_a_user_error(text: str) -> None:
    try:
        line = parse_line(text)
        if line.words:
            catalogue().find(line)
    except UserError:
        pass


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("usr list", "user list"),
        ("user lst", "user list"),
        ("user", "user list"),
        ("hlep", "help"),
        ("room memberz", "room members"),
    ],
)
def test_typing_errors_get_the_nearest_commands(text: str, nearest: str) -> None:
    with pytest.raises(UnknownCommandError) as raised:
        catalogue().find(parse_line(text))

    assert nearest in {one.name for one in raised.value.likely}


def test_the_longest_name_wins_and_case_does_not_matter() -> None:
    found, rest = catalogue().find(parse_line("User LIST --page 2"))

    assert found.name == "user list"
    assert isinstance(rest, Line)
    assert [word.text for word in rest.words] == ["--page", "2"]


def test_the_usage_line() -> None:
    assert everything.usage == (
        "test everything [room] <user> [number] [words…] [--event <event>] [--last <duration>]"
        " [--since <date>] [--size <size>] [--colour <red|green>] [--loud] [--no-tidy]"
        " [--admins] [--password <secret>]"
    )
    assert many.usage == "test many <users…>"


async def test_a_command_gets_its_arguments_as_declared() -> None:
    found = await many.run({AdminReader: None}, {"users": ("@a:b", "@c:d")})

    assert found == answer("@a:b @c:d")


@command("test rooms", who=Role.ANYONE)
async def several_rooms(words: Text = NO_WORDS, *, rooms: Rooms = NO_ROOMS) -> Answer:
    """Take rooms.

    Args:
        words: the rest
        rooms: which
    """
    return answer(f"{words} {rooms}")


@pytest.mark.parametrize(
    "line",
    [
        "test rooms --rooms !a:x #b:x the rest",
        "test rooms --rooms “!a:x, #b:x” the rest",
        "test rooms the rest --rooms !a:x,#b:x",
        "test rooms the rest --rooms=!a:x #b:x !a:x",
    ],
)
def test_an_option_takes_the_rooms_that_follow(line: str) -> None:
    bound = bound_to(several_rooms, line)

    assert list(bound.addresses) == ["#b:x"]
    whole = bound.with_rooms({"#b:x": RoomId("!b:x")})
    assert whole.arguments["rooms"] == ("!a:x", "!b:x")
    assert whole.arguments["words"] == "the rest"
    assert without_secrets(whole) == 'test rooms "the rest" --rooms !a:x !b:x'


def test_an_option_for_rooms_takes_rooms_only() -> None:
    with pytest.raises(UsageError, match="not a room"):
        bound_to(several_rooms, "test rooms --rooms lobby")


def bound_to(given_command: Command, text: str) -> Bound:
    line = parse_line(text)
    bound = bind(given_command, line.after(len(given_command.words)), setting())
    assert isinstance(bound, Bound)
    return bound
