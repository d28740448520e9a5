"""The server: routes, the guard before them, and what a failure looks like."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from auditbot.reader.index.database import UnusableIndexError, usable
from auditbot.reader.serve import acts, pages
from auditbot.reader.serve.acts import DOOR
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.pages import DESK, note_refusal, render
from auditbot.reader.serve.security import Door, Hosts, guard, protect
from auditbot.reader.transcript.html import stylesheet
from common.errors import StewardError, UserError

_MOST_POSTED = 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(desk: Desk, door: Door, hosts: Hosts) -> web.Application:
    """Return the application."""
    app = web.Application(
        client_max_size=_MOST_POSTED,
        middlewares=[guard(door, hosts), failures],  # type: ignore[list-item]  # aiohttp's own type
    )
    app[DESK], app[DOOR] = desk, door
    app.on_response_prepare.append(protect)
    app.add_routes(
        [
            # Not HEAD: whoever only looks where an address leads would use the token up.
            web.get("/login", acts.log_in, allow_head=False),
            web.get("/look.css", look),
            web.get("/favicon.ico", no_picture),
            web.get("/", pages.overview),
            web.get("/search", pages.find),
            web.get("/rooms", pages.list_rooms),
            web.get("/room", pages.show_room),
            web.get("/people", pages.list_people),
            web.get("/person", pages.show_person),
            web.get("/message", pages.show_message),
            web.get("/coverage", pages.coverage_page),
            web.get("/verification", pages.verification),
            web.get("/access", pages.access),
            web.get("/cases", acts.cases),
            web.get("/media", acts.media),
            web.post("/logout", acts.log_out),
            web.post("/verify", acts.verify_again),
            web.post("/sync", acts.sync_again),
            web.post("/export", acts.export),
            web.post("/case", acts.export_case),
        ]
    )
    return app


async def look(request: web.Request) -> web.Response:
    """Return the style sheet, the only file that a page loads besides pictures."""
    del request
    return web.Response(text=stylesheet("look.css", "page.css"), content_type="text/css")


async def no_picture(request: web.Request) -> web.Response:
    """Return nothing: browsers ask for a picture of every page."""
    del request
    return web.Response(status=204)


@web.middleware
async def failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show a foreseen failure as its sentence."""
    try:
        with usable(request.app[DESK].library.folder):
            return await _told(request, handler)
    except UnusableIndexError as error:
        # As plain text: each page says what the index holds.
        return web.Response(status=503, text=str(error))


async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await _noted(request, handler)
    except web.HTTPNotFound as error:
        is_page = request.match_info.http_exception is None
        return _sentence(request, error.reason if is_page else "There is no such page.", 404)
    except UserError as error:
        return _sentence(request, str(error), 400)
    except StewardError as error:
        return _sentence(request, str(error), 502)


async def _noted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have what is refused in the access log first; what is no page says nothing of the archive."""
    try:
        return await handler(request)
    except (UserError, web.HTTPNotFound):
        if request.match_info.http_exception is None:
            await note_refusal(request)
        raise


def _sentence(request: web.Request, sentence: str, status: int) -> web.Response:
    response = render(request, "page_sentence.html", sentence=sentence)
    response.set_status(status)
    return response
