"""Take the pictures of docs/compliance-guide.md: ``python -m tests.support.audit_pictures``.

The archive in them is made up, with a month of talk around the story that the tests tell.
"""

import asyncio
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from tests.support.archive_maker import Maker
from tests.support.archive_story import ALICE, BOB, CAROL, tell_story
from tests.support.browser import ARGUMENTS, browser

_PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_DAY_MS = 86_400_000
_FIRST_DAY_MS = 1_772_524_800_000
"""2026-03-03T08:00:00Z."""
_DAYS = 24
_ROOMS = ("Research", "Compliance", "Back office", "Lunch")
_TALK = (
    "The report is ready for review.",
    "Can somebody look at the numbers of last week?",
    "Done, thank you.",
    "The meeting moves to three o'clock.",
    "Please keep this in the room, not in mail.",
    "I have sent the contract to the client.",
    "Who is on duty tomorrow?",
    "The model gives 4.2 percent.",
)


def tell_long_story(folder: Path) -> Maker:
    """Make a month's archive; the story of the tests is its last day."""
    chance = random.Random(7)
    return tell_story(folder, started_ms=_FIRST_DAY_MS, before=lambda told: _talk(told, chance))


def _talk(maker: Maker, chance: random.Random) -> None:
    maker.interval_ms = 3 * _DAY_MS
    for day in range(_DAYS):
        maker.now_ms = _FIRST_DAY_MS + day * _DAY_MS
        if day % 7 in {4, 5}:
            continue
        for _ in range(chance.randrange(20, 60)):
            maker.now_ms += chance.randrange(60_000, 500_000)
            _say(maker, chance)
        maker.segment()
        maker.manifest()
    maker.now_ms = _FIRST_DAY_MS + _DAYS * _DAY_MS


def _say(maker: Maker, chance: random.Random) -> None:
    room = chance.choice(_ROOMS)
    sender = chance.choice((ALICE, BOB, CAROL, "@dora:example.org", "@emil:example.org"))
    fields: dict[str, Any] = {
        "room_id": f"!{room.split()[0].lower()}:example.org",
        "room_name": room,
        "encrypted": True,
        "enc_status": "decrypted",
        "enc_trust": "cross_signed",
        "enc_device_id": f"{sender[1:5].upper()}PHONE",
        "event_id": f"$talk{len(maker.lines)}",
    }
    if chance.random() < 0.03:
        fields |= {
            "enc_status": "undecryptable",
            "enc_error": "withheld_unverified",
            "enc_device_id": "CAROLPC",
            "body": None,
            "event_json": None,
            "event_type": "m.room.encrypted",
            "msgtype": None,
        }
    maker.message(chance.choice(_TALK), sender, **fields)


async def main() -> None:
    """Take them."""
    _PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await asyncio.to_thread(tell_long_story, folder / "archive")
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "steward"), "audit", "serve",
            "--destination=file:archive", "--home=home", "--port=8765", "--zone=Europe/Berlin",
            stdout=subprocess.PIPE, cwd=folder,
        )  # fmt: skip
        assert process.stdout is not None
        while b"http" not in (line := await process.stdout.readline()):
            assert line
        try:
            await _visit(line.decode().strip(), folder)
        finally:
            process.terminate()
            await process.wait()


async def _visit(url: str, folder: Path) -> None:
    program, _ = browser()
    base = url.partition("/login")[0]
    async with async_playwright() as player:
        opened = await player.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = await opened.new_page(viewport={"width": 1120, "height": 820})
        await page.goto(url)
        while await page.inner_text(".top .badge") not in {"Verified", "Verified in part"}:
            await asyncio.sleep(1)
            await page.goto(base)
        await _take(page, "overview")
        await page.goto(f"{base}/search?text=price")
        await _take(page, "search")
        await page.goto(f"{base}/room?id=!desk:example.org")
        await page.mouse.wheel(0, 430)
        await asyncio.sleep(1)
        await _take(page, "room")
        await page.goto(f"{base}/coverage")
        await _take(page, "coverage")
        done = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "steward"), "audit", "transcript", "Trading desk",
            "--destination=file:archive", "--home=home", "--zone=Europe/Berlin", "--verify=all",
            "--case=2026-017", "--output=transcript.html", cwd=folder,
        )  # fmt: skip
        await done.wait()
        await page.goto(f"file://{folder / 'transcript.html'}")
        await _take(page, "transcript")
        done = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "steward"), "audit", "subject", "@carol:example.org",
            "--destination=file:archive", "--home=home", "--zone=Europe/Berlin", "--verify=all",
            "--from=2026-03-27", "--output=subject.zip", cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        await done.wait()
        with zipfile.ZipFile(folder / "subject.zip") as packed:
            packed.extractall(folder / "subject")
        await page.goto(f"file://{folder / 'subject' / 'index.html'}")
        await _take(page, "subject")
        await opened.close()


async def _take(page: Page, name: str) -> None:
    await page.screenshot(path=_PICTURES / f"audit-{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
