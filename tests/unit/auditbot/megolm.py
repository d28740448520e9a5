"""A device that encrypts for real, and a decryption that has the keys it is given."""

import json
from dataclasses import dataclass, field

import vodozemac

from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    KeySource,
    Reading,
    SessionRef,
    Trust,
    Undecryptable,
    Why,
)
from common.crypto.room_keys import RoomKey
from tests.unit.auditbot.builders import ALICE, ROOM, ScriptedDecryption, event

SENDER_KEY = "curve+of+Alice"
SIGNING_KEY = "ed+of+Alice"
MEGOLM = "m.megolm.v1.aes-sha2"


@dataclass
class Device(ScriptedDecryption):
    """Alice's device, whose keys the bot has from the moment they are ``given``."""

    outbound: vodozemac.GroupSession = field(default_factory=vodozemac.GroupSession)
    copies: dict[SessionRef, RoomKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._beginning = self.outbound.session_key
        self._later: vodozemac.SessionKey | None = None

    def give(self, *, from_now: bool = False, source: KeySource = KeySource.DIRECT) -> SessionRef:
        """Give the bot the session from its beginning on, or from the next message on."""
        key = self.outbound.session_key if from_now else self._beginning
        ref = SessionRef(ROOM, self.outbound.session_id)
        session = vodozemac.InboundGroupSession(key)
        self.copies[ref] = RoomKey(ref, ALICE, SENDER_KEY, SIGNING_KEY, source, session)
        return ref

    def say(self, event_id: str, body: str, **fields: object) -> bytes:
        """Return an encrypted message."""
        inner = {
            "type": "m.room.message",
            "room_id": ROOM,
            "content": {"msgtype": "m.text", "body": body},
        }
        content = {
            "algorithm": MEGOLM,
            "ciphertext": self.outbound.encrypt(json.dumps(inner).encode()).to_base64(),
            "session_id": self.outbound.session_id,
        }
        return event(event_id, content, type="m.room.encrypted", **fields)

    def _read(self, event: EncryptedEvent) -> Reading:
        session_id = str(event.content.get("session_id"))
        copy = self.copies.get(SessionRef(event.room_id, session_id))
        if copy is None:
            return Undecryptable(Why.NO_SESSION, session_id)
        text = str(event.content["ciphertext"])
        message = vodozemac.MegolmMessage.from_base64(text)
        if message.message_index() < copy.first_index:
            return Undecryptable(Why.UNKNOWN_INDEX, session_id)
        found = copy.session.decrypt(message)
        return Decrypted(
            found.plaintext,
            session_id,
            copy.sender_key,
            "DEVICE",
            found.message_index,
            Trust.CROSS_SIGNED,
            copy.source,
            copy,
        )
