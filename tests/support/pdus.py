"""Events as servers exchange them, hashed by Synapse's own code."""

import hashlib
from typing import Any

from synapse.api.room_versions import RoomVersion, RoomVersions
from synapse.crypto.event_signing import compute_content_hash
from synapse.events import make_event_from_dict
from unpaddedbase64 import encode_base64


def pdu_of(
    fields: dict[str, Any], version: RoomVersion = RoomVersions.V11
) -> tuple[str, dict[str, Any]]:
    """Return an event's name and the event with its content hash, by a room's version."""
    pdu: dict[str, Any] = {
        "type": "m.room.message",
        "room_id": "!room:example.org",
        "sender": "@alice:example.org",
        "origin_server_ts": 1_764_000_000_000,
        "content": {"msgtype": "m.text", "body": "hello"},
        "auth_events": ["$a"],
        "prev_events": ["$b"],
        "depth": 12,
        "signatures": {"example.org": {"ed25519:1": "abc"}},
        **fields,
    }
    pdu["hashes"] = {"sha256": encode_base64(compute_content_hash(pdu, hashlib.sha256)[1])}
    return make_event_from_dict(pdu, room_version=version).event_id, pdu
