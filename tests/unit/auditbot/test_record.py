"""Whatever an event holds, there is one sound line of it, and nothing of it is lost."""

import base64
import hashlib
import json

import msgspec
import pytest

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.reading import attachment_of
from auditbot.pipeline.record import (
    Place,
    Record,
    audience_record,
    control_record,
    decryption_record,
    from_line,
    to_line,
)
from auditbot.pipeline.room_state import RoomContext, fold
from common.crypto.port import Undecryptable, Why
from tests.unit.auditbot.builders import (
    ALICE,
    NOON,
    ROOM,
    decrypted,
    encrypted,
    event,
    message,
    state,
)
from tests.unit.auditbot.lines import ARRIVAL, LOBBY, PLACE, SPECIFIED, line_of


def test_a_message_has_its_room_its_people_and_its_text() -> None:
    body = message("$1")

    record = line_of(body)

    assert record["kind"] == "event"
    assert (record["stream"], record["seq"]) == ("stream", 7)
    assert base64.b64decode(record["salt"]) == bytes(16)
    assert (record["body"], record["msgtype"]) == ("hello", "m.text")
    assert (record["room_name"], record["room_version"]) == ("Lobby", "12")
    assert (record["sender"], record["sender_name"]) == (ALICE, "Alice")
    assert record["sender_server"] == "example.org"
    assert (record["audience_count"], record["audience_basis"]) == (2, "stream_order")
    assert record["enc_status"] == "clear"
    assert record["ts_skew"] == 5
    assert record["time_utc"] == "2025-11-24T16:00:00.000Z"
    assert record["event_json"] == body.decode()
    assert record["payload_sha256"] == hashlib.sha256(body).hexdigest()


def test_a_decrypted_message_keeps_ciphertext_and_exact_plaintext() -> None:
    payload = b'{"type":"m.room.message", "content":{"msgtype":"m.text","body":"secret"}}'

    record = line_of(encrypted("$1"), decrypted(payload))

    assert (record["enc_status"], record["body"]) == ("decrypted", "secret")
    assert record["event_type"] == "m.room.message"
    assert record["event_json"] == payload.decode()
    assert record["payload_sha256"] == hashlib.sha256(payload).hexdigest()
    assert record["wire_json"] == encrypted("$1").decode()
    assert (record["enc_trust"], record["enc_index"]) == ("cross_signed", 3)


def test_what_cannot_be_decrypted_is_recorded_with_its_cause_and_ciphertext() -> None:
    record = line_of(encrypted("$1"), Undecryptable(Why.WITHHELD_UNVERIFIED))

    assert (record["enc_status"], record["enc_error"]) == ("undecryptable", "withheld_unverified")
    assert record["wire_json"] == encrypted("$1").decode()
    assert record["enc_session_id"] == "session"
    assert record["body"] is record["event_json"] is record["payload_sha256"] is None


def test_a_late_key_gives_a_second_record_that_points_to_the_first() -> None:
    first = from_line(json.dumps(line_of(encrypted("$1"), Undecryptable(Why.NO_SESSION))).encode())
    payload = b'{"type":"m.room.message","content":{"body":"late"}}'
    place = Place("stream", 9, bytes(16), "example.org")

    record = decryption_record(
        first, decrypted(payload), place, ts_received=NOON + 60_000, edited_sender=None
    )

    assert (record.kind, record.seq, record.of_seq) == ("decryption", 9, 7)
    assert (record.enc_status, record.enc_error, record.body) == ("late", None, "late")
    assert record.room_name == "Lobby"
    assert record.event_id == "$1"
    assert record.detail_json is None


def test_a_late_key_after_a_change_of_destination_names_the_old_stream() -> None:
    first = from_line(json.dumps(line_of(encrypted("$1"), Undecryptable(Why.NO_SESSION))).encode())
    place = Place("newer", 2, bytes(16), "example.org")

    record = decryption_record(
        first, decrypted(b"{}"), place, ts_received=NOON, edited_sender=None
    )

    assert record.detail_json == '{"of_stream":"stream"}'


def test_an_edit_shows_the_new_text_and_whether_its_author_wrote_the_original() -> None:
    content = {
        "body": "* new",
        "m.new_content": {"body": "new"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"},
    }

    own = line_of(event("$1", content), edited_sender=ALICE)
    foreign = line_of(event("$2", content), edited_sender="@mallory:example.org")
    unknown = line_of(event("$3", content))

    assert (own["body"], own["edit_of"], own["edit_valid"]) == ("new", "$0", True)
    assert foreign["edit_valid"] is False
    assert unknown["edit_valid"] is None


def test_relations_of_an_encrypted_event_are_read_outside_its_ciphertext() -> None:
    body = json.loads(encrypted("$1"))
    body["content"]["m.relates_to"] = {
        "rel_type": "m.thread",
        "event_id": "$root",
        "m.in_reply_to": {"event_id": "$reply"},
    }

    record = line_of(json.dumps(body).encode(), decrypted(b'{"type":"x","content":{}}'))

    assert (record["thread_root"], record["reply_to"]) == ("$root", "$reply")


@pytest.mark.parametrize(
    "relation",
    [None, {"rel_type": "m.thread", "event_id": "$0"}, {"rel_type": "m.replace"}, "m.replace"],
)
def test_new_content_means_something_in_an_edit_only(relation: object) -> None:
    content = {"body": "shown", "m.new_content": {"body": "not shown"}, "m.relates_to": relation}

    assert line_of(event("$1", content))["body"] == "shown"


@pytest.mark.parametrize("is_edit", [True, False])
def test_the_file_of_an_edit_is_the_one_that_clients_show(*, is_edit: bool) -> None:
    old, new = "mxc://example.org/old", "mxc://example.org/new"
    relation = {"rel_type": "m.replace", "event_id": "$0"} if is_edit else {}
    said = {"body": "plan", "m.relates_to": relation}
    shown = new if is_edit else None
    for first, expected in (({}, shown), ({"url": old}, shown or old)):
        for later in ({"url": new}, {"file": {"url": new}}):
            content = {**said, **first, "m.new_content": {"body": "plan", **later}}
            envelope = read_envelope(event("$1", content))
            assert line_of(event("$1", content))["media_mxc"] == expected
            file = attachment_of(envelope, None) or {}
            assert file.get("url", file.get("file", {}).get("url")) == expected
    content = {**said, "url": old, "m.new_content": {"body": "plan"}}
    assert line_of(event("$1", content))["media_mxc"] == old


def test_a_relation_inside_a_ciphertext_is_none_and_is_told_of() -> None:
    payload = {
        "type": "m.room.message",
        "content": {
            "body": "for some",
            "m.new_content": {"body": "for others"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": "$0"},
        },
    }

    record = line_of(
        encrypted("$1"), decrypted(json.dumps(payload).encode()), edited_sender="@x:example.org"
    )

    assert record["rel_type"] is record["edit_of"] is record["edit_valid"] is None
    # Some clients go by it: whoever searches has to find what any of them shows.
    assert record["body"] == "for some\nfor others"
    assert json.loads(record["detail_json"]) == {
        "relation_in_ciphertext": {"rel_type": "m.replace", "rel_event_id": "$0"}
    }


def test_a_relation_that_stands_inside_and_outside_is_an_ordinary_one() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$0"}
    wire = json.loads(encrypted("$1"))
    wire["content"]["m.relates_to"] = relation
    inner = {"body": "* b", "m.new_content": {"body": "b"}, "m.relates_to": relation}
    payload = {"type": "m.room.message", "content": inner}

    record = line_of(
        json.dumps(wire).encode(), decrypted(json.dumps(payload).encode()), edited_sender=ALICE
    )

    assert (record["body"], record["edit_of"], record["edit_valid"]) == ("b", "$0", True)
    assert record["detail_json"] is None


@pytest.mark.parametrize("place", ["top", "content"])
def test_a_redaction_names_what_it_takes_back(place: str) -> None:
    content: dict[str, object] = {"reason": "spam"}
    if place == "content":
        content["redacts"] = "$0"
    fields: dict[str, object] = {"redacts": "$0"} if place == "top" else {}

    record = line_of(event("$1", content, type="m.room.redaction", **fields))

    assert (record["redacts"], record["redaction_reason"]) == ("$0", "spam")


def test_an_attachment_is_named_as_its_sender_declares_it() -> None:
    content = {
        "msgtype": "m.file",
        "body": "plan.pdf",
        "file": {"url": "mxc://example.org/abc"},
        "info": {"mimetype": "application/pdf", "size": 1234},
    }

    record = line_of(event("$1", content))

    assert record["media_mxc"] == "mxc://example.org/abc"
    assert (record["media_name"], record["media_mime"]) == ("plan.pdf", "application/pdf")
    assert (record["media_size"], record["media_sha256"]) == (1234, None)


def test_a_long_text_is_cut_and_says_so_and_is_whole_beside() -> None:
    record = line_of(message("$1", "ä" * 60_000))

    assert record["body_truncated"] is True
    assert record["body"] == "ä" * 32_768
    assert json.loads(record["event_json"])["content"]["body"] == "ä" * 60_000


def test_a_rooms_unknown_facts_are_null_and_no_guesses() -> None:
    record = line_of(message("$1"), room=RoomContext(ROOM))

    assert record["room_name"] is record["encrypted"] is record["audience_id"] is None


def test_nul_does_not_reach_a_column_that_a_database_could_refuse() -> None:
    record = line_of(message("$1", "a\0b"))

    assert record["body"] == "a\N{REPLACEMENT CHARACTER}b"
    assert json.loads(record["event_json"])["content"]["body"] == "a\0b"


def test_a_time_that_no_calendar_has_is_kept_as_a_number() -> None:
    record = line_of(message("$1", origin_server_ts=2**62))

    assert (record["ts_origin"], record["time_utc"]) == (2**62, None)


def test_an_event_that_arrived_redacted_is_no_failed_decryption() -> None:
    body = event("$1", {}, type="m.room.encrypted", unsigned={"redacted_because": {}})

    record = line_of(body)

    assert (record["content_state"], record["enc_status"]) == ("arrived_redacted", "clear")


def test_an_audience_is_listed_with_names() -> None:
    record = json.loads(to_line(audience_record(LOBBY, PLACE, ARRIVAL)))

    assert (record["kind"], record["audience_id"]) == ("audience", LOBBY.audience_id)
    members = json.loads(record["detail_json"])["members"]
    assert {"user_id": ALICE, "name": "Alice", "membership": "join"} in members
    assert list(record) == SPECIFIED


def test_a_control_record_names_who_did_what() -> None:
    record = control_record(
        PLACE, now_ms=NOON, actor="config", action="export_started", detail={"config_sha256": "x"}
    )

    assert (record.kind, record.actor, record.action) == ("control", "config", "export_started")
    assert record.detail_json == '{"config_sha256":"x"}'


def test_the_record_has_exactly_the_specified_fields() -> None:
    assert [field.encode_name for field in msgspec.structs.fields(Record)] == SPECIFIED


def test_a_hostile_name_is_not_repeated_at_full_length_in_every_record() -> None:
    room = fold(LOBBY, [read_envelope(state("m.room.name", {"name": "x" * 50_000}))])

    assert len(line_of(message("$1"), room=room)["room_name"]) == 1024
