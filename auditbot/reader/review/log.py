"""What was drawn and what was reviewed: a file that only grows, each line naming the one before.

Whoever notes the last line's hash elsewhere can show later that nothing was taken out or changed.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditbot.reader.access_log import AccessLog

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Review:
    """Who looked at a conversation, and what they found."""

    user: str
    time_ms: int
    result: str
    note: str
    messages: int


@dataclass
class Reviews:
    """What the log says of one archive."""

    reviewed: dict[str, Review] = field(default_factory=dict)
    """The last review of each conversation."""
    drawn: dict[str, Json] = field(default_factory=dict)
    """What was noted of each conversation when it was drawn last."""
    entries: list[tuple[Json, bool]] = field(default_factory=list)
    is_whole: bool = True


def read_reviews(log: AccessLog, archive: str) -> Reviews:
    """Return what was drawn and reviewed of an archive."""
    found = Reviews()
    for entry, follows in log.entries():
        found.is_whole &= follows
        if entry.get("archive") != archive:
            continue
        found.entries.append((entry, follows))
        if entry.get("what") == "drawn":
            found.drawn.update(_drawn(entry))
        elif entry.get("what") == "reviewed":
            found.reviewed[str(entry.get("conversation"))] = Review(
                user=str(entry.get("user")),
                time_ms=_number(entry.get("time_ms")),
                result=str(entry.get("result")),
                note=str(entry.get("note")),
                messages=_number(entry.get("messages")),
            )
    return found


def last_hash(path: Path) -> str:
    """Return the hash of the log's last line, which stands for all of it; "" if there is none."""
    last = b""
    try:
        with path.open("rb") as file:
            for line in file:
                last = line.removesuffix(b"\n")
    except FileNotFoundError:
        return ""
    return hashlib.sha256(last).hexdigest() if last else ""


def _drawn(entry: Json) -> dict[str, Json]:
    listed = entry.get("conversations")
    if not isinstance(listed, list):
        return {}
    return {str(one["id"]): one for one in listed if isinstance(one, dict) and "id" in one}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
