"""What is said of an act, cut where it is too long to be kept; pure.

What is cut can still be compared: the SHA-256 of all of it stays.
"""

import hashlib
import json
from typing import Any

LONGEST = 4096
"""Characters of one text."""
_SHORTER = 256
_MOST_BYTES = 2**16
"""Of all that is said of an act: as JSON in JSON it is at most twice as long."""


def short(value: object, longest: int = LONGEST) -> object:
    """Return a text that can be written down: not too long, and without what no JSON can say."""
    if not isinstance(value, str):
        return value
    body = value.encode("utf-8", "replace")
    text = body.decode()
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(body).hexdigest()
    return f"{text[:longest]}… (cut; all {len(text):,} characters have the SHA-256 {digest})"


def bounded(detail: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of an act, short enough for an entry whatever somebody typed."""
    text = ""
    for longest in (LONGEST, _SHORTER):
        cut = {name: short(value, longest) for name, value in detail.items()}
        text = json.dumps(cut)
        if len(text) <= _MOST_BYTES:
            return cut
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"cut": text[:LONGEST], "bytes": len(text), "sha256": digest}
