"""The words for what happened to a message; pure.

What people chose themselves can neither pass for Steward's words nor turn the direction of the
text: every control and invisible character is spelled out.
"""

from collections.abc import Mapping
from typing import Any

from auditbot.reader.conversation import Message
from auditbot.reader.sealed import unopened
from auditbot.reader.show import acted

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
    "infected": "not stored: a scanner found something in it",
    "gave_up": "not stored: all attempts failed",
}
_HOUR_MS = 3_600_000


def spelled(text: object) -> str:
    """Return text with every control, bidi and other invisible character spelled out."""
    return "".join(
        character
        if character.isprintable() or character in _KEPT
        else " "
        if character in _SPACES
        else f"⟨U+{ord(character):04X}⟩"
        for character in str(text)
    )


def one_line(text: object) -> str:
    """Return the same on one line."""
    return " ".join(spelled(text).split())


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
        return f"Known gap: {one_line(str(record.get('action') or '').replace('_', ' '))}"
    if record.get("kind") == "gap_closed":
        return "A known gap was closed"
    return acted(record)


def doubts(message: Message) -> list[str]:
    """Return what a person should know before relying on a message."""
    record, said = message.record, message.said
    found = []
    skew = record.get("ts_skew")
    if isinstance(skew, int) and abs(skew) > _HOUR_MS:
        found.append("the sender's clock and the time of receipt differ by more than an hour")
    if record.get("source") in {"messages", "backfill"}:
        found.append("found by reading the room's history, not received as it was sent")
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
    if said.get("body_truncated"):
        found.append("cut here; whole in the record")
    if message.first is None and not message.others:
        found.append("the original is not archived")
    return [*found, *_archives(message)]


def _archives(message: Message) -> list[str]:
    """Return of which servers' archives a message is, if there are several at the place."""
    if not message.archives:
        return []
    what = "archive" if len(message.archives) == 1 else "archives"
    return [f"in the {what} of {' and '.join(map(spelled, message.archives))}"]


def media_state(message: Message) -> dict[str, Any] | None:
    """Return what is known of a message's attachment, ``None`` if it has none."""
    said = message.said
    if not any(said.get(name) for name in ("media_mxc", "media_name", "media_status")):
        return None
    last: Mapping[str, Any] = message.media[-1].record if message.media else said
    status, key = _status(last), last.get("media_key")
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
        "key": key if isinstance(key, str) and status in {"stored", "duplicate"} else None,
        "status": status,
        "words": media_words(status),
    }


def _status(record: Mapping[str, Any]) -> str:
    """Return what a record says of its attachment; an older writer that fetched none said nothing."""
    if record.get("media_status"):
        return str(record["media_status"])
    return "not_kept" if record.get("media_mxc") else "no_address"


def media_words(status: str) -> str:
    """Return what became of an attachment."""
    return MEDIA.get(status, one_line(status))
