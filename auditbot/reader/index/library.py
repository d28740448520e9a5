"""The index together with the cached objects: records by what they are found by."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from auditbot.reader.documents import ListedFile, ListedSegment, Manifest
from auditbot.reader.index.build import event_key
from auditbot.reader.index.database import open_index
from auditbot.reader.index.frames import Frames
from auditbot.reader.index.remains import note_remains, wipe_remains
from auditbot.reader.index.schema import KINDS
from auditbot.reader.index.wording import Wording, decoded
from auditbot.reader.layout import server_of, wrapped_key_of
from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.open_sealed import unidentified, unseal
from auditbot.reader.sealed import Contents, Wrapped
from auditbot.reader.unpack import DamagedArchiveError

_CHUNK = 500
_LONGEST_CHAIN = 10_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as far as it can be read, its exact line without the newline, and where that is."""

    id: int
    record: Json
    line: bytes
    key: str
    seq: int
    stream: str
    content: bytes | None = None
    """The exact bytes of what was sealed of it, if that was opened."""


@dataclass(frozen=True, slots=True)
class IndexedManifest:
    """What the index keeps of a manifest."""

    key: str
    stream: str
    number: int
    sha256: str
    created_ms: int
    key_id: str
    size: int
    root: str
    checkpoint: str
    checkpoint_sha256: str


class Library:
    """One archive's index in ``folder``; not shared between threads at the same time."""

    def __init__(self, folder: Path, identities: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.identities = identities
        self.connection = open_index(folder)
        self._frames = Frames(self._clear)
        self.contents = Contents(identities, self._wrapped)
        self._wording = Wording(self.connection, self.contents, self._clear)

    def close(self) -> None:
        """Close the index."""
        self.connection.close()

    @property
    def until_ms(self) -> int | None:
        """Return up to when the index reaches, ``None`` if it is empty."""
        row = self.connection.execute("SELECT max(created_ms) FROM manifest").fetchone()
        return row[0] if row else None

    def stored(self, ids: Iterable[int]) -> Iterator[Stored]:
        """Yield records by their numbers in the index, in the order in which they are given."""
        for id_ in ids:
            row = self.connection.execute(
                "SELECT key, frame, place, stream, first_seq + record.id - first_id FROM record"
                " JOIN object ON object.id = record.object WHERE record.id = ?",
                (id_,),
            ).fetchone()
            if row is not None:
                line = self._frames.line(row[0], row[1], row[2])
                record, content = self.contents.open(decoded(row[0], line))
                yield Stored(id_, record, line, row[0], row[4], row[3], content)

    def lines(self, ids: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Yield records' numbers with their exact lines, nothing of which is read or opened."""
        for id_ in ids:
            row = self.connection.execute(
                "SELECT key, frame, place FROM record JOIN object ON object.id = record.object"
                " WHERE record.id = ?",
                (id_,),
            ).fetchone()
            if row is not None:
                yield id_, self._frames.line(*row)

    def by_roots(self, roots: Sequence[int]) -> list[tuple[int, int]]:
        """Return root and number of all records that belong to these messages, in order."""
        found: list[tuple[int, int]] = []
        for start in range(0, len(roots), _CHUNK):
            some = roots[start : start + _CHUNK]
            marks = ",".join("?" * len(some))
            found.extend(
                self.connection.execute(
                    f"SELECT root, id FROM record WHERE root IN ({marks}) ORDER BY id",  # noqa: S608  # marks are question marks
                    list(some),
                )
            )
        return found

    def event(self, event_id: str, room_id: str | None = None) -> Stored | None:
        """Return the record of an event, ``None`` if it is not archived.

        With a room, the one of that room if several have an event of this ID.
        """
        rows = self.connection.execute(
            "SELECT id FROM record WHERE event = ? ORDER BY id", (event_key(event_id),)
        ).fetchall()
        records = self.stored(row[0] for row in rows)
        found = [one for one in records if one.record.get("event_id") == event_id]
        here = (one for one in found if one.record.get("room_id") == room_id)
        return next(here, found[0] if found else None)

    def late(self, stored: Stored) -> Stored | None:
        """Return the record that says what an event says that could not be read at once."""
        row = self.connection.execute(
            "SELECT id FROM record WHERE first = ? AND kind = ? ORDER BY id LIMIT 1",
            (stored.id, KINDS.index("decryption")),
        ).fetchone()
        return next(self.stored([row[0]]), None) if row else None

    def at(self, stream: str, seq: int) -> Stored | None:
        """Return a record by its number in its stream."""
        row = self.connection.execute(
            "SELECT first_id + ? - first_seq FROM object WHERE stream = ? AND first_seq <= ?"
            " AND last_seq >= ? AND state = 'indexed'",
            (seq, stream, seq, seq),
        ).fetchone()
        return next(self.stored([row[0]]), None) if row else None

    def members(self, audience_id: str, before: int) -> list[Json] | None:
        """Return who an audience was, by the newest list before a record, else the first one."""
        chain = self.audience_records(audience_id, before)
        people: dict[str, Json] = {}
        for number, stored in enumerate(reversed(chain)):
            detail = detail_of(stored.record)
            if number == 0 and "members" not in detail:
                return None
            for user in _list(detail.get("removed")):
                people.pop(str(user), None)
            for person in _list(detail.get("members") or detail.get("added")):
                if isinstance(person, dict):
                    people[str(person.get("user_id"))] = person
        return list(people.values()) if chain else None

    def audience_records(self, audience_id: str, before: int) -> list[Stored]:
        """Return the list of an audience, and each one that says what it differs from."""
        found = self.audience_record(audience_id, before)
        chain: list[Stored] = []
        while found is not None and len(chain) < _LONGEST_CHAIN:
            chain.append(found)
            base_seq = detail_of(found.record).get("base_seq")
            is_earlier = isinstance(base_seq, int) and base_seq < found.seq
            found = self.at(found.stream, int(base_seq or 0)) if is_earlier else None
        return chain

    def audience_record(self, audience_id: str, before: int) -> Stored | None:
        """Return the list of an audience: the newest before a record, else the first one."""
        row = self.connection.execute(
            "SELECT record FROM audience WHERE hash = ?"
            " ORDER BY record > ?, CASE WHEN record > ? THEN record ELSE -record END LIMIT 1",
            (audience_id, before, before),
        ).fetchone()
        return next(self.stored([row[0]]), None) if row else None

    def file(self, key: str) -> ListedFile | None:
        """Return what a manifest says of an attachment."""
        row = self.connection.execute(
            "SELECT key, size, sha256, version_id FROM file WHERE key = ?", (key,)
        ).fetchone()
        return ListedFile(*row) if row else None

    def is_infected(self, key: str) -> bool:
        """Return whether a scanner found something in an attachment, by any record."""
        row = self.connection.execute("SELECT 1 FROM infected WHERE key = ?", (key,)).fetchone()
        return row is not None

    def manifests(self, stream: str) -> list[IndexedManifest]:
        """Return a stream's manifests in order."""
        rows = self.connection.execute(
            "SELECT key, stream, number, sha256, created_ms, key_id, size, root, checkpoint,"
            " checkpoint_sha256 FROM manifest WHERE stream = ? ORDER BY number",
            (stream,),
        )
        return [IndexedManifest(*row) for row in rows]

    @property
    def has_several_servers(self) -> bool:
        """Return whether archives of more than one server are indexed."""
        # Two questions, each of which the order of the keys answers; one would read them all.
        ends = self.connection.execute(
            "SELECT (SELECT min(key) FROM manifest), (SELECT max(key) FROM manifest)"
        ).fetchone()
        return len({server_of(str(key)) for key in ends}) > 1

    def servers(self) -> set[str]:
        """Return the servers of whose archives anything is indexed, as they stand in keys."""
        rows = self.connection.execute("SELECT key FROM manifest")
        return set(filter(None, (server_of(str(key)) for (key,) in rows)))

    def indexed_keys(self, keys: Sequence[str]) -> set[str]:
        """Return which objects are in the index."""
        found: set[str] = set()
        for start in range(0, len(keys), _CHUNK):
            some = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(some))
            rows = self.connection.execute(
                f"SELECT key FROM object WHERE key IN ({marks}) AND state = 'indexed'",  # noqa: S608  # marks are question marks
                list(some),
            )
            found.update(row[0] for row in rows)
        return found

    def add_manifest(self, key: str, body: bytes, manifest: Manifest) -> None:
        """Remember a manifest all of whose objects are indexed."""
        not_covered = [msgspec.to_builtins(room) for room in manifest.rooms.not_covered]
        previous = manifest.previous_stream
        with self.connection:
            self.connection.execute(
                "INSERT INTO manifest VALUES"
                " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    manifest.stream,
                    manifest.number,
                    hashlib.sha256(body).hexdigest(),
                    manifest.created_ms,
                    manifest.key_id,
                    manifest.tree.size,
                    manifest.tree.root,
                    manifest.checkpoint.key,
                    manifest.checkpoint.sha256,
                    json.dumps(not_covered),
                    max(manifest.rooms.not_covered_count, len(not_covered)),
                    manifest.rooms.compared_ms,
                    manifest.from_ms,
                    manifest.interval_ms,
                    manifest.process_started_ms,
                    manifest.closed is not None,
                    previous.stream if previous else None,
                    previous.stopped_ms if previous else None,
                    previous.destination if previous else None,
                    manifest.receipts,
                ),
            )
            self.connection.executemany(
                "INSERT OR IGNORE INTO file VALUES (?, ?, ?, ?, ?)",
                [
                    (item.key, item.size, item.sha256, item.version_id, key)
                    for item in manifest.media
                ],
            )

    def add_removed(self, item: ListedSegment, stream: str, manifest: str) -> None:
        """Remember that an object was deleted on purpose."""
        with self.connection:
            self.connection.execute(
                "INSERT OR IGNORE INTO object (key, stream, first_seq, last_seq, first_id, size,"
                " sha256, version_id, manifest, first_ms, last_ms, hashes, state)"
                " VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, 'removed')",
                (
                    item.key,
                    stream,
                    item.first_seq,
                    item.last_seq,
                    item.size,
                    item.sha256,
                    item.version_id,
                    manifest,
                    item.first_ms,
                    item.last_ms,
                    bytes.fromhex("".join(item.hashes)),
                ),
            )

    def cache(self, sha256: str, body: bytes) -> None:
        """Keep an object's stored bytes on this machine."""
        path = self._path(sha256)
        private_directory(path.parent)
        write_private(path, body)

    def forget(self, keys: Collection[str]) -> None:
        """Take objects that were deleted on purpose out of the index and the cache.

        All words are written anew where nobody can tell which of them were theirs: once for all.
        """
        hashes: list[str] = []
        with self.connection:
            # Alone from the first look on: words that two processes take out break the index.
            self.connection.execute("BEGIN IMMEDIATE")
            is_told = True
            for key in keys:
                row = self.connection.execute(
                    "SELECT id, sha256, first_id, last_seq - first_seq + 1 FROM object"
                    " WHERE key = ? AND state = 'indexed'",
                    (key,),
                ).fetchone()
                if row is not None:
                    object_id, sha256, first_id, count = row
                    is_told = is_told and self._wording.take_out(object_id, key, first_id)
                    self._drop(object_id, first_id, count)
                    hashes.append(sha256)
            if not is_told:
                self._wording.write_anew()
            if hashes:
                note_remains(self.connection)
            # Before it is noted that they are gone: afterwards nobody looks for these files again.
            for sha256 in hashes:
                self._path(sha256).unlink(missing_ok=True)
        self.wipe()

    def wipe(self) -> None:
        """Take out of the index's file what was taken out of the index and may still lie there."""
        wipe_remains(self.connection)

    def forget_files(self, keys: Collection[str]) -> None:
        """Take attachments that were deleted on purpose off this machine."""
        listed = [found for found in map(self.file, keys) if found is not None]
        for found in listed:
            self._media_path(found.sha256).unlink(missing_ok=True)
        # Afterwards: once they are unlisted, nobody looks for these files again.
        with self.connection:
            self.connection.executemany(
                "DELETE FROM file WHERE key = ?", [(found.key,) for found in listed]
            )

    def _drop(self, object_id: int, first_id: int, count: int) -> None:
        self.connection.execute("DELETE FROM record WHERE object = ?", (object_id,))
        self.connection.execute(
            "DELETE FROM audience WHERE record BETWEEN ? AND ?", (first_id, first_id + count - 1)
        )
        self.connection.execute("UPDATE object SET state = 'removed' WHERE id = ?", (object_id,))

    def object_body(self, key: str) -> bytes:
        """Return an object's compressed lines from the cache.

        Raises:
            DamagedArchiveError: it is not in the cache.
        """
        return self._clear(key)

    def _clear(self, key: str) -> bytes:
        if key.endswith(".age") and not self.identities:
            raise unidentified(key)
        row = self.connection.execute(
            "SELECT sha256, of_day FROM object WHERE key = ?", (key,)
        ).fetchone()
        try:
            body = self._path(str(row[0])).read_bytes()
        except (OSError, TypeError):
            raise DamagedArchiveError(f"“{key}” is not on this machine: run sync again.") from None
        if not key.endswith(".age"):
            return body
        return unseal(key, body, self.identities, self.day_key(key) if row[1] else None)

    def day_key(self, key: str) -> bytes | None:
        """Return the wrapped key of the day that an object is encrypted to, if it is here."""
        name = wrapped_key_of(key)
        try:
            return None if name is None else self._day_key_path(name).read_bytes()
        except FileNotFoundError:
            return None

    def keep_day_key(self, name: str, wrapped: bytes) -> None:
        """Keep a day's wrapped key on this machine, beside what it opens."""
        path = self._day_key_path(name)
        private_directory(path.parent)
        write_private(path, wrapped)

    def _wrapped(self, name: str) -> Wrapped:
        if self.is_erased(name):
            return Wrapped(None, is_erased=True)
        try:
            return Wrapped(self._day_key_path(name).read_bytes())
        except FileNotFoundError:
            return Wrapped(None)

    def has_key(self, name: str) -> bool:
        """Return whether a wrapped key is on this machine."""
        return self._day_key_path(name).exists()

    def is_erased(self, name: str) -> bool:
        """Return whether a key of content is known to be destroyed."""
        row = self.connection.execute("SELECT 1 FROM erased WHERE key = ?", (name,)).fetchone()
        return row is not None

    def complete_words(self) -> list[str]:
        """Index the words of what could not be opened when it was indexed.

        Returns what still stands in the way, in a sentence.
        """
        return self._wording.complete()

    def await_key(self, name: str, sha256: str) -> None:
        """Remember that a key of content is to come: its manifest is not looked at again."""
        with self.connection:
            self.connection.execute("INSERT OR REPLACE INTO awaited VALUES (?, ?)", (name, sha256))

    def awaited_keys(self) -> list[tuple[str, str]]:
        """Return the keys that are still to come, each with its hash."""
        return self.connection.execute("SELECT key, sha256 FROM awaited ORDER BY key").fetchall()

    def keep_awaited(self, name: str, wrapped: bytes) -> None:
        """Keep a key that came."""
        self.keep_day_key(name, wrapped)
        with self.connection:
            self.connection.execute("DELETE FROM awaited WHERE key = ?", (name,))

    def forget_contents(self, names: Collection[str]) -> None:
        """Take what was sealed to destroyed keys off this machine."""
        for name in names:
            self.contents.forget(name)
            ending = f"-{name.rpartition('/content-')[2]}"
            files = self.connection.execute(
                "SELECT key, sha256 FROM file WHERE substr(key, -length(?)) = ?", (ending, ending)
            ).fetchall()
            for key, sha256 in files:
                if wrapped_key_of(str(key)) == name:
                    self._media_path(sha256).unlink(missing_ok=True)
            self._day_key_path(name).unlink(missing_ok=True)
        # Afterwards: once it is noted that they are erased, nobody looks for these files again.
        names = [name for name in names if not self.is_erased(name)]
        if not names:
            return
        with self.connection:
            self.connection.executemany(
                "INSERT OR IGNORE INTO erased VALUES (?)", [(n,) for n in names]
            )
            self.connection.executemany("DELETE FROM awaited WHERE key = ?", [(n,) for n in names])
            # Which words a record had nobody can tell any more, so all are written anew.
            self._wording.write_anew()
            note_remains(self.connection)
        self.wipe()

    def forget_days(self, names: Collection[str]) -> int:
        """Take all of days whose keys were destroyed off this machine; return how many segments.

        What came on such a day later is encrypted to the officers themselves, and stays.
        """
        found: list[str] = []
        for name in names:
            stream, day = name.removesuffix(".age").rpartition("/day-")[2].split("-", 1)
            rows = self.connection.execute(
                "SELECT key FROM object WHERE state = 'indexed' AND of_day AND key LIKE ?",
                (f"%/events/dt={day}/{stream}-%",),
            ).fetchall()
            found += [str(key) for (key,) in rows if wrapped_key_of(str(key)) == name]
        self.forget(found)
        for name in names:
            stream, day = name.removesuffix(".age").rpartition("/day-")[2].split("-", 1)
            files = self.connection.execute(
                "SELECT key, sha256 FROM file WHERE key LIKE ?", (f"%-{stream}-{day}.age",)
            ).fetchall()
            for key, sha256 in files:
                if wrapped_key_of(str(key)) == name:
                    self._media_path(sha256).unlink(missing_ok=True)
            self._day_key_path(name).unlink(missing_ok=True)
        return len(found)

    def _day_key_path(self, name: str) -> Path:
        return self.folder / "keys" / hashlib.sha256(name.encode()).hexdigest()

    def cached(self, sha256: str) -> Path:
        """Return where an object's stored bytes are on this machine."""
        return self._path(sha256)

    def _media_path(self, sha256: str) -> Path:
        return self.folder / "media" / sha256[:2] / sha256

    def _path(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256


def detail_of(record: Json) -> Json:
    """Return what a record's ``detail_json`` holds, as far as it is an object."""
    try:
        detail = json.loads(record.get("detail_json") or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    return detail if isinstance(detail, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
