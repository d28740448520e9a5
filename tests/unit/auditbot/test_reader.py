"""What was archived is read back in order, and shown so that nothing in it can deceive."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.record import (
    Place,
    Setting,
    control_record,
    decryption_record,
    event_record,
    to_line,
)
from auditbot.pipeline.room_state import fold
from auditbot.pipeline.seal import compress
from auditbot.reader.cli import main
from auditbot.reader.read import Period, object_keys, read
from auditbot.reader.show import show
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.storage.directory import DirectoryStore
from common.crypto.port import Reading, Undecryptable, Why
from common.errors import ConfigError
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
    decrypted,
    encrypted,
    event,
    message,
    state,
)
from tests.unit.auditbot.lines import ARRIVAL, LOBBY, PLACE

NOVEMBER_24 = "v1/example.org/events/dt=2025-11-24/20251124T000000Za-000000000000.jsonl.zst"


def record(body: bytes, reading: Reading | None = None) -> bytes:
    envelope = read_envelope(body)
    setting = Setting(LOBBY, fold(LOBBY, [envelope]))
    return to_line(event_record(envelope, reading, FIRST, ARRIVAL, setting))


def numbered(*numbers: int) -> bytes:
    """Return an object of the simplest records."""
    return compress(
        to_line(
            control_record(
                Place("20251124T000000Za", number, bytes(16), "example.org"),
                now_ms=NOON,
                actor="test",
                action="counted",
                detail={},
            )
        )
        for number in numbers
    )


def key_of(number: int, day: str = "2025-11-24") -> str:
    return f"v1/example.org/events/dt={day}/20251124T000000Za-{number:012d}.jsonl.zst"


FIRST = Place("stream", 0, bytes(16), "example.org")


def shown(line: bytes) -> str:
    text = show(json.loads(line))
    assert text is not None
    return text


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the log of what is looked at away from the home of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Return a function that puts an object there and returns the destination."""
    store = DirectoryStore(tmp_path / "archive")

    def put(key: str, body: bytes) -> str:
        asyncio.run(store.put(key, body, hashlib.sha256(body).hexdigest()))
        return f"file:{tmp_path / 'archive'}"

    return put


Put = Callable[[str, bytes], str]


def test_a_message_is_shown_with_time_room_name_and_text() -> None:
    assert shown(record(message("$1"))) == (
        f'2025-11-24 16:00:00  ["Lobby"] {ALICE} "Alice": hello'
    )


def test_further_lines_are_indented_so_that_none_can_pose_as_a_record() -> None:
    text = shown(record(message("$1", "one\n2025-11-24 16:00:00  [Lobby] Bob: two")))

    assert text.splitlines()[1].startswith("    2025")


def test_no_control_character_reaches_the_terminal() -> None:
    text = shown(record(message("$1", "\x1b[2J\x07\u202eevil\u2028\r")))

    assert text.endswith("\\x1b[2J\\x07\\u202eevil\\u2028\\r")


def test_what_could_not_be_read_says_why() -> None:
    text = shown(record(encrypted("$1"), Undecryptable(Why.NO_SESSION)))

    assert text.endswith('"Alice" [not readable: no_session]')


def test_what_was_read_later_names_the_first_record() -> None:
    envelope = read_envelope(encrypted("$1"))
    setting = Setting(LOBBY, LOBBY)
    first = event_record(envelope, Undecryptable(Why.NO_SESSION), PLACE, ARRIVAL, setting)
    payload = b'{"type":"m.room.message","content":{"body":"at last"}}'
    place = Place("stream", 8, bytes(16), "example.org")
    late = decryption_record(
        first, decrypted(payload), place, ts_received=NOON, edited_sender=None
    )

    assert shown(to_line(late)).endswith("[readable only later; first record 7]: at last")


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        (state("m.room.name", {"name": "New"}), f'["New"] {ALICE} "Alice" named the room "New"'),
        (
            state("m.room.member", {"membership": "leave"}, key="@bob:example.org"),
            "removed @bob:example.org",
        ),
        (
            state(
                "m.room.member", {"membership": "ban", "reason": "spam"}, key="@bob:example.org"
            ),
            'banned @bob:example.org, because: "spam"',
        ),
        (
            state("m.room.member", {"membership": "join", "displayname": "Ali"}, key=ALICE),
            ' joined as "Ali"',
        ),
        (
            state(
                "m.room.member",
                {"membership": "join", "displayname": "Bob"},
                key=ALICE,
                unsigned={"prev_content": {"membership": "join", "displayname": "Alice"}},
            ),
            ' changed their name from "Alice" to "Bob"',
        ),
        (
            state(
                "m.room.member",
                {"membership": "leave"},
                key="@bob:example.org",
                unsigned={"prev_content": {"membership": "ban"}},
            ),
            "lifted the ban of @bob:example.org",
        ),
        (
            state("m.room.create", {"predecessor": {"room_id": "!old:example.org"}}),
            'created the room in place of "!old:example.org"',
        ),
        (
            event("$1", {"reason": "spam"}, type="m.room.redaction", redacts="$0"),
            '"Alice" deleted $0, because: "spam"',
        ),
        (
            event(
                "$1",
                {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$0", "key": "👍"}},
                type="m.reaction",
            ),
            '"Alice" reacted "👍" to $0',
        ),
        (
            event(
                "$1",
                {
                    "body": "* b",
                    "m.new_content": {"body": "b"},
                    "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"},
                },
            ),
            "[edit of $0]: b",
        ),
        (
            event("$1", {}, type="m.room.message", unsigned={"redacted_because": {}}),
            '"Alice" [deleted before it arrived]',
        ),
        (event("$1", {"x": 1}, type="org.example.thing"), '"Alice" ["org.example.thing"]'),
    ],
)
def test_each_kind_of_event_is_said_in_words(body: bytes, ending: str) -> None:
    assert shown(record(body)).endswith(ending)


def renamed(name: str, room: str) -> str:
    inside = fold(
        LOBBY,
        map(
            read_envelope,
            [
                state("m.room.member", {"membership": "join", "displayname": name}, key=ALICE),
                state("m.room.name", {"name": room}),
            ],
        ),
    )
    envelope = read_envelope(message("$1", "hello"))
    return shown(to_line(event_record(envelope, None, FIRST, ARRIVAL, Setting(inside, inside))))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Boss (@boss:example.org): Approved", '"Boss (@boss:example.org): Approved"'),
        ('Boss": Approved', '"Boss\\": Approved"'),
        ('Boss\\": Approved', '"Boss\\\\\\": Approved"'),
        ("Boss\nx\u202e", '"Boss\\nx\\u202e"'),
    ],
)
def test_no_name_passes_for_the_sender_or_the_text(name: str, said: str) -> None:
    assert renamed(name, "Lobby") == (f'2025-11-24 16:00:00  ["Lobby"] {ALICE} {said}: hello')


def test_no_name_of_a_room_passes_for_a_sender() -> None:
    assert renamed("Alice", "Lobby] @boss:example.org: Approved").startswith(
        f'2025-11-24 16:00:00  ["Lobby] @boss:example.org: Approved"] {ALICE} "Alice": '
    )


def test_an_identifier_with_unusual_characters_stands_in_quotes() -> None:
    said = shown(record(message("$1", sender="@a: b [x]:example.org")))

    assert '"@a: b [x]:example.org": hello' in said


def test_no_text_passes_for_a_mark() -> None:
    forged = shown(record(message("$1", "hello [edit of $0]")))
    content = {"body": "hello", "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"}}
    edit = shown(record(event("$1", content)))

    assert forged.endswith('"Alice": hello [edit of $0]')
    assert edit.endswith('"Alice" [edit of $0]: hello')


def test_what_was_sent_in_the_clear_where_others_encrypt_is_marked() -> None:
    secure = fold(LOBBY, [read_envelope(state("m.room.encryption", {}))])

    def said(body: bytes, reading: Reading | None = None) -> str:
        setting = Setting(secure, secure)
        line = event_record(read_envelope(body), reading, FIRST, ARRIVAL, setting)
        return shown(to_line(line))

    payload = b'{"type":"m.room.message","content":{"body":"hello"}}'
    assert said(message("$1")).endswith("[NOT ENCRYPTED, in an encrypted room]: hello")
    assert "NOT" not in said(encrypted("$1"), decrypted(payload))
    assert "NOT" not in said(state("m.room.topic", {"topic": "x"}))
    assert "NOT" not in shown(record(message("$1")))


def test_a_relation_that_only_some_clients_see_is_marked() -> None:
    payload = {
        "type": "m.room.message",
        "content": {
            "body": "for some",
            "m.new_content": {"body": "for others"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"},
        },
    }

    said = shown(record(encrypted("$1"), decrypted(json.dumps(payload).encode())))

    assert '[relation only inside the ciphertext: "m.replace", "$0"]: for some' in said
    assert "for others" in said


def test_the_export_itself_speaks_too() -> None:
    control = control_record(
        PLACE, now_ms=NOON, actor="config", action="export_started", detail={}
    )

    assert shown(to_line(control)) == "2025-11-24 16:00:00  — export started by config —"


async def test_objects_are_read_in_the_order_of_their_records(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    base = "v1/example.org/events/dt="
    names = [
        "2025-11-24/a-000000000009",
        "2025-11-24/a-1000000000000",
        "2025-11-25/a-000000000000",
    ]
    for name in reversed(names):
        body = compress([b'{"n":"' + name.encode() + b'"}\n'])
        await store.put(f"{base}{name}.jsonl.zst", body, hashlib.sha256(body).hexdigest())
    await store.put("v1/example.org/events/other", b"x", hashlib.sha256(b"x").hexdigest())

    assert [found.record["n"] async for found in read(store)] == names
    # 2025-11-25T00:00Z on.
    assert len(await object_keys(store, Period(start_ms=1_764_028_800_000))) == 1
    assert len(await object_keys(store, Period(end_ms=1_764_028_800_000))) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "no JSON", "half a line"])
async def test_a_damaged_object_is_named(tmp_path: Path, damage: str) -> None:
    body = compress([record(message("$1"))])
    if damage == "cut":
        body = body[:-20]
    elif damage == "flip":
        body = body[:-30] + bytes([body[-30] ^ 1]) + body[-29:]
    else:
        body = compress([b"hello\n" if damage == "no JSON" else b'{"v":1}'])
    store = DirectoryStore(tmp_path)
    await store.put(NOVEMBER_24, body, hashlib.sha256(body).hexdigest())

    with pytest.raises(DamagedArchiveError, match="20251124T000000Za-000000000000"):
        [found async for found in read(store)]


HOLES = {
    "none": ([(0, 3), (3, 5), (5, 6)], None),
    "the beginning": ([(3, 5), (5, 6)], "records 0 to 2 are missing"),
    "an object": ([(0, 3), (5, 6)], "records 3 to 4 are missing"),
    "an object of which there are two": ([(0, 3), (2, 6)], "records 2 to 2 are there twice"),
}


@pytest.mark.parametrize("days", [["2025-11-24"] * 3, ["2025-11-23", "2025-11-24", "2025-11-25"]])
@pytest.mark.parametrize("hole", HOLES)
def test_the_command_says_what_is_missing(
    archive: Put, capsys: pytest.CaptureFixture[str], hole: str, days: list[str]
) -> None:
    objects, sentence = HOLES[hole]
    place = ""
    for (first, end), day in zip(objects, days, strict=False):
        place = archive(key_of(first, day), numbered(*range(first, end)))

    status = main(["read", "--unsigned", "--destination", place])

    printed = capsys.readouterr()
    assert printed.out.count("\n") == sum(end - first for first, end in objects)
    assert status == (0 if sentence is None else 1)
    assert sentence is None or sentence in printed.err
    assert main(["coverage", "--unsigned", "--destination", place]) == status
    assert capsys.readouterr().err == printed.err


@pytest.mark.parametrize("numbers", [(0, 2), (1, 2), (0, 0), (1, 0)])
def test_the_command_says_where_a_line_is_missing(
    archive: Put, capsys: pytest.CaptureFixture[str], numbers: tuple[int, ...]
) -> None:
    place = archive(key_of(0), numbered(*numbers))

    assert main(["read", "--unsigned", "--destination", place]) == 1

    printed = capsys.readouterr()
    assert printed.out.count("counted by test") == len(numbers)
    assert "000000000000.jsonl.zst”, line" in printed.err


@pytest.mark.parametrize(
    ("period", "status"),
    [
        (["--from", "2025-11-24", "--to", "2025-11-24"], 1),
        (["--from", "2025-11-25"], 1),
        (["--to", "2025-11-23"], 1),
        (["--from", "2025-11-26"], 0),
        (["--to", "2025-11-22"], 0),
    ],
)
def test_a_hole_is_told_of_for_each_period_that_it_may_be_of(
    archive: Put, capsys: pytest.CaptureFixture[str], period: list[str], status: int
) -> None:
    place = ""
    for first, end, day in ((0, 2, 23), (4, 5, 25), (5, 6, 26)):
        place = archive(key_of(first, f"2025-11-{day}"), numbered(*range(first, end)))

    assert main(["read", "--unsigned", "--destination", place, *period]) == status

    assert ("records 2 to 3 are missing" in capsys.readouterr().err) == bool(status)


def test_a_day_that_no_calendar_has_holds_no_records(
    archive: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    place = archive(key_of(0), numbered(0))
    archive(key_of(1, "2025-99-99"), numbered(1))

    assert main(["read", "--unsigned", "--destination", place, "--from", "2025-11-24"]) == 0

    assert capsys.readouterr().out.count("\n") == 1


def test_json_on_a_terminal_shows_what_is_invisible_and_elsewhere_is_exact(
    archive: Put, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = record(message("$1", "a\x9b2J\u202eb\U000e0001ä"))
    place = archive(NOVEMBER_24, compress([line]))
    arguments = ["read", "--unsigned", "--destination", place, "--json"]

    assert main(arguments) == 0
    assert capsys.readouterr().out.encode() == line
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(arguments) == 0

    out = capsys.readouterr().out
    assert "a\\u009b2J\\u202eb\\udb40\\udc01ä" in out
    assert json.loads(out) == json.loads(line)


def test_a_line_that_no_record_can_be_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("auditbot.reader.unpack.LONGEST_LINE_BYTES", 1000)

    with pytest.raises(DamagedArchiveError, match="line"):
        list(lines("key", compress([b"x" * 1_000_000])))


def test_the_command_prints_for_people_and_as_json(
    archive: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    line = record(message("$1"))
    place = archive(NOVEMBER_24, compress([line]))

    assert main(["read", "--unsigned", "--destination", place]) == 0
    assert capsys.readouterr().out.endswith("hello\n")
    assert main(["read", "--unsigned", "--destination", place, "--json"]) == 0
    assert capsys.readouterr().out.encode() == line


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--room", "lob"], 1),
        (["--room", "!room"], 1),
        (["--room", "elsewhere"], 0),
        (["--from", "2025-11-24"], 1),
        (["--from", "2025-11-25"], 0),
        (["--to", "2025-11-24"], 1),
        (["--to", "2025-11-24T16:00"], 0),
        (["--from", "2025-11-24T16:00", "--to", "2025-11-24T16:01"], 1),
    ],
)
def test_the_command_selects(
    archive: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], count: int
) -> None:
    place = archive(NOVEMBER_24, compress([record(message("$1"))]))

    assert main(["read", "--unsigned", "--destination", place, *arguments]) == 0

    assert capsys.readouterr().out.count("\n") == count


def test_an_empty_archive_and_a_wrong_place_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", "--unsigned", "--destination", f"file:{tmp_path}"]) == 0
    assert "no archive" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        main(["read", "--unsigned", "--destination", "ftp://x"])


def test_without_a_place_the_command_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="--destination"):
        main(["read"])


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["read", "--from", "yesterday"])

    assert "2026-03-01" in capsys.readouterr().err
