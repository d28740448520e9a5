"""What only a client with Element's own crypto shows: withheld keys, and a session that heals."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.config.secret import Secret
from common.crypto.machine import CryptoMachine
from common.crypto.port import Decrypted, Undecryptable
from common.crypto.sharing import ShareWith
from common.database.pool import Database
from common.demo.servers import Synapse
from common.ids import EventId, RoomId
from tests.integration.test_crypto_machine import Bot, body_of, bot, homeserver
from tests.support.clients import wait_for
from tests.support.databases import open_database, sqlite_url
from tests.support.js_client import JsClient

__all__ = ["bot", "homeserver"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def together(bot: Bot, person: JsClient) -> RoomId:
    room = await person.create_room(invite=[bot.client.user_id])
    await bot.client.join(room)
    await person.wait_for_members(room, bot.client.user_id)
    return room


async def test_an_unverified_device_is_told_and_a_verified_one_reads(
    homeserver: Synapse, bot: Bot, tmp_path: Path
) -> None:
    name = f"unverified-{secrets.token_hex(4)}"
    account = await homeserver.register(name)
    bot.machine = CryptoMachine(
        client=bot.client,
        database=bot.database,
        clock=SystemClock(),
        pickle_key=Secret("the pickle key of a test"),
        one_time_keys=50,
        session_cache=100,
        share_with=ShareWith.CROSS_SIGNED,
    )
    await bot.machine.set_up()
    async with JsClient(tmp_path / "js") as alice:
        await alice.log_in(homeserver.url, name, account.password)
        room = await together(bot, alice)
        await bot.sync()  # a first /sync reports no changed devices, the later ones do

        refused = await bot.say(room, "for verified devices")

        async def reason() -> str | None:
            found = [e for e in await alice.timeline(room) if e["event_id"] == refused]
            return str(found[0]["reason"]) if found and found[0]["failed"] else None

        async def told() -> bool:
            return await reason() == "MEGOLM_KEY_WITHHELD_FOR_UNVERIFIED_DEVICE"

        await wait_for(told, 60, "the reason at the client")
        await alice.call("bootstrapCrossSigning")

        async def heard() -> bool:
            await bot.sync()
            await bot.say(room, "for you too")
            seen = await alice.timeline(room)
            return any(event["content"].get("body") == "for you too" for event in seen)

        await wait_for(heard, 60, "a message that is read")


async def test_a_wedged_session_heals(homeserver: Synapse, bot: Bot, tmp_path: Path) -> None:
    async with await JsClient.register(homeserver, tmp_path) as alice:
        room = await together(bot, alice)
        first = await alice.send_text(room, "one")
        await bot.sync()
        assert body_of(await bot.read(room, first)) == "one"
        async with bot.database.transaction() as conn:
            await conn.execute("DELETE FROM crypto_olm_session")
        await alice.call("discardSession", roomId=room)
        lost = await alice.send_text(room, "two")
        await bot.sync()  # cannot read the key; sends m.dummy over a new session
        assert isinstance(await bot.read(room, lost), Undecryptable)

        read: list[EventId] = []

        async def healed() -> bool:
            event = await alice.send_text(room, "three")
            await bot.sync()
            if isinstance(await bot.read(room, event), Decrypted):
                read.append(event)
            return bool(read)

        await wait_for(healed, 60, "a message over the new session")
        assert body_of(await bot.read(room, read[0])) == "three"
