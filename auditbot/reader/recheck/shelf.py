"""The room keys that an archive keeps, fetched and compared with what its manifests sign.

They are looked for in the manifests that list a day's segments, and never written to this machine's
disk: when a day is erased, nothing here outlives it.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from auditbot.reader.day_keys import DayKeys
from auditbot.reader.documents import LARGEST_DOCUMENT_BYTES, ListedFile, Manifest
from auditbot.reader.index.library import Library
from auditbot.reader.layout import SegmentKey, sessions_key
from auditbot.reader.open_sealed import unidentified, unseal
from auditbot.reader.parse import parse
from auditbot.reader.recheck.opening import Session
from auditbot.reader.sealed import KEYLESS, SEALED
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.reader.verify.fetching import ahead
from auditbot.storage.reading import Place
from common.errors import PermanentError

_DAYS = 3
"""Days whose keys are in memory at once."""
_SLACK = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """The keys of a stream's day. ``wanted`` is whether the writer said that it keeps them."""

    sessions: Sequence[Session] = ()
    wanted: bool = False


@dataclass
class Shelf:
    """Fetches keys by the day of a stream. ``faults`` says what of them could not be used."""

    place: Place
    library: Library
    faults: list[str] = field(default_factory=list)
    _days: OrderedDict[tuple[str, str, str], Kept] = field(default_factory=OrderedDict)

    async def of(self, segment: SegmentKey) -> Kept:
        """Return the keys that are kept for the records of a segment.

        Raises:
            TransientError: the place is away.
        """
        name = (segment.server, segment.stream, f"{segment.day:%Y-%m-%d}")
        if name not in self._days:
            self._days[name] = await self._fetched(segment, f"dt={name[2]}/{name[1]}-")
            if len(self._days) > _DAYS:
                self._days.popitem(last=False)
        self._days.move_to_end(name)
        return self._days[name]

    async def _fetched(self, segment: SegmentKey, part: str) -> Kept:
        manifests = self._manifests(f"v1/{segment.server}/events/{part}")
        sessions: list[Session] = []
        wanted = False
        async with asyncio.TaskGroup() as group:
            async for (key, _), got in ahead(group, manifests, self._manifest):
                if isinstance(got, PermanentError):
                    self.faults.append(f"{key}: {got}")
                    continue
                wanted |= got.session_keys
                files = [file for file in got.sessions if _is_of(segment, file.key)]
                async for file, found in ahead(group, files, self._sessions):
                    if isinstance(found, PermanentError):
                        self.faults.append(f"{file.key}: {found}")
                    else:
                        sessions += found
        return Kept(tuple(sessions), wanted)

    def _manifests(self, beginning: str) -> list[tuple[str, str]]:
        """Return key and hash of the manifests that list a day's segments."""
        return [
            (str(key), str(sha256))
            for key, sha256 in self.library.connection.execute(
                "SELECT DISTINCT manifest.key, manifest.sha256 FROM object"
                " JOIN manifest ON manifest.key = object.manifest"
                " WHERE substr(object.key, 1, ?) = ? ORDER BY manifest.number",
                (len(beginning), beginning),
            )
        ]

    async def _manifest(self, named: tuple[str, str]) -> Manifest:
        key, sha256 = named
        body = await self.place.get(key, most_bytes=LARGEST_DOCUMENT_BYTES)
        # Its signature was checked when it was indexed.
        if hashlib.sha256(body).hexdigest() != sha256:
            raise DamagedArchiveError("it is not the manifest that was indexed: run verify.")
        try:
            return parse(body, type=Manifest)
        except ValueError as error:
            raise DamagedArchiveError("it is no manifest: run verify.") from error

    async def _sessions(self, file: ListedFile) -> list[Session]:
        body = await self.place.get(file.key, file.version_id, most_bytes=file.size + _SLACK)
        if len(body) != file.size or hashlib.sha256(body).hexdigest() != file.sha256:
            raise DamagedArchiveError("these room keys were changed: run verify.")
        if not file.key.endswith(".age"):
            return self._each_opened(file.key, body)
        wrapped = self.library.day_key(file.key) or await DayKeys(self.place).get(file.key)
        clear = await asyncio.to_thread(unseal, file.key, body, self.library.identities, wrapped)
        try:
            return [parse(line, type=Session) for line in lines(file.key, clear)]
        except ValueError as error:
            raise DamagedArchiveError("it holds what is no room key.") from error

    def _each_opened(self, key: str, body: bytes) -> list[Session]:
        """Return the room keys of an archive whose content is sealed; those erased are left out."""
        found: list[Session] = []
        for number, line in enumerate(lines(key, body), 1):
            try:
                sealed = parse(line, type=dict[str, Any])
                state, content = self.library.contents.content(sealed)
                session = None if content is None else parse(content, type=Session)
            except ValueError as error:
                raise DamagedArchiveError(f"line {number} is no room key.") from error
            if session is None:
                if state == SEALED:
                    raise unidentified(key)
                if state == KEYLESS:
                    self.faults.append(f"{key}, line {number}: the key that opens it is not here")
            elif (session.stream, session.seq) != (sealed.get("stream"), sealed.get("seq")):
                raise DamagedArchiveError(f"line {number} holds a key of another record.")
            else:
                found.append(session)
        return found


def _is_of(segment: SegmentKey, key: str) -> bool:
    named = sessions_key(key)
    return named is not None and (named.server, named.day, named.stream) == (
        segment.server,
        segment.day,
        segment.stream,
    )
