"""The words for what happened to a message; pure.

What people chose themselves can neither pass for Steward's words nor turn the direction of the
text: every control and invisible character is spelled out.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from auditbot.reader.conversation import CLEAR_EDIT, Edit, Message
from auditbot.reader.index.library import Stored, detail_of
from auditbot.reader.sealed import unopened
from auditbot.reader.show import BLANK, acted
from auditbot.reader.times import local, moment

_KEPT = frozenset("\n\t\u200c\u200d\ufe0f")
"""Joiners and the emoji selector: invisible, but scripts and emoji are spelled with them."""
_SPACES = frozenset("\xa0\u2007\u202f\u3000")

WHY = {
    "no_session": "its key was not received",
    "unknown_index": "only a later part of its key was received",
    "withheld_unverified": "the sender's client gives keys to verified devices only",
    "withheld_blacklisted": "the sender blocked the archive's device",
    "withheld_unauthorised": "the sender's client says that the archive may not read it",
    "withheld_unavailable": "the sender's client has lost the key",
    "no_olm": "no secure channel to the sender's device could be made",
    "before_join": "it was sent before the archive's account came into the room",
    "replay": "its key was used for another message before: an attack, or a fault",
    "bad_mac": "it was changed on its way: an attack, or a fault",
    "room_mismatch": "its key belongs to another room: an attack, or a fault",
    "malformed": "it is malformed",
}
TRUST = {
    "cross_signed": "from a device that its owner verified",
    "unverified_device": "from a device that its owner has not verified",
    "unknown_device": "from an unknown device",
    "identity_changed": "the sender's identity had changed",
    "mismatch": "DEVICE AND SENDER DO NOT MATCH",
}
MEDIA = {
    "pending": "not stored yet",
    "stored": "stored",
    "duplicate": "stored",
    "not_kept": "attachments were not archived (auditbot.media is off)",
    "no_address": "the message does not say where it is",
    "too_large": "not stored: larger than the limit",
    "missing": "not stored: the homeserver no longer has it",
    "hash_mismatch": "not stored: its bytes are not those that the sender announced",
    "forbidden": "not stored: the homeserver refuses it",
    "infected": "not stored: a malware scanner found something in it",
    "infected_kept": "IN THE ARCHIVE, NOT GIVEN OUT: a malware scanner found something in it",
    "gave_up": "not stored: all attempts failed",
}
GAPS = frozenset({"gap", "gap_closed"})
"""The kinds of records that say of something missing, or that it no longer is."""
TIME_OF_RECEIPT = "the time is that of receipt: it has no time of sending"
_HOUR_MS = 3_600_000
_FIXED = frozenset({"time_ms", "user", "what", "previous"})
_OF_LOG = {"start_ms": "from", "end_ms": "to"}


def spelled(text: object) -> str:
    """Return text with every control, bidi and other invisible character spelled out."""
    return "".join(
        character
        if (character.isprintable() and character not in BLANK) or character in _KEPT
        else " "
        if character in _SPACES
        else f"⟨U+{ord(character):04X}⟩"
        for character in str(text)
    )


def one_line(text: object) -> str:
    """Return the same on one line."""
    return " ".join(spelled(text).split())


def shown_line(text: object) -> str:
    """Return a finished line for a terminal: one line, and nothing in it is obeyed.

    The last thing before a line is written, whatever was forgotten before; spelling out twice is
    the same as once.
    """
    return " ⏎ ".join(spelled(text).splitlines())


_PLAIN_ID = re.compile(r"@[^\s\"“”,;()]+")
_PLAIN_TYPE = re.compile(r"[A-Za-z0-9._:/+-]{1,100}")
_PLAIN_MARK = re.compile(r"[^\s\"“”,;()@]{1,16}")


def named(user_id: object, name: object) -> str:
    """Return who somebody is: the ID, which the homeserver vouches for, and what they call themselves.

    The name stands in quotation marks, whose end cannot be mistaken: a name is nobody's alone.
    """
    known = one_line(user_id or "?")
    shown = known if known == "?" or _PLAIN_ID.fullmatch(known) else _quoted(known)
    return f"{shown} {_quoted(one_line(name))}" if name else shown


def reaction_mark(key: object) -> str:
    """Return what somebody reacted with; what might be taken for a person stands in quotation marks."""
    mark = one_line(key)
    return mark if _PLAIN_MARK.fullmatch(mark) else _quoted(mark)


def typed(kind: object) -> str:
    """Return a type of events or messages; one that might be taken for our words in quotation marks."""
    name = one_line(kind)
    return name if _PLAIN_TYPE.fullmatch(name) else _quoted(name)


def _quoted(line: str) -> str:
    return '"' + line.replace('"', "⟨U+0022⟩") + '"'


def why(reason: object) -> str:
    """Return why something could not be read."""
    return WHY.get(str(reason), spelled(reason or "the reason is not known"))


def why_not(first: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """Return why what an event says is not shown: nobody could read it, or its content is shut.

    Args:
        first: the event's record
        said: the one that holds its text, which may be another
    """
    return unopened(said) or why(first.get("enc_error"))


def act(record: Mapping[str, Any]) -> str:
    """Return what was done, for a record that is no message."""
    if record.get("kind") == "gap":
        return f"Known gap: {_lacking(record)}"
    if record.get("kind") == "gap_closed":
        return f"A known gap was closed: {_lacking(record)}"
    return acted(record)


def gap(message: Message, zone: tzinfo) -> str:
    """Return what is known of a gap: since when, and until when if it was closed."""
    record = message.record
    if record.get("kind") != "gap":
        return act(record)
    since = moment(record.get("ts_received"), zone)
    if message.closed is None:
        return f"{act(record)}, noticed at {since}"
    until = moment(message.closed.record.get("ts_received"), zone)
    return f"Closed gap: {_lacking(record)}, was missing from {since} and was fetched at {until}"


def _lacking(record: Mapping[str, Any]) -> str:
    what = one_line(str(record.get("action") or "").replace("_", " "))
    event_id = detail_of(dict(record)).get("event_id")
    return f"{what}, {one_line(event_id)}" if event_id else what


RECOVERED = (
    "deleted before it reached the archive; what it said was recovered from the homeserver's database, "
    "and its hash proves that it is the original"
)


def _arrival(record: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of how an event came."""
    found = []
    skew = record.get("ts_skew")
    if isinstance(skew, int) and abs(skew) > _HOUR_MS:
        found.append(
            "the sender's clock and the time of receipt differ by more than an hour: received "
            f"{moment(record.get('ts_received'))} UTC"
        )
    if record.get("source") in {"messages", "backfill"}:
        found.append("found by reading the room's history, not received as it was sent")
    return found


def doubts(message: Message) -> list[str]:
    """Return what a person should know before relying on a message."""
    record, said = message.record, message.said
    found = _arrival(record)
    if record.get("content_state") == "recovered_unredacted":
        found.append(RECOVERED)
    if message.late is not None:
        found.append(f"readable only later: {why(record.get('enc_error'))}")
    trust = said.get("enc_trust")
    if trust and trust != "cross_signed":
        found.append(TRUST.get(str(trust), spelled(trust)))
    if (
        record.get("encrypted") is True
        and record.get("enc_status") == "clear"
        and record.get("event_type") == "m.room.message"
    ):
        found.append("NOT ENCRYPTED, in an encrypted room")
    found.extend(_odd(said))
    if message.is_original_missing:
        unknown = ": nobody can tell whether its author made the edit" if message.edits else ""
        found.append(f"the original is not archived in this room{unknown}")
    found.extend(dict.fromkeys(_edit_doubts(message)))
    return [*found, *_archives(message)]


def _odd(said: Mapping[str, Any]) -> Iterator[str]:
    if said.get("body_truncated"):
        yield "cut here; whole in the record"
    inside = detail_of(dict(said)).get("relation_in_ciphertext")
    if isinstance(inside, dict):
        claim = one_line(", ".join(map(str, inside.values())))
        yield f"a relation that only some clients follow, inside the ciphertext: {claim}"


def _edit_doubts(message: Message) -> Iterator[str]:
    """Yield what a person should know of who wrote the later versions."""
    for edit in message.edits:
        if message.doubt_of(edit) == CLEAR_EDIT:
            yield f"an {CLEAR_EDIT}"
        media = version_media_state(message, edit)
        if media is not None:
            digest = f", SHA-256 {media['sha256']}" if media["sha256"] else ""
            yield f"an edit has an attachment of its own: {media['name']} ({media['words']}{digest})"
        trust = edit.said.get("enc_trust")
        if trust and trust not in {"cross_signed", message.said.get("enc_trust")}:
            yield f"an edit: {TRUST.get(str(trust), spelled(trust))}"


def is_received_only(message: Message) -> bool:
    """Return whether an event has no time of sending, so that its time of receipt is shown."""
    record = message.record
    is_event = record.get("kind") in {"event", "decryption"}
    return (
        is_event and not record.get("ts_origin") and local(record.get("ts_received")) is not None
    )


def log_detail(entry: Mapping[str, Any], zone: tzinfo, hidden: Collection[str] = ()) -> str:
    """Return what an entry of the access log says besides when, who and what: nothing empty."""
    return ", ".join(
        f"{_OF_LOG.get(name, one_line(name).replace('_', ' '))}: {_logged(name, value, zone)}"
        for name, value in entry.items()
        if name not in _FIXED and name not in hidden and value not in (None, "", [], {})
    )


def _logged(name: str, value: object, zone: tzinfo) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_ms") and isinstance(value, int):
        return moment(value, zone)
    return one_line(value)


def _archives(message: Message) -> list[str]:
    """Return of which servers' archives a message is, if there are several at the place."""
    if not message.archives:
        return []
    what = "archive" if len(message.archives) == 1 else "archives"
    return [f"in the {what} of {' and '.join(map(spelled, message.archives))}"]


def media_state(message: Message) -> dict[str, Any] | None:
    """Return what is known of a message's attachment, ``None`` if it has none."""
    return _media_state(message.said, message.media)


def all_media(message: Message) -> list[dict[str, Any]]:
    """Return what is known of the attachments of all versions of a message."""
    found = [media_state(message), *(version_media_state(message, one) for one in message.edits)]
    return [media for media in found if media is not None]


def version_media_state(message: Message, edit: Edit) -> dict[str, Any] | None:
    """Return the same of an edit's attachment, ``None`` if it has none but the message's own."""
    found = _media_state(edit.said, edit.media) if edit.is_readable else None
    same = message.said.get("media_mxc") == edit.said.get("media_mxc")
    return None if found is None or (same and not edit.media) else found


def _media_state(said: Mapping[str, Any], media: Sequence[Stored]) -> dict[str, Any] | None:
    if not any(said.get(name) for name in ("media_mxc", "media_name", "media_status")):
        return None
    last: Mapping[str, Any] = media[-1].record if media else said
    status, key = _status(last), last.get("media_key")
    state = "infected_kept" if status == "infected" and key else status
    return {
        "name": one_line(said.get("media_name") or last.get("media_name") or "attachment"),
        "mime": one_line(
            last.get("media_mime_sniffed")
            or last.get("media_mime")
            or said.get("media_mime")
            or ""
        ),
        "size": last.get("media_size") or said.get("media_size"),
        "sha256": last.get("media_sha256"),
        # What is shown, linked or handed over; what a scanner found something in never is.
        "key": key if isinstance(key, str) and status in {"stored", "duplicate"} else None,
        "kept_key": key if isinstance(key, str) else None,
        "status": status,
        "words": f"{media_words(state)}{_scanned(last)}",
    }


def _scanned(record: Mapping[str, Any]) -> str:
    """Return what a scanner said of an attachment, unless it found nothing or was not asked."""
    scan = detail_of(dict(record)).get("scan") if record.get("kind") == "media" else None
    if not isinstance(scan, dict):
        return ""
    if scan.get("result") == "not_scanned":
        return f", NOT SCANNED for malware: {one_line(scan.get('reason') or '?')}"
    return f": {_quoted(one_line(scan['signature']))}" if scan.get("signature") else ""


def _status(record: Mapping[str, Any]) -> str:
    """Return what a record says of its attachment; an older writer that fetched none said nothing."""
    if record.get("media_status"):
        return str(record["media_status"])
    return "not_kept" if record.get("media_mxc") else "no_address"


def media_words(status: str) -> str:
    """Return what became of an attachment."""
    return MEDIA.get(status, one_line(status))
