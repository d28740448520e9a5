"""Where what is shown comes from, and what is known to be missing from it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

from auditbot.reader.conversation import Message
from auditbot.reader.index.library import Library
from auditbot.reader.read import Period
from auditbot.reader.render.view import Tally
from auditbot.reader.render.words import one_line
from auditbot.reader.times import moment

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
    library: Library, tally: Tally, period: Period, faults: Iterable[str], zone: tzinfo
) -> list[str]:
    """Return what is known to be missing, each in a sentence; empty if nothing is."""
    found = [
        f"{number} could not be read: {why}." for why, number in tally.unreadable.most_common()
    ]
    if tally.gaps:
        gaps = "1 known gap" if len(tally.gaps) == 1 else f"{len(tally.gaps)} known gaps"
        found.append(f"{gaps}: something is missing and a signed record says so.")
    found.extend(f"{sentence}." for sentence in tally.gaps[:_SHOWN])
    if len(tally.gaps) > _SHOWN:
        found.append(f"… and {len(tally.gaps) - _SHOWN} more gaps.")
    names = tally.attachments_missing
    found.extend(f"Attachment not in the archive: {name}." for name in names[:_SHOWN])
    if len(names) > _SHOWN:
        found.append(f"… and {len(names) - _SHOWN} more attachments.")
    found.extend(removed(library, period, zone))
    until = library.until_ms
    if until is None or (period.end_ms is not None and period.end_ms > until):
        reach = f"{moment(until, zone)}" if until else "no moment at all"
        found.append(f"The archive reaches {reach} only; what came later is not in here.")
    found.extend(f"The index ends before the archive: {one_line(fault)}" for fault in faults)
    return found


def removed(library: Library, period: Period, zone: tzinfo = UTC) -> Iterable[str]:
    """Yield what of a period was deleted or erased on purpose, each in a sentence."""
    rows = library.connection.execute(
        "SELECT first_seq, last_seq, first_ms, last_ms FROM object WHERE state = 'removed'"
        " ORDER BY first_ms"
    ).fetchall()
    for first_seq, last_seq, first_ms, last_ms in rows:
        starts = period.end_ms is None or first_ms < period.end_ms
        if starts and (period.start_ms is None or last_ms >= period.start_ms):
            yield (
                f"{last_seq - first_seq + 1} records of {moment(first_ms, zone)} to "
                f"{moment(last_ms, zone)} were deleted or erased on purpose; some may belong here."
            )


def rooms_without_bot(library: Library) -> list[Json]:
    """Return the rooms that the newest manifest says are not archived."""
    row = library.connection.execute(
        "SELECT not_covered FROM manifest ORDER BY created_ms DESC LIMIT 1"
    ).fetchone()
    try:
        listed = json.loads(row[0]) if row else []
    except ValueError:
        listed = []
    return [
        {"room_id": one_line(item.get("room_id")), "reason": one_line(item.get("reason"))}
        for item in listed
        if isinstance(item, dict)
    ]
