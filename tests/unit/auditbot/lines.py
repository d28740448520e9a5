"""The line of an event, read back and checked, for the tests of records."""

import json
from typing import Any

import msgspec

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.record import Arrival, Place, Setting, event_record, from_line, to_line
from auditbot.pipeline.room_state import RoomContext, completed, fold
from common.crypto.port import Reading
from tests.unit.auditbot.builders import NOON, ROOM, new_room

PLACE = Place("stream", 7, bytes(16), "example.org")
ARRIVAL = Arrival(NOON + 5, "transaction", "txn1")
LOBBY = completed(fold(RoomContext(ROOM), map(read_envelope, new_room("@bob:example.org"))))

SPECIFIED = [
    "v",
    "kind",
    "stream",
    "seq",
    "salt",
    "of_seq",
    "ts_received",
    "ts_origin",
    "ts_skew",
    "time_utc",
    "source",
    "source_pos",
    "server_name",
    "room_id",
    "room_version",
    "room_name",
    "room_alias",
    "room_type",
    "is_direct",
    "encrypted",
    "federated",
    "join_rule",
    "history_visibility",
    "event_id",
    "event_type",
    "state_key",
    "sender",
    "sender_name",
    "sender_server",
    "sender_kind",
    "msgtype",
    "body",
    "body_truncated",
    "rel_type",
    "rel_event_id",
    "thread_root",
    "reply_to",
    "reaction_key",
    "edit_of",
    "edit_valid",
    "redacts",
    "redaction_reason",
    "content_state",
    "audience_id",
    "audience_count",
    "audience_basis",
    "enc_status",
    "enc_error",
    "enc_algorithm",
    "enc_session_id",
    "enc_sender_key",
    "enc_device_id",
    "enc_index",
    "enc_trust",
    "enc_key_source",
    "prev_events",
    "depth",
    "media_name",
    "media_mime",
    "media_mime_sniffed",
    "media_size",
    "media_sha256",
    "media_cipher_sha256",
    "media_mxc",
    "media_key",
    "media_status",
    "event_json",
    "wire_json",
    "raw_b64",
    "payload_sha256",
    "retention_class",
    "actor",
    "action",
    "detail_json",
]


def line_of(
    body: bytes, reading: Reading | None = None, room: RoomContext = LOBBY, **setting: Any
) -> dict[str, Any]:
    """Return the record of an event, read back from its line by the standard library."""
    envelope = read_envelope(body)
    after = fold(room, [envelope])
    record = event_record(envelope, reading, PLACE, ARRIVAL, Setting(room, after, **setting))
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    found = json.loads(line.decode("utf-8"))
    assert msgspec.json.decode(line) == found
    assert list(found) == SPECIFIED
    assert from_line(line) == record
    return dict(found)
