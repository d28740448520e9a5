"""The words of the index: put in, taken out again, and written anew.

SQLite keeps the words without their texts, so what was put in must be known exactly to be taken
out. It is: of each object the table ``unopened`` names the keys of content that could not be opened
when its words were put in. The words of all its other records are in the index, and no more.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from auditbot.reader.index.build import texts_of
from auditbot.reader.index.parts import (
    add_parts,
    clear_parts,
    has_parts,
    has_parts_of,
    parts_text,
    take_parts,
)
from auditbot.reader.index.unopened import WHOLE, note_unopened, waiting_keys
from auditbot.reader.index.words import indexed
from auditbot.reader.parse import parse
from auditbot.reader.sealed import STATE, UNOPENED, Contents
from auditbot.reader.unpack import DamagedArchiveError, lines

Texts = list[tuple[int, list[str]]]
"""Numbers of records, each with all its texts."""


@dataclass(frozen=True, slots=True)
class Wording:
    """Puts in and takes out the words of objects that are on this machine."""

    connection: sqlite3.Connection
    contents: Contents
    clear: Callable[[str], bytes]
    """Returns an object's compressed lines by its key, or raises ``DamagedArchiveError``."""

    def take_out(self, object_id: int, key: str, first_id: int) -> bool:
        """Take an object's words out, within a transaction; return whether that could be done.

        If not, nothing was: which words are in nobody can tell without the keys that opened them,
        and to take out what was never put in breaks the index.
        """
        waiting = waiting_keys(self.connection, object_id)
        if WHOLE not in waiting:
            try:
                texts, unopened = self._read(key, first_id, lambda name: name not in waiting)
            except DamagedArchiveError:
                return False
            if unopened:
                return False
            self.connection.executemany(
                "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", _words(texts)
            )
            take_parts(self.connection, object_id, _parts(texts))
        note_unopened(self.connection, object_id, ())
        return True

    def write_anew(self) -> None:
        """Forget all words and put in those of every object, within a transaction.

        An object that cannot be read stays without words until ``complete`` can read it.
        """
        self.connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
        clear_parts(self.connection)
        self.connection.execute("DELETE FROM unopened")
        rows = self.connection.execute(
            "SELECT id, key, first_id FROM object WHERE state = 'indexed' ORDER BY id"
        ).fetchall()
        for object_id, key, first_id in rows:
            try:
                texts, unopened = self._read(key, first_id)
            except DamagedArchiveError:
                note_unopened(self.connection, object_id, (WHOLE,))
                continue
            self._put_in(object_id, texts, parts=has_parts(self.connection))
            note_unopened(self.connection, object_id, unopened)

    def complete(self) -> list[str]:
        """Put in the words of what could not be opened before; return what stands in the way.

        Each object is a transaction of its own. That content is sealed and nobody named an identity
        is nothing to tell: such records are found by all that is no content.
        """
        rows = self.connection.execute(
            "SELECT DISTINCT object.id, object.key, first_id FROM unopened"
            " JOIN object ON object.id = unopened.object"
            " WHERE state = 'indexed' AND (? OR unopened.key = ?) ORDER BY object.id",
            (bool(self.contents.identities), WHOLE),
        ).fetchall()
        reasons = []
        for object_id, key, first_id in rows:
            try:
                self._complete(object_id, key, first_id)
            except DamagedArchiveError as error:
                reasons.append(str(error))
        if not reasons:
            return []
        return [f"the words of {len(reasons):,} segments: {reasons[0]}"]

    def _complete(self, object_id: int, key: str, first_id: int) -> None:
        waiting = waiting_keys(self.connection, object_id)
        if WHOLE in waiting:
            texts, unopened = self._read(key, first_id)
        elif not any(self.contents.find(name).body for name in waiting):
            return  # nothing came that would open more
        else:
            texts, unopened = self._read(key, first_id, lambda name: name in waiting)
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            if waiting_keys(self.connection, object_id) != waiting:
                return  # another process was here meanwhile: nothing is put in twice
            parts = (
                has_parts(self.connection)
                if WHOLE in waiting
                else has_parts_of(self.connection, object_id)
            )
            self._put_in(object_id, texts, parts=parts)
            note_unopened(self.connection, object_id, unopened)

    def _put_in(self, object_id: int, texts: Texts, *, parts: bool) -> None:
        self.connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", _words(texts))
        if parts:
            add_parts(self.connection, object_id, _parts(texts))

    def _read(
        self, key: str, first_id: int, wanted: Callable[[str | None], bool] = lambda _: True
    ) -> tuple[Texts, set[str]]:
        """Return the texts of an object's records, and the keys of content that are not opened.

        Args:
            key: the object
            first_id: the number of its first record
            wanted: by the key that a record's content is sealed to, ``None`` for the others

        Raises:
            DamagedArchiveError: it cannot be read; nothing was written yet.
        """
        texts: Texts = []
        unopened = set[str]()
        for number, line in enumerate(lines(key, self.clear(key)), first_id):
            record = decoded(key, line)
            name = record.get("sealed_to") if record.get("sealed") is not None else None
            if not wanted(name):
                continue
            opened = self.contents.open(record).record
            if opened.get(STATE) in UNOPENED:
                unopened.add(str(name))
            if found := texts_of(opened):
                texts.append((number, found))
        return texts, unopened


def decoded(key: str, line: bytes) -> dict[str, Any]:
    """Return the record in a line.

    Raises:
        DamagedArchiveError: it holds none.
    """
    try:
        record: Any = parse(line)
    except ValueError as error:
        raise DamagedArchiveError(f"“{key}” holds a line that is no record.") from error
    if not isinstance(record, dict):
        raise DamagedArchiveError(f"“{key}” holds a line that is no record.")
    return record


def _words(texts: Texts) -> Iterator[tuple[int, str]]:
    return ((id_, indexed(" ".join(some))) for id_, some in texts)


def _parts(texts: Texts) -> Iterator[tuple[int, str]]:
    return ((id_, parts_text(some)) for id_, some in texts)
