"""What the writer stated of a day, beside what the archive itself holds of it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from auditbot.reader.documents import Completeness
from auditbot.reader.index.library import Library
from auditbot.reader.index.schema import KINDS, MEDIA_STATES, STATUSES
from auditbot.reader.layout import server_folder

_NOT_KEPT = "not_kept"


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
    prefix = f"v1/{server_folder(server_name)}/events/dt={day}/"
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


def _differ(
    what: str, stated: Mapping[str, int], counted: Mapping[str, int]
) -> Iterator[Difference]:
    for name in sorted({*stated, *counted}):
        said, found = stated.get(name, 0), counted.get(name, 0)
        if said != found:
            yield Difference(f"{what} {name}".strip(), said, found)
