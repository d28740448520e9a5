"""How much could be read, counted by the index."""

from auditbot.reader.coverage import FINAL_CAUSES, FINAL_MS, Counted, Coverage
from auditbot.reader.index.library import Library
from auditbot.reader.index.schema import KINDS, STATUSES
from auditbot.reader.layout import DAY_MS, day_of
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.transcript.provenance import rooms_without_bot

_EVENT = KINDS.index("event")

_FINAL_CAUSES = ", ".join(f"'{why}'" for why in FINAL_CAUSES)
_COUNT = f"""
SELECT room.text, sender.text, device.text, why.text, status, received_ms / {DAY_MS} AS day,
    count(*), count(late_ms), sum(late_ms - received_ms <= 60000),
    sum(late_ms - received_ms <= {DAY_MS}),
    sum(status = 2 AND late_ms IS NULL AND (received_ms <= ? OR why.text IN ({_FINAL_CAUSES})))
FROM (
    SELECT record.room, record.sender, record.device, record.why, record.status,
        record.received_ms,
        CASE WHEN record.status = 2 THEN (
            SELECT min(later.received_ms) FROM record AS later WHERE later.first = record.id
        ) END AS late_ms
    FROM record WHERE record.kind = {_EVENT} AND record.received_ms >= ? AND record.received_ms < ?
) AS event
LEFT JOIN name AS room ON room.id = event.room
LEFT JOIN name AS sender ON sender.id = event.sender
LEFT JOIN name AS device ON device.id = event.device
LEFT JOIN name AS why ON why.id = event.why
GROUP BY event.room, event.sender, event.device, event.why, status, day
"""  # noqa: S608  # only numbers of ours are put in


def count_coverage(library: Library, period: Period = ALWAYS) -> Coverage:
    """Count the events received in a period; what is final is so as of the newest manifest."""
    coverage = Coverage()
    (newest_ms,) = library.connection.execute("SELECT max(created_ms) FROM manifest").fetchone()
    bounds = ((newest_ms or 0) - FINAL_MS, *period.bounds)
    for row in library.connection.execute(_COUNT, bounds):
        room, sender, device, why, status, day, count, late, soon, within, final = row
        coverage.add_many(
            Counted(
                room=str(room),
                device=(str(sender), str(device)),
                day=str(day_of(day * DAY_MS)),
                status=STATUSES[status] if status is not None else "clear",
                why=str(why),
                count=count,
                late=late,
                soon=soon or 0,
                within_a_day=within or 0,
                final=final or 0,
            )
        )
    labels = library.connection.execute(
        "SELECT text, label FROM room JOIN name ON name.id = room.id WHERE label IS NOT NULL"
    )
    coverage.names = {text: label for text, label in labels if text in coverage.rooms}
    coverage.without_bot = rooms_without_bot(library, period)
    return coverage
