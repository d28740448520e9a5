"""The bytes of an object → its frames and lines, in bounded memory whatever somebody packed.

An object is a series of zstd frames or, as its name says, gzip members, each of whole lines. The
libraries' own readers take a cut-off frame for the end of the file, so frames are unpacked one by
one here.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard

from auditbot.reader.layout import is_gzip
from common.errors import PermanentError

CHUNK_BYTES = 1024
"""Packed bytes unpacked at a time: at zstd's highest ratio they become some 30 MiB."""
_GZIP_CHUNK_BYTES = 16 * 1024
"""At gzip's highest ratio they become 16 MiB."""
_WITH_GZIP_HEADER = 31
LONGEST_LINE_BYTES = 64 * 2**20
"""No record is as long; a damaged or malicious object must not fill the memory."""
LARGEST_OBJECT_BYTES = 4 * 2**30
"""No object unpacks to as much; one that does would keep a reader busy for hours."""


class DamagedArchiveError(PermanentError):
    """An object of the archive is not what was written."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its newline, and the packed bytes of the frame in which it begins."""

    number: int
    frame_start: int
    place_in_frame: int
    data: bytes


def lines(key: str, body: bytes) -> Iterator[bytes]:
    """Yield the lines of an object of one or more frames.

    Raises:
        DamagedArchiveError: the object is not compressed as its key says, is cut off or holds what no record can be.
    """
    return (line.data for line in placed_lines(key, body))


def placed_lines(key: str, body: bytes) -> Iterator[Line]:
    """Yield the lines of an object, each with where it is.

    Raises:
        DamagedArchiveError: as ``lines``.
    """
    rest: list[bytes] = []
    waiting = number = place = 0
    frame = -1
    begun = (0, 0)
    for start, piece in unpacked(key, body):
        if start != frame:
            frame, place = start, 0
        if not waiting:
            begun = (frame, place)
        *whole, last = piece.split(b"\n")
        for data in whole:
            number += 1
            yield Line(number, *begun, b"".join([*rest, data]))
            rest, waiting = [], 0
            place += 1
            begun = (frame, place)
        rest.append(last)
        waiting += len(last)
        if waiting > LONGEST_LINE_BYTES:
            raise DamagedArchiveError(f"“{key}” holds a line that no record can be.")
    if waiting:
        raise DamagedArchiveError(f"“{key}” ends in the middle of a line.")


def unpacked(key: str, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield pieces of what was packed, each with where its frame begins.

    Raises:
        DamagedArchiveError: the object is not compressed as its key says, is cut off or unpacks
            to too much.
    """
    gzipped = is_gzip(key)
    step = _GZIP_CHUNK_BYTES if gzipped else CHUNK_BYTES
    frame = _frame(gzipped=gzipped)
    begin = size = 0
    try:
        for start in range(0, len(body), step):
            chunk = body[start : start + step]
            end = start + len(chunk)
            while chunk:
                if frame.eof:
                    frame, begin = _frame(gzipped=gzipped), end - len(chunk)
                piece = frame.decompress(chunk)
                size += len(piece)
                if size > LARGEST_OBJECT_BYTES:
                    raise DamagedArchiveError(f"“{key}” unpacks to more than any object holds.")
                yield begin, piece
                chunk = frame.unused_data
    except (zstandard.ZstdError, zlib.error) as error:
        raise DamagedArchiveError(f"“{key}” is damaged: {error}.") from error
    if not frame.eof:
        raise DamagedArchiveError(f"“{key}” is cut off.")


class _Frame(Protocol):
    """What unpacks one frame, whatever its format."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _frame(*, gzipped: bool) -> _Frame:
    if gzipped:
        return zlib.decompressobj(_WITH_GZIP_HEADER)
    return zstandard.ZstdDecompressor().decompressobj()
