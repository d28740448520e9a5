"""What the writer stated of a day, beside what the archive itself holds of it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from auditbot.reader.coverage import FINAL_CAUSES, FINAL_MS
from auditbot.reader.documents import Completeness, Service
from auditbot.reader.index.library import Library
from auditbot.reader.index.schema import KINDS, MEDIA_STATES, STATUSES
from auditbot.reader.layout import DAY_MS, server_folder

_NOT_KEPT = "not_kept"
_EPOCH = date(1970, 1, 1)
_FINAL_CAUSES = ", ".join(f"'{why}'" for why in FINAL_CAUSES)
_UNREAD = (
    "SELECT count(*), coalesce(sum(late_ms <= :as_of AND late_ms - received_ms <= 60000), 0),"  # noqa: S608  # our own words
    f" coalesce(sum(late_ms <= :as_of AND late_ms - received_ms <= {DAY_MS}), 0),"
    " coalesce(sum(late_ms <= :as_of), 0), coalesce(sum((late_ms IS NULL OR late_ms > :as_of)"
    f" AND (received_ms <= :as_of - {FINAL_MS} OR why IN ({_FINAL_CAUSES}))), 0)"
    " FROM (SELECT received_ms, why.text AS why, (SELECT min(later.received_ms)"
    " FROM record AS later WHERE later.first = record.id) AS late_ms"
    " FROM record LEFT JOIN name AS why ON why.id = record.why WHERE status = 2 AND kind = :kind"
    " AND received_ms >= :start AND received_ms < :end AND object IN (SELECT id FROM object"
    " WHERE substr(key, 1, length(:prefix)) = :prefix))"
)


@dataclass
class Counted:
    """What the index counts of the segments of a day."""

    segments: int = 0
    not_indexed: int = 0
    """Segments that cannot be counted: deleted on purpose, or not readable here."""
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    undecryptable: Counter[str] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    media_not_kept: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that the writer stated and the archive does not bear out."""

    what: str
    stated: int
    counted: int


def count_day(library: Library, server_name: str, day: str) -> Counted:
    """Count the records that lie in a day's segments."""
    prefix = _prefix(server_name, day)
    found = Counted()
    objects: list[int] = []
    for number, state in library.connection.execute(
        "SELECT id, state FROM object WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
    ):
        found.segments += 1
        if state == "indexed":
            objects.append(number)
        else:
            found.not_indexed += 1
    for number in objects:
        _count_object(library, number, found)
    return found


def _count_object(library: Library, number: int, found: Counted) -> None:
    rows = library.connection.execute(
        "SELECT kind, status, why.text, count(*) FROM record LEFT JOIN name AS why"
        " ON why.id = record.why WHERE object = ? AND record.id >= (SELECT first_id FROM object"
        " WHERE id = ?) AND record.id <= (SELECT first_id + last_seq - first_seq FROM object"
        " WHERE id = ?) GROUP BY kind, status, why.text",
        (number, number, number),
    )
    for kind, status, why, count in rows:
        name = KINDS[kind]
        found.counts[name] += count
        if name == "decryption":
            found.outcomes["read_later"] += count
        elif name == "event":
            said = STATUSES[status] if status is not None else ""
            found.outcomes[said] += count
            if said == "undecryptable":
                found.undecryptable[str(why or "unknown")] += count
    media = library.connection.execute(
        "SELECT record.id FROM record, object WHERE object.id = ? AND record.object = object.id"
        " AND record.id BETWEEN first_id AND first_id + last_seq - first_seq"
        " AND (kind = ? OR media = ?)",
        (number, KINDS.index("media"), MEDIA_STATES.index(_NOT_KEPT)),
    )
    for stored in library.stored([row[0] for row in media]):
        status = str(stored.record.get("media_status"))
        if stored.record.get("kind") == "media":
            found.media[status] += 1
        else:
            # Of an older writer's the index says the same, but their records say nothing.
            found.media_not_kept += status == _NOT_KEPT


def differences(stated: Completeness, counted: Counted) -> Iterator[Difference]:
    """Yield each figure in which a statement and the archive differ."""
    yield from _differ("segments", {"": stated.segments}, {"": counted.segments})
    yield from _differ("records", stated.counts, counted.counts)
    outcomes = counted.outcomes
    for name, figure in (
        ("clear", stated.clear),
        ("decrypted", stated.decrypted),
        ("read_later", stated.read_later),
    ):
        yield from _differ("events", {name: figure}, {name: outcomes[name]})
    yield from _differ("undecryptable", stated.undecryptable, counted.undecryptable)
    yield from _differ("attachments", stated.media, counted.media)
    yield from _differ(
        "attachments", {_NOT_KEPT: stated.media_not_kept}, {_NOT_KEPT: counted.media_not_kept}
    )


def segments_of(library: Library, server_name: str, day: str) -> tuple[int, int]:
    """Return how many segments of a day the index knows, and how many of them it has indexed."""
    prefix = _prefix(server_name, day)
    known, indexed = library.connection.execute(
        "SELECT count(*), coalesce(sum(state = 'indexed'), 0) FROM object"
        " WHERE substr(key, 1, ?) = ?",
        (len(prefix), prefix),
    ).fetchone()
    return known, indexed


def service_differences(
    library: Library, stated: Completeness, of: Service
) -> Iterator[Difference]:
    """Yield in what the archive does not bear out how soon the messages of a day were read.

    Counted is what was not read at once, as only that is asked for quickly.
    """
    start_ms = _start_ms(of.day)
    counted = library.connection.execute(
        _UNREAD,
        {
            "as_of": _start_ms(stated.day) + DAY_MS,
            "kind": KINDS.index("event"),
            "start": start_ms,
            "end": start_ms + DAY_MS,
            "prefix": _prefix(stated.server_name, of.day),
        },
    ).fetchone()
    unread, soon, within_a_day, late, final = counted
    for name, said, found in (
        ("not read within 60 s", of.encrypted - of.within_60_s, unread - soon),
        ("not read within 24 h", of.encrypted - of.within_24_h, unread - within_a_day),
        ("not read", of.encrypted - of.read, unread - late),
        ("final", of.final, final),
    ):
        yield from _differ(f"{of.day}", {name: said}, {name: found})


def _prefix(server_name: str, day: str) -> str:
    return f"v1/{server_folder(server_name)}/events/dt={day}/"


def _start_ms(day: str) -> int:
    return (date.fromisoformat(day) - _EPOCH).days * DAY_MS


def _differ(
    what: str, stated: Mapping[str, int], counted: Mapping[str, int]
) -> Iterator[Difference]:
    for name in sorted({*stated, *counted}):
        said, found = stated.get(name, 0), counted.get(name, 0)
        if said != found:
            yield Difference(f"{what} {name}".strip(), said, found)
