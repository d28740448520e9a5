"""What is sealed of a record and what remains: decided for every field, and nothing slips through."""

import base64
import hashlib
import json

import msgspec
import pyrage
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditbot.content_sealing import said_at
from auditbot.pipeline.line import Record, to_line
from auditbot.pipeline.sealing import (
    SEALED_FIELDS,
    TREATMENT,
    Scope,
    Treatment,
    is_label,
    scope_of,
    sealed_line,
    split,
)
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader import sealed as reader
from auditbot.reader.handover import verify as handed
from auditbot.reader.layout import is_content_key, is_media, wrapped_key_of
from auditbot.reader.sealed import Contents, Wrapped
from auditbot.reader.unpack import DamagedArchiveError

SALT = bytes(range(16))
STREAM = "20261126T133119Z1a2b3c"
NAME = f"v1/example.org/keys/content-{STREAM}-2026-11-26-default-1.age"
OFFICER = pyrage.x25519.Identity.generate()
KEY = pyrage.x25519.Identity.generate()
WRAPPED = bytes(pyrage.encrypt(f"{KEY}\n".encode(), [OFFICER.to_public()]))


def record(**fields: object) -> Record:
    known: dict[str, object] = {
        "kind": "event",
        "stream": STREAM,
        "seq": 7,
        "salt": "c2FsdA==",
        "ts_received": 20_000 * DAY_MS + 5,
        "server_name": "example.org",
        "room_id": "!room",
        "sender": "@alice:example.org",
        "retention_class": "default",
    }
    return Record(**{**known, **fields})  # type: ignore[arg-type]  # any of the fields


def sealed_part(content: bytes) -> str:
    packed = zstandard.ZstdCompressor().compress(content)
    return base64.b64encode(pyrage.encrypt(packed, [KEY.to_public()])).decode()


def line_of(one: Record) -> bytes:
    """Return a record's line as it is stored."""
    parts = split(one, SALT, per_person=False)
    assert parts.content is not None
    sealed = sealed_part(parts.content)
    return sealed_line(parts.bare, sealed, hashlib.sha256(parts.content).hexdigest(), NAME)


def opening(*identities: pyrage.x25519.Identity, wrapped: bytes | None = WRAPPED) -> Contents:
    return Contents([str(one) for one in identities], lambda _: Wrapped(wrapped))


def test_every_field_has_a_decision_and_no_other_has() -> None:
    assert list(TREATMENT) == list(Record.__struct_fields__)


def test_whoever_reads_and_whoever_checks_know_the_same_fields() -> None:
    assert frozenset(SEALED_FIELDS) == reader.FIELDS
    assert tuple(sorted(SEALED_FIELDS)) == handed.SEALED_FIELDS


def test_what_says_something_is_sealed_and_what_tells_of_it_remains() -> None:
    assert {
        name for name, how in TREATMENT.items() if how is Treatment.SEALED
    } == {
        "body", "reaction_key", "redaction_reason", "media_name", "media_sha256",
        "media_cipher_sha256", "media_mxc", "event_json", "wire_json", "raw_b64",
        "payload_sha256",
    }  # fmt: skip
    assert [name for name, how in TREATMENT.items() if how is Treatment.BY_KIND] == ["detail_json"]


@pytest.mark.parametrize("name", [n for n, how in TREATMENT.items() if how is Treatment.SEALED])
def test_no_trace_of_a_sealed_field_is_in_the_line(name: str) -> None:
    line = line_of(record(**{name: "the quick brown fox"}))

    assert b"quick" not in line
    assert json.loads(line)[name] is None


@pytest.mark.parametrize(
    ("fields", "remains", "sealed"),
    [
        ({"kind": "event", "detail_json": '{"wire_b64":"x"}'}, None, True),
        (
            {"kind": "decryption", "detail_json": '{"reply_to":"x","of_stream":"s"}'},
            '{"of_stream":"s"}',
            True,
        ),
        ({"kind": "decryption", "detail_json": '{"of_stream":"s"}'}, '{"of_stream":"s"}', False),
        ({"kind": "audience", "detail_json": '{"members":[]}'}, '{"members":[]}', False),
        ({"kind": "gap", "detail_json": '{"a":"b"}'}, '{"a":"b"}', False),
        (
            {"kind": "control", "action": "admin_action", "detail_json": '{"command":"x"}'},
            None,
            True,
        ),
        (
            {"kind": "control", "action": "erasure", "detail_json": '{"days":[]}'},
            '{"days":[]}',
            False,
        ),
    ],
)
def test_details_are_sealed_where_they_repeat_what_was_said(
    fields: dict[str, object], remains: str | None, sealed: bool
) -> None:
    parts = split(record(**fields), SALT, per_person=False)

    assert parts.bare.detail_json == remains
    assert (parts.content is not None) == sealed
    if parts.content is not None:
        assert json.loads(parts.content)["detail_json"] == fields["detail_json"]


def test_a_record_without_content_has_no_seal_and_all_its_fields() -> None:
    one = record(kind="graph")
    parts = split(one, SALT, per_person=False)

    line = json.loads(sealed_line(parts.bare, None, None, None))

    assert parts.content is None
    assert [line.pop(name) for name in ("sealed", "sealed_sha256", "sealed_to")] == [None] * 3
    assert line == json.loads(to_line(one))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(body=texts, name=texts, event=texts)
def test_what_is_opened_is_what_was_sealed(body: str, name: str, event: str) -> None:
    one = record(body=body, media_name=name, event_json=event)
    line = line_of(one)

    opened = opening(OFFICER).open(json.loads(line))

    assert line.count(b"\n") == 1
    assert opened.content is not None
    assert b"\n" not in opened.content
    left = {n: v for n, v in opened.record.items() if not n.startswith("sealed")}
    assert left == json.loads(to_line(one))
    assert hashlib.sha256(opened.content).hexdigest() == json.loads(line)["sealed_sha256"]


def test_nobody_can_guess_a_short_message_from_its_hash() -> None:
    digests = set()
    for salt in (SALT, bytes(16)):
        content = split(record(body="ok"), salt, per_person=False).content
        assert content is not None
        assert base64.b64encode(salt) in content
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 2


def test_without_a_key_a_record_says_that_its_content_is_sealed_or_erased() -> None:
    line = json.loads(line_of(record(body="hello")))
    erased = Contents([str(OFFICER)], lambda _: Wrapped(None, is_erased=True))

    for contents, words in (
        (opening(), "content sealed"),
        (opening(wrapped=None), "content sealed"),
        (opening(OFFICER, wrapped=None), "content sealed, and its key is not here"),
        (erased, "content erased"),
    ):
        opened = contents.open(line)
        assert (opened.content, opened.record["body"]) == (None, None)
        assert reader.unopened(opened.record) == words
        assert opened.record["sender"] == "@alice:example.org"


def other(content: bytes, **changes: object) -> dict[str, object]:
    """Return a line that seals this content, whatever it is."""
    line = json.loads(line_of(record(body="hello")))
    line["sealed"] = sealed_part(content)
    line["sealed_sha256"] = hashlib.sha256(content).hexdigest()
    return {**line, **changes}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (other(b"[]"), "of another record"),
        (other(b'{"stream":"x","seq":7}'), "of another record"),
        (other(json.dumps({"stream": STREAM, "seq": 8}).encode()), "of another record"),
        (
            other(json.dumps({"stream": STREAM, "seq": 7, "sender": "@bob:x"}).encode()),
            "no content",
        ),
        (
            other(json.dumps({"stream": STREAM, "seq": 7, "body": "b"}).encode(), body="a"),
            "no content",
        ),
        (other(b"x", sealed_sha256="0" * 64), "not what the line says"),
        (other(b"x", sealed="?"), "cannot be opened"),
        (other(b"x", sealed="AAAA"), "cannot be opened"),
        (other(b"x", sealed_to="../../etc/passwd"), "does not say which key"),
        (other(b"x", sealed_to=None), "does not say which key"),
    ],
)
def test_what_is_not_this_records_content_is_never_shown(
    line: dict[str, object], words: str
) -> None:
    with pytest.raises(DamagedArchiveError, match=words):
        opening(OFFICER).open(line)


@pytest.mark.parametrize(
    "packed", [b"no zstd", b"", zstandard.ZstdCompressor().compress(bytes(2**27))]
)
def test_what_unpacks_to_more_than_a_record_or_is_no_zstd_is_told(packed: bytes) -> None:
    sealed = base64.b64encode(pyrage.encrypt(packed, [KEY.to_public()])).decode()
    with pytest.raises(DamagedArchiveError, match="cannot be opened"):
        opening(OFFICER).open(other(b"x", sealed=sealed))


def test_somebody_elses_identity_is_told() -> None:
    stranger = pyrage.x25519.Identity.generate()
    with pytest.raises(DamagedArchiveError, match="None of the identities that you named opens"):
        opening(stranger).open(json.loads(line_of(record(body="hello"))))


@pytest.mark.parametrize(
    ("fields", "per_person", "scope"),
    [
        ({}, False, Scope(20_000, "default", None)),
        ({"retention_class": "legal"}, False, Scope(20_000, "legal", None)),
        ({"retention_class": None}, False, Scope(20_000, "default", None)),
        ({}, True, Scope(None, None, "@alice:example.org")),
        ({"sender": None}, True, Scope(20_000, "default", None)),
    ],
)
def test_the_key_of_a_record_is_that_of_its_day_and_class_or_of_its_sender(
    fields: dict[str, object], per_person: bool, scope: Scope
) -> None:
    assert scope_of(record(**fields), per_person=per_person) == scope


def test_names_of_keys_and_of_what_they_open_belong_together() -> None:
    person = "0123456789abcdef" * 2
    for scope in ("2026-11-26-default-1", f"{person}-12"):
        key = f"v1/example.org/keys/content-{STREAM}-{scope}.age"
        media = f"v1/example.org/media/ab/{'ab' * 32}-{STREAM}-{scope}.age"
        assert is_content_key(key)
        assert is_media(media)
        assert wrapped_key_of(media) == key
    for wrong in (f"{person[:-1]}-1", "2026-11-26-1", "2026-11-26-De fault-1", person):
        assert not is_content_key(f"v1/example.org/keys/content-{STREAM}-{wrong}.age")
    assert [is_label(text) for text in ("default", "a_1", "", "A", "a-b", "ä", "a" * 41)] == [
        True, True, False, False, False, False, False,
    ]  # fmt: skip


def test_a_line_from_before_is_read_as_ever() -> None:
    line = msgspec.json.decode(to_line(record(body="hello")))
    assert opening().open(line) == (line, None)


@pytest.mark.parametrize(
    ("fields", "per_person", "expected"),
    [
        ({"of_seq": 3}, True, 3),
        ({"of_seq": 3}, False, 9),
        ({}, True, 9),
        ({"of_seq": 3, "detail_json": '{"of_stream":"earlier"}'}, True, 9),
    ],
)
def test_what_is_learnt_late_of_an_erased_person_has_the_key_that_was_destroyed(
    fields: dict[str, object], per_person: bool, expected: int
) -> None:
    parts = split(record(seq=9, **fields), SALT, per_person=per_person)

    assert said_at(parts) == expected
