"""adminbot as people see it: Element Web's own components, encrypted, in a real browser.

Only ``make element`` runs these: what they need of npm takes longer than all of them.
"""

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from common.ids import RoomId, UserId
from tests.support.backup import acting_as, backup_version, passphrase_of, steward_command
from tests.support.clients import RawClient, wait_for
from tests.support.element import PICTURES, Element, element
from tests.support.world import MakeWorld, Wish, World

pytestmark = [pytest.mark.element, pytest.mark.xdist_group("element")]
PASSWORD = "correct horse battery staple"  # of people made for one test
TOKENS = {"login_via_existing_session": {"enabled": True, "require_ui_auth": False}}


@pytest.fixture
async def somebody(world: World) -> AsyncIterator[Element]:
    """Element before a server admin who has just logged in."""
    name = f"admin-{secrets.token_hex(3)}"
    await world.synapse.register(name, admin=True, password=PASSWORD)
    async with element(world.synapse.url) as opened:
        await opened.log_in(name, PASSWORD)
        yield opened


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Path | None:
    """The folder of the docs' pictures, if they are to be taken anew."""
    return PICTURES if request.config.getoption("--write-pictures") else None


async def test_lists_are_tables_with_links(
    world: World, somebody: Element, picture: Path | None
) -> None:
    bot = world.steward.adminbot
    async with await RawClient.register(world.synapse, f"u{secrets.token_hex(3)}") as one:
        hall = await one.create_room(name="Hall of fame")
        await one.wait_for_members(hall, bot)
        chat = await somebody.chat_with(bot)

        said = await somebody.ask(chat, bot, "room list --name fame")

        await expect(said.locator("th").first).to_have_text("Name")
        await expect(said.locator("td").first).to_have_text("Hall of fame")
        link = said.locator("td .mx_Pill")
        await expect(link).to_have_attribute("href", re.compile("matrix.to/#/!|#/room/!"))
        # A thread would fold the answer away.
        await expect(somebody.page.locator(".mx_ThreadSummary")).to_have_count(0)
        await take(somebody, picture, "room-list")
        shown = await somebody.ask(chat, bot, f"user show {one.user_id}")
        await expect(shown.locator("td strong").first).to_have_text("User")


async def test_a_token_comes_with_its_picture(
    world: World, somebody: Element, picture: Path | None
) -> None:
    bot = world.steward.adminbot
    chat = await somebody.chat_with(bot)

    said = await somebody.ask(chat, bot, "token create --uses 1 --expires 7d")

    await expect(said).to_contain_text("What is secret stands in a message of its own")
    drawn = somebody.page.locator("img.mx_MImageBody_thumbnail")
    await somebody.page.wait_for_function(
        "(image) => image.complete && image.naturalWidth > 100", arg=await drawn.element_handle()
    )
    await expect(somebody.page.locator(".mx_EventTile pre code").last).to_be_visible()
    await take(somebody, picture, "token")


async def test_a_file_can_be_saved(world: World, somebody: Element) -> None:
    bot = world.steward.adminbot
    chat = await somebody.chat_with(bot)

    await somebody.ask(chat, bot, "user list --csv")

    await expect(somebody.page.locator(".mx_MFileBody")).to_contain_text("users.csv")


async def test_a_click_on_the_sign_is_a_yes(
    world: World, somebody: Element, picture: Path | None
) -> None:
    bot = world.steward.adminbot
    async with await RawClient.register(world.synapse, f"u{secrets.token_hex(3)}") as one:
        chat = await somebody.chat_with(bot)
        question = await somebody.ask(chat, bot, f"user suspend {one.user_id}")
        await expect(question.locator(".mx_ReactionsRowButton")).to_have_count(1)

        await question.locator(".mx_ReactionsRowButton").click()

        done = somebody.page.locator(".mx_EventTile").filter(
            has_text=re.compile("^.*Done", re.DOTALL)
        )
        await expect(done.last).to_be_visible()
        await take(somebody, picture, "done")


async def test_in_a_room_the_answer_is_in_a_thread(
    world: World, somebody: Element, picture: Path | None
) -> None:
    bot = world.steward.adminbot
    room = await room_of(somebody, bot, "Tea room")
    other = await RawClient.register(world.synapse, f"u{secrets.token_hex(3)}")
    async with other:
        await invite(somebody, room, other.user_id)
        await other.join(room)

        await somebody.type(room, "!info")

        summary = somebody.page.locator(".mx_ThreadSummary")
        await summary.click()
        thread = somebody.page.locator(".mx_ThreadView")
        await expect(thread.locator("td strong").first).to_have_text("Room")
        await take(somebody, picture, "thread")


async def test_a_conference_is_in_the_room(
    world: World, somebody: Element, picture: Path | None
) -> None:
    bot = world.steward.adminbot
    room = await room_of(somebody, bot, "Stand-up")

    await somebody.type(room, "!widget jitsi")

    started = somebody.page.locator(".mx_MJitsiWidgetEvent")
    await expect(started).to_contain_text("Video conference started")
    await expect(
        somebody.page.locator(".mx_AppTileMenuBarTitle, .mx_AppTileFullWidth").first
    ).to_be_visible()
    await take(somebody, picture, "conference")


async def test_a_person_logs_in_as_auditbot_and_reads(
    make_world: MakeWorld, picture: Path | None
) -> None:
    world = await make_world(Wish(extra=TOKENS))
    steward = world.steward
    await world.synapse.register("alice", password=PASSWORD)
    async with element(world.synapse.url) as hers:
        await hers.log_in("alice", PASSWORD)
        room = await room_of(hers, steward.auditbot, "Research", encrypted=True)
        said = await hers.type(room, "the formula is ready")
    assert (await steward.wait_for_event(said))["enc_status"] == "decrypted"
    async with acting_as(steward, steward.auditbot) as bot:

        async def backed_up() -> bool:
            return int((await backup_version(bot))["count"]) >= 1

        await wait_for(backed_up, 30, "the room key in the backup")
    phrase, _ = await passphrase_of(steward, "auditbot")

    async with element(world.synapse.url) as opened:
        answer = await steward_command(
            steward, "login-as", "auditbot", "--force", "--element", opened.url
        )
        assert answer.status == 0, answer.err
        page = opened.page
        await page.goto(f"{opened.url}/?homeserver={world.synapse.url}#/welcome")
        [stored] = re.findall(r"localStorage\.setItem\(.*\)", answer.out)
        await page.evaluate(stored)
        [place] = re.findall(r"https?://\S+loginToken=\S+", answer.out)
        await page.goto(place)
        await page.get_by_role("button", name=re.compile("Verify with Security")).click()
        await page.locator("input[type=password]").fill(phrase)
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_role("button", name="Done").click()
        await opened.synced()
        await opened.look_at(room)

        await expect(page.locator(".mx_EventTile_body").last).to_have_text("the formula is ready")
        await take(opened, picture, "log-in-as")


async def room_of(one: Element, bot: UserId, name: str, *, encrypted: bool = False) -> RoomId:
    """Have a person make a room, which the bot enters by itself, and look at it."""
    algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
    encryption = {"type": "m.room.encryption", "state_key": "", "content": algorithm}
    options = {
        "name": name,
        "preset": "private_chat",
        "initial_state": [encryption] if encrypted else [],
    }
    made = await one.page.evaluate(
        "async (options) => (await window.mxMatrixClientPeg.get().createRoom(options)).room_id",
        options,
    )
    room = RoomId(made)
    await one.page.wait_for_function(
        "([room, bot]) => window.mxMatrixClientPeg.get().getRoom(room)?.getMember(bot)?.membership"
        ' === "join"',
        arg=[room, bot],
    )
    await one.look_at(room)
    return room


async def invite(one: Element, room: RoomId, user: UserId) -> None:
    """Invite somebody."""
    await one.page.evaluate(
        "([room, user]) => window.mxMatrixClientPeg.get().invite(room, user)", [room, user]
    )


async def take(one: Element, folder: Path | None, name: str) -> None:
    """Take a picture for the docs, if they are wanted."""
    if folder is not None:
        await one.page.screenshot(path=folder / f"element-{name}.png")
