"""What an event says beside its ``body``; pure.

Most clients show ``formatted_body`` where it is there, so a sender can show one thing to people
and put another into ``body``. Polls and other events have no ``body`` at all, and of an edit clients
show its new content, not the ``body`` around it.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditbot.reader.formatted import html_text, says_the_same

_MOST = 64 * 1024
_MOST_STRINGS = 200
_IDENTIFIER = re.compile(r"(?:(?:m|org|com)\.[\w.]*|[$!@]\S+:\S+|\$[A-Za-z0-9_-]{43}|mxc:\S*)$")
_NO_TEXT = frozenset({"id", "m.id", "m.relates_to", "mimetype", "format", "msgtype"})
_TEXT = frozenset({"body", "m.text", "org.matrix.msc1767.text"})
_DEEPEST = 8


def content_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record's event, as far as it can be read.

    Where the exact bytes are no sound text they are kept beside it, and say as much: one character
    that is none would otherwise hide all else from whoever reads and searches here.
    """
    return _content(_event_text(record))


def _event_text(record: Mapping[str, Any]) -> str:
    text = record.get("event_json")
    if isinstance(text, str):
        return text
    encoded = record.get("raw_b64")
    # That of an event that could not be read is its ciphertext, which holds no content of ours.
    if not isinstance(encoded, str) or record.get("enc_status") == "undecryptable":
        return ""
    try:
        return base64.b64decode(encoded).decode("utf-8", "replace")
    except ValueError:
        return ""


def formatted_text(record: Mapping[str, Any]) -> str | None:
    """Return what clients show instead of ``body``, if that is something else.

    It is the text of ``formatted_body``, or the place on a map.
    """
    event_text = _event_text(record)
    # A key may be spelled with escapes.
    if not any(part in event_text for part in ("formatted_body", "m.location", "\\u")):
        return None
    content = _content(event_text)
    new = content.get("m.new_content")
    if record.get("edit_of") and isinstance(new, dict):
        content = new
    if content.get("msgtype") == "m.location":
        return _place(content)
    formatted = content.get("formatted_body")
    if not isinstance(formatted, str):
        return None
    markup = sound(formatted[:_MOST])
    is_reply = bool(record.get("reply_to"))
    text = html_text(markup, is_reply=is_reply)
    body = sound(content.get("body") or "")
    is_same = not text or says_the_same(text, body, markup, is_reply=is_reply)
    return None if is_same else text


def _place(content: Mapping[str, Any]) -> str | None:
    body = str(content.get("body") or "")
    inner = [content.get(name) for name in ("m.location", "org.matrix.msc3488.location")]
    places = [content.get("geo_uri"), *(one.get("uri") for one in inner if isinstance(one, dict))]
    untold = dict.fromkeys(
        sound(one) for one in places if isinstance(one, str) and one not in body
    )
    return f"a map of {' and of '.join(untold)}" if untold else None


def edit_text(record: Mapping[str, Any]) -> str:
    """Return what an edit makes of a message: its new content, not the fallback around it."""
    new = content_of(record).get("m.new_content")
    if isinstance(new, dict) and "body" in new:
        return sound(new["body"])
    return str(record.get("body") or "").removeprefix("* ")


def other_text(record: Mapping[str, Any]) -> str | None:
    """Return the texts in an event that has no ``body``, such as a poll's question."""
    if record.get("body") is not None or record.get("state_key") is not None:
        return None
    if record.get("event_type") in {"m.reaction", "m.room.redaction"}:
        return None
    found = []
    size = 0
    for text in _strings(content_of(record), 0):
        found.append(sound(text))
        size += len(text)
        if len(found) >= _MOST_STRINGS or size > _MOST:
            break
    return " · ".join(found) or None


def sound(text: object) -> str:
    """Return text in which every lone surrogate is a replacement character."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _content(event_json: str) -> dict[str, Any]:
    try:
        event = json.loads(event_json or "{}")
    except (ValueError, RecursionError):
        return {}
    content = event.get("content") if isinstance(event, dict) else None
    return content if isinstance(content, dict) else {}


def _strings(value: object, depth: int, name: str = "") -> Iterator[str]:
    """Yield the texts that people wrote, not names of fields, IDs or types."""
    if isinstance(value, str) and (name in _TEXT or not _IDENTIFIER.match(value)):
        yield value
    inner: list[tuple[str, object]] = []
    if isinstance(value, dict):
        inner = [(key, item) for key, item in value.items() if key not in _NO_TEXT]
    elif isinstance(value, list):
        inner = [(name, item) for item in value]
    if depth < _DEEPEST:
        for key, item in inner:
            yield from _strings(item, depth + 1, key)
