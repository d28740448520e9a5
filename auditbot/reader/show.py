"""A record → the lines a person reads; nothing in a message can move the terminal's cursor."""

import json
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

_KEPT = frozenset("\u200c\u200d")
"""Joiners: invisible, but emoji and several scripts are spelled with them."""
_INDENT = "    "

_STATE = {
    "m.room.create": "created the room",
    "m.room.name": "named the room “{name}”",
    "m.room.topic": "set the topic “{topic}”",
    "m.room.canonical_alias": "set the room's address {alias}",
    "m.room.encryption": "switched encryption on",
    "m.room.join_rules": "set who may join: {join_rule}",
    "m.room.history_visibility": "set who may read history: {history_visibility}",
    "m.room.guest_access": "set guest access: {guest_access}",
    "m.room.power_levels": "changed who may do what",
    "m.room.tombstone": "closed the room in favour of {replacement_room}",
}
_MEMBERSHIP = {
    "join": "joined",
    "invite": "invited {whom}",
    "knock": "asked to enter",
    "leave": "left",
    "ban": "banned {whom}",
}
_TRUST = {
    "unverified_device": "from a device its owner has not verified",
    "unknown_device": "from an unknown device",
    "identity_changed": "from a user whose identity changed",
    "mismatch": "DEVICE AND SENDER DO NOT MATCH",
}


def visible(text: object) -> str:
    """Return text with every control, bidi and other invisible character spelled out."""
    return "".join(
        character
        if character.isprintable() or character in _KEPT
        else " "
        if character == "\xa0"
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def show(record: Record) -> str | None:
    """Return a record for a person, ``None`` for what only machines need."""
    kind = record.get("kind")
    if kind == "audience":
        return None
    time = _time(record)
    if kind == "control":
        return f"{time}  — {_control(record)} —"
    room = visible(
        record.get("room_name") or record.get("room_alias") or record.get("room_id") or "no room"
    )
    marks = _marks(record)
    head = f"{time}  [{room}] {_sender(record)}"
    text = _text(record)
    if record.get("state_key") is not None or record.get("event_type") in _SAID_AS_ACT:
        return f"{head} {text}{marks}"
    return f"{head}: {text}{marks}"


_SAID_AS_ACT = frozenset({"m.room.redaction", "m.reaction"})


def _time(record: Record) -> str:
    time = record.get("time_utc")
    if not isinstance(time, str):
        return "(no time)          "
    return visible(time[:19].replace("T", " "))


def _sender(record: Record) -> str:
    sender = visible(record.get("sender") or "somebody unknown")
    name = record.get("sender_name")
    return f"{visible(name)} ({sender})" if name else sender


def _control(record: Record) -> str:
    action = visible(str(record.get("action") or "").replace("_", " "))
    return f"{action} by {visible(record.get('actor'))}"


def _text(record: Record) -> str:
    if record.get("enc_status") == "undecryptable":
        return f"(not readable: {visible(record.get('enc_error'))})"
    if record.get("content_state") == "arrived_redacted":
        return "(deleted before it arrived)"
    if record.get("event_type") in _SAID_AS_ACT:
        return _act(record)
    return _said(record) if record.get("state_key") is None else _state(record)


def _act(record: Record) -> str:
    if record.get("event_type") == "m.reaction":
        key = visible(record.get("reaction_key"))
        return f"reacted {key} to {visible(record.get('rel_event_id'))}"
    reason = record.get("redaction_reason")
    because = f", because: {visible(reason)}" if reason else ""
    return f"deleted {visible(record.get('redacts'))}{because}"


def _said(record: Record) -> str:
    body = record.get("body")
    if body is None:
        return f"({visible(record.get('event_type'))})"
    text = f"\n{_INDENT}".join(visible(line) for line in str(body).split("\n"))
    name = record.get("media_mxc") and (record.get("media_name") or record.get("media_mxc"))
    return f"{text} (attachment {visible(name)})" if name else text


def _state(record: Record) -> str:
    content = _content(record)
    event_type = str(record.get("event_type"))
    if event_type == "m.room.member":
        sentence = _MEMBERSHIP.get(str(content.get("membership")), "changed a membership")
        whom = visible(record.get("state_key"))
        if content.get("membership") == "leave" and record.get("state_key") != record.get(
            "sender"
        ):
            return f"removed {whom}"
        return sentence.replace("{whom}", whom)
    sentence = _STATE.get(event_type, f"set {visible(event_type)}")
    for name, value in content.items():
        sentence = sentence.replace(f"{{{name}}}", visible(value))
    return sentence


def _content(record: Record) -> Mapping[str, Any]:
    try:
        event = json.loads(record.get("event_json") or "{}")
    except (ValueError, RecursionError):
        return {}
    content = event.get("content") if isinstance(event, dict) else None
    return content if isinstance(content, dict) else {}


def _marks(record: Record) -> str:
    marks = []
    if record.get("kind") == "decryption":
        marks.append("readable only later; first record " + visible(record.get("of_seq")))
    if record.get("edit_of"):
        by = " BY SOMEBODY ELSE" if record.get("edit_valid") is False else ""
        marks.append(f"edit of {visible(record.get('edit_of'))}{by}")
    if record.get("body_truncated"):
        marks.append("cut here; whole in event_json")
    trust = _TRUST.get(str(record.get("enc_trust")))
    if trust:
        marks.append(trust)
    return "".join(f" [{mark}]" for mark in marks)
