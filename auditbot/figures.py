"""The archive's figures for Prometheus: asked of the database when somebody looks.

None is by room or by person: whoever may read figures may not be meant to know who talks where.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auditbot import manifest_facts as facts
from auditbot.storage.errors import ERROR_CLASSES
from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.telemetry.log import Log
from common.telemetry.metrics import Kind, Metric, Sample

MEDIA_STATES = (
    "stored",
    "duplicate",
    "too_large",
    "missing",
    "hash_mismatch",
    "forbidden",
    "infected",
    "gave_up",
)
"""What may become of attachments: said from the start, so that the first one is a rise."""


def _metric(name: str, kind: Kind, meaning: str) -> Metric:
    return Metric(f"steward_archive_{name}", kind, meaning)


UP = _metric("figures_up", "gauge", "1 if the database gave the archive's figures.")
EXPORTING = _metric("exporting", "gauge", "1 while a destination is set.")
RECORDS = _metric("records_total", "counter", "Records stored and listed by manifests, by kind.")
SEQUENCE = _metric(
    "newest_sequence", "gauge", "Number of the newest stored record in the open stream."
)
STORED_AGE = _metric(
    "newest_stored_age_seconds", "gauge", "Seconds since a segment was stored last."
)
MANIFEST_AGE = _metric(
    "newest_manifest_age_seconds",
    "gauge",
    "Age of the open stream's newest stored manifest; of the stream, if it has none.",
)
INTERVAL = _metric(
    "manifest_interval_seconds", "gauge", "How often a manifest is due, also when nothing happens."
)
WAITING_RECORDS = _metric("waiting_records", "gauge", "Records that are not stored yet.")
WAITING_BYTES = _metric("waiting_bytes", "gauge", "The same in bytes, before compression.")
UNREAD_OPEN = _metric("undecryptable_open", "gauge", "Events that wait for a room key.")
SILENT = _metric("silent_devices", "gauge", "Devices told to the admins as never readable.")
GAPS_OPEN = _metric("gaps_open", "gauge", "Known gaps that are not closed.")
MEDIA_WAITING = _metric("media_waiting", "gauge", "Attachments that are still to be fetched.")
MEDIA = _metric("media_total", "counter", "Attachments dealt with since the start, by outcome.")
ROOMS = _metric("rooms_covered", "gauge", "Rooms that are archived.")
ROOMS_OUT = _metric("rooms_not_covered", "gauge", "Rooms that are known and not archived.")
AWAY = _metric("destination_away", "gauge", "1 while the archive cannot be stored.")
ERRORS = _metric(
    "storage_errors_total", "counter", "Failed attempts to store since the start, by class."
)

log = Log("audit.figures")


@dataclass(frozen=True)
class Figures:
    """Asks for them. ``errors`` and ``media`` are counted by who stores."""

    database: Database
    clock: Clock
    auditbot: str
    interval_ms: int
    errors: Mapping[str, int] = field(default_factory=Counter)
    media: Mapping[str, int] = field(default_factory=Counter)

    async def samples(self) -> Sequence[Sample]:
        """Return the figures of this moment; without the database only what is known without it."""
        found = [
            *(Sample(ERRORS, self.errors.get(one, 0), {"class": one}) for one in ERROR_CLASSES),
            *(
                Sample(MEDIA, self.media.get(one, 0), {"status": one})
                for one in sorted({*MEDIA_STATES, *self.media})
            ),
            Sample(INTERVAL, self.interval_ms / 1000),
        ]
        try:
            # Each by itself: nobody who writes waits for all of them.
            asked = [*await self._stream(), *await self._stored(), *await self._open()]
        except TransientError as error:
            log.warning("the archive's figures cannot be given", reason=error)
            return [*found, Sample(UP, 0)]
        return [*found, *asked, Sample(UP, 1)]

    async def _stream(self) -> list[Sample]:
        """Return the figures of the open stream; where there is none nothing is due."""
        row = await self.database.fetchrow(
            "SELECT id, started_ms, (SELECT created_ms FROM audit_manifest WHERE stream = id"
            " AND state = 'stored' ORDER BY number DESC LIMIT 1) AS signed_ms FROM audit_stream"
            " WHERE id = (SELECT stream FROM audit_head WHERE audit_head.id = 1)"
        )
        if row is None:
            return [Sample(EXPORTING, 0)]
        signed_ms = row["started_ms"] if row["signed_ms"] is None else row["signed_ms"]
        found = [Sample(EXPORTING, 1), self._age(MANIFEST_AGE, signed_ms)]
        newest = await self.database.fetchrow(
            "SELECT last_seq, uploaded_ms FROM audit_segment WHERE stream = $1"
            " AND state = 'uploaded' ORDER BY first_seq DESC LIMIT 1",
            row["id"],
        )
        if newest is not None:
            found.append(Sample(SEQUENCE, newest["last_seq"]))
            found.append(self._age(STORED_AGE, newest["uploaded_ms"]))
        return found

    async def _stored(self) -> list[Sample]:
        """Return what is stored of all streams, and what waits."""
        rows = await self.database.fetch(
            "SELECT (SELECT totals FROM audit_manifest WHERE stream = id AND state = 'stored'"
            " ORDER BY number DESC LIMIT 1) AS totals FROM audit_stream"
        )
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update(json.loads(row["totals"] or "{}").get("counts", {}))
        away = await self.database.fetchval(
            "SELECT count(*) FROM audit_stream WHERE closed = 0 AND outage_ms IS NOT NULL"
        )
        return [
            *(Sample(RECORDS, count, {"kind": kind}) for kind, count in sorted(counts.items())),
            *await self._waiting(),
            Sample(AWAY, int(bool(away))),
        ]

    async def _waiting(self) -> list[Sample]:
        segments = await self.database.fetchrow(
            "SELECT coalesce(sum(last_seq - first_seq + 1), 0) AS records,"
            " coalesce(sum(raw_bytes), 0) AS size FROM audit_segment"
            " WHERE state IN ('cut', 'sealed')"
        )
        uncut = await self.database.fetchrow(
            "SELECT coalesce(sum(next_seq - cut_seq), 0) AS records,"
            " coalesce(sum(open_bytes), 0) AS size FROM audit_stream WHERE closed = 0"
        )
        rows = [row for row in (segments, uncut) if row is not None]
        return [
            Sample(WAITING_RECORDS, sum(int(row["records"]) for row in rows)),
            Sample(WAITING_BYTES, sum(int(row["size"]) for row in rows)),
        ]

    async def _open(self) -> list[Sample]:
        """Return what is open: keys, gaps, attachments, rooms."""
        counts = await facts.open_counts(self.database)
        rooms = await facts.rooms(self.database, self.auditbot)
        silent = await self.database.fetchval(
            "SELECT count(*) FROM audit_silent_device WHERE told <> 0"
        )
        return [
            Sample(UNREAD_OPEN, counts["undecryptable_open"]),
            Sample(SILENT, int(silent)),
            Sample(GAPS_OPEN, counts["gaps_open"]),
            Sample(MEDIA_WAITING, counts["media_open"]),
            Sample(ROOMS, rooms["covered"]),
            Sample(ROOMS_OUT, rooms["not_covered_count"]),
        ]

    def _age(self, metric: Metric, since_ms: int) -> Sample:
        return Sample(metric, max(0, self.clock.now_ms() - since_ms) / 1000)
