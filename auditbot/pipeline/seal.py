"""A segment → the object that is stored: compressed body, digest, key; pure.

The body is a series of zstd frames, each a bounded number of records, so that it is built and
read with bounded memory; every zstd tool reads it as one file.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import zstandard

from auditbot.pipeline.segment import Segment

LEVEL = 3
FRAME_BYTES = 1024 * 1024
"""About how much goes into one frame, before compression."""


def compress(lines: Iterable[bytes]) -> bytes:
    """Return one zstd frame that holds the lines."""
    # The checksum makes a damaged file say so instead of returning other text.
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(lines))


def object_key(server_name: str, stream: str, segment: Segment) -> str:
    """Return where a segment is stored, below the destination's prefix."""
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=segment.day)
    return (
        f"v1/{path_safe(server_name)}/events/dt={day:%Y-%m-%d}/"
        f"{stream}-{segment.first_seq:012d}.jsonl.zst"
    )


def path_safe(server_name: str) -> str:
    """Return a server name as one step of a path; ports and IPv6 addresses hold colons."""
    safe = re.sub(r"[^A-Za-z0-9.-]", "_", server_name)
    # “_” appears in no server name, so two different names stay different.
    return re.sub(r"^\.+", lambda dots: "_" * len(dots.group()), safe) or "_"
