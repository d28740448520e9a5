"""Where what is shown comes from, and what is known to be missing from it."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from auditbot.reader.conversation import Message
from auditbot.reader.coverage import WithoutBot
from auditbot.reader.index.library import Library
from auditbot.reader.index.unrecorded import loose_gaps, room_begins, room_moved, unrecorded
from auditbot.reader.layout import server_of
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.render.view import Tally
from auditbot.reader.render.words import one_line
from auditbot.reader.times import counted, moment
from auditbot.reader.transcript.subject import Subject

Json = dict[str, Any]
_SHOWN = 50


@dataclass
class Sources:
    """The segments that records come from, collected while they are shown."""

    library: Library
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Remember where a message comes from."""
        for stored in message.records:
            self.counts[stored.key] = self.counts.get(stored.key, 0) + 1

    def listed(self) -> list[Json]:
        """Return the segments with what signs them."""
        found = []
        for key in sorted(self.counts):
            row = self.library.connection.execute(
                "SELECT object.sha256, object.manifest, manifest.sha256, manifest.key_id"
                " FROM object JOIN manifest ON manifest.key = object.manifest"
                " WHERE object.key = ?",
                (key,),
            ).fetchone()
            if row is not None:
                found.append(
                    {
                        "key": key,
                        "records": self.counts[key],
                        "sha256": row[0],
                        "manifest": row[1],
                        "manifest_sha256": row[2],
                        "key_id": row[3],
                    }
                )
        return found

    def streams(self) -> list[Json]:
        """Return the newest tree heads of the streams that records come from."""
        names = {
            row[0]
            for key in self.counts
            for row in self.library.connection.execute(
                "SELECT stream FROM object WHERE key = ?", (key,)
            )
        }
        found = []
        for name in sorted(names):
            manifests = self.library.manifests(name)
            if manifests:
                last = manifests[-1]
                found.append(
                    {
                        "stream": name,
                        "size": last.size,
                        "root": last.root,
                        "manifest": last.key,
                        "created": f"{moment(last.created_ms)} UTC",
                    }
                )
        return found


def missing(
    library: Library,
    tally: Tally,
    period: Period,
    faults: Iterable[str],
    *,
    zone: tzinfo,
    subject: Subject | None,
) -> list[str]:
    """Return what is known to be missing, each in a sentence; empty if nothing is.

    Args:
        library: the index
        tally: what was shown
        period: of which time; of messages that were chosen one by one that from first to last
        faults: why the index ends before the archive
        zone: in which moments are told
        subject: the room or person; ``None`` for messages that were chosen
    """
    found = [
        f"{number} could not be read: {why}." for why, number in tally.unreadable.most_common()
    ]
    if tally.gaps:
        gaps = "1 known gap" if len(tally.gaps) == 1 else f"{len(tally.gaps)} known gaps"
        found.append(f"{gaps}: something is missing and a signed record says so.")
    found.extend(_cut([f"{sentence}." for sentence in tally.gaps], "gaps"))
    found.extend(_gaps(library, period, subject))
    found.extend(_cut(_attachments(tally), "attachments"))
    found.extend(_cut(list(removed(library, period, zone)), "times"))
    found.extend(_cut(list(unrecorded(library, period, zone)), "times without a record"))
    if subject is not None and subject.kind == "room":
        found.extend(room_begins(library, subject.known.name, period, zone))
        found.extend(room_moved(library, subject.known.name, period, zone))
    found.extend(_without_bot(library, period, zone, subject))
    found.extend(f"The index ends before the archive: {one_line(fault)}" for fault in faults)
    return found


def _attachments(tally: Tally) -> list[str]:
    return [f"Attachment not in the archive: {name}." for name in tally.attachments_missing]


def _cut(sentences: list[str], of: str) -> Iterator[str]:
    yield from sentences[:_SHOWN]
    if len(sentences) > _SHOWN:
        yield f"… and {len(sentences) - _SHOWN:,} more {of}."


def _gaps(library: Library, period: Period, subject: Subject | None) -> Iterator[str]:
    """Yield the known gaps of which nobody can say that they do not belong here."""
    everywhere = subject is not None and subject.kind == "person"
    kinds = Counter(loose_gaps(library, period, everywhere=everywhere))
    whose = "in any room" if everywhere else "of no room that is known"
    for kind, count in kinds.most_common():
        yield f"{count:,} {whose}: {kind}; some of it may belong here."


def _without_bot(
    library: Library, period: Period, zone: tzinfo, subject: Subject | None
) -> Iterator[str]:
    if subject is None:
        return
    without = rooms_without_bot(library, period)
    as_of = moment(without.as_of_ms, zone)
    if subject.kind == "person" and without.count:
        yield (
            f"{counted(without.count, 'room')} {'was' if without.count == 1 else 'were'} without the bot on {as_of}; what was sent in "
            f"{'it' if without.count == 1 else 'them'} is not in here."
        )
    if subject.kind == "room":
        yield from (
            f"This room was without the bot on {as_of}: {room['reason']}."
            for room in without.rooms
            if room["room_id"] == one_line(subject.known.name)
        )


def removed(library: Library, period: Period, zone: tzinfo = UTC) -> Iterable[str]:
    """Yield what of a period was deleted or erased on purpose: a sentence for each run of it."""
    start, end = period.bounds
    rows = library.connection.execute(
        "SELECT stream, first_seq, last_seq, first_ms, last_ms FROM object"
        " WHERE state = 'removed' AND first_ms < ? AND last_ms >= ? ORDER BY stream, first_seq",
        (end, start),
    ).fetchall()
    runs: list[_Run] = []
    for stream, first_seq, last_seq, first_ms, last_ms in rows:
        if runs and (runs[-1].stream, runs[-1].last_seq + 1) == (stream, first_seq):
            runs[-1].last_seq, runs[-1].last_ms = last_seq, last_ms
        else:
            runs.append(_Run(stream, first_seq, last_seq, first_ms, last_ms))
    for run in sorted(runs, key=lambda run: run.first_ms):
        count = run.last_seq - run.first_seq + 1
        yield (
            f"{counted(count, 'record')} of {moment(run.first_ms, zone)} to "
            f"{moment(run.last_ms, zone)} {'was' if count == 1 else 'were'} deleted or erased on "
            "purpose; some may belong here."
        )


@dataclass
class _Run:
    """Segments of a stream that follow each other and are all gone."""

    stream: str
    first_seq: int
    last_seq: int
    first_ms: int
    last_ms: int


def rooms_without_bot(library: Library, period: Period = ALWAYS) -> WithoutBot:
    """Return the rooms that are not archived, as the last manifest of a period says.

    Of a period that was over before the archive began it is the first one; of several homeservers
    each one's own, as of the earliest.
    """
    found = WithoutBot()
    seen: set[str] = set()
    for order, condition in (("max", "created_ms < ?"), ("min", "created_ms >= ?")):
        rows = library.connection.execute(
            # Of the row with the largest moment, or the smallest, SQLite gives the rest too.
            f"SELECT {order}(created_ms), key, not_covered, not_covered_count, compared_ms"  # noqa: S608  # our words
            f" FROM manifest WHERE {condition} GROUP BY {_SERVER}",
            (period.bounds[1],),
        ).fetchall()
        for created_ms, key, listed, count, compared_ms in rows:
            server = str(server_of(key))
            if server not in seen:
                seen.add(server)
                found = found.joined(_listed(listed), count, created_ms, compared_ms)
    return found


_SERVER = "substr(key, 1, instr(substr(key, 4), '/') + 3)"
"""A manifest's key as far as its homeserver."""


def _listed(text: str) -> list[Json]:
    try:
        listed = json.loads(text)
    except ValueError:
        listed = []
    return [
        {"room_id": one_line(item.get("room_id")), "reason": one_line(item.get("reason"))}
        for item in listed
        if isinstance(item, dict)
    ]
