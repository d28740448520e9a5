"""No event stops the archive, makes a line unreadable, or is lost."""

import base64
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditbot.pipeline.hostile import MAX_DEPTH, read_envelope
from auditbot.pipeline.reading import UNREADABLE
from auditbot.pipeline.room_state import fold
from auditbot.recorder import encrypted_event
from common.crypto.port import Reading, Undecryptable, Why
from tests.unit.auditbot.builders import ALICE, ROOM, decrypted, encrypted, event, message, state
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


DEEP = {
    "deeper than we go": b"[" * 70 + b"]" * 70,
    "as deep as a homeserver takes": b'{"a":' * 240 + b"1" + b"}" * 240,
    "deeper than any parser here goes": b"[" * 15_000 + b"]" * 15_000,
    "a number that is too long": b"9" * 20_000,
    "a lone surrogate": b'"\\ud800"',
    "not a number": b"NaN",
    "brackets and quotes in a text": rb'["]}{[\"", {"\\": [' + b"[" * 70 + b"]" * 70 + b"]}]",
}
"""Values that we do not look into, and clients may."""


@pytest.mark.parametrize("name", DEEP)
def test_junk_beside_a_text_does_not_hide_it(name: str) -> None:
    body = message("$1", "find me").replace(
        b'"content": {', b'"content": {"x": ' + DEEP[name] + b", "
    )
    body = body[:-1] + b', "y": ' + DEEP[name] + b"}"

    clear = line_of(body)
    said = line_of(encrypted("$2"), decrypted(body))

    for record in (clear, said):
        assert (record["body"], record["msgtype"]) == ("find me", "m.text")
        assert base64.b64decode(record["raw_b64"]) == body
    assert (clear["event_id"], clear["sender"]) == ("$1", ALICE)


@pytest.mark.parametrize("name", DEEP)
def test_junk_in_a_relation_does_not_hide_it(name: str) -> None:
    content = {
        "body": "* new",
        "m.new_content": {"body": "new", "x": 0},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$0", "x": 0},
    }
    body = event("$1", content).replace(b'"x": 0', b'"x": ' + DEEP[name])

    record = line_of(body)

    assert (record["body"], record["edit_of"]) == ("new", "$0")


def test_junk_in_a_membership_does_not_keep_somebody_in_the_room() -> None:
    leave = state("m.room.member", {"membership": "leave"}, key=ALICE)
    leave = leave.replace(b'"content": {', b'"content": {"x": ' + b"[" * 70 + b"]" * 70 + b", ")

    assert ALICE not in fold(LOBBY, [read_envelope(leave)]).joined


@pytest.mark.parametrize("name", DEEP)
def test_junk_beside_a_ciphertext_is_kept_when_the_message_was_read(name: str) -> None:
    body = encrypted("$1").replace(b'"content": {', b'"content": {"x": ' + DEEP[name] + b", ")

    record = line_of(body, decrypted(b'{"type":"m.room.message","content":{"body":"a"}}'))

    assert base64.b64decode(json.loads(record["detail_json"])["wire_b64"]) == body
    assert (record["body"], record["enc_algorithm"]) == ("a", "m.megolm.v1.aes-sha2")


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


@settings(deadline=None)
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


junk = st.one_of(
    json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(sorted(DEEP)).map(DEEP.__getitem__),
    st.integers(65, 300).map(lambda depth: b"[" * depth + b"]" * depth),
)
WANTED = ("algorithm", "ciphertext", "session_id", "sender_key", "device_id", "m.relates_to")


@settings(deadline=None)
@given(
    around=st.lists(junk, max_size=3),
    beside=st.lists(junk, max_size=3),
    name=st.text(st.characters(codec="ascii"), max_size=4).map(lambda text: f"x{text}"),
)
def test_no_junk_keeps_a_ciphertext_from_being_decrypted(
    around: list[bytes], beside: list[bytes], name: str
) -> None:
    whole = json.loads(encrypted("$1"))
    whole["content"]["m.relates_to"] = {"rel_type": "m.thread", "event_id": "$0"}

    def members(values: list[bytes]) -> bytes:
        return b"".join(
            json.dumps(f"{name}{number}").encode() + b":" + value + b","
            for number, value in enumerate(values)
        )

    body = json.dumps(whole).encode()
    body = body.replace(b'"content": {', b'"content": {' + members(beside))
    body = b"{" + members(around) + body[1:]

    found = encrypted_event(read_envelope(body))

    assert found is not None
    assert (found.event_id, found.room_id, found.sender) == ("$1", ROOM, ALICE)
    assert {name: found.content.get(name) for name in WANTED} == whole["content"]


@settings(deadline=None)
@given(body=hostile_bytes)
def test_no_event_stops_the_decryption(body: bytes) -> None:
    found = encrypted_event(read_envelope(body))

    assert found is None or (found.event_id and found.room_id and found.sender)


@settings(deadline=None)
@given(bodies=st.lists(hostile_bytes, max_size=5))
def test_no_state_event_breaks_the_room(bodies: list[bytes]) -> None:
    room = fold(LOBBY, map(read_envelope, bodies))

    record = line_of(message("$1"), room=room)

    assert record["room_id"] == ROOM
