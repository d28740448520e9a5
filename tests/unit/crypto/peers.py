"""The other side for unit tests: a directory of keys behind our requests, and other devices."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import vodozemac

from common.config.secret import Secret
from common.crypto.account import MEGOLM, OLM, OlmAccount
from common.crypto.canonical import Json, from_unpadded, unpadded
from common.crypto.cross_signing import Identity, SigningKey
from common.crypto.machine import CryptoMachine
from common.crypto.port import DeviceAddress, EncryptedEvent, Reading, SessionRef
from common.crypto.sharing import ShareWith
from common.database.pool import Database
from common.errors import TransientError
from common.ids import DeviceId, RoomId, UserId
from common.inbox.port import Entry, EntryKind, Source
from common.matrix.client import MatrixError

BOT = DeviceAddress(UserId("@auditbot:example.org"), DeviceId("STEWARD"))
ROOM = RoomId("!room")


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def advance(self, *, seconds: float) -> None:
        self.ms += int(seconds * 1000)


@dataclass
class KeyServer:
    """What a homeserver keeps for devices; fails when it is told to."""

    devices: dict[str, dict[str, Json]] = field(default_factory=dict)
    one_time: dict[tuple[str, str], dict[str, Json]] = field(default_factory=dict)
    fallback: dict[tuple[str, str], dict[str, Json]] = field(default_factory=dict)
    cross_signing: dict[str, dict[str, Json]] = field(default_factory=dict)
    sent: list[tuple[DeviceAddress, DeviceAddress, Json]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    uploaded_ids: list[str] = field(default_factory=list)
    down_for: set[str] = field(default_factory=set)
    gone: set[DeviceAddress] = field(default_factory=set)
    most_one_time_keys: int = 10_000
    members: dict[str, list[Json]] = field(default_factory=dict)

    def handle(self, me: DeviceAddress, path: str, body: Json) -> Json:
        call = path.removeprefix("/_matrix/client/v3/").split("/m.")[0]
        self.calls[call] += 1
        if me in self.gone:
            raise MatrixError(400, "M_UNKNOWN_DEVICE", "Unknown device")
        if call in self.down_for:
            raise TransientError(f"{call} is away")
        if call.startswith("rooms/") and call.endswith("/messages"):
            return {"chunk": self.members.get(unquote(call.split("/")[1]), [])}
        return getattr(self, "_" + call.replace("/", "_"))(me, body)  # type: ignore[no-any-return]  # JSON of our own making

    def claim_one(self, device: DeviceAddress) -> Json:
        pool = self.one_time.get(device, {})
        if pool:
            name = next(iter(pool))
            return {name: pool.pop(name)}
        return self.fallback.get(device, {})

    def _keys_upload(self, me: DeviceAddress, body: Json) -> Json:
        if "device_keys" in body:
            self.devices.setdefault(me.user_id, {})[me.device_id] = body["device_keys"]
        one_time = body.get("one_time_keys", {})
        if len(self.one_time.get(me, {}) | one_time) > self.most_one_time_keys:
            raise MatrixError(400, "M_TOO_LARGE", "Too many one-time keys")
        self.uploaded_ids.extend(one_time)
        self.one_time.setdefault(me, {}).update(one_time)
        if body.get("fallback_keys"):
            self.fallback[me] = body["fallback_keys"]
        return {"one_time_key_counts": {"signed_curve25519": len(self.one_time[me])}}

    def _keys_query(self, me: DeviceAddress, body: Json) -> Json:
        users = body["device_keys"]
        answer: Json = {
            "device_keys": {user: self.devices.get(user, {}) for user in users},
            "failures": {},
        }
        for usage in ("master", "self_signing", "user_signing"):
            answer[f"{usage}_keys"] = {
                user: self.cross_signing[user][usage]
                for user in users
                if usage in self.cross_signing.get(user, {})
            }
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]  # JSON of our own making

    def _keys_claim(self, me: DeviceAddress, body: Json) -> Json:
        return {
            "one_time_keys": {
                user: {
                    device: self.claim_one(DeviceAddress(UserId(user), DeviceId(device)))
                    for device in wanted
                }
                for user, wanted in body["one_time_keys"].items()
            }
        }

    def _keys_device_signing_upload(self, me: DeviceAddress, body: Json) -> Json:
        self.cross_signing[me.user_id] = {
            key.removesuffix("_key"): value for key, value in body.items()
        }
        return {}

    def _keys_signatures_upload(self, me: DeviceAddress, body: Json) -> Json:
        for user, signed in body.items():
            for device, value in signed.items():
                self.devices[user][device] = value
        return {}

    def _sendToDevice(self, me: DeviceAddress, body: Json) -> Json:  # noqa: N802  # the endpoint's name
        for user, messages in body["messages"].items():
            for device, content in messages.items():
                self.sent.append((me, DeviceAddress(UserId(user), DeviceId(device)), content))
        return {}


@dataclass
class FakeRequester:
    """One device's way to the key server."""

    server: KeyServer
    me: DeviceAddress

    @property
    def user_id(self) -> UserId:
        return self.me.user_id

    @property
    def device_id(self) -> DeviceId:
        return self.me.device_id

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_seconds: float = 60,
    ) -> Json:
        return self.server.handle(self.me, path, body or {})


class Peer:
    """Another user's device, on vodozemac alone."""

    def __init__(self, server: KeyServer, user: str, device: str, *, keys: int = 20) -> None:
        self.server = server
        self.me = DeviceAddress(UserId(user), DeviceId(device))
        self.account = OlmAccount(self.me, vodozemac.Account())
        self.sessions: list[vodozemac.Session] = []
        self.group = vodozemac.GroupSession()
        self.account.generate_one_time_keys(keys)
        server.handle(
            self.me,
            "/_matrix/client/v3/keys/upload",
            {
                "device_keys": self.account.device_keys(),
                "one_time_keys": self.account.unpublished_one_time_keys(),
            },
        )
        self.account.olm.mark_keys_as_published()

    def cross_sign(self) -> Identity:
        """Make an identity and have it sign this device."""
        identity = Identity(self.me.user_id, *(SigningKey(bytes([n]) * 32) for n in (1, 2, 3)))
        self.sign_with(identity)
        return identity

    def sign_with(self, identity: Identity) -> None:
        self.server.cross_signing[self.me.user_id] = {
            key.removesuffix("_key"): value for key, value in identity.upload(self.account).items()
        }
        self.server.devices[self.me.user_id][self.me.device_id] = identity.sign_device(
            self.account.device_keys()
        )

    def start_session(self) -> vodozemac.Session:
        """Claim one of the bot's keys and make an Olm session with it."""
        bot = self.server.devices[BOT.user_id][BOT.device_id]["keys"]
        claimed = next(iter(self.server.claim_one(BOT).values()))
        session = self.account.olm.create_outbound_session(
            vodozemac.Curve25519PublicKey.from_base64(bot[f"curve25519:{BOT.device_id}"]),
            vodozemac.Curve25519PublicKey.from_base64(claimed["key"]),
        )
        self.sessions.insert(0, session)
        return session

    def olm(self, event_type: str, content: Json, **changes: Any) -> Json:
        """Return an Olm-encrypted to-device event for the bot; ``changes`` make it hostile."""
        session = self.sessions[0] if self.sessions else self.start_session()
        bot = self.server.devices[BOT.user_id][BOT.device_id]["keys"]
        payload = {
            "type": event_type,
            "content": content,
            "sender": self.me.user_id,
            "recipient": BOT.user_id,
            "recipient_keys": {"ed25519": bot[f"ed25519:{BOT.device_id}"]},
            "keys": {"ed25519": self.account.ed25519},
            **changes,
        }
        kind, ciphertext = session.encrypt(json.dumps(payload).encode()).to_parts()
        return {
            "type": "m.room.encrypted",
            "sender": self.me.user_id,
            "content": {
                "algorithm": OLM,
                "sender_key": self.account.curve25519,
                "ciphertext": {
                    bot[f"curve25519:{BOT.device_id}"]: {
                        "type": kind,
                        "body": unpadded(ciphertext),
                    }
                },
            },
        }

    def room_key(
        self, room: str = ROOM, *, session_key: str | None = None, session_id: str = ""
    ) -> Json:
        """Return the content of an ``m.room_key`` for the present state of our session."""
        return {
            "algorithm": MEGOLM,
            "room_id": room,
            "session_id": session_id or self.group.session_id,
            "session_key": session_key or self.group.session_key.to_base64(),
        }

    def message(
        self, text: str, *, event_id: str, room: str = ROOM, **changes: Any
    ) -> EncryptedEvent:
        """Return a room message at the next index; ``changes`` go into the payload."""
        payload = {
            "room_id": room,
            "type": "m.room.message",
            "content": {"body": text},
            **changes,
        }
        return self.sealed(json.dumps(payload).encode(), event_id=event_id, room=room)

    def sealed(self, payload: bytes, *, event_id: str, room: str = ROOM) -> EncryptedEvent:
        content = {
            "algorithm": MEGOLM,
            "ciphertext": self.group.encrypt(payload).to_base64(),
            "session_id": self.group.session_id,
            "sender_key": self.account.curve25519,
            "device_id": self.me.device_id,
        }
        return EncryptedEvent(event_id, room, self.me.user_id, content)

    def read_olm(self, content: Json) -> Json:
        """Decrypt what the bot sent to this device."""
        part = content["ciphertext"][self.account.curve25519]
        message = vodozemac.AnyOlmMessage.from_parts(part["type"], from_unpadded(part["body"]))
        for session in self.sessions:
            try:
                return json.loads(session.decrypt(message))  # type: ignore[no-any-return]  # JSON of the test's peer
            except ValueError:
                continue
        pre_key = message.to_pre_key()
        assert pre_key is not None
        session, plaintext = self.account.olm.create_inbound_session(
            vodozemac.Curve25519PublicKey.from_base64(content["sender_key"]), pre_key
        )
        self.sessions.insert(0, session)
        return json.loads(plaintext)  # type: ignore[no-any-return]  # JSON of the test's peer

    def inbox(self) -> list[Json]:
        """Take and read everything that was sent to this device, encrypted."""
        return [self.read_olm(content) for content in self._take(encrypted=True)]

    def notices(self) -> list[Json]:
        """Take what was sent to this device in clear text."""
        return self._take(encrypted=False)

    def _take(self, *, encrypted: bool) -> list[Json]:
        mine = [
            item
            for item in self.server.sent
            if item[1] == self.me and ("ciphertext" in item[2]) is encrypted
        ]
        self.server.sent[:] = [item for item in self.server.sent if item not in mine]
        return [content for _, _, content in mine]


class Bot:
    """The machine under test, with transactions around its calls."""

    def __init__(
        self,
        database: Database,
        server: KeyServer,
        clock: FakeClock,
        *,
        me: DeviceAddress = BOT,
        pickle_key: str = "a key",
        one_time_keys: int = 60,
        session_cache: int = 100,
        share_with: ShareWith = ShareWith.ALL,
    ) -> None:
        self.database = database
        self.server = server
        self.clock = clock
        self.machine = CryptoMachine(
            client=FakeRequester(server, me),
            database=database,
            clock=clock,
            pickle_key=Secret(pickle_key),
            one_time_keys=one_time_keys,
            session_cache=session_cache,
            share_with=share_with,
        )

    async def receive(
        self, *events: Json, kind: EntryKind = EntryKind.TO_DEVICE
    ) -> set[SessionRef]:
        return await self.receive_raw(*(json.dumps(event).encode() for event in events), kind=kind)

    async def receive_raw(
        self, *bodies: bytes, kind: EntryKind = EntryKind.TO_DEVICE, recipient: str = BOT.user_id
    ) -> set[SessionRef]:
        entries = [self.entry(body, kind=kind, recipient=recipient) for body in bodies]
        async with self.database.transaction() as conn:
            return set(await self.machine.receive(conn, entries))

    def entry(
        self,
        body: bytes,
        *,
        kind: EntryKind = EntryKind.TO_DEVICE,
        recipient: str = BOT.user_id,
    ) -> Entry:
        return Entry(1, kind, body, Source.SYNC, "s1", recipient, self.clock.now_ms())

    async def decrypt(self, *events: EncryptedEvent) -> list[Reading]:
        async with self.database.transaction() as conn:
            return await self.machine.decrypt(conn, events)

    async def encrypt(self, text: str, members: list[Peer], **settings: Any) -> Json:
        return await self.machine.encrypt(
            ROOM,
            "m.room.message",
            {"msgtype": "m.text", "body": text},
            members=[BOT.user_id, *(peer.me.user_id for peer in members)],
            settings={"algorithm": MEGOLM, **settings},
        )


class Cut(Exception):  # noqa: N818  # not an error: a crash
    """The process ended here."""


@asynccontextmanager
async def rolled_back(database: Database) -> AsyncIterator[Any]:
    """A transaction that does not survive."""
    with suppress(Cut):
        async with database.transaction() as conn:
            yield conn
            raise Cut
