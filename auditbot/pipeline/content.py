"""The content of an event → the columns that people search and read; pure.

Source: Matrix specification v1.18, client-server API, "Instant messaging", "Event replacements",
"Threading", "Rich replies", "Event annotations", "Redactions".
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from auditbot.pipeline.hostile import Envelope, JsonObject, int64, mapping, string
from auditbot.pipeline.room_state import LONGEST_TEXT, short

LONGEST_BODY_BYTES = 64 * 1024


class Text(msgspec.Struct, frozen=True, gc=False):
    """A message's plain text, cut where it is too long."""

    body: str | None
    truncated: bool


def text(content: JsonObject, wire: JsonObject) -> Text:
    """Return the plain text as clients show it; of an edit, what it says from then on.

    ``m.new_content`` means something in an edit only; elsewhere nobody sees it.
    """
    body = string(content.get("body"))
    new = string(mapping(content.get("m.new_content")).get("body"))
    if new is not None and _is_edit(relation(wire)):
        body = new
    elif new is not None and new != body and _is_edit(relation(content)):
        # An edit for some clients and none for others: a search has to find both texts.
        body = new if body is None else f"{body}\n{new}"
    if body is None:
        return Text(None, truncated=False)
    data = body.encode()
    if len(data) <= LONGEST_BODY_BYTES:
        return Text(body, truncated=False)
    return Text(data[:LONGEST_BODY_BYTES].decode("utf-8", "ignore"), truncated=True)


_NO_RELATIONS: Mapping[str, str | None] = dict.fromkeys(
    ("rel_type", "rel_event_id", "thread_root", "reply_to", "reaction_key", "edit_of")
)


def relation(content: JsonObject) -> JsonObject:
    """Return what a content says of how its event refers to others."""
    return mapping(content.get("m.relates_to"))


def relations(wire: JsonObject) -> dict[str, str | None]:
    """Return how an event refers to others.

    Args:
        wire: the content as it was sent. An encrypted event's relation stands there, outside the
            ciphertext, and one inside the ciphertext is none ("Forming relationships between
            events"); ``hidden_relation`` tells of it.
    """
    if "m.relates_to" not in wire:
        return dict(_NO_RELATIONS)
    said = relation(wire)
    rel_type = short(said.get("rel_type"))
    target = short(said.get("event_id"))
    return {
        "rel_type": rel_type,
        "rel_event_id": target,
        "thread_root": target if rel_type == "m.thread" else None,
        "reply_to": short(mapping(said.get("m.in_reply_to")).get("event_id")),
        "reaction_key": short(said.get("key")) if rel_type == "m.annotation" else None,
        "edit_of": target if rel_type == "m.replace" else None,
    }


def hidden_relation(content: JsonObject, wire: JsonObject) -> dict[str, str]:
    """Return what a ciphertext says of relations if the wire says otherwise.

    Not every client goes by the wire: what its sender's friends see may be this.
    """
    if "m.relates_to" not in content:
        return {}
    inside = relations(content)
    return {
        name: value
        for name in ("rel_type", "rel_event_id", "reply_to", "reaction_key")
        if (value := inside[name]) is not None and inside != relations(wire)
    }


def redaction(envelope: Envelope, content: JsonObject) -> dict[str, str | None]:
    """Return what a redaction takes back; it moved into the content with room version 11."""
    if envelope.type != "m.room.redaction":
        return {"redacts": None, "redaction_reason": None}
    return {
        "redacts": short(envelope.redacts) or short(content.get("redacts")),
        "redaction_reason": short(content.get("reason")),
    }


def _is_edit(said: JsonObject) -> bool:
    # As specified, a relation without its target is none.
    return said.get("rel_type") == "m.replace" and isinstance(said.get("event_id"), str)


LONGEST_FILE_BYTES = 16 * 1024
"""Of the description of an encrypted file; a sound one has some 500 bytes."""


def with_file(content: JsonObject, wire: JsonObject) -> JsonObject:
    """Return the part of a content that says which file clients show: of an edit the new one."""
    new = mapping(content.get("m.new_content"))
    is_edit = _is_edit(relation(wire)) or _is_edit(relation(content))
    return new if is_edit and _address(new) is not None else content


def _address(content: JsonObject) -> str | None:
    url = string(mapping(content.get("file")).get("url")) or string(content.get("url"))
    return url if url is not None and url.startswith("mxc://") else None


def attachment(content: JsonObject) -> dict[str, Any] | None:
    """Return what is needed to fetch a message's file, ``None`` if it has none."""
    file = mapping(content.get("file"))
    url = string(file.get("url")) or string(content.get("url"))
    if url is None or not url.startswith("mxc://"):
        return None
    if not string(file.get("url")):
        return {"url": url[:LONGEST_TEXT]}
    encoded = json.dumps(file)
    return {"file": file} if len(encoded) <= LONGEST_FILE_BYTES else {"file": {}}


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
