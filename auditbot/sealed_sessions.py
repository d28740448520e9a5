"""Room keys of a stream whose content is sealed: each to the key of what it was needed for.

The promise kept: whoever cannot open what a record says cannot open the room key that was kept for
it either, and an erasure that destroys the one destroys the other.
"""

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import zstandard

from auditbot.content_keys import ContentKey, Officers, keys_for
from auditbot.encryption import encrypt
from auditbot.pipeline.seal import LEVEL
from auditbot.pipeline.sealing import Scope, scope_at
from auditbot.pipeline.segment import DAY_MS
from auditbot.session_keys import KeptSession
from common.database.pool import Database


class SealedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A line of such an object; the names are those of a record whose content is sealed."""

    v: int = 1
    stream: str
    seq: int
    sealed_to: str
    sealed_sha256: str
    sealed: str


async def sealed_sessions(
    database: Database, officers: Officers, kept: Sequence[KeptSession], *, per_person: bool
) -> list[bytes]:
    """Return the lines with these room keys; every call gives other bytes.

    Args:
        database: where the keys are that content is sealed to
        officers: for whom
        kept: the room keys
        per_person: whether each person has a key
    """
    wanted: dict[Scope, int] = {}
    for one in kept:
        scope, seq = _scope(one, per_person=per_person)
        wanted[scope] = max(wanted.get(scope, 0), seq)
    keys = await keys_for(database, officers, wanted)
    return await asyncio.to_thread(_together, officers.stream, kept, keys, per_person)


def _together(
    stream: str,
    kept: Sequence[KeptSession],
    keys: Mapping[Scope, Sequence[ContentKey]],
    per_person: bool,  # noqa: FBT001  # a thread is given arguments by their place
) -> list[bytes]:
    lines = []
    for one in kept:
        scope, seq = _scope(one, per_person=per_person)
        key = next(key for key in keys[scope] if key.serves(seq))
        content = one.line.rstrip(b"\n")
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(content)
        line = SealedSession(
            stream=stream,
            seq=one.seq,
            sealed_to=key.object_key,
            sealed_sha256=hashlib.sha256(content).hexdigest(),
            sealed=base64.b64encode(encrypt(packed, [key.public_key])).decode(),
        )
        lines.append(msgspec.json.encode(line) + b"\n")
    return lines


def _scope(one: KeptSession, *, per_person: bool) -> tuple[Scope, int]:
    """Return which key the record has that a room key was needed for, and by which number."""
    scope = scope_at(one.sender if per_person else None, one.day * DAY_MS, one.label)
    return scope, one.seq if scope.person is None else one.said_seq
