"""The crypto machine against a real Synapse, with a real client on the other side."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import vodozemac

from common.clock import SystemClock
from common.config.secret import Secret
from common.crypto.account import MEGOLM, OLM
from common.crypto.canonical import Json, unpadded
from common.crypto.machine import CryptoMachine
from common.crypto.port import (
    Decrypted,
    DeviceGoneError,
    DeviceKeysDifferError,
    EncryptedEvent,
    IdentityTakenError,
    Reading,
    SessionRef,
    Trust,
    Undecryptable,
    Why,
)
from common.database.pool import Database
from common.demo.servers import Synapse, SynapseSpec
from common.ids import DeviceId, EventId, RoomId, UserId
from common.inbox.port import Entry, EntryKind, Source
from common.matrix.client import CLIENT, MatrixClient, connect, open_session, segment
from tests.support.clients import NioClient, RawClient
from tests.support.databases import open_database

AS_TOKEN = Secret(secrets.token_urlsafe(32))
POOL = 50
NO_ROOMS = json.dumps({"room": {"rooms": []}})
ALGORITHM = "signed_curve25519"


@pytest.fixture(scope="module")
async def homeserver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Synapse]:
    """A Synapse that knows an application service which it need not push to."""
    directory = tmp_path_factory.mktemp("crypto")
    registration = directory / "registration.json"
    registration.write_text(
        json.dumps(
            {
                "id": "crypto-test",
                "url": None,
                "as_token": AS_TOKEN.reveal(),
                "hs_token": secrets.token_urlsafe(32),
                "sender_localpart": "_silent",
                "rate_limited": False,
                "io.element.msc4190": True,
                "namespaces": {"users": [{"regex": "@bot-.*", "exclusive": True}]},
            }
        )
    )
    async with Synapse(
        SynapseSpec(directory=directory / "synapse", registrations=[registration])
    ) as server:
        yield server


@dataclass
class Bot:
    """A machine with the loops around it that a running Steward has."""

    client: MatrixClient
    database: Database
    since: str = ""
    machine: CryptoMachine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = self.start_again()

    def start_again(self, client: MatrixClient | None = None) -> CryptoMachine:
        self.machine = CryptoMachine(
            client=client or self.client,
            database=self.database,
            clock=SystemClock(),
            pickle_key=Secret("the pickle key of a test"),
            one_time_keys=POOL,
            session_cache=100,
        )
        return self.machine

    async def create_device(self, device_id: str) -> MatrixClient:
        """``PUT /devices/{id}`` as an application service may (MSC4190)."""
        plain = MatrixClient(self.client._api, self.client.user_id)
        await plain.request("PUT", f"{CLIENT}/v3/devices/{segment(device_id)}", {})
        return plain.with_device(DeviceId(device_id))

    async def sync(self) -> set[SessionRef]:
        """Take in what the homeserver holds for the device, until nothing more comes."""
        found: set[SessionRef] = set()
        while True:
            query = {"filter": NO_ROOMS, "timeout": "0"}
            if self.since:
                query["since"] = self.since
            answer = await self.client.request("GET", f"{CLIENT}/v3/sync", query=query)
            messages = answer.get("to_device", {}).get("events", [])
            async with self.database.transaction() as conn:
                found |= await self.machine.receive(conn, list(self._entries(answer)))
            self.since = answer["next_batch"]
            await self.machine.maintain()
            if not messages:
                return found

    def _entries(self, answer: Json) -> list[Entry]:
        bodies = [
            (EntryKind.TO_DEVICE, event) for event in answer.get("to_device", {}).get("events", [])
        ]
        if "device_lists" in answer:
            bodies.append((EntryKind.DEVICE_LIST, answer["device_lists"]))
        counts = {
            "device_id": self.client.device_id,
            "one_time": answer.get("device_one_time_keys_count", {}),
            "unused_fallback": answer.get("device_unused_fallback_key_types", []),
        }
        bodies.append((EntryKind.KEY_COUNTS, counts))
        now_ms = SystemClock().now_ms()
        return [
            Entry(
                n, kind, json.dumps(body).encode(), Source.SYNC, "s", self.client.user_id, now_ms
            )
            for n, (kind, body) in enumerate(bodies)
        ]

    async def read(self, room_id: RoomId, event_id: EventId) -> Reading:
        path = f"{CLIENT}/v3/rooms/{segment(room_id)}/event/{segment(event_id)}"
        event = await self.client.request("GET", path)
        assert event["type"] == "m.room.encrypted"
        sealed = EncryptedEvent(event_id, room_id, event["sender"], event["content"])
        async with self.database.transaction() as conn:
            [reading] = await self.machine.decrypt(conn, [sealed])
        return reading

    async def say(self, room_id: RoomId, text: str) -> EventId:
        members = await self.client.joined_members(room_id)
        content = await self.machine.encrypt(
            room_id,
            "m.room.message",
            {"msgtype": "m.text", "body": text},
            members=list(members),
            settings=await self.client.state_event(room_id, "m.room.encryption"),
        )
        return await self.client.send(room_id, "m.room.encrypted", content, secrets.token_hex(8))


@pytest.fixture
async def bot(homeserver: Synapse, database: Database) -> AsyncIterator[Bot]:
    """A new bot account with a new device, set up."""
    async with open_session() as session:
        sender = UserId(f"@_silent:{homeserver.server_name}")
        api = connect(
            homeserver_url=homeserver.url, as_token=AS_TOKEN, sender=sender, session=session
        )
        name = f"bot-{secrets.token_hex(4)}"
        user_id = UserId(f"@{name}:{homeserver.server_name}")
        await MatrixClient(api, user_id).request(
            "POST",
            f"{CLIENT}/v3/register",
            {"type": "m.login.application_service", "username": name, "inhibit_login": True},
        )
        client = MatrixClient(api, user_id, DeviceId("STEWARD"))
        bot = Bot(client, database)
        await bot.create_device("STEWARD")
        await bot.machine.set_up()
        yield bot


@pytest.fixture
async def alice(homeserver: Synapse, tmp_path: Path) -> AsyncIterator[NioClient]:
    account = await homeserver.register(f"alice-{secrets.token_hex(4)}")
    async with NioClient(homeserver.url, account, tmp_path / "nio") as client:
        yield client


def body_of(reading: Reading) -> str:
    assert isinstance(reading, Decrypted), reading
    return str(json.loads(reading.payload)["content"]["body"])


async def published(client: NioClient, user: UserId) -> Json:
    return await client.request(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {user: []}}
    )


async def test_a_conversation_with_a_real_client(bot: Bot, alice: NioClient) -> None:
    room = await alice.create_room(encrypted=True, invite=[bot.client.user_id])
    await bot.client.join(room)
    await alice.wait_for_members(room, bot.client.user_id)
    first = await alice.send_text(room, "hello bot")
    before = await bot.read(room, first)
    await bot.sync()
    await bot.machine.learn([alice.user_id])

    assert isinstance(before, Undecryptable)
    assert before.why is Why.NO_SESSION
    reading = await bot.read(room, first)
    assert body_of(reading) == "hello bot"
    assert isinstance(reading, Decrypted)
    # matrix-nio cannot cross-sign.
    assert reading.trust is Trust.UNVERIFIED_DEVICE
    assert reading.device_id == alice.account.device_id

    own = await bot.say(room, "hello alice")
    seen = await alice.wait_for_message(room, "hello alice", sender=bot.client.user_id)
    assert seen.encrypted
    mine = await bot.read(room, own)
    assert isinstance(mine, Decrypted)
    assert (body_of(mine), mine.trust) == ("hello alice", Trust.CROSS_SIGNED)

    # Across a restart, both ways, over the sessions that exist.
    bot.start_again()
    await bot.machine.set_up()
    second = await alice.send_text(room, "still there?")
    await bot.sync()
    assert body_of(await bot.read(room, second)) == "still there?"
    await bot.say(room, "still here")
    await alice.wait_for_message(room, "still here")


async def test_the_identity_is_public_and_a_second_start_changes_nothing(
    bot: Bot, alice: NioClient
) -> None:
    user = bot.client.user_id
    before = await published(alice, user)

    for _ in range(2):
        await bot.start_again().set_up()

    master = next(iter(before["master_keys"][user]["keys"].values()))
    self_signing = next(iter(before["self_signing_keys"][user]["keys"].values()))
    assert f"ed25519:{master}" in before["self_signing_keys"][user]["signatures"][user]
    device = before["device_keys"][user]["STEWARD"]
    assert set(device["signatures"][user]) == {"ed25519:STEWARD", f"ed25519:{self_signing}"}
    assert await published(alice, user) == before


@dataclass
class Stranger:
    """A bare Olm device that writes to the bot once."""

    person: RawClient
    olm: vodozemac.Account = field(default_factory=vodozemac.Account)
    group: vodozemac.GroupSession = field(default_factory=vodozemac.GroupSession)

    async def share(self, bot: Bot, keys: Json, room: RoomId) -> SessionRef:
        user, device = bot.client.user_id, "STEWARD"
        claim = {"one_time_keys": {user: {device: ALGORITHM}}}
        claimed = await self.person.client("POST", "/keys/claim", claim)
        [key] = claimed["one_time_keys"][user][device].values()
        session = self.olm.create_outbound_session(
            vodozemac.Curve25519PublicKey.from_base64(keys[f"curve25519:{device}"]),
            vodozemac.Curve25519PublicKey.from_base64(key["key"]),
        )
        payload = {
            "type": "m.room_key",
            "sender": self.person.user_id,
            "recipient": user,
            "recipient_keys": {"ed25519": keys[f"ed25519:{device}"]},
            "keys": {"ed25519": self.olm.ed25519_key.to_base64()},
            "content": {
                "algorithm": MEGOLM,
                "room_id": room,
                "session_id": self.group.session_id,
                "session_key": self.group.session_key.to_base64(),
            },
        }
        kind, ciphertext = session.encrypt(json.dumps(payload).encode()).to_parts()
        content: dict[str, Any] = {
            "algorithm": OLM,
            "sender_key": self.olm.curve25519_key.to_base64(),
            "ciphertext": {
                keys[f"curve25519:{device}"]: {"type": kind, "body": unpadded(ciphertext)}
            },
        }
        path = f"/sendToDevice/m.room.encrypted/{secrets.token_hex(8)}"
        await self.person.client("PUT", path, {"messages": {user: {device: content}}})
        return SessionRef(room, self.group.session_id)


async def test_more_claims_than_keys_and_every_first_message_is_read(
    bot: Bot, homeserver: Synapse
) -> None:
    async with await RawClient.register(homeserver) as person:
        answer = await person.client(
            "POST", "/keys/query", {"device_keys": {bot.client.user_id: []}}
        )
        keys = answer["device_keys"][bot.client.user_id]["STEWARD"]["keys"]
        room = RoomId("!anywhere")
        sent = {await Stranger(person).share(bot, keys, room) for _ in range(POOL + 10)}

        assert await bot.sync() == sent

        # Refilled, with a fresh fallback key, and those work too.
        # (With a new token: Synapse answers a repeated request from its cache.)
        query = {"filter": NO_ROOMS, "since": bot.since}
        state = await bot.client.request("GET", f"{CLIENT}/v3/sync", query=query)
        assert state["device_one_time_keys_count"][ALGORITHM] == POOL
        assert state["device_unused_fallback_key_types"] == [ALGORITHM]
        more = {await Stranger(person).share(bot, keys, room) for _ in range(POOL + 2)}
        assert await bot.sync() == more


async def test_a_deleted_device_is_noticed_and_a_new_one_takes_over(
    bot: Bot, alice: NioClient
) -> None:
    room = await alice.create_room(encrypted=True, invite=[bot.client.user_id])
    await bot.client.join(room)
    await alice.wait_for_members(room, bot.client.user_id)
    old = await alice.send_text(room, "before")
    await bot.sync()
    identity = (await published(alice, bot.client.user_id))["master_keys"]
    plain = MatrixClient(bot.client._api, bot.client.user_id)
    await plain.request("DELETE", f"{CLIENT}/v3/devices/STEWARD", {})

    with pytest.raises(DeviceGoneError):
        await bot.machine.set_up()

    bot.client, bot.since = await bot.create_device("STEWARD-2"), ""
    await bot.start_again().set_up()
    now = await published(alice, bot.client.user_id)
    assert now["master_keys"] == identity
    assert list(now["device_keys"][bot.client.user_id]) == ["STEWARD-2"]
    assert body_of(await bot.read(room, old)) == "before"
    await alice.sync()
    new = await alice.send_text(room, "after")
    await bot.sync()
    assert body_of(await bot.read(room, new)) == "after"


async def test_a_lost_database_overwrites_nothing(
    bot: Bot, alice: NioClient, tmp_path: Path
) -> None:
    before = await published(alice, bot.client.user_id)
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'empty.db'}"
        bot.database = await stack.enter_async_context(open_database(url))

        with pytest.raises(DeviceKeysDifferError):
            await bot.start_again().set_up()
        assert await published(alice, bot.client.user_id) == before
        with pytest.raises(IdentityTakenError, match="It was not replaced"):
            await bot.start_again(await bot.create_device("STEWARD-2")).set_up()
        now = await published(alice, bot.client.user_id)
        assert now["master_keys"] == before["master_keys"]


async def test_a_wedged_session_is_mended_with_a_real_client(bot: Bot, alice: NioClient) -> None:
    room = await alice.create_room(encrypted=True, invite=[bot.client.user_id])
    await bot.client.join(room)
    await alice.wait_for_members(room, bot.client.user_id)
    await alice.send_text(room, "one")
    await bot.sync()
    async with bot.database.transaction() as conn:
        await conn.execute("DELETE FROM crypto_olm_session")
    alice.nio.invalidate_outbound_session(room)
    lost = await alice.send_text(room, "two")
    await bot.sync()  # cannot read the key; sends m.dummy over a new session
    await alice.sync()
    alice.nio.invalidate_outbound_session(room)
    mended = await alice.send_text(room, "three")
    await bot.sync()

    assert isinstance(await bot.read(room, lost), Undecryptable)
    assert body_of(await bot.read(room, mended)) == "three"
