"""The messages that every contender decrypts: the same ones, in the same order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import vodozemac

from common.clock import Clock
from common.config.secret import Secret
from common.crypto.account import MEGOLM
from common.crypto.port import EncryptedEvent, KeySource, SessionRef
from common.crypto.room_keys import RoomKey, RoomKeyStore
from common.crypto.sealing import Sealer
from common.database.pool import Database
from common.ids import UserId

BOT = UserId("@auditbot:example.org")
SENDER = "@alice:example.org"
PICKLE_KEY = Secret("a pickle key for benchmarks")


@dataclass(frozen=True)
class Workload:
    """Sessions and their messages; those of a session follow each other as in a busy room."""

    keys: Sequence[RoomKey]
    events: Sequence[EncryptedEvent]

    @property
    def session_keys(self) -> dict[str, str]:
        """Return the exported key of each session by its ID."""
        found = {}
        for key in self.keys:
            exported = key.session.export_at(0)
            found[key.ref.session_id] = exported.to_base64() if exported else ""
        return found

    @property
    def bodies(self) -> list[str]:
        """Return the events as a homeserver would send them, as JSON."""
        return [
            json.dumps(
                {
                    "type": "m.room.encrypted",
                    "event_id": event.event_id,
                    "room_id": event.room_id,
                    "sender": SENDER,
                    "origin_server_ts": 1,
                    "content": dict(event.content),
                }
            )
            for event in self.events
        ]


def make_workload(
    *, sessions: int, messages: int, payload_bytes: int = 1000, burst: int = 10
) -> Workload:
    """Make so many sessions with so many messages each, in bursts."""
    groups = [vodozemac.GroupSession() for _ in range(sessions)]
    keys = [_key(group, number) for number, group in enumerate(groups)]
    events: list[EncryptedEvent] = []
    for turn in range(messages // burst):
        for number, group in enumerate(groups):
            events.extend(
                _event(group, number, turn * burst + place, payload_bytes)
                for place in range(burst)
            )
    return Workload(keys, events)


async def store_keys(database: Database, clock: Clock, keys: Sequence[RoomKey]) -> None:
    """Put the sessions where the bot looks for them."""
    store = RoomKeyStore(BOT, Sealer(PICKLE_KEY), clock)
    async with database.transaction() as conn:
        await store.add(conn, keys)


def _key(group: vodozemac.GroupSession, number: int) -> RoomKey:
    ref = SessionRef(f"!room{number}", group.session_id)
    session = vodozemac.InboundGroupSession(group.session_key)
    return RoomKey(ref, SENDER, "c" * 43, "e" * 43, KeySource.DIRECT, session)


def _event(
    group: vodozemac.GroupSession, number: int, index: int, payload_bytes: int
) -> EncryptedEvent:
    room = f"!room{number}"
    content = {"msgtype": "m.text", "body": "x" * payload_bytes}
    payload = {"type": "m.room.message", "room_id": room, "content": content}
    return EncryptedEvent(
        f"${number}-{index}-{'e' * 36}",
        room,
        SENDER,
        {
            "algorithm": MEGOLM,
            "ciphertext": group.encrypt(json.dumps(payload).encode()).to_base64(),
            "session_id": group.session_id,
            "sender_key": "c" * 43,
            "device_id": "ALICE",
        },
    )
