"""Events, entries and a scripted decryption, for the tests of the archive."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from common.crypto.opening import Early
from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    KeySource,
    Reading,
    Trust,
    Undecryptable,
    Why,
)
from common.database.pool import Connection
from common.inbox.port import Entry, EntryKind, Source

ROOM = "!room"
ALICE = "@alice:example.org"
NOON = 1_764_000_000_000


def event(event_id: str, content: object, **fields: object) -> bytes:
    """Return a room event of Alice's as the homeserver sends it."""
    whole: dict[str, object] = {
        "type": "m.room.message",
        "event_id": event_id,
        "room_id": ROOM,
        "sender": ALICE,
        "origin_server_ts": NOON,
        "content": content,
    }
    whole.update(fields)
    return json.dumps(whole).encode()


def message(event_id: str, body: str = "hello", **fields: object) -> bytes:
    """Return a text message."""
    return event(event_id, {"msgtype": "m.text", "body": body}, **fields)


def state(event_type: str, content: object, key: str = "", **fields: object) -> bytes:
    """Return a state event."""
    name = f"${event_type}{key}{json.dumps(content, sort_keys=True)}"
    return event(name, content, type=event_type, state_key=key, **fields)


def encrypted(event_id: str, session_id: str = "session", **fields: object) -> bytes:
    """Return an encrypted event."""
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": f"ciphertext of {event_id}",
        "session_id": session_id,
        "device_id": "DEVICE",
        "sender_key": "curve",
    }
    return event(event_id, content, type="m.room.encrypted", **fields)


def new_room(*members: str) -> list[bytes]:
    """Return the events of a room from its creation on."""
    return [
        state("m.room.create", {"room_version": "12"}),
        *(
            state("m.room.member", {"membership": "join", "displayname": name}, key=user)
            for user, name in ((ALICE, "Alice"), *((user, user) for user in members))
        ),
        state("m.room.name", {"name": "Lobby"}),
    ]


def entries(bodies: Sequence[bytes], received_ms: int = NOON + 5) -> list[Entry]:
    """Return the inbox's entries of these events."""
    return [
        Entry(
            position=position,
            kind=EntryKind.EVENT,
            body=body,
            source=Source.TRANSACTION,
            source_pos="txn1",
            recipient="",
            received_ms=received_ms,
        )
        for position, body in enumerate(bodies, start=1)
    ]


def decrypted(payload: bytes, session_id: str = "session") -> Decrypted:
    """Return a reading of a well-behaved device."""
    return Decrypted(
        payload=payload,
        session_id=session_id,
        sender_key="curve",
        device_id="DEVICE",
        index=3,
        trust=Trust.CROSS_SIGNED,
        key_source=KeySource.DIRECT,
    )


@dataclass
class ScriptedDecryption:
    """Decrypts what it holds the session of: our own port's double."""

    sessions: set[str] = field(default_factory=set)
    payloads: dict[str, bytes] = field(default_factory=dict)
    """What certain events say."""
    asked: list[str] = field(default_factory=list)
    attacks: dict[str, Why] = field(default_factory=dict)
    """What is wrong with certain events."""

    has_helpers = False

    async def open_early(self, events: Sequence[EncryptedEvent]) -> Sequence[Early | None]:
        return [None] * len(events)

    async def decrypt(
        self,
        connection: Connection,
        events: Sequence[EncryptedEvent],
        early: Sequence[Early | None] = (),
    ) -> list[Reading]:
        return [self._read(event) for event in events]

    def _read(self, event: EncryptedEvent) -> Reading:
        self.asked.append(event.event_id)
        session_id = event.content.get("session_id")
        if not isinstance(session_id, str):
            return Undecryptable(Why.MALFORMED)
        if event.event_id in self.attacks:
            return Undecryptable(self.attacks[event.event_id], session_id)
        if event.event_id in self.payloads:
            return decrypted(self.payloads[event.event_id], session_id)
        if session_id not in self.sessions:
            return Undecryptable(Why.NO_SESSION, session_id)
        inner: dict[str, Any] = {
            "type": "m.room.message",
            "room_id": event.room_id,
            "content": {"msgtype": "m.text", "body": f"clear text of {event.event_id}"},
        }
        return decrypted(json.dumps(inner).encode(), session_id)


@dataclass
class StoppedClock:
    """A clock that stands until it is moved."""

    moment_ms: int = NOON + 10

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.moment_ms / 1000, UTC)

    def now_ms(self) -> int:
        return self.moment_ms

    def monotonic(self) -> float:
        return self.moment_ms / 1000
