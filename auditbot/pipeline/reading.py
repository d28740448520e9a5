"""How an event could be read → the columns that say so and what it says; pure."""

import base64
import hashlib
from typing import Any

import msgspec

from auditbot.pipeline import content as contents
from auditbot.pipeline.hostile import (
    MAX_PAYLOAD_BYTES,
    Envelope,
    JsonObject,
    key,
    mapping,
    mapping_or_none,
    parse,
    string,
    text_of,
)
from auditbot.pipeline.room_state import short
from common.crypto.port import Decrypted, Reading, Undecryptable, Why

UNREADABLE = "[This message could not be read as JSON; its exact bytes are in raw_b64.]"

MALFORMED = Undecryptable(Why.MALFORMED)
"""For an encrypted event whose envelope is too damaged to be given to the decryption."""

Columns = dict[str, Any]
"""Fields of a record by name."""


class _ClearText(msgspec.Struct, frozen=True, gc=False):
    """Exact bytes, and what was read in them."""

    data: bytes
    event_type: str | None
    content: JsonObject | None
    sound: bool


def columns_of(
    envelope: Envelope, reading: Reading | None, edited_sender: str | None
) -> tuple[Columns, Columns]:
    """Return every column that depends on what could be read, and what has no column."""
    detail: Columns = {}
    if reading is None:
        clear = _ClearText(envelope.body, envelope.type, envelope.content, envelope.exact)
        columns = {**_said(envelope, clear), "enc_status": "clear"}
    else:
        if isinstance(reading, Undecryptable):
            columns = _ciphertext(envelope, reading)
        else:
            clear = _decrypted_text(reading.payload)
            columns = {**_said(envelope, clear), **_decrypted(reading)}
            # Kept although it was read: an expert can decrypt it again and compare.
            columns["wire_json"] = text_of(envelope.body) if envelope.exact else None
            inside = contents.hidden_relation(mapping(clear.content), mapping(envelope.content))
            if inside:
                detail["relation_in_ciphertext"] = inside
        columns["enc_algorithm"] = short(mapping(envelope.content).get("algorithm"))
    if columns.get("edit_of") is not None and edited_sender is not None:
        columns["edit_valid"] = edited_sender == key(envelope.sender or "")
    return columns, detail


def attachment_of(envelope: Envelope, reading: Reading | None) -> Columns | None:
    """Return what is needed to fetch the file that an event carries, ``None`` if it has none."""
    if reading is None:
        known = mapping(envelope.content)
        return contents.attachment(contents.with_file(known, known))
    if isinstance(reading, Undecryptable):
        return None
    clear = mapping(_decrypted_text(reading.payload).content)
    return contents.attachment(contents.with_file(clear, mapping(envelope.content)))


def _decrypted(reading: Decrypted) -> Columns:
    return {
        "enc_status": "decrypted",
        "enc_error": None,
        "enc_session_id": short(reading.session_id),
        "enc_sender_key": short(reading.sender_key),
        "enc_device_id": short(reading.device_id),
        "enc_index": reading.index,
        "enc_trust": reading.trust.value,
        "enc_key_source": reading.key_source.value,
    }


def _ciphertext(envelope: Envelope, reading: Undecryptable) -> Columns:
    wire = mapping(envelope.content)
    return {
        "event_type": short(envelope.type),
        **contents.relations(wire),
        "enc_status": "undecryptable",
        "enc_error": reading.why.value,
        "enc_session_id": short(reading.session_id) or short(wire.get("session_id")),
        "enc_sender_key": short(reading.sender_key) or short(wire.get("sender_key")),
        "enc_device_id": short(reading.device_id) or short(wire.get("device_id")),
        **_as_sent(envelope.body, sound=envelope.exact, column="wire_json"),
    }


def _decrypted_text(payload: bytes) -> _ClearText:
    parsed = parse(payload, MAX_PAYLOAD_BYTES)
    if parsed is None:
        return _ClearText(payload, None, None, sound=False)
    content = mapping_or_none(parsed.value.get("content"))
    return _ClearText(payload, string(parsed.value.get("type")), content, parsed.exact)


def _said(envelope: Envelope, clear: _ClearText) -> Columns:
    """Return the columns of clear text: an event's own, or that of a decrypted payload."""
    known, wire = mapping(clear.content), mapping(envelope.content)
    said = contents.text(known, wire)
    whole = clear.sound and clear.content is not None
    return {
        "event_type": short(clear.event_type) or short(envelope.type),
        "msgtype": short(known.get("msgtype")),
        # What exceeds the limits is left out, so a text that is there can still be searched.
        "body": said.body if said.body is not None or whole else UNREADABLE,
        "body_truncated": said.truncated,
        **contents.relations(wire),
        **contents.redaction(envelope, known),
        **contents.media(contents.with_file(known, wire)),
        **_as_sent(clear.data, sound=whole, column="event_json"),
        "payload_sha256": hashlib.sha256(clear.data).hexdigest(),
    }


def _as_sent(data: bytes, *, sound: bool, column: str) -> Columns:
    """Return exact bytes as text where that is sound JSON, otherwise encoded."""
    text = text_of(data) if sound else None
    encoded = base64.b64encode(data).decode() if text is None else None
    return {column: text, "raw_b64": encoded}
