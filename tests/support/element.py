"""Element Web's own components in headless Chromium, as somebody sits before them.

They are bundled by ``tests/e2e/element/build.mjs``; ``make element`` installs what it needs.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp import web
from playwright.async_api import Locator, Page, async_playwright, expect

from common.demo.process import LOOPBACK
from common.demo.servers import free_port
from common.ids import EventId, RoomId, UserId
from tests.support.browser import ARGUMENTS, browser

BUNDLE = Path(__file__).parents[1] / "e2e" / "element" / "dist"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_WAIT_MS = 60_000

_CLIENT = "const client = window.mxMatrixClientPeg.get();"
_CHAT = f"""async (bot) => {{
    {_CLIENT}
    const encryption = {{ algorithm: "m.megolm.v1.aes-sha2" }};
    const made = await client.createRoom({{
        is_direct: true,
        preset: "trusted_private_chat",
        invite: [bot],
        initial_state: [{{ type: "m.room.encryption", state_key: "", content: encryption }}],
    }});
    await client.setAccountData("m.direct", {{ [bot]: [made.room_id] }});
    return made.room_id;
}}"""
_JOINED = f"""([room, bot]) => {{
    {_CLIENT}
    return client.getRoom(room)?.getMember(bot)?.membership === "join";
}}"""
_SAID = f"""([room, text]) => {{
    {_CLIENT}
    const events = client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
    return events.findLast((event) => event.getSender() === client.getUserId()
        && event.getContent().body === text && event.getId().startsWith("$"))?.getId() ?? null;
}}"""
_ANSWER = f"""([room, bot, asked]) => {{
    {_CLIENT}
    const known = client.getRoom(room);
    const threads = known.getThreads().flatMap((thread) => thread.events);
    const events = [...known.getLiveTimeline().getEvents(), ...threads];
    return events.find((event) => event.getSender() === bot && !event.isRedacted()
        && event.getType() === "m.room.message"
        && event.getWireContent()["m.relates_to"]?.["m.in_reply_to"]?.event_id === asked
    )?.getId() ?? null;
}}"""


@dataclass(frozen=True)
class Element:
    """One session of one person."""

    page: Page
    url: str
    homeserver: str

    async def log_in(self, name: str, password: str) -> None:
        """Log in as people do, with name and password."""
        page = self.page
        await page.goto(f"{self.url}/?{urlencode({'homeserver': self.homeserver})}#/login")
        await page.fill("input[name=username]", name)
        await page.fill("input[name=password]", password)
        await page.locator(".mx_Login_submit").click()
        await self.synced()

    async def synced(self) -> None:
        """Wait until Element shows what the homeserver has."""
        await self.page.wait_for_function(
            "window.mxMatrixClientPeg?.get?.()?.isInitialSyncComplete()"
        )
        await self.page.locator(".mx_LoggedIn, .mx_MatrixChat").first.wait_for()
        # Advice for newcomers lies over what is to be seen.
        await self.page.add_style_tag(content=".mx_ToastContainer, .mx_Tooltip { display: none }")

    async def chat_with(self, bot: UserId) -> RoomId:
        """Open a new encrypted direct chat, and look at it."""
        room = RoomId(await self.page.evaluate(_CHAT, bot))
        await self.page.wait_for_function(_JOINED, arg=[room, bot])
        await self.look_at(room)
        return room

    async def look_at(self, room: RoomId) -> None:
        """Have a room on the screen."""
        await self.page.evaluate("(room) => { location.hash = `#/room/${room}`; }", room)
        await self.page.locator(".mx_BasicMessageComposer_input").first.wait_for()
        for advice in ("Dismiss", "OK", "Later"):
            button = self.page.get_by_role("button", name=advice, exact=True)
            for each in await button.all():
                if await each.is_visible():
                    await each.click()

    async def type(self, room: RoomId, text: str) -> EventId:
        """Write something and send it; return its event once the homeserver has it."""
        await self.page.locator(".mx_BasicMessageComposer_input").first.click()
        await self.page.keyboard.type(text)
        await self.page.keyboard.press("Enter")
        found = await self.page.wait_for_function(_SAID, arg=[room, text])
        return EventId(await found.json_value())

    async def ask(self, room: RoomId, bot: UserId, text: str) -> Locator:
        """Type a command; return the message that answers it."""
        return await self.answer(room, bot, await self.type(room, text))

    async def answer(self, room: RoomId, bot: UserId, asked: EventId) -> Locator:
        """Return the message that answers an event, once it is there."""
        found = await self.page.wait_for_function(_ANSWER, arg=[room, bot, asked])
        return self.page.locator(f'[data-event-id="{await found.json_value()}"]').first


@asynccontextmanager
async def element(homeserver: str) -> AsyncIterator[Element]:
    """Open Element in a browser of its own, with nobody logged in."""
    if not (BUNDLE / "index.html").exists():
        pytest.fail("Element is not built; “make element” builds it and runs these tests")
    program, _ = browser()
    expect.set_options(timeout=_WAIT_MS)
    async with _served() as url, async_playwright() as player:
        opened = await player.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            page = await opened.new_page(viewport={"width": 1280, "height": 860})
            page.set_default_timeout(_WAIT_MS)
            yield Element(page, url, homeserver)
        finally:
            await opened.close()


@asynccontextmanager
async def _served() -> AsyncIterator[str]:
    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(BUNDLE / "index.html")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_static("/", BUNDLE)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()
