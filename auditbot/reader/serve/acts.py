"""What the pages do besides showing: log-in, attachments, exports, cases, verifying."""

import asyncio
import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from auditbot.reader.conversation import load
from auditbot.reader.handover.cases import Case, Item, with_items
from auditbot.reader.handover.package import hand_over
from auditbot.reader.index.library import Stored
from auditbot.reader.media import InfectedAttachmentError, fetch_file
from auditbot.reader.render.audiences import Audiences
from auditbot.reader.render.sheets import write_csv, write_jsonl
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.pages import DESK, render
from auditbot.reader.serve.security import COOKIE, Door, let_in
from auditbot.reader.transcript.build import Transcript, describe, gather
from auditbot.reader.transcript.formats import write
from common.errors import StewardError, UserError

DOOR = web.AppKey("door", Door)

_MOST_CHOSEN = 5000
_LONGEST = 200
_TYPES = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "html": "text/html",
    "pdf": "application/pdf",
    "dat": "application/zip",
    "zip": "application/zip",
}


async def log_in(request: web.Request) -> web.Response:
    """Take the token of the address from the terminal, once."""
    desk, door = request.app[DESK], request.app[DOOR]
    async with door.alone:
        if not door.fits(request.query.get("token", "")):
            return web.Response(
                status=401,
                text="This address was used already, or is wrong. Start “steward audit serve” "
                "again.",
            )
        # If it cannot be written down, the address is still good for another try.
        await asyncio.to_thread(desk.log.write, "logged in")
        return let_in(request, door.enter())


async def log_out(request: web.Request) -> web.Response:
    """End the session."""
    request.app[DOOR].leave()
    desk = request.app[DESK]
    await asyncio.to_thread(desk.log.write, "logged out")
    response = web.Response(
        text="You are logged out. Nothing of the archive stays in the browser."
    )
    response.del_cookie(COOKIE, path="/")
    return response


async def verify_again(request: web.Request) -> web.Response:
    """Verify everything, and wait for it."""
    desk = request.app[DESK]
    await asyncio.to_thread(desk.log.write, "verified")
    await desk.verify(everything=True)
    raise web.HTTPSeeOther("/verification")


async def sync_again(request: web.Request) -> web.Response:
    """Fetch what is new."""
    desk = request.app[DESK]
    await asyncio.to_thread(desk.log.write, "synced")
    await desk.sync()
    raise web.HTTPSeeOther("/")


async def media(request: web.Request) -> web.StreamResponse:
    """Give an attachment: pictures to be shown, all else only to be saved."""
    desk = request.app[DESK]
    key = request.query.get("key", "")[:512]
    try:
        async with desk.alone():
            path = await fetch_file(desk.archive.place, desk.library, key)
    except InfectedAttachmentError as error:
        raise UserError(str(error)) from error
    except StewardError:
        raise web.HTTPNotFound(reason="This attachment is not in the archive.") from None
    known = await asyncio.to_thread(describe, path, "")
    is_shown = known.picture is not None and request.query.get("show") == "1"
    what = "attachment shown" if is_shown else "attachment saved"
    await asyncio.to_thread(desk.log.write, what, key=key)
    kind = known.picture if known.picture and is_shown else "application/octet-stream"
    disposition = "inline" if is_shown else "attachment"
    return web.FileResponse(
        path,
        headers={
            "Content-Type": kind,
            "Content-Disposition": f'{disposition}; filename="{known.safe_name}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


async def export(request: web.Request) -> web.Response:
    """Give the chosen messages in a format, or put them into a case."""
    desk = request.app[DESK]
    form = await request.post()
    what = str(form.get("format", "csv"))
    chosen = [str(value) for value in form.getall("m", [])][:_MOST_CHOSEN]
    stored = await desk.work(_stored, desk, chosen)
    if not stored:
        raise UserError("Choose messages first: mark the boxes beside them.")
    if what == "case":
        return await _to_case(desk, stored, str(form.get("case", "")))
    if what not in _TYPES:
        raise UserError("There is no such format.")
    made = await _made(desk, stored, what, str(form.get("case", "")))
    await asyncio.to_thread(desk.log.write, "exported", format=what, messages=len(stored))
    return _download(made.body, f"messages.{made.kind}", _TYPES[made.kind])


async def export_case(request: web.Request) -> web.Response:
    """Give a case's hand-over."""
    desk = request.app[DESK]
    form = await request.post()
    case = await asyncio.to_thread(desk.cases.load, str(form.get("case", ""))[:_LONGEST])
    made = await _zipped(desk, case)
    await asyncio.to_thread(desk.log.write, "handed over", case=case.name)
    return _download(made.body, "case.zip", _TYPES["zip"])


async def cases(request: web.Request) -> web.Response:
    """Show the cases."""
    desk = request.app[DESK]
    await asyncio.to_thread(desk.log.write, "cases shown")
    names = await asyncio.to_thread(desk.cases.names)
    known = [await asyncio.to_thread(desk.cases.load, name) for name in names]
    return render(request, "page_cases.html", cases=known)


async def _to_case(desk: Desk, stored: list[Stored], name: str) -> web.Response:
    name = name.strip()[:_LONGEST]
    if not name:
        raise UserError("Write the case's name.")
    now_ms = desk.clock.now_ms()
    items = [Item(item.stream, item.seq, _event_id(item), now_ms, desk.user) for item in stored]

    def keep() -> None:
        try:
            case = desk.cases.load(name)
        except UserError:
            desk.cases.check_new(name)
            case = Case(name, desk.archive.destination, now_ms, desk.user)
        desk.log.write("case added", case=name, found=len(items))
        desk.cases.save(with_items(case, items))

    await desk.work(keep)
    raise web.HTTPSeeOther("/cases")


@dataclass(frozen=True)
class _Made:
    """A file to be saved."""

    body: bytes
    kind: str


async def _made(desk: Desk, stored: list[Stored], what: str, name: str) -> _Made:
    if what == "zip":
        now_ms = desk.clock.now_ms()
        items = tuple(
            Item(item.stream, item.seq, _event_id(item), now_ms, desk.user) for item in stored
        )
        title = name.strip()[:_LONGEST] or "Selected messages"
        return await _zipped(
            desk, Case(title, desk.archive.destination, now_ms, desk.user, items=items)
        )
    roots = await desk.work(_roots, desk, stored)
    messages = await desk.work(load, desk.library, roots)
    if what in {"csv", "jsonl"}:
        buffer = io.StringIO(newline="")
        writer = write_csv if what == "csv" else write_jsonl
        readers = Audiences(desk.library)
        await desk.work(lambda: writer(messages, buffer, desk.zone, readers=readers))
        return _Made(buffer.getvalue().encode("utf-8", "replace"), what)
    async with desk.alone():
        transcript = await gather(
            desk.library, desk.archive.place, desk.request(name), messages, set()
        )
    return await asyncio.to_thread(_written, transcript, what)


def _written(transcript: Transcript, what: str) -> _Made:
    with tempfile.TemporaryDirectory(prefix="steward-export-") as name:
        folder = Path(name)
        path = folder / f"messages.{what}"
        write(transcript, what, path)
        if path.is_dir() or len(list(folder.iterdir())) > 1:
            # Attachments that are not in the page itself lie beside it, and go along.
            return _Made(_packed(folder), "zip")
        return _Made(path.read_bytes(), what)


def _packed(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return packed.getvalue()


async def _zipped(desk: Desk, case: Case) -> _Made:
    with tempfile.TemporaryDirectory(prefix="steward-export-") as folder:
        path = Path(folder) / "case.zip"
        async with desk.alone():
            await hand_over(desk.library, desk.archive.place, case, desk.request(case.name), path)
        return _Made(path.read_bytes(), "zip")


def _stored(desk: Desk, chosen: list[str]) -> list[Stored]:
    found = []
    for value in chosen:
        stream, _, seq = value.rpartition(":")
        if seq.isascii() and seq.isdigit() and len(seq) < 16:  # noqa: PLR2004  # as a number of a record
            stored = desk.library.at(stream, int(seq))
            if stored is not None:
                found.append(stored)
    return sorted(found, key=lambda item: item.id)


def _roots(desk: Desk, stored: list[Stored]) -> list[int]:
    rows: list[Any] = [
        desk.library.connection.execute(
            "SELECT coalesce(root, -id) FROM record WHERE id = ?", (item.id,)
        ).fetchone()
        for item in stored
    ]
    return list(dict.fromkeys(int(row[0]) for row in rows if row))


def _event_id(stored: Stored) -> str | None:
    event_id = stored.record.get("event_id")
    return str(event_id) if event_id else None


def _download(body: bytes, name: str, kind: str) -> web.Response:
    return web.Response(
        body=body,
        headers={
            "Content-Type": kind,
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )
