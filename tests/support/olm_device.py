"""A person's device made of nothing but keys: it sends what it is told to, when it is told to."""

import json
import secrets
from typing import Any

import vodozemac

from common.crypto.account import MEGOLM, OLM, OlmAccount
from common.crypto.canonical import unpadded
from common.crypto.port import DeviceAddress
from common.demo.accounts import Account
from common.ids import EventId, RoomId, UserId
from tests.support.clients import RawClient


class OlmDevice(RawClient):
    """A logged-in device that does each step of sending an encrypted message by itself."""

    def __init__(self, url: str, account: Account) -> None:
        super().__init__(url, account)
        self.olm = OlmAccount(
            DeviceAddress(account.user_id, account.device_id), vodozemac.Account()
        )
        self.group = vodozemac.GroupSession()
        self.first_key = self.group.session_key.to_base64()
        self._recipient: dict[str, Any] = {}
        self._olm_session: vodozemac.Session | None = None

    async def publish(self) -> None:
        """Upload the device's keys."""
        await self.client("POST", "/keys/upload", {"device_keys": self.olm.device_keys()})

    async def find(self, user: UserId) -> None:
        """Look up the one device of a user to whom keys are to be sent."""
        answer = await self.client("POST", "/keys/query", {"device_keys": {user: []}})
        (self._recipient,) = answer["device_keys"][user].values()

    async def claim(self) -> dict[str, Any]:
        """Claim a key of that device and make an Olm session with it; return the key."""
        user, device = self._recipient["user_id"], self._recipient["device_id"]
        body = {"one_time_keys": {user: {device: "signed_curve25519"}}}
        answer = await self.client("POST", "/keys/claim", body)
        (key,) = answer["one_time_keys"][user][device].values()
        self._olm_session = self.olm.olm.create_outbound_session(
            vodozemac.Curve25519PublicKey.from_base64(self._key("curve25519")),
            vodozemac.Curve25519PublicKey.from_base64(key["key"]),
        )
        return dict(key)

    async def share_key(self, room: RoomId) -> None:
        """Send the room key of our Megolm session, from its first message on."""
        content = {
            "algorithm": MEGOLM,
            "room_id": room,
            "session_id": self.group.session_id,
            "session_key": self.first_key,
        }
        messages = {
            self._recipient["user_id"]: {self._recipient["device_id"]: self.sealed(content)}
        }
        path = f"/sendToDevice/m.room.encrypted/{secrets.token_hex(8)}"
        await self.client("PUT", path, {"messages": messages})

    def sealed(self, content: dict[str, Any], event_type: str = "m.room_key") -> dict[str, Any]:
        """Return an event for the recipient, encrypted with Olm."""
        assert self._olm_session is not None, "claim a key first"
        payload = {
            "type": event_type,
            "content": content,
            "sender": self.user_id,
            "recipient": self._recipient["user_id"],
            "recipient_keys": {"ed25519": self._key("ed25519")},
            "keys": {"ed25519": self.olm.ed25519},
        }
        kind, ciphertext = self._olm_session.encrypt(json.dumps(payload).encode()).to_parts()
        message = {"type": kind, "body": unpadded(ciphertext)}
        return {
            "algorithm": OLM,
            "sender_key": self.olm.curve25519,
            "ciphertext": {self._key("curve25519"): message},
        }

    def encrypted(self, room: RoomId, text: str) -> dict[str, Any]:
        """Return the content of a text message, encrypted with our Megolm session."""
        payload = {
            "type": "m.room.message",
            "room_id": room,
            "content": {"msgtype": "m.text", "body": text},
        }
        return {
            "algorithm": MEGOLM,
            "ciphertext": self.group.encrypt(json.dumps(payload).encode()).to_base64(),
            "session_id": self.group.session_id,
            "sender_key": self.olm.curve25519,
            "device_id": self.account.device_id,
        }

    async def say(self, room: RoomId, text: str) -> EventId:
        """Send an encrypted text message."""
        return await self.send(room, "m.room.encrypted", self.encrypted(room, text))

    def _key(self, algorithm: str) -> str:
        return str(self._recipient["keys"][f"{algorithm}:{self._recipient['device_id']}"])
