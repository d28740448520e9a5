"""Whether an event is the one that was sent, by what its own name and hashes commit to; pure.

An event's content hash covers all of it before any redaction. Its name is, from room version 3 on, the
hash of what a redaction leaves of it, the content hash included: so who knows the name alone can tell the
original from anything else. Before that the content hash covers the name.

Source: Matrix specification v1.18, server-server API, "Calculating the content hash for an event" and
"Calculating the reference hash for an event"; room versions 1 to 12, "Redactions" and "Event IDs".
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from common.crypto.canonical import NotCanonicalError, canonical_json, from_unpadded, unpadded

_UNHASHED = frozenset({"unsigned", "signatures", "hashes", "age_ts", "outlier", "destinations"})
_KEPT = frozenset(
    [
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "auth_events",
        "origin_server_ts",
    ]
)
_KEPT_BEFORE_11 = _KEPT | {"prev_state", "origin", "membership"}
_STATE_TYPES = frozenset(
    [
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.aliases",
    ]
)
"""Of these a redaction leaves something of the content; they are never recovered."""

NAME = "event_id"
"""The original is proved by the event's name."""
CONTENT_HASH = "content_hash"
"""It is proved by the content hash that the homeserver gives with it, which covers the name."""


def proof_of(pdu: Mapping[str, Any], event_id: str) -> str | None:
    """Return by what an event is proved to be the original of this name, ``None`` if it is not.

    Args:
        pdu: the event as servers exchange it; ``event_id`` may have been added to it
        event_id: its name
    """
    if pdu.get("type") in _STATE_TYPES or "state_key" in pdu:
        return None
    is_old = ":" in event_id
    # From room version 3 on the name is no part of what is hashed.
    event = {
        name: value
        for name, value in pdu.items()
        if name not in {"unsigned", "age_ts"} and (is_old or name != "event_id")
    }
    try:
        if not _has_its_content(event):
            return None
        if is_old:
            return CONTENT_HASH if event.get("event_id") == event_id else None
        return NAME if event_id in _names(event) else None
    except NotCanonicalError:
        return None


def original(pdu: Mapping[str, Any], event_id: str) -> bytes:
    """Return an event that was proved, in one spelling, with its name in it."""
    whole = {name: value for name, value in pdu.items() if name not in {"unsigned", "age_ts"}}
    return canonical_json({**whole, "event_id": event_id})


def _has_its_content(event: Mapping[str, Any]) -> bool:
    hashes = event.get("hashes")
    said = hashes.get("sha256") if isinstance(hashes, Mapping) else None
    if not isinstance(said, str):
        return False
    hashed = {name: value for name, value in event.items() if name not in _UNHASHED}
    try:
        return from_unpadded(said) == hashlib.sha256(canonical_json(hashed)).digest()
    except ValueError:
        return False


def _names(event: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that the event has in the room versions that there are."""
    content = event.get("content")
    redacts = content.get("redacts") if isinstance(content, Mapping) else None
    is_redaction = event.get("type") == "m.room.redaction" and redacts is not None
    since_11 = {"redacts": redacts} if is_redaction else {}
    for kept, left in ((_KEPT, since_11), (_KEPT_BEFORE_11, {})):
        pruned = {name: value for name, value in event.items() if name in kept}
        pruned["content"] = left
        pruned.pop("signatures", None)
        text = unpadded(hashlib.sha256(canonical_json(pruned)).digest())
        yield f"${text.replace('+', '-').replace('/', '_')}"
        yield f"${text}"
