"""The pages that show: overview, search, rooms, people, one message, coverage, verification."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from auditbot.reader.commands.library import not_everything
from auditbot.reader.commands.options import ordered
from auditbot.reader.conversation import load
from auditbot.reader.coverage import Coverage
from auditbot.reader.index.context import Surroundings, Window, around
from auditbot.reader.index.coverage import count_coverage
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import has_parts
from auditbot.reader.index.query import (
    Known,
    Query,
    never_read,
    not_searched,
    people,
    rooms,
    search,
    unread,
    unsearched,
)
from auditbot.reader.index.unrecorded import unrecorded
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.render.templates import templates
from auditbot.reader.render.view import Viewer
from auditbot.reader.render.words import log_detail, one_line, spelled
from auditbot.reader.serve.chart import bars
from auditbot.reader.serve.desk import Desk
from auditbot.reader.times import local, moment
from auditbot.reader.transcript.provenance import removed
from auditbot.reader.verify.report import as_json, grouped, storage_words
from common.errors import UserError

PAGE = 100
PAGE_OF_A_DAY = 1000
MOST_WITH_CONTEXT = 2000
_MOST_OF_A_DAY = 100_000
_MOST_FOUND = 5000
_LONGEST = 500
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2999, 12, 31)
MOST_ROWS = 200
_MOST_GONE = 20

DESK = web.AppKey("desk", Desk)

Json = dict[str, Any]


def render(request: web.Request, template: str, **context: object) -> web.Response:
    """Return a page."""
    desk = request.app[DESK]
    text = (
        templates()
        .get_template(template)
        .render(
            desk=desk,
            badge=desk.badge(),
            reach=moment(desk.library.until_ms) if desk.library.until_ms else None,
            path=request.path,
            **context,
        )
    )
    return web.Response(
        body=text.encode("utf-8", "replace"), content_type="text/html", charset="utf-8"
    )


async def note_refusal(request: web.Request) -> None:
    """Write down that something was asked for, before it is told why it is not shown.

    Raises:
        PermanentError, TransientError: it cannot be written, so the reason must not be told.
    """
    log = request.app[DESK].log
    what, asked = request.path.strip("/"), request.rel_url.human_repr()
    await asyncio.to_thread(log.refused, what, asked, where="page")


async def overview(request: web.Request) -> web.Response:
    """Show what there is and how it stands."""
    desk = request.app[DESK]

    def gather() -> Json:
        desk.log.write("overview shown")
        coverage = count_coverage(desk.library)
        return {
            "rooms": rooms(desk.library)[:12],
            "counts": _counts(desk.library),
            "coverage": coverage,
            "bars": bars(coverage),
            "without_bot": coverage.without_bot,
            "cases": desk.cases.names(),
        }

    shown = await desk.work(gather)
    return render(request, "page_overview.html", name=_name, when=_when(desk), **shown)


async def find(request: web.Request) -> web.Response:
    """Show the form for searching and what was found."""
    desk, asked = request.app[DESK], request.query
    texts = {name: asked.get(name, "")[:_LONGEST].strip() for name in _FIELDS}
    shown: Json = {"asked": texts, "found": None, "views": [], "problem": "", "audiences": []}
    shown["not_searched"] = []
    if any(texts.values()):
        try:
            query = _query(texts, desk)
            page = _page(asked.get("page"))
            window = _WINDOWS.get(asked.get("context", ""))
            shown.update(await desk.work(_found, desk, query, page, window))
        except UserError as error:
            await note_refusal(request)
            shown["problem"] = str(error)
    texts["context"] = asked.get("context", "") if asked.get("context") in _WINDOWS else ""
    shown["link"] = _query_string({name: text for name, text in texts.items() if text})
    shown["cases"] = desk.cases.names()
    shown["has_parts"] = await desk.work(has_parts, desk.library.connection)
    return render(request, "page_search.html", **shown)


_FIELDS = ("text", "containing", "person", "room", "from", "to", "type", "unread")
_WINDOWS = {
    "usual": Window(),
    "30m": Window(30 * 60_000),
    "2h": Window(2 * 3_600_000),
    "12h": Window(12 * 3_600_000),
    "1d": Window(24 * 3_600_000),
}


def _query(texts: dict[str, str], desk: Desk) -> Query:
    return Query(
        people=(texts["person"],) if texts["person"] else (),
        rooms=(texts["room"],) if texts["room"] else (),
        types=(texts["type"],) if texts["type"] else (),
        text=texts["text"],
        containing=(texts["containing"],) if texts["containing"] else (),
        undecryptable=bool(texts["unread"]),
        period=ordered(Period(_day(texts["from"], desk, 0), _day(texts["to"], desk, 1))),
    )


def _found(desk: Desk, query: Query, page: int, window: Window | None) -> Json:
    roots = search(desk.library, query, limit=_MOST_FOUND + 1, newest_first=True)
    here = roots[page * PAGE : (page + 1) * PAGE]
    shown = Surroundings(tuple(here), frozenset(), is_cut=False)
    logged = {}
    if window is not None:
        shown = around(desk.library, here, window, found=roots, newest_first=True)
        logged = {"context": window.as_words(), "shown": len(shown.roots)}
    desk.log.write(
        "search",
        query=query.as_words(),
        start_ms=query.period.start_ms,
        end_ms=query.period.end_ms,
        found=len(roots),
        page=page,
        where="page",
        **logged,
    )
    # A page that no browser can show helps nobody: what was found is never left out.
    kept = _nearest(shown, set(here))
    viewer = Viewer(desk.library, desk.zone)
    return {
        "not_searched": [
            *_not_searched(desk, query),
            *itertools.islice(removed(desk.library, query.period, desk.zone), _MOST_GONE),
        ],
        "found": len(roots),
        "is_cut": len(roots) > _MOST_FOUND,
        "page": page,
        "pages": (len(roots) + PAGE - 1) // PAGE,
        "views": [
            viewer.view(message, is_context=message.root in shown.context)
            for message in load(desk.library, kept)
        ],
        "is_context_cut": shown.is_cut or len(kept) < len(shown.roots),
        "audiences": viewer.audiences.lists,
    }


def _not_searched(desk: Desk, query: Query) -> Iterator[str]:
    sealed, closed = unsearched(desk.library, query), unread(desk.library, query)
    if sealed:
        yield not_searched(sealed, has_identity=bool(desk.archive.identities))
    if closed:
        yield never_read(closed)


def _nearest(shown: Surroundings, here: set[int]) -> list[int]:
    """Return what fits into a page of what is shown: what was found, and what stands next to it."""
    if len(shown.roots) <= MOST_WITH_CONTEXT:
        return list(shown.roots)
    places = [place for place, root in enumerate(shown.roots) if root in here]
    distances = sorted(
        (min(abs(place - other) for other in places), place) for place in range(len(shown.roots))
    )
    return [shown.roots[place] for place in sorted(p for _, p in distances[:MOST_WITH_CONTEXT])]


async def list_rooms(request: web.Request) -> web.Response:
    """Show all rooms."""
    return await _list(request, "Rooms", "/room")


async def list_people(request: web.Request) -> web.Response:
    """Show all senders."""
    return await _list(request, "People", "/person")


async def _list(request: web.Request, title: str, link: str) -> web.Response:
    desk = request.app[DESK]
    part = request.query.get("part", "")[:_LONGEST]

    def gather() -> list[Known]:
        found = (rooms if link == "/room" else people)(desk.library, part)
        desk.log.write(f"{title.lower()} listed", part=part, found=len(found))
        return found

    found = await desk.work(gather)
    return render(
        request,
        "page_list.html",
        title=title,
        link=link,
        part=part,
        items=found[:2000],
        count=len(found),
        name=_name,
        when=_when(desk),
    )


@dataclass(frozen=True, slots=True)
class _Days:
    """The days on which something was said, around one of them."""

    day: date
    before: date | None
    after: date | None


async def show_room(request: web.Request) -> web.Response:
    """Show a day of a room."""
    return await _timeline(request, "room")


async def show_person(request: web.Request) -> web.Response:
    """Show a day of all that a person wrote."""
    return await _timeline(request, "person")


async def _timeline(request: web.Request, kind: str) -> web.Response:
    desk = request.app[DESK]
    name = request.query.get("id", "")[:_LONGEST]
    mode = request.query.get("as", "all")
    wanted = request.query.get("day", "")

    def gather() -> Json | None:
        found = (rooms if kind == "room" else people)(desk.library, name)
        known = next((item for item in found if item.name == name), None)
        if known is None:
            return None
        days = _days(desk, kind, known, wanted)
        period = Period(_begin(days.day, desk), _begin(days.day + timedelta(days=1), desk))
        query = (
            Query(rooms=(known.name,), period=period)
            if kind == "room"
            else Query(people=(known.name,), period=period)
        )
        roots = search(desk.library, query, limit=_MOST_OF_A_DAY)
        pages = max(1, -(-len(roots) // PAGE_OF_A_DAY))
        page = min(_page(request.query.get("page")), pages - 1)
        desk.log.write(
            f"{kind} shown", subject=name, day=str(days.day), found=len(roots), page=page
        )
        viewer = Viewer(desk.library, desk.zone)
        begin = page * PAGE_OF_A_DAY
        views = viewer.views(load(desk.library, roots[begin : begin + PAGE_OF_A_DAY]))
        return {
            "known": known,
            "page": page,
            "pages": pages,
            "found": len(roots),
            "is_cut": len(roots) == _MOST_OF_A_DAY,
            "days": days,
            "views": views,
            "audiences": viewer.audiences.lists,
            "tally": viewer.tally,
            "gone": _gone(desk, period),
        }

    shown = await desk.work(gather)
    if shown is None:
        raise web.HTTPNotFound(reason="This is not in the archive.")
    return render(
        request,
        "page_timeline.html",
        kind=kind,
        mode=mode if mode in {"all", "seen", "sent"} else "all",
        cases=desk.cases.names(),
        name=_name,
        **shown,
    )


def _gone(desk: Desk, period: Period) -> list[str]:
    """Return of what of a time nothing can be shown, though it may have been said."""
    found = [
        *removed(desk.library, period, desk.zone),
        *unrecorded(desk.library, period, desk.zone),
        *(not_everything(fault) for fault in (desk.synced.faults if desk.synced else ())),
    ]
    more = [f"… and {len(found) - _MOST_GONE:,} more."] if len(found) > _MOST_GONE else []
    return found[:_MOST_GONE] + more


def _days(desk: Desk, kind: str, known: Known, wanted: str) -> _Days:
    last = local(known.last_ms, desk.zone)
    day = _bounded(wanted) or (last.date() if last else _FIRST_DAY)
    column = "room" if kind == "room" else "sender"
    before, after = (
        desk.library.connection.execute(
            f"SELECT {which}(received_ms) FROM record WHERE {column} = ?"  # noqa: S608  # words of ours
            f" AND received_ms {comparison} ?",
            (known.id, _begin(day + timedelta(days=shift), desk)),
        ).fetchone()[0]
        for which, comparison, shift in (("max", "<", 0), ("min", ">=", 1))
    )
    return _Days(day, _date(before, desk), _date(after, desk))


async def show_message(request: web.Request) -> web.Response:
    """Show one message with every record that it is made of."""
    desk = request.app[DESK]
    stream = request.query.get("stream", "")[:_LONGEST]
    seq = _page(request.query.get("seq"))

    def gather() -> Json | None:
        stored = desk.library.at(stream, seq)
        if stored is None:
            return None
        row = desk.library.connection.execute(
            "SELECT coalesce(root, -id) FROM record WHERE id = ?", (stored.id,)
        ).fetchone()
        (message,) = load(desk.library, [int(row[0])])
        desk.log.write("message shown", stream=stream, seq=seq)
        viewer = Viewer(desk.library, desk.zone)
        view = viewer.view(message)
        records = [
            {
                "seq": item.seq,
                "kind": item.record.get("kind"),
                "key": item.key,
                "text": spelled(json.dumps(item.record, indent=2, ensure_ascii=False)),
            }
            for item in message.records
        ]
        return {"views": [view], "records": records, "audiences": viewer.audiences.lists}

    shown = await desk.work(gather)
    if shown is None:
        raise web.HTTPNotFound(reason="This is not in the archive.")
    return render(request, "page_message.html", cases=desk.cases.names(), **shown)


async def coverage_page(request: web.Request) -> web.Response:
    """Show how much could be read."""
    desk = request.app[DESK]

    def gather() -> tuple[Coverage, list[str]]:
        desk.log.write("coverage shown")
        times = unrecorded(desk.library, ALWAYS, desk.zone, desk.clock.now_ms())
        return count_coverage(desk.library), list(times)

    coverage, times = await desk.work(gather)
    return render(
        request,
        "page_coverage.html",
        coverage=coverage,
        unrecorded=times,
        bars=bars(coverage),
        worst=_worst,
        most=MOST_ROWS,
    )


async def verification(request: web.Request) -> web.Response:
    """Show what the last verification found."""
    desk = request.app[DESK]
    await desk.work(desk.log.write, "verification shown")
    results = [as_json(item) for item in desk.verified]
    return render(
        request,
        "page_verify.html",
        results=results,
        grouped=grouped,
        moment=moment,
        spelled=spelled,
        storage_words=storage_words,
    )


async def access(request: web.Request) -> web.Response:
    """Show who looked at what."""
    desk = request.app[DESK]
    await desk.work(desk.log.write, "access log shown")
    entries = await desk.work(lambda: list(desk.log.entries()))
    is_whole = all(follows for _, follows in entries)
    shown = [
        {
            "when": moment(entry.get("time_ms"), desk.zone),
            "user": one_line(entry.get("user")),
            "what": one_line(entry.get("what")),
            "detail": log_detail(entry, desk.zone, {"archive"}),
            "follows": follows,
        }
        for entry, follows in reversed(entries[-1000:])
    ]
    return render(
        request,
        "page_access.html",
        entries=shown,
        count=len(entries),
        is_whole=is_whole,
        seal=await desk.work(desk.log.seal),
    )


def _counts(library: Library) -> Json:
    (records,) = library.connection.execute("SELECT count(*) FROM record").fetchone()
    (known_rooms,) = library.connection.execute("SELECT count(*) FROM room").fetchone()
    (known_people,) = library.connection.execute("SELECT count(*) FROM person").fetchone()
    (files,) = library.connection.execute("SELECT count(*) FROM file").fetchone()
    return {
        "records": records,
        "rooms": known_rooms,
        "people": known_people,
        "attachments": files,
    }


def _worst(tallies: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(tallies.items(), key=lambda item: (-item[1].unread, -item[1].all, str(item[0])))[
        :MOST_ROWS
    ]


def _name(known: Known) -> str:
    return one_line(known.label or ("Direct chat" if known.is_direct else known.name))


def _when(desk: Desk) -> Any:
    return lambda moment_ms: moment(moment_ms, desk.zone)


def _page(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004  # as a number of a record


def _day(text: str, desk: Desk, shift: int) -> int | None:
    if not text:
        return None
    day = _bounded(text)
    if day is None:
        raise UserError(f"“{text}” is no day: write it like 2026-03-01.")
    return _begin(day + timedelta(days=shift), desk)


def _bounded(text: str) -> date | None:
    """Return a day that an archive can hold something of, and that has a day after it."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if _FIRST_DAY <= day <= _LAST_DAY else None


def _begin(day: date, desk: Desk) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=desk.zone).timestamp() * 1000)


def _date(moment_ms: object, desk: Desk) -> date | None:
    when = local(moment_ms, desk.zone)
    return when.date() if when else None


def _query_string(known: dict[str, str]) -> str:
    return urlencode(known)
