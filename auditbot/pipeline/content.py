"""The content of an event → the columns that people search and read; pure.

Source: Matrix specification v1.18, client-server API, "Instant messaging", "Event replacements",
"Threading", "Rich replies", "Event annotations", "Redactions".
"""

from dataclasses import dataclass
from typing import Any

from auditbot.pipeline.hostile import Envelope, JsonObject, int64, mapping, string
from auditbot.pipeline.room_state import short

LONGEST_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Text:
    """A message's plain text, cut where it is too long."""

    body: str | None
    truncated: bool


def text(content: JsonObject) -> Text:
    """Return the plain text; of an edit, what the message says from then on."""
    body = string(mapping(content.get("m.new_content")).get("body"))
    if body is None:
        body = string(content.get("body"))
    if body is None:
        return Text(None, truncated=False)
    data = body.encode()
    if len(data) <= LONGEST_BODY_BYTES:
        return Text(body, truncated=False)
    return Text(data[:LONGEST_BODY_BYTES].decode("utf-8", "ignore"), truncated=True)


def relations(content: JsonObject, wire: JsonObject) -> dict[str, str | None]:
    """Return how an event refers to others.

    In an encrypted event the relation stands outside the ciphertext, for the homeserver.
    """
    relation = mapping(wire.get("m.relates_to")) or mapping(content.get("m.relates_to"))
    rel_type = short(relation.get("rel_type"))
    target = short(relation.get("event_id"))
    return {
        "rel_type": rel_type,
        "rel_event_id": target,
        "thread_root": target if rel_type == "m.thread" else None,
        "reply_to": short(mapping(relation.get("m.in_reply_to")).get("event_id")),
        "reaction_key": short(relation.get("key")) if rel_type == "m.annotation" else None,
        "edit_of": target if rel_type == "m.replace" else None,
    }


def redaction(envelope: Envelope, content: JsonObject) -> dict[str, str | None]:
    """Return what a redaction takes back; it moved into the content with room version 11."""
    if envelope.type != "m.room.redaction":
        return {"redacts": None, "redaction_reason": None}
    return {
        "redacts": short(envelope.redacts) or short(content.get("redacts")),
        "redaction_reason": short(content.get("reason")),
    }


def media(content: JsonObject) -> dict[str, Any]:
    """Return what the sender declares about an attachment; the file itself is not looked at."""
    file = mapping(content.get("file"))
    url = short(file.get("url")) or short(content.get("url"))
    if url is None or not url.startswith("mxc://"):
        return {"media_mxc": None, "media_name": None, "media_mime": None, "media_size": None}
    info = mapping(content.get("info"))
    return {
        "media_mxc": url,
        "media_name": short(content.get("filename")) or short(content.get("body")),
        "media_mime": short(info.get("mimetype")),
        "media_size": int64(info.get("size")),
    }
