"""Whether read receipts were recorded in a period, as the signed manifests say it, and how many."""

from collections.abc import Iterable, Iterator
from datetime import tzinfo

from auditbot.reader.index.library import Library
from auditbot.reader.index.schema import KINDS
from auditbot.reader.layout import server_of
from auditbot.reader.read import Period
from auditbot.reader.times import moment

_SPANS = 5
"""Spans of time that are named."""

_Said = tuple[int, int, bool]
"""From when to when a manifest speaks, and whether receipts were recorded."""


def receipts_recorded(library: Library, period: Period, zone: tzinfo) -> Iterator[str]:
    """Yield a sentence for each homeserver.

    A manifest says how it was set when it was made; so where it changed is known to a quarter of an
    hour.
    """
    start, end = period.bounds
    by_server: dict[str, list[_Said]] = {}
    for key, from_ms, created_ms, recorded in library.connection.execute(
        "SELECT key, from_ms, created_ms, receipts FROM manifest"
        " WHERE created_ms > ? AND from_ms < ? ORDER BY from_ms, number",
        (start, end),
    ):
        by_server.setdefault(str(server_of(key)), []).append((from_ms, created_ms, bool(recorded)))
    if not by_server:
        yield "no manifest of this time says whether they were recorded"
    for server, said in sorted(by_server.items()):
        name = f"{server}: " if len(by_server) > 1 else ""
        yield f"{name}{_words(said, _count(library, server, period), zone)}"


def _words(said: Iterable[_Said], count: int, zone: tzinfo) -> str:
    spans: list[tuple[int, int]] = []
    always = True
    for from_ms, created_ms, recorded in said:
        always &= recorded
        if recorded and spans and from_ms <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(created_ms, spans[-1][1]))
        elif recorded:
            spans.append((from_ms, created_ms))
    if always:
        return f"{count:,}, recorded all the time"
    if not spans:
        return "not recorded: of who read what nothing is known" if not count else f"{count:,}"
    named = [f"{moment(begin, zone)} to {moment(end, zone)}" for begin, end in spans[:_SPANS]]
    more = f" and {len(spans) - _SPANS:,} more times" if len(spans) > _SPANS else ""
    return f"{count:,}, recorded only {', '.join(named)}{more}"


def _count(library: Library, server: str, period: Period) -> int:
    begin = f"v1/{server}/"
    row = library.connection.execute(
        "SELECT count(*) FROM record JOIN object ON object.id = record.object WHERE kind = ?"
        " AND received_ms >= ? AND received_ms < ? AND substr(key, 1, ?) = ?",
        (KINDS.index("receipt"), *period.bounds, len(begin), begin),
    ).fetchone()
    return int(row[0])
