"""What an event says beside its ``body``; pure.

Most clients show ``formatted_body`` where it is there, so a sender can show one thing to people
and put another into ``body``. Polls and other events have no ``body`` at all.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import nh3

_MOST = 64 * 1024
_MOST_STRINGS = 200
_WORDS = re.compile(r"\w", re.UNICODE)
_IDENTIFIER = re.compile(r"(?:m\.|org\.|[$!@]|mxc:)\S*$")
_NO_TEXT = frozenset({"id", "m.id", "m.relates_to", "mimetype", "format", "msgtype"})
_DEEPEST = 8
_BREAK = re.compile(r"<(?:br|/p|/li|/h[1-6]|/div|/blockquote|/tr)\b[^>]*>", re.IGNORECASE)


def formatted_text(record: Mapping[str, Any]) -> str | None:
    """Return the text of ``formatted_body`` if it is another than that of ``body``."""
    event_json = record.get("event_json")
    if not isinstance(event_json, str) or '"formatted_body"' not in event_json:
        return None
    content = _content(event_json)
    new = content.get("m.new_content")
    if isinstance(new, dict) and "formatted_body" in new:
        content = new
    formatted = content.get("formatted_body")
    if not isinstance(formatted, str):
        return None
    text = html_text(formatted[:_MOST])
    body = str(content.get("body") or "")
    return None if not text or _same(text, body) else text


def other_text(record: Mapping[str, Any]) -> str | None:
    """Return the texts in an event that has no ``body``, such as a poll's question."""
    event_json = record.get("event_json")
    if record.get("body") is not None or record.get("state_key") is not None:
        return None
    if record.get("event_type") in {"m.reaction", "m.room.redaction"} or not event_json:
        return None
    found = []
    size = 0
    for text in _strings(_content(str(event_json)), 0):
        found.append(text)
        size += len(text)
        if len(found) >= _MOST_STRINGS or size > _MOST:
            break
    return " · ".join(found) or None


def html_text(text: str) -> str:
    """Return the text of HTML as a client would show it, without what a reply repeats."""
    broken = _BREAK.sub("\n", text)
    plain = nh3.clean(broken, tags=set(), clean_content_tags={"mx-reply", "script", "style"})
    return html.unescape(plain).strip()


def _same(text: str, body: str) -> bool:
    """Return whether two texts have the same letters: marks of formatting do not count."""
    letters = "".join(_WORDS.findall(text)).replace("_", "").casefold()
    plain = "\n".join(line for line in body.split("\n") if not line.startswith("> "))
    return letters in {
        "".join(_WORDS.findall(some)).replace("_", "").casefold() for some in (body, plain)
    }


def _content(event_json: str) -> dict[str, Any]:
    try:
        event = json.loads(event_json)
    except (ValueError, RecursionError):
        return {}
    content = event.get("content") if isinstance(event, dict) else None
    return content if isinstance(content, dict) else {}


def _strings(value: object, depth: int) -> Iterator[str]:
    """Yield the texts that people wrote, not names of fields, IDs or types."""
    if isinstance(value, str) and not _IDENTIFIER.match(value):
        yield value
    inner: list[object] = []
    if isinstance(value, dict):
        inner = [item for name, item in value.items() if name not in _NO_TEXT]
    elif isinstance(value, list):
        inner = value
    if depth < _DEEPEST:
        for item in inner:
            yield from _strings(item, depth + 1)
