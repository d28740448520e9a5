"""Records on their way into a segment of a stream whose content is sealed.

The promise kept: what is stored of a record's content opens with the officers' keys alone, and
the line itself says what the opened content must be.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import zstandard

from auditbot.content_keys import ContentKey, Officers, keys_for
from auditbot.encryption import encrypt
from auditbot.pipeline.line import from_line
from auditbot.pipeline.seal import LEVEL
from auditbot.pipeline.sealing import SEAL_SALT_BYTES, Scope, Split, said_seq, sealed_line, split
from common.database.pool import Database

Lines = Sequence[tuple[int, bytes]]
"""Lines, each with the moment in which it was received."""


class _Told(NamedTuple):
    """A record taken apart, and when it was received."""

    received_ms: int
    parts: Split


@dataclass(frozen=True, slots=True)
class ContentSealing:
    """Seals the content of a stream's records."""

    database: Database
    officers: Officers
    per_person: bool

    async def sealed(self, lines: Lines) -> list[tuple[int, bytes]]:
        """Return these lines with their content sealed; every call gives other bytes."""
        told = await asyncio.to_thread(self._apart, lines)
        wanted: dict[Scope, int] = {}
        for one in told:
            if one.parts.content is not None:
                scope = one.parts.scope
                wanted[scope] = max(wanted.get(scope, 0), said_at(one.parts))
        keys = await keys_for(self.database, self.officers, wanted) if wanted else {}
        # In a thread: a frame takes a good part of a second, and the receiver is to answer meanwhile.
        return await asyncio.to_thread(_together, told, keys)

    def _apart(self, lines: Lines) -> list[_Told]:
        return [
            _Told(
                received_ms,
                split(
                    from_line(line),
                    secrets.token_bytes(SEAL_SALT_BYTES),
                    per_person=self.per_person,
                ),
            )
            for received_ms, line in lines
        ]


def said_at(parts: Split) -> int:
    """Return the number of the record by which a record's key is chosen."""
    return parts.bare.seq if parts.scope.person is None else said_seq(parts.bare)


def _together(
    told: Sequence[_Told], keys: Mapping[Scope, Sequence[ContentKey]]
) -> list[tuple[int, bytes]]:
    # What is encrypted cannot be compressed any more, and what is said stands in several fields.
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    return [(one.received_ms, _line(one.parts, keys, compressor)) for one in told]


def _line(
    parts: Split,
    keys: Mapping[Scope, Sequence[ContentKey]],
    compressor: zstandard.ZstdCompressor,
) -> bytes:
    if parts.content is None:
        return sealed_line(parts.bare, None, None, None)
    key = next(one for one in keys[parts.scope] if one.serves(said_at(parts)))
    packed = compressor.compress(parts.content)
    sealed = base64.b64encode(encrypt(packed, [key.public_key])).decode()
    digest = hashlib.sha256(parts.content).hexdigest()
    return sealed_line(parts.bare, sealed, digest, key.object_key)
