"""What a scanner for malware said of an attachment; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLEAN, INFECTED, NOT_SCANNED = "clean", "infected", "not_scanned"

_LONGEST = 200
_NOT_LOOKED_INTO = ("Heuristics.Limits.Exceeded", "Heuristics.Encrypted.")
"""What clamd finds, if it is told to, in what it could not look into: nothing was found there."""
_DETAILS = re.compile(r"\([0-9a-f]{32,128}:[0-9]+\)$")
"""Hash and size, which clamd adds with ``ExtendedDetectionInfo``."""


class ScannerAwayError(Exception):
    """The scanner as a whole is not there, or does not work; the sentence says how."""


class ScannerFailedError(Exception):
    """The scanner works, and cannot say anything of this one file; the sentence says why."""


class ScannerLimitError(Exception):
    """A file is larger than the scanner takes."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of a file.

    Args:
        result: ``clean``, ``infected``, or ``not_scanned``
        by: the scanner's own words on what it is and how new its signatures are
        signature: what was found, a name by whoever made the signature: hostile text
        reason: why it was not scanned
    """

    result: str
    by: str | None = None
    signature: str | None = None
    reason: str | None = None

    def entry(self) -> dict[str, str]:
        """Return what a record says of it."""
        said = {
            "result": self.result,
            "by": self.by,
            "signature": self.signature,
            "reason": self.reason,
        }
        return {name: value for name, value in said.items() if value is not None}

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Scan":
        """Return the same again."""
        return cls(entry["result"], entry.get("by"), entry.get("signature"), entry.get("reason"))


def answer_of(reply: bytes, by: str | None) -> Scan:
    """Return what clamd says of a stream.

    Args:
        reply: all that it sent before it closed the connection: answers, each ended by a zero byte
        by: which version it is

    Raises:
        ScannerAwayError: it says nothing, or that it does not work.
        ScannerFailedError: it works, and failed at this file.
        ScannerLimitError: the file is larger than ``StreamMaxLength``.

    Source: ClamAV, clamd(8), INSTREAM; clamd/server-th.c and clamd/scanner.c for the words.
    """
    answers = [_text(part) for part in reply.split(b"\0") if part]
    found = [
        _DETAILS.sub("", answer.removeprefix("stream: ").removesuffix(" FOUND"))
        for answer in answers
        if answer.startswith("stream: ") and answer.endswith(" FOUND")
    ]
    # There may be several; what stands for a limit must not hide what was found beside it.
    real = [name for name in found if not name.startswith(_NOT_LOOKED_INTO)]
    if real:
        return Scan(INFECTED, by, signature=real[0][:_LONGEST])
    if found:
        return Scan(NOT_SCANNED, by, reason=f"it could not be looked into: {found[0][:_LONGEST]}")
    if any(answer.startswith("INSTREAM size limit exceeded") for answer in answers):
        raise ScannerLimitError("it is larger than the scanner takes (StreamMaxLength)")
    if answers == ["stream: OK"]:
        return Scan(CLEAN, by)
    said = answers[0][:_LONGEST] if answers else ""
    if said.startswith("stream: ") and said.endswith(" ERROR"):
        raise ScannerFailedError(
            f"the scanner failed at it: {said.removeprefix('stream: ').removesuffix(' ERROR')}"
        )
    if not said:
        raise ScannerAwayError("It closed the connection without an answer.")
    raise ScannerAwayError(f"It answers “{said}”.")


def version_of(reply: bytes) -> str:
    """Return which version clamd says it is, with that of its signatures.

    Raises:
        ScannerAwayError: that is no answer of clamd.
    """
    said = _text(reply.split(b"\0")[0])
    if not said.startswith("ClamAV "):
        raise ScannerAwayError(
            f"It answers “{said[:_LONGEST]}”: what listens there is not clamd."
            if said
            else "It closed the connection without an answer."
        )
    return said[:_LONGEST]


def _text(reply: bytes) -> str:
    """Return an answer on one line, without what could be obeyed somewhere."""
    text = reply.decode("utf-8", "replace").strip()
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
