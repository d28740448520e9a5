"""No event stops the archive, makes a line unreadable, or is lost."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.pipeline.hostile import MAX_DEPTH, read_envelope
from auditbot.pipeline.record import UNREADABLE
from auditbot.pipeline.room_state import fold
from common.crypto.port import Reading, Undecryptable, Why
from tests.unit.auditbot.builders import ALICE, ROOM, decrypted, encrypted, message
from tests.unit.auditbot.lines import LOBBY, line_of

HOSTILE = {
    "lone surrogate": b'{"type":"m.room.message","content":{"body":"a\\ud800b"}}',
    "no UTF-8": b'{"type":"m.room.message","content":{"body":"a\xffb"}}',
    "not a number": b'{"type":"m.room.message","content":{"body":"ab","x":NaN}}',
    "beyond doubles": b'{"type":"m.room.message","content":{"body":"ab","x":1e400}}',
}
UNPARSABLE = {
    "no JSON": b"hello",
    "empty": b"",
    "too deep": b'{"type":"x","content":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    "just too deep": b'{"content":' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}",
    "far too deep": b"[" * 100_000,
    "huge number": b'{"content":{"n":' + b"9" * 20_000 + b"}}",
    "too large": b'{"content":{"body":"' + b"x" * 1_100_000 + b'"}}',
    "a list": b"[1, 2]",
    "content of the wrong type": b'{"type":"m.room.message","content":[1]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_text_stays_searchable_and_its_exact_bytes_are_kept(name: str) -> None:
    record = line_of(encrypted("$1"), decrypted(HOSTILE[name]))

    assert record["body"] in {"ab", "a\N{REPLACEMENT CHARACTER}b"}
    assert record["event_json"] is None
    assert base64.b64decode(record["raw_b64"]) == HOSTILE[name]


@pytest.mark.parametrize("name", UNPARSABLE)
def test_what_exceeds_the_limits_gets_a_notice_and_its_exact_bytes(name: str) -> None:
    record = line_of(encrypted("$1"), decrypted(UNPARSABLE[name]))

    assert record["body"] == UNREADABLE
    assert record["event_json"] is None
    assert base64.b64decode(record["raw_b64"]) == UNPARSABLE[name]
    assert record["payload_sha256"] == hashlib.sha256(UNPARSABLE[name]).hexdigest()


@pytest.mark.parametrize("name", UNPARSABLE)
def test_an_event_that_is_none_is_recorded_too(name: str) -> None:
    record = line_of(UNPARSABLE[name])

    assert base64.b64decode(record["raw_b64"]) == UNPARSABLE[name]


def test_an_event_whose_content_is_too_deep_keeps_its_envelope() -> None:
    body = message("$1").replace(b'"hello"', b"[" * 900 + b"]" * 900)

    record = line_of(body)

    assert (record["event_id"], record["sender"], record["body"]) == ("$1", ALICE, UNREADABLE)
    assert base64.b64decode(record["raw_b64"]) == body


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)
FIELDS = (
    "type",
    "event_id",
    "room_id",
    "sender",
    "state_key",
    "origin_server_ts",
    "content",
    "unsigned",
    "redacts",
)
INNER = (
    "body",
    "msgtype",
    "m.relates_to",
    "m.new_content",
    "url",
    "file",
    "info",
    "membership",
    "displayname",
)
contents = st.fixed_dictionaries({}, optional=dict.fromkeys(INNER, json_values)) | json_values
hostile_events = st.fixed_dictionaries(
    {},
    optional={name: contents if name == "content" else json_values for name in FIELDS}
    | {
        "type": st.sampled_from(
            ["m.room.member", "m.room.create", "m.room.redaction", "m.room.encrypted"]
        )
        | json_values,
        "state_key": st.just("") | json_values,
    },
).map(lambda value: json.dumps(value).encode())
hostile_bytes = hostile_events | st.binary(max_size=200)
readings = st.one_of(
    st.none(),
    hostile_bytes.map(decrypted),
    st.sampled_from(Why).map(Undecryptable),
)


@given(body=hostile_bytes, reading=readings)
def test_no_event_stops_the_archive_and_each_gives_one_sound_line(
    body: bytes, reading: Reading | None
) -> None:
    record = line_of(body, reading)

    clear = body if reading is None else getattr(reading, "payload", None)
    if clear is None:
        exact = record["wire_json"]
    else:
        assert record["payload_sha256"] == hashlib.sha256(clear).hexdigest()
        exact = record["event_json"]
    # Nothing is lost: the exact bytes are there, as text or encoded.
    kept = base64.b64decode(record["raw_b64"]) if exact is None else exact.encode()
    assert kept == (body if clear is None else clear)


@given(bodies=st.lists(hostile_bytes, max_size=5))
def test_no_state_event_breaks_the_room(bodies: list[bytes]) -> None:
    room = fold(LOBBY, map(read_envelope, bodies))

    record = line_of(message("$1"), room=room)

    assert record["room_id"] == ROOM
