"""A segment → the object that is stored: compressed body, digest, key; pure.

The body is a series of zstd frames or gzip members, each a bounded number of records, so that it
is built and read with bounded memory; every zstd or gzip tool reads it as one file.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import zstandard

from auditbot.pipeline.merkle import leaf
from auditbot.pipeline.retention import DEFAULT
from auditbot.pipeline.segment import Segment

LEVEL = 3
"""Of zstd."""
_GZIP_LEVEL = 6
_WITH_GZIP_HEADER = 31
_GZIP_BEGINS = b"\x1f\x8b"
FRAME_BYTES = 1024 * 1024
"""About how much goes into one frame, before compression."""
_KIND = b'"kind":"'
_OUTCOME = {
    "event": re.compile(rb'"enc_status":"([a-z_]{1,40})"'),
    "media": re.compile(rb'"media_status":"([a-z_]{1,40})"'),
}
_NOT_KEPT = b'"media_status":"not_kept"'
_CLASS = b'"retention_class":"'
_ERROR = re.compile(rb'"enc_error":"([a-z_]{1,40})"')


class Compression(StrEnum):
    """How segments are compressed, as the configuration names it."""

    ZSTD = "zstd"
    GZIP = "gzip"

    @property
    def suffix(self) -> str:
        """Return how the names of such objects end, before ``.age``."""
        return ".zst" if self is Compression.ZSTD else ".gz"


def compression_of(key: str) -> Compression:
    """Return how the object under a key of ours is compressed."""
    is_gzip = key.removesuffix(".age").endswith(Compression.GZIP.suffix)
    return Compression.GZIP if is_gzip else Compression.ZSTD


def compress(lines: Iterable[bytes], how: Compression = Compression.ZSTD) -> bytes:
    """Return one zstd frame or gzip member that holds the lines; the same bytes each time."""
    if how is Compression.GZIP:
        # Its header has no time and no name in it, unlike that of the module gzip.
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _WITH_GZIP_HEADER)
        return packer.compress(b"".join(lines)) + packer.flush()
    # The checksum makes a damaged file say so instead of returning other text.
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(lines))


def object_key(
    server_name: str,
    stream: str,
    segment: Segment,
    *,
    encrypted: bool = False,
    compression: Compression = Compression.ZSTD,
) -> str:
    """Return where a segment is stored, below the destination's prefix."""
    return (
        f"{root_of(server_name)}events/dt={day_of(segment.day)}/"
        f"{stream}-{segment.first_seq:012d}.jsonl{compression.suffix}{'.age' if encrypted else ''}"
    )


def sessions_key(segment_key: str) -> str:
    """Return where the room keys are stored that a segment was the first one to use."""
    return segment_key.replace("/events/dt=", "/sessions/dt=", 1)


def root_of(server_name: str) -> str:
    """Return what all keys of a homeserver's archive begin with."""
    return f"v1/{path_safe(server_name)}/"


def day_of(day: int) -> str:
    """Return the date of a day that is counted since the epoch."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}"


def lines_in(body: bytes) -> list[bytes]:
    """Return the lines of a body of ours, however it is compressed."""
    if body.startswith(_GZIP_BEGINS):
        return gzip.decompress(body).splitlines()
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    return reader.read().splitlines()


def kind_of(line: bytes) -> str:
    """Return the kind of record that a line of ours holds, without reading the line."""
    begin = line.index(_KIND) + len(_KIND)
    return line[begin : line.index(b'"', begin)].decode()


def outcome_of(line: bytes) -> str | None:
    """Return how a record turned out: ``read_later``, or a field's value and its reason.

    A quotation mark inside of a text is escaped in JSON, so what is found is a field.
    """
    kind = kind_of(line)
    if kind == "decryption":
        return "read_later"
    found = _OUTCOME[kind].search(line) if kind in _OUTCOME else None
    if found is None:
        return None
    value = found.group(1).decode()
    error = _ERROR.search(line) if value == "undecryptable" else None
    return f"{value} {error.group(1).decode()}" if error is not None else value


def lacks_attachment(line: bytes) -> bool:
    """Return whether a record has an attachment that was never to be archived."""
    return _NOT_KEPT in line and kind_of(line) in {"event", "decryption"}


def class_in(line: bytes) -> str:
    """Return the retention class of the record that a line of ours holds."""
    # From the end, where it stands: a body may be long.
    at = line.rfind(_CLASS)
    if at < 0:
        return DEFAULT
    begin = at + len(_CLASS)
    return line[begin : line.index(b'"', begin)].decode()


def leaves_of(lines: Sequence[bytes]) -> list[bytes]:
    """Return the leaves of records in the tree; a leaf is without the newline."""
    return [leaf(line[:-1]) for line in lines]


def path_safe(server_name: str) -> str:
    """Return a server name as one step of a path; ports and IPv6 addresses hold colons."""
    safe = re.sub(r"[^A-Za-z0-9.-]", "_", server_name)
    # “_” appears in no server name, so two different names stay different.
    return re.sub(r"^\.+", lambda dots: "_" * len(dots.group()), safe) or "_"
