"""Commands about files, typed by a real client to a running Steward, read back by downloading."""

import secrets
from collections.abc import AsyncIterator

import pytest

from common.demo.clients import NioClient, Seen
from common.ids import EventId, RoomId
from tests.integration.test_admin_commands import STOP, People, answered, direct_chat, people_of
from tests.integration.test_endpoints_media import downloads, share, upload
from tests.support.clients import RawClient
from tests.support.world import World


@pytest.fixture
async def people(world: World) -> AsyncIterator[People]:
    """A server admin and two ordinary people."""
    async with people_of(world) as three:
        yield three


@pytest.fixture
async def chat(people: People) -> RoomId:
    """The admin's direct chat with adminbot."""
    return await direct_chat(people, people.admin, encrypted=False)


@pytest.fixture
async def person(world: World) -> AsyncIterator[RawClient]:
    """Somebody who shares files."""
    async with await world.person() as client:
        yield client


async def do(people: People, chat: RoomId, text: str, *, typed: str = "") -> str:
    """Give a command, confirm it, and return what was said at the end."""
    admin = people.admin
    asked = await admin.send_text(chat, text)
    question = await people.answer(admin, chat, asked)
    if typed:
        assert f"confirm {typed}" in question.body, question.body
        await admin.send_text(chat, f"confirm {typed}")
    else:
        await _react(admin, chat, question.event_id)

    def found() -> Seen | None:
        # What all server admins are told, and how far it is, may come before the outcome.
        said = admin.messages(chat, sender=people.adminbot)
        later = said[said.index(question) + 1 :]
        outcomes = [one for one in later if answered(one) == asked and STOP not in one.body]
        return outcomes[0] if outcomes else None

    outcome = await admin.sync_until(found, f"what became of {asked}")
    assert outcome is not None
    return outcome.body


async def _react(admin: NioClient, chat: RoomId, event: EventId) -> EventId:
    relation = {"rel_type": "m.annotation", "event_id": event, "key": "✅"}
    return await admin.send(chat, "m.reaction", {"m.relates_to": relation})


async def test_a_file_is_quarantined_and_deleted(
    people: People, chat: RoomId, person: RawClient
) -> None:
    file = await upload(person, secrets.token_bytes(2048), "plan <b>.txt")
    mxc = f"mxc://{file[0]}/{file[1]}"

    async def ask(text: str) -> str:
        return (await people.ask(people.admin, chat, text)).body

    shown = await ask(f"media show {mxc}")
    assert "plan <b>.txt" in shown
    assert "2.0 KiB" in shown
    assert person.user_id in shown
    assert mxc in await ask(f"media user {person.user_id}")
    assert person.user_id in await ask(f"media top --name {person.user_id[1:10]}")

    assert "Done" in await do(people, chat, f"quarantine {mxc}")
    assert not await downloads(person, file)
    assert "already" in await ask(f"quarantine {mxc}")
    assert "is quarantined; “unquarantine”" in await ask(f"protect {mxc}")
    assert mxc in await ask("quarantine changes")
    assert "Done" in await do(people, chat, f"unquarantine {mxc}")
    assert await downloads(person, file)
    assert "not quarantined" in await ask(f"unquarantine {mxc}")
    assert "Protected" in await ask(f"protect {mxc}")
    assert "is protected" in await ask(f"quarantine {mxc}")
    assert "No longer" in await ask(f"unprotect {mxc}")

    assert "Done" in await do(people, chat, f"media delete {mxc}", typed="delete")
    assert not await downloads(person, file)
    assert "no copy" in await ask(f"media show {mxc}")
    assert "another server" in await ask("media delete mxc://elsewhere.org/abc")
    assert "neither a file" in await ask("media show something")
    assert "Say which file" in await ask("media show")


async def test_the_file_of_a_message_is_meant_by_a_link_or_a_reply(
    people: People, chat: RoomId, person: RawClient
) -> None:
    files = [await upload(person, secrets.token_bytes(10)) for _ in range(2)]
    room = await person.create_room(name="shared")
    await person.wait_for_members(room, people.adminbot)
    event = await share(person, room, files[0])
    assert "1 file" in (await people.ask(people.admin, chat, f"media room {room}")).body

    link = f"https://matrix.to/#/{room}/{event}"
    assert "Done" in await do(people, chat, f"quarantine {link}")
    assert not await downloads(person, files[0])

    # The admin shows it to the bot, and replies to that.
    content = {"msgtype": "m.file", "body": "x", "url": f"mxc://{files[1][0]}/{files[1][1]}"}
    seen = await people.admin.send(chat, "m.room.message", content)
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": seen}}}
    asked = await people.admin.send_text(chat, "media show", extra=reply)
    answer = await people.answer(people.admin, chat, asked)
    assert files[1][1] in answer.body


async def test_everything_of_a_person_and_of_a_room_is_quarantined(
    people: People, chat: RoomId, person: RawClient
) -> None:
    files = [await upload(person, secrets.token_bytes(10)) for _ in range(2)]
    room = await person.create_room(name="Lobby of files")
    await person.wait_for_members(room, people.adminbot)
    await share(person, room, files[0])

    assert "Done" in await do(people, chat, f"quarantine room {room}", typed="Lobby of files")
    assert [await downloads(person, file) for file in files] == [False, True]
    said = await do(people, chat, f"quarantine user {person.user_id}", typed=person.user_id)
    assert "Done" in said
    assert [await downloads(person, file) for file in files] == [False, False]
    own = (await people.ask(people.admin, chat, f"quarantine user {people.adminbot}")).body
    assert "Steward's own" in own


async def test_what_nobody_downloads_is_deleted(
    people: People, chat: RoomId, person: RawClient
) -> None:
    file = await upload(person, secrets.token_bytes(10))

    async def ask(text: str) -> str:
        return (await people.ask(people.admin, chat, text)).body

    assert "0 files were deleted" in await do(
        people, chat, "media delete --older-than 400d --larger-than 1M", typed="delete"
    )
    assert "0 files were deleted" in await do(people, chat, "media purge-remote --older-than 90d")
    assert await downloads(person, file)
    assert "at least one day" in await ask("media purge-remote --older-than 1h")
    assert "before there was Matrix" in await ask("media purge-remote --older-than 9999d")
    assert "not both" in await ask("media delete mxc://a/b --older-than 90d")
    assert "go with --older-than" in await ask("media delete mxc://a/b --larger-than 1M")

    report = await ask("storage report")
    assert "Files of this server" in report
    assert "Rooms with most state" in report
    assert "most state" in await ask("largest-rooms")
