"""A record → the lines a person reads.

The promise kept: what people chose themselves, a name or a text, can neither move the terminal's
cursor nor pass for what Steward says. Names stand in quotation marks, with those inside spelled
out; marks stand in front of the text; only lines that begin with a time begin a record.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from auditbot.reader.sealed import unopened

Record = Mapping[str, Any]

_KEPT = frozenset("\u200c\u200d")
"""Joiners: invisible, but emoji and several scripts are spelled with them."""
BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE0E)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
"""Letters, marks and signs, as far as Unicode goes, of which nobody sees anything."""
_INDENT = "    "
_PLAIN_ID = re.compile(r"[@#!$][A-Za-z0-9._=/+:~@#!$-]*")

_GAP = re.compile(r"{(\w+)}")

_STATE = {
    "m.room.create": "created the room",
    "m.room.name": "named the room {name}",
    "m.room.topic": "set the topic {topic}",
    "m.room.canonical_alias": "set the room's address {alias}",
    "m.room.encryption": "switched encryption on",
    "m.room.join_rules": "set who may join: {join_rule}",
    "m.room.history_visibility": "set who may read history: {history_visibility}",
    "m.room.guest_access": "set guest access: {guest_access}",
    "m.room.power_levels": "changed who may do what",
    "m.room.tombstone": "closed the room in favour of {replacement_room}",
}
_MEMBERSHIP = {"invite": "invited {whom}", "knock": "asked to enter", "ban": "banned {whom}"}
_LEFT = {
    ("invite", True): "declined the invitation",
    ("invite", False): "took back the invitation of {whom}",
    ("knock", True): "took back the request to enter",
    ("knock", False): "refused entry to {whom}",
    ("ban", False): "lifted the ban of {whom}",
}
"""By what somebody was before, and whether they did it themselves."""
_TRUST = {
    "unverified_device": "from a device its owner has not verified",
    "unknown_device": "from an unknown device",
    "identity_changed": "from a user whose identity changed",
    "mismatch": "DEVICE AND SENDER DO NOT MATCH",
}
_SAID_AS_ACT = frozenset({"m.room.redaction", "m.reaction"})


def visible(text: object) -> str:
    """Return text with every control, bidi and other invisible character spelled out."""
    return "".join(
        character
        if (character.isprintable() and character not in BLANK) or character in _KEPT
        else " "
        if character == "\xa0"
        else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def visible_json(line: str) -> str:
    r"""Return the same JSON with every invisible character written as ``\uXXXX``."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in line
    )


def quoted(text: object) -> str:
    """Return what somebody chose so that its end cannot be mistaken."""
    return '"' + visible(str(text).replace("\\", "\\\\").replace('"', '\\"')) + '"'


def show(record: Record) -> str | None:
    """Return a record for a person, ``None`` for what only machines need."""
    shown = _shown(record)
    # Once more, whatever was forgotten before: spelling out twice is the same as once.
    return None if shown is None else "\n".join(map(visible, shown.split("\n")))


def _shown(record: Record) -> str | None:
    kind = record.get("kind")
    if kind == "audience":
        return None
    time = _time(record)
    if kind == "control":
        return f"{time}  — {_control(record)} —"
    marks = "".join(f" [{mark}]" for mark in _marks(record))
    head = f"{time}  [{_room(record)}] {_sender(record)}{marks}"
    if _is_act(record):
        return f"{head} {_act(record)}"
    text = _text(record)
    return head if text is None else f"{head}: {text}"


def acted(record: Record) -> str:
    """Return what was done, for a record that is no message."""
    return _control(record) if record.get("kind") == "control" else _act(record)


def _time(record: Record) -> str:
    time = record.get("time_utc")
    if not isinstance(time, str):
        return "(no time)          "
    return visible(time[:19].replace("T", " "))


def _room(record: Record) -> str:
    name = record.get("room_name")
    return (
        quoted(name) if name else _id(record.get("room_alias") or record.get("room_id"), "no room")
    )


def _sender(record: Record) -> str:
    # First the ID, which the homeserver vouches for, then what they call themselves.
    sender = _id(record.get("sender"), "somebody unknown")
    name = record.get("sender_name")
    return f"{sender} {quoted(name)}" if name else sender


def _id(value: object, otherwise: str = "nothing") -> str:
    """Return an identifier; only one that holds nothing unusual stands without quotes."""
    if not value:
        return otherwise
    return str(value) if _PLAIN_ID.fullmatch(str(value)) else quoted(value)


def _control(record: Record) -> str:
    action = visible(str(record.get("action") or "").replace("_", " "))
    return f"{action} by {visible(record.get('actor'))}"


def _is_act(record: Record) -> bool:
    return _is_shown(record) and (
        record.get("state_key") is not None or record.get("event_type") in _SAID_AS_ACT
    )


def _is_shown(record: Record) -> bool:
    return (
        record.get("enc_status") != "undecryptable"
        and record.get("content_state") != "arrived_redacted"
    )


def _act(record: Record) -> str:
    event_type = record.get("event_type")
    if event_type == "m.reaction":
        key = record.get("reaction_key")
        given = "" if key is None and unopened(record) else f" {quoted(key)}"
        return f"reacted{given} to {_id(record.get('rel_event_id'))}"
    if event_type == "m.room.redaction":
        reason = record.get("redaction_reason")
        because = f", because: {quoted(reason)}" if reason else ""
        return f"deleted {_id(record.get('redacts'))}{because}"
    return _state(record)


def _text(record: Record) -> str | None:
    body = record.get("body")
    if body is None or not _is_shown(record):
        return None
    return f"\n{_INDENT}".join(visible(line) for line in str(body).split("\n"))


def _state(record: Record) -> str:
    event = _object(record.get("event_json"))
    known = _object_in(event, "content")
    event_type = str(record.get("event_type"))
    if event_type == "m.room.member":
        # What was before is as our homeserver says.
        before = _object_in(_object_in(event, "unsigned"), "prev_content")
        reason = known.get("reason")
        because = f", because: {quoted(reason)}" if isinstance(reason, str) and reason else ""
        return _membership(record, known, before) + because
    if event_type not in _STATE:
        return f"set {quoted(event_type)}"
    said = _GAP.sub(lambda gap: quoted(known.get(gap[1], "")), _STATE[event_type])
    older = _object_in(known, "predecessor").get("room_id")
    is_in_place = event_type == "m.room.create" and older
    return f"{said} in place of {quoted(older)}" if is_in_place else said


def _membership(record: Record, known: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    membership, earlier = known.get("membership"), before.get("membership")
    whom = _id(record.get("state_key"))
    if membership == earlier == "join":
        return _profile(known, before)
    if membership == "join":
        name = known.get("displayname")
        return f"joined as {quoted(name)}" if isinstance(name, str) and name else "joined"
    if membership == "leave":
        is_own = record.get("state_key") == record.get("sender")
        sentence = _LEFT.get((str(earlier), is_own), "left" if is_own else "removed {whom}")
    else:
        sentence = _MEMBERSHIP.get(str(membership), "changed a membership")
    return sentence.replace("{whom}", whom)


def _profile(known: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Return what somebody who was in the room already changed of how they appear there."""
    old, new = before.get("displayname"), known.get("displayname")
    if old != new:
        return f"changed their name from {quoted(old or '')} to {quoted(new or '')}"
    if before.get("avatar_url") != known.get("avatar_url"):
        return "changed their picture"
    return "confirmed their membership"


def _object_in(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _object(text: object) -> Mapping[str, Any]:
    try:
        value = json.loads(str(text or "{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _marks(record: Record) -> list[str]:
    marks = []
    if record.get("enc_status") == "undecryptable":
        marks.append(f"not readable: {visible(record.get('enc_error'))}")
    elif record.get("content_state") == "arrived_redacted":
        marks.append("deleted before it arrived")
    elif record.get("state_key") is None and record.get("body") is None:
        marks.extend([] if _is_act(record) else [quoted(record.get("event_type"))])
    if record.get("content_state") == "recovered_unredacted":
        marks.append("deleted before it arrived, recovered from the homeserver")
    if record.get("kind") == "decryption":
        marks.append("readable only later; first record " + visible(record.get("of_seq")))
    if record.get("edit_of"):
        by = " BY SOMEBODY ELSE" if record.get("edit_valid") is False else ""
        marks.append(f"edit of {_id(record.get('edit_of'))}{by}")
    if record.get("body_truncated"):
        marks.append("cut here; whole in event_json")
    marks.extend(_attachment(record))
    marks.extend(_doubts(record))
    return marks


def _attachment(record: Record) -> list[str]:
    """Return the marks of what is there besides the text, or instead of it."""
    if record.get("media_mxc"):
        return ["attachment " + quoted(record.get("media_name") or record.get("media_mxc"))]
    words = unopened(record)
    if words is None:
        return []
    return ["attachment", words] if record.get("media_status") else [words]


def _doubts(record: Record) -> list[str]:
    doubts = []
    if _is_clear_among_encrypted(record):
        doubts.append("NOT ENCRYPTED, in an encrypted room")
    inside = _object(record.get("detail_json")).get("relation_in_ciphertext")
    if isinstance(inside, dict):
        claim = ", ".join(quoted(value) for value in inside.values())
        doubts.append(f"relation only inside the ciphertext: {claim}")
    trust = _TRUST.get(str(record.get("enc_trust")))
    return [*doubts, trust] if trust else doubts


def _is_clear_among_encrypted(record: Record) -> bool:
    # State, reactions of most clients and deletions are never encrypted.
    return (
        record.get("enc_status") == "clear"
        and record.get("encrypted") is True
        and record.get("state_key") is None
        and record.get("event_type") not in _SAID_AS_ACT
        and _is_shown(record)
    )
