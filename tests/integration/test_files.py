"""Files between the bots and a real client, and the other helpers of sending."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from common.crypto.attachments import AttachmentError
from common.crypto.canonical import Json
from common.database.pool import Database
from common.ids import RoomId
from common.matrix.client import MatrixError
from common.matrix.media import Media
from common.matrix.messenger import Messenger, OutgoingFile
from tests.integration.test_crypto_machine import Bot, alice, bot, homeserver
from tests.support.clients import NioClient
from tests.support.databases import open_database, sqlite_url

__all__ = ["alice", "bot", "homeserver"]

FILE = secrets.token_bytes(300_000)
PORTION = 70_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def portions(data: bytes = FILE) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PORTION):
        yield data[at : at + PORTION]


async def together(bot: Bot, alice: NioClient, *, encrypted: bool) -> RoomId:
    room = await alice.create_room(encrypted=encrypted, invite=[bot.client.user_id])
    await bot.client.join(room)
    await alice.wait_for_members(room, bot.client.user_id)
    return room


async def fetched(alice: NioClient, content_uri: str) -> tuple[bytes, str]:
    answer: Any = await alice.nio.download(content_uri)
    return bytes(answer.body), str(answer.content_type)


async def stored(alice: NioClient, data: bytes) -> str:
    answer, _ = await alice.nio.upload(lambda *_: data, filesize=len(data))
    return str(answer.content_uri)


async def read(media: Media, content: Json) -> bytes:
    return b"".join([portion async for portion in media.read_file(content)])


async def test_a_file_in_an_encrypted_room_is_read_by_a_real_client(
    bot: Bot, alice: NioClient
) -> None:
    room = await together(bot, alice, encrypted=True)
    file = OutgoingFile("report.pdf", portions(), len(FILE), "application/pdf")

    messenger = Messenger(bot.client, bot.machine)
    await messenger.send(room, await messenger.upload_file(room, file), txn_id="1")

    seen = await alice.wait_for_message(room, "report.pdf", sender=bot.client.user_id)
    assert seen.encrypted
    assert seen.content["msgtype"] == "m.file"
    assert seen.content["info"] == {"mimetype": "application/pdf", "size": len(FILE)}
    assert "url" not in seen.content
    block = seen.content["file"]
    ciphertext, content_type = await fetched(alice, block["url"])
    assert content_type == "application/octet-stream"
    assert (
        decrypt_attachment(ciphertext, block["key"]["k"], block["hashes"]["sha256"], block["iv"])
        == FILE
    )


async def test_a_picture_in_a_plain_room_is_sent_as_it_is(bot: Bot, alice: NioClient) -> None:
    room = await together(bot, alice, encrypted=False)
    file = OutgoingFile("chart.png", portions(), len(FILE), "image/png")

    messenger = Messenger(bot.client, bot.machine)
    await messenger.send(room, await messenger.upload_file(room, file), txn_id="1")

    seen = await alice.wait_for_message(room, "chart.png", sender=bot.client.user_id)
    assert (seen.content["msgtype"], "file" in seen.content) == ("m.image", False)
    assert await fetched(alice, seen.content["url"]) == (FILE, "image/png")


async def test_a_real_clients_encrypted_file_is_read_and_another_one_is_an_error(
    bot: Bot, alice: NioClient
) -> None:
    await together(bot, alice, encrypted=True)
    ciphertext, block = encrypt_attachment(FILE)
    media = Media(bot.client)

    good = {**block, "url": await stored(alice, ciphertext)}
    other = {**block, "url": await stored(alice, ciphertext[:-1] + b"x")}

    assert await read(media, {"file": good}) == FILE
    with pytest.raises(AttachmentError):
        await read(media, {"file": other})
    assert await read(media, {"url": good["url"]}) == ciphertext


@pytest.mark.parametrize("url", [None, 3, "http://a/b", "mxc://a", "mxc://a/../../x", "mxc:///x"])
async def test_an_address_that_is_none_is_refused(bot: Bot, url: object) -> None:
    with pytest.raises(AttachmentError):
        await read(Media(bot.client), {"url": url})


async def test_a_file_that_is_not_there_is_the_homeservers_refusal(bot: Bot) -> None:
    server = bot.client.user_id.partition(":")[2]

    with pytest.raises(MatrixError) as raised:
        await read(Media(bot.client), {"url": f"mxc://{server}/nothing"})

    assert raised.value.status == 404


async def test_reply_edit_and_reaction_in_an_encrypted_room(bot: Bot, alice: NioClient) -> None:
    room = await together(bot, alice, encrypted=True)
    messenger = Messenger(bot.client, bot.machine)
    question = await alice.send_text(room, "how are you?")

    answer = await messenger.reply(
        room, question, {"msgtype": "m.text", "body": "fine"}, txn_id="1"
    )
    await messenger.edit(room, answer, {"msgtype": "m.text", "body": "very well"}, txn_id="2")
    await messenger.react(room, question, "👋", txn_id="3")

    said = await alice.wait_for_message(room, "fine")
    assert (said.encrypted, said.event_id) == (True, answer)
    edited = await alice.wait_for_message(room, "* very well")
    assert edited.encrypted
    assert edited.content["m.new_content"] == {"msgtype": "m.text", "body": "very well"}

    def outer(kind: str) -> list[Json]:
        return [dict(seen.content) for seen in alice.timeline(room) if seen.type == kind]

    [reaction] = await alice.sync_until(lambda: outer("m.reaction"), "a reaction")
    relation = {"rel_type": "m.annotation", "event_id": question, "key": "👋"}
    assert reaction == {"m.relates_to": relation}
    path = f"/_matrix/client/v3/rooms/{room}/event/{answer}"
    event = await alice.request("GET", path)
    assert event["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": question}}
