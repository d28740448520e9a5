"""Record lines that wait for their segment: those of one write are one value; pure.

Short lines compress well together and badly alone, and a database writes whole pages: a row for
each line was most of what a commit had to write.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import zstandard

from auditbot.pipeline.segment import Line
from auditbot.spool import Spool
from common.database.pool import Row

_LEVEL = -1
"""They are read once, within minutes: time counts for more than size."""
_LINE_BEGINS = b"{"
"""What a line begins with, and no compressed value."""
_sizes = msgspec.json.Decoder(list[tuple[int, int]])


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of waiting lines, as it is stored."""

    first_seq: int
    last_seq: int
    first_ms: int
    last_ms: int
    sizes: str
    lines: bytes


def keep(
    stream: str, first_seq: int, lines: Sequence[tuple[int, bytes]], spool: Spool | None
) -> Kept:
    """Return what is stored of lines without a gap, at least one.

    Args:
        stream: the stream they are in
        first_seq: the number of the first one
        lines: each with the moment in which it was received
        spool: what seals them, if anything does
    """
    first_ms = min(received_ms for received_ms, _ in lines)
    sizes = [(len(line), received_ms - first_ms) for received_ms, line in lines]
    value = zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join([line for _, line in lines]))
    if spool is not None:
        value = spool.seal(value, stream=stream, seq=first_seq)
    return Kept(
        first_seq,
        first_seq + len(lines) - 1,
        first_ms,
        max(received_ms for received_ms, _ in lines),
        msgspec.json.encode(sizes).decode(),
        value,
    )


def waiting(row: Row) -> list[Line]:
    """Return the lines of a row as far as the cut needs them, without opening it."""
    first_seq, first_ms, written_ms = row["first_seq"], row["first_ms"], row["written_ms"]
    return [
        Line(first_seq + place, size, first_ms + later, written_ms)
        for place, (size, later) in enumerate(_sizes.decode(row["sizes"]))
    ]


def opened(row: Row, spool: Spool | None) -> list[bytes]:
    """Return the lines of a row, none if it is damaged: then all of it counts as missing.

    Raises:
        WrongPickleKeyError: it was sealed with another key.
    """
    value, sizes = bytes(row["lines"]), [size for size, _ in _sizes.decode(row["sizes"])]
    if spool is not None:
        value = spool.open(value, stream=row["stream"], seq=row["first_seq"])
    if not value.startswith(_LINE_BEGINS):
        try:
            value = zstandard.ZstdDecompressor().decompress(value, max_output_size=sum(sizes))
        except zstandard.ZstdError:
            return []
    lines = value.splitlines(keepends=True)
    return lines if [len(line) for line in lines] == sizes else []
