"""A segment's lines → rows of the index, in one transaction."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from auditbot.reader.documents import ListedSegment, is_newer
from auditbot.reader.index.parts import add_parts, has_parts, has_parts_of, parts_text
from auditbot.reader.index.schema import KINDS, MEDIA_STATES, STATUSES
from auditbot.reader.index.unopened import note_unopened, waiting_keys
from auditbot.reader.index.words import indexed
from auditbot.reader.layout import NEWER, VERSION
from auditbot.reader.parse import parse
from auditbot.reader.said import edit_text, formatted_text, other_text
from auditbot.reader.sealed import STATE, UNOPENED, Contents
from auditbot.reader.tree import GrowingRange, leaf_hash
from auditbot.reader.unpack import DamagedArchiveError, Line, placed_lines

_BATCH = 5000
_INT64 = 2**63
_KIND = {kind: number for number, kind in enumerate(KINDS)}
_STATUS = {status: number for number, status in enumerate(STATUSES)}
_MEDIA = {status: number for number, status in enumerate(MEDIA_STATES)}


class _Record(msgspec.Struct):
    """The fields that a record is found by."""

    kind: str
    stream: str
    seq: int
    ts_received: int
    v: int = VERSION
    ts_origin: int | None = None
    of_seq: int | None = None
    room_id: str | None = None
    room_name: str | None = None
    room_alias: str | None = None
    is_direct: bool | None = None
    encrypted: bool | None = None
    event_id: str | None = None
    event_type: str | None = None
    state_key: str | None = None
    sender: str | None = None
    sender_name: str | None = None
    body: str | None = None
    media_name: str | None = None
    media_mxc: str | None = None
    media_status: str | None = None
    media_key: str | None = None
    rel_type: str | None = None
    rel_event_id: str | None = None
    thread_root: str | None = None
    edit_of: str | None = None
    redacts: str | None = None
    audience_id: str | None = None
    enc_status: str | None = None
    enc_error: str | None = None
    enc_device_id: str | None = None
    event_json: str | None = None
    raw_b64: str | None = None
    reply_to: str | None = None
    detail_json: str | None = None
    sealed: str | None = None
    sealed_to: str | None = None


def event_key(event_id: str) -> int:
    """Return the 63 bits by which the index knows an event."""
    return _bits(event_id)


def root_key(event_id: str, room_id: str | None) -> int:
    """Return the 63 bits by which the index knows the message that an event is in its room."""
    return _bits(f"{room_id or ''}\0{event_id}")


def gap_key(stream: str, seq: int) -> int:
    """Return the 63 bits by which the index knows a gap and its end, which names no room."""
    return _bits(f"gap\0{stream}\0{seq}")


def _bits(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@dataclass
class _About:
    """What a segment says of a room or a person."""

    label: str | None = None
    alias: str | None = None
    is_direct: bool | None = None
    encrypted: bool | None = None
    first_ms: int = 0
    last_ms: int = 0
    events: int = 0
    labels: set[str] = field(default_factory=set)
    """Every name in the segment."""

    def call(self, label: str | None) -> None:
        self.label = label or self.label
        if label:
            self.labels.add(label)

    def see(self, moment_ms: int) -> None:
        self.first_ms = min(self.first_ms or moment_ms, moment_ms)
        self.last_ms = max(self.last_ms, moment_ms)
        self.events += 1


@dataclass
class Builder:
    """Adds segments to an index. Nothing of one is kept if it is not what its manifest says."""

    connection: sqlite3.Connection
    contents: Contents
    _names: dict[str, int] = field(default_factory=dict)
    _rooms: dict[int, _About] = field(default_factory=dict)
    _people: dict[int, _About] = field(default_factory=dict)
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _words: list[tuple[int, str]] = field(default_factory=list)
    _parts: list[tuple[int, str]] = field(default_factory=list)
    _has_parts: bool = False
    _first_seq: int = 0
    _roots: list[int | None] = field(default_factory=list)
    """The roots of the records of this segment so far."""
    _inner: dict[int, int] = field(default_factory=dict)
    """The messages to which the edits, reactions and deletions of this segment belong."""
    _seen: set[int | None] = field(default_factory=set)
    _content: int = 0
    _unopened: set[str] = field(default_factory=set)
    _decoder: msgspec.json.Decoder[_Record] = field(
        default_factory=lambda: msgspec.json.Decoder(_Record)
    )

    def add(
        self,
        listed: ListedSegment,
        stream: str,
        manifest: str,
        clear: bytes,
        *,
        of_day: bool = False,
    ) -> int:
        """Add a segment; return how many records it has.

        Args:
            listed: what the manifest says of it
            stream: its stream
            manifest: the key of the manifest
            clear: its compressed lines
            of_day: whether the key of its day opened it, not the officers' own

        Raises:
            DamagedArchiveError: its lines do not give the hashes that the manifest holds.
        """
        try:
            with self.connection:
                return self._add(listed, stream, manifest, clear, of_day=of_day)
        except BaseException:
            # What was learnt in a transaction that failed is not in the file.
            self._names.clear()
            self._rooms.clear()
            self._people.clear()
            raise

    def _add(
        self, listed: ListedSegment, stream: str, manifest: str, clear: bytes, *, of_day: bool
    ) -> int:
        object_id, first_id = self._object(listed, stream, manifest)
        self._first_seq, self._roots = listed.first_seq, []
        self._inner, self._seen = {}, set()
        self._content, self._unopened = 0, set()
        growing = GrowingRange(listed.first_seq)
        for rows in (self._rows, self._words, self._parts):
            rows.clear()
        self._has_parts = has_parts(self.connection)
        record_id = first_id
        for line in placed_lines(listed.key, clear):
            growing.add(leaf_hash(line.data))
            self._line(listed.key, line, record_id, object_id)
            record_id += 1
            if len(self._rows) >= _BATCH:
                self._write(object_id)
        self._write(object_id)
        hashes = tuple(node.hex() for node in growing.fixed().nodes)
        if hashes != listed.hashes:
            raise DamagedArchiveError(
                f"“{listed.key}” does not hold what its manifest says: run verify."
            )
        self.connection.execute(
            "UPDATE object SET content = ?, of_day = ? WHERE id = ?",
            (self._content, of_day, object_id),
        )
        note_unopened(self.connection, object_id, self._unopened)
        self._tell_about()
        return record_id - first_id

    def _object(self, listed: ListedSegment, stream: str, manifest: str) -> tuple[int, int]:
        (first_id,) = self.connection.execute(
            "SELECT coalesce(max(id), 0) + 1 FROM record"
        ).fetchone()
        cursor = self.connection.execute(
            "INSERT INTO object (key, stream, first_seq, last_seq, first_id, size, sha256,"
            " version_id, manifest, first_ms, last_ms, hashes, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'indexed')",
            (
                listed.key,
                stream,
                listed.first_seq,
                listed.last_seq,
                first_id,
                listed.size,
                listed.sha256,
                listed.version_id,
                manifest,
                listed.first_ms,
                listed.last_ms,
                bytes.fromhex("".join(listed.hashes)),
            ),
        )
        return int(cursor.lastrowid or 0), int(first_id)

    def _line(self, key: str, line: Line, record_id: int, object_id: int) -> None:
        record = self._decoded(key, line)
        room = self._name(record.room_id)
        sender = self._name(record.sender)
        event = event_key(record.event_id) if record.event_id else None
        own = root_key(record.event_id, record.room_id) if record.event_id else None
        root = self._root(record, own)
        if record.kind == "event" and own is not None and root is not None and root != own:
            self._take_in(own, root, object_id)
        self._roots.append(root)
        self._seen.add(root)
        self._rows.append(
            (
                record_id,
                object_id,
                line.frame_start,
                line.place_in_frame,
                _KIND.get(record.kind, len(KINDS)),
                record.ts_received,
                record.ts_origin if record.ts_origin and abs(record.ts_origin) < _INT64 else None,
                room,
                sender,
                self._name(record.event_type),
                event if record.kind == "event" else None,
                root,
                _STATUS.get(record.enc_status or ""),
                self._name(record.enc_device_id),
                self._name(record.enc_error) if record.kind == "event" else None,
                self._first(record) if record.kind in {"decryption", "media"} else None,
                root_key(record.thread_root, record.room_id) if record.thread_root else None,
                record.kind == "event" and own is not None and root == own,
                _media(record),
            )
        )
        texts = self._texts(record, line)
        if texts:
            self._words.append((record_id, indexed(" ".join(texts))))
        if texts and self._has_parts:
            self._parts.append((record_id, parts_text(texts)))
        if record.kind == "audience" and record.audience_id:
            self.connection.execute(
                "INSERT OR IGNORE INTO audience VALUES (?, ?)", (record.audience_id, record_id)
            )
        if record.kind == "media" and record.media_status == "infected" and record.media_key:
            self.connection.execute(
                "INSERT OR IGNORE INTO infected VALUES (?)", (record.media_key,)
            )
        self._learn(record, room, sender)

    def _texts(self, record: _Record, line: Line) -> list[str]:
        if record.sealed is not None:
            opened = self.contents.open(parse(line.data)).record
            self._content += 1
            if opened[STATE] in UNOPENED:
                self._unopened.add(str(record.sealed_to))
            return texts_of(opened)
        return texts_of(
            {
                "body": record.body,
                "media_name": record.media_name,
                "event_json": record.event_json,
                "raw_b64": record.raw_b64,
                "enc_status": record.enc_status,
                "event_type": record.event_type,
                "state_key": record.state_key,
                "edit_of": record.edit_of,
                "reply_to": record.reply_to,
            }
        )

    def _decoded(self, key: str, line: Line) -> _Record:
        try:
            record = self._decoder.decode(line.data)
        except (ValueError, RecursionError) as error:
            if is_newer(line.data):
                raise DamagedArchiveError(_newer(key, line)) from error
            raise DamagedArchiveError(f"“{key}”, line {line.number}, is no record.") from error
        if record.v > VERSION:
            raise DamagedArchiveError(_newer(key, line))
        return record

    def _root(self, record: _Record, own: int | None) -> int | None:
        """Return to which message a record belongs."""
        target = record.edit_of or record.redacts
        if target is None and record.event_type == "m.reaction":
            target = record.rel_event_id
        if target is not None:
            inner = self._root_of_inner(target, record.room_id)
            return root_key(target, record.room_id) if inner is None else inner
        if record.kind in {"decryption", "media"} and record.of_seq is not None:
            return self._root_of_seq(record)
        if record.kind == "receipt" and record.event_id is not None:
            inner = self._root_of_inner(record.event_id, record.room_id)
            return own if inner is None else inner
        if record.kind == "gap":
            return gap_key(record.stream, record.seq)
        if record.kind == "gap_closed" and record.of_seq is not None:
            return gap_key(*_of(record))
        return own

    def _root_of_inner(self, event_id: str, room_id: str | None) -> int | None:
        """Return the message to which an edit or a reaction belongs, ``None`` if it is neither."""
        found = self._inner.get(root_key(event_id, room_id))
        if found is not None:
            return found
        row = self.connection.execute(
            "SELECT root FROM record WHERE event = ? AND room IS ? AND NOT begins",
            (event_key(event_id), self._name(room_id)),
        ).fetchone()
        return row[0] if row else None

    def _take_in(self, own: int, root: int, object_id: int) -> None:
        """Note that an event belongs to a message, with what came before it and belongs to it."""
        self._inner[own] = root
        if own in self._seen:
            self._write(object_id)
            self._roots = [root if known == own else known for known in self._roots]
        self.connection.execute("UPDATE record SET root = ? WHERE root = ?", (root, own))

    def _root_of_seq(self, record: _Record) -> int | None:
        stream, seq = _of(record)
        place = seq - self._first_seq
        if stream == record.stream and 0 <= place < len(self._roots):
            return self._roots[place]
        row = self.connection.execute(
            "SELECT root FROM record WHERE id = ?", (self._id_of(stream, seq),)
        ).fetchone()
        return row[0] if row else None

    def _first(self, record: _Record) -> int | None:
        return self._id_of(*_of(record))

    def _id_of(self, stream: str, seq: int) -> int | None:
        row = self.connection.execute(
            "SELECT first_id + ? - first_seq FROM object WHERE stream = ? AND first_seq <= ?"
            " AND last_seq >= ? AND state = 'indexed'",
            (seq, stream, seq, seq),
        ).fetchone()
        return row[0] if row else None

    def _learn(self, record: _Record, room: int | None, sender: int | None) -> None:
        if record.kind != "event":
            return
        if room is not None:
            about = self._rooms.setdefault(room, _About())
            about.see(record.ts_received)
            about.call(record.room_name)
            about.alias = record.room_alias or about.alias
            about.is_direct = record.is_direct if record.is_direct is not None else about.is_direct
            about.encrypted = record.encrypted if record.encrypted is not None else about.encrypted
        if sender is not None:
            about = self._people.setdefault(sender, _About())
            about.see(record.ts_received)
            about.call(record.sender_name)

    def _name(self, text: str | None) -> int | None:
        if text is None:
            return None
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = self._stored_name(text)
        return known

    def _stored_name(self, text: str) -> int:
        safe = text.encode("utf-8", "replace").decode()
        row = self.connection.execute("SELECT id FROM name WHERE text = ?", (safe,)).fetchone()
        if row is not None:
            return int(row[0])
        cursor = self.connection.execute("INSERT INTO name (text) VALUES (?)", (safe,))
        return int(cursor.lastrowid or 0)

    def add_parts(self, object_id: int, key: str, first_id: int, clear: bytes) -> None:
        """Add the parts of words of an object that is indexed without them, in one transaction.

        What its words lack its parts lack too: both are completed at once.

        Raises:
            DamagedArchiveError: its lines are no records, or what is sealed of them cannot be
                opened any more.
        """
        rows = []
        self._content, self._unopened = 0, set()
        waiting = waiting_keys(self.connection, object_id)
        for number, line in enumerate(placed_lines(key, clear)):
            record = self._decoded(key, line)
            if record.sealed is not None and record.sealed_to in waiting:
                continue
            texts = self._texts(record, line)
            if texts:
                rows.append((first_id + number, parts_text(texts)))
        if self._unopened:
            # Nobody would notice later that they are missing.
            why = "is not here" if self.contents.identities else "opens with your --identity"
            raise DamagedArchiveError(f"“{key}” is sealed, and its key {why}.")
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            if has_parts_of(self.connection, object_id) or waiting != waiting_keys(
                self.connection, object_id
            ):
                return  # another process was here meanwhile: what is missing is added the next time
            add_parts(self.connection, object_id, rows)

    def _write(self, object_id: int) -> None:
        self.connection.executemany(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._rows,
        )
        self.connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", self._words)
        if self._has_parts:
            add_parts(self.connection, object_id, self._parts)
        for rows in (self._rows, self._words, self._parts):
            rows.clear()

    def _tell_about(self) -> None:
        self.connection.executemany(
            "INSERT INTO room VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " label = coalesce(excluded.label, label), alias = coalesce(excluded.alias, alias),"
            " is_direct = coalesce(excluded.is_direct, is_direct),"
            " encrypted = coalesce(excluded.encrypted, encrypted),"
            " first_ms = min(first_ms, excluded.first_ms),"
            " last_ms = max(last_ms, excluded.last_ms), events = events + excluded.events",
            list(_room_rows(self._rooms)),
        )
        self.connection.executemany(
            "INSERT INTO person VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " label = coalesce(excluded.label, label), first_ms = min(first_ms, excluded.first_ms),"
            " last_ms = max(last_ms, excluded.last_ms), events = events + excluded.events",
            [
                (id_, about.label, about.first_ms, about.last_ms, about.events)
                for id_, about in self._people.items()
            ],
        )
        self.connection.executemany(
            "INSERT OR IGNORE INTO called VALUES (?, ?)",
            [
                (id_, label.encode("utf-8", "replace").decode())
                for known in (self._rooms, self._people)
                for id_, about in known.items()
                for label in about.labels
            ],
        )
        self._rooms.clear()
        self._people.clear()


def _room_rows(rooms: dict[int, _About]) -> Iterator[tuple[object, ...]]:
    for id_, about in rooms.items():
        yield (
            id_,
            about.label,
            about.alias,
            about.is_direct,
            about.encrypted,
            about.first_ms,
            about.last_ms,
            about.events,
        )


def _media(record: _Record) -> int | None:
    """Return what a record says of an attachment, ``None`` if it has to do with none."""
    if record.kind not in {"event", "decryption", "media"}:
        return None
    status = record.media_status
    if status is None and record.media_mxc is not None:
        status = "not_kept"  # what an older writer said of it, which fetched none
    if status == "infected" and record.media_key is not None:
        status = "infected_kept"
    return None if status is None else _MEDIA.get(status, len(MEDIA_STATES))


def _of(record: _Record) -> tuple[str, int]:
    """Return stream and number of the record that another one speaks of."""
    stream = record.stream
    if record.detail_json and '"of_stream"' in record.detail_json:
        try:
            detail = json.loads(record.detail_json)
        except (ValueError, RecursionError):
            detail = {}
        stream = str(detail.get("of_stream") or stream) if isinstance(detail, dict) else stream
    return stream, record.of_seq or 0


def _newer(key: str, line: Line) -> str:
    return NEWER.format(what=f"“{key}”, line {line.number},")


def texts_of(record: Mapping[str, Any]) -> list[str]:
    """Return all the texts by which a record is found."""
    parts = (
        record.get("body"),
        record.get("media_name"),
        edit_text(record) if record.get("edit_of") else None,
        formatted_text(record),
        other_text(record),
    )
    return [str(part) for part in parts if part]
