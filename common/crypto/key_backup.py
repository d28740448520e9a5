"""Server-side key backup: what is written into it, and the requests.

Source: Matrix specification v1.18, client-server API, "Server-side key backups",
"m.megolm_backup.v1.curve25519-aes-sha2". Anybody who knows the public key can write into a
backup, the homeserver included, so what comes back says nothing about who sent a room key.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import vodozemac

from common.crypto.account import MEGOLM
from common.crypto.canonical import (
    Json,
    canonical_json,
    from_unpadded,
    object_of,
    parse_object,
    text_of,
    unpadded,
)
from common.crypto.port import KeySource, SessionRef
from common.crypto.room_keys import RoomKey
from common.crypto.wire import Requester, call
from common.matrix.client import CLIENT, MatrixError

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"

_KEY_BYTES = 32
_LONGEST_DATA = 20_000
_LONGEST_KEY = 1000
_PATH = f"{CLIENT}/v3/room_keys"
_UPLOAD_SECONDS = 120.0
_DOWNLOAD_SECONDS = 900.0
"""All room keys come in one answer, some 700 bytes each."""


class BackupKey:
    """The private key of a backup."""

    def __init__(self, raw: bytes) -> None:
        secret = vodozemac.Curve25519SecretKey.from_bytes(raw)
        self.raw = raw
        self.public = unpadded(secret.public_key().to_bytes())
        self._encryption = vodozemac.PkEncryption.from_key(secret.public_key())
        self._decryption = vodozemac.PkDecryption.from_key(secret)

    @classmethod
    def fresh(cls) -> "BackupKey":
        """Make a new key."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def parse(cls, secret: str | None) -> "BackupKey | None":
        """Return the key that the secret ``m.megolm_backup.v1`` holds, if it holds one."""
        try:
            raw = from_unpadded(secret or "")
        except ValueError:
            return None
        return cls(raw) if len(raw) == _KEY_BYTES else None

    @property
    def secret(self) -> str:
        """How the key is kept in secret storage."""
        return unpadded(self.raw)

    def encrypt(self, key: RoomKey) -> Json:
        """Return the ``KeyBackupData`` of a room key."""
        index = key.session.first_known_index
        exported = key.session.export_at(index)
        content = {
            "algorithm": MEGOLM,
            "forwarding_curve25519_key_chain": [],
            "sender_claimed_keys": {"ed25519": key.signing_key} if key.signing_key else {},
            "sender_key": key.sender_key,
            "session_key": exported.to_base64() if exported else "",
        }
        message = self._encryption.encrypt(canonical_json(content))
        return {
            "first_message_index": index,
            "forwarded_count": 0,
            "is_verified": False,
            # By name: vodozemac's to_base64() and from_base64() have different orders.
            "session_data": {
                "ciphertext": unpadded(message.ciphertext),
                "mac": unpadded(message.mac),
                "ephemeral": unpadded(message.ephemeral_key),
            },
        }

    def decrypt(self, ref: SessionRef, data: Json) -> RoomKey | None:
        """Return the room key of an untrusted ``KeyBackupData``, ``None`` if it is none."""
        sealed = object_of(data, "session_data")
        try:
            parts = [
                from_unpadded(text_of(sealed, name, longest=_LONGEST_DATA) or "")
                for name in ("ciphertext", "mac", "ephemeral")
            ]
            plaintext = self._decryption.decrypt(vodozemac.Message(*parts))
        except ValueError:
            return None
        return _room_key(ref, parse_object(plaintext) or {})


@dataclass(frozen=True)
class Version:
    """A backup on the homeserver, as untrusted as it came."""

    version: str
    public_key: str


class KeyBackup:
    """One account's backup on the homeserver."""

    def __init__(self, client: Requester) -> None:
        self._client = client

    async def current(self) -> Version | None:
        """Return the version in force, ``None`` if there is no backup."""
        try:
            answer = await call(self._client, "GET", f"{_PATH}/version")
        except MatrixError as error:
            if error.errcode == "M_NOT_FOUND":
                return None
            raise
        is_ours = answer.get("algorithm") == ALGORITHM
        public_key = text_of(object_of(answer, "auth_data"), "public_key") if is_ours else None
        return Version(str(answer.get("version", "")), (public_key or "").rstrip("="))

    async def create(self, auth_data: Json) -> str:
        """Begin a new version, which is in force from then on; return its name."""
        body = {"algorithm": ALGORITHM, "auth_data": auth_data}
        answer = await call(self._client, "POST", f"{_PATH}/version", body)
        return str(answer["version"])

    async def upload(self, version: str, keys: Mapping[SessionRef, Json]) -> None:
        """Add room keys; the homeserver keeps the better copy of each."""
        rooms: dict[str, dict[str, dict[str, Json]]] = {}
        for ref, data in keys.items():
            rooms.setdefault(ref.room_id, {"sessions": {}})["sessions"][ref.session_id] = data
        await call(
            self._client,
            "PUT",
            f"{_PATH}/keys",
            {"rooms": rooms},
            query={"version": version},
            timeout_seconds=_UPLOAD_SECONDS,
        )

    async def download(self, version: str) -> Iterator[tuple[SessionRef, Json]]:
        """Return every room key of a version, still encrypted."""
        answer = await call(
            self._client,
            "GET",
            f"{_PATH}/keys",
            query={"version": version},
            timeout_seconds=_DOWNLOAD_SECONDS,
        )
        return _entries(answer)


def _entries(answer: Json) -> Iterator[tuple[SessionRef, Json]]:
    rooms = object_of(answer, "rooms")
    for room_id in rooms:
        for session_id, data in object_of(object_of(rooms, room_id), "sessions").items():
            if isinstance(data, dict):
                yield SessionRef(room_id, session_id), data


def _room_key(ref: SessionRef, content: Json) -> RoomKey | None:
    names = {"room": ref.room_id, "session": ref.session_id}
    sender_key = text_of(content, "sender_key")
    session_key = text_of(content, "session_key", longest=_LONGEST_KEY)
    if content.get("algorithm") != MEGOLM or not (sender_key and session_key):
        return None
    if not all(text_of(names, name) for name in names):
        return None
    try:
        session = vodozemac.InboundGroupSession.import_session(
            vodozemac.ExportedSessionKey(session_key)
        )
    except ValueError:
        return None
    if session.session_id != ref.session_id:
        return None
    claimed = text_of(object_of(content, "sender_claimed_keys"), "ed25519") or ""
    return RoomKey(ref, "", sender_key, claimed, KeySource.BACKUP, session)
