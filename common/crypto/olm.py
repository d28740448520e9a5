"""Olm sessions with other devices, within one database transaction.

Source: Matrix specification v1.18, client-server API, "m.olm.v1.curve25519-aes-sha2".
Sessions live in memory for one transaction only: what a roll-back undoes, nobody remembers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import vodozemac

from common.clock import Clock
from common.crypto.account import OLM, AccountStore, OlmAccount
from common.crypto.canonical import Json, canonical_json, from_unpadded, unpadded
from common.crypto.devices import Device
from common.crypto.rows import in_lists
from common.crypto.sealing import Sealer, WrongPickleKeyError
from common.database.pool import Connection

MOST_SESSIONS = 5
"""Sessions kept for each device, the most recently used ones."""

PRE_KEY, NORMAL = 0, 1

# vodozemac tells a repeated message from a broken session by its text only.
_REPEATED = "message key with the given key can't be created"


class OlmReadError(Exception):
    """An Olm message could not be read; ``wedged`` if only a new session can mend that."""

    def __init__(self, reason: str, *, wedged: bool = False) -> None:
        super().__init__(reason)
        self.wedged = wedged


@dataclass
class _Session:
    olm: vodozemac.Session
    used_ms: int
    changed: bool = False


class OlmBox:
    """The Olm sessions that one transaction works with; ``save`` writes what changed."""

    def __init__(self, post: "OlmPost", conn: Connection, account: OlmAccount) -> None:
        self._post = post
        self._conn = conn
        self._sessions: dict[str, list[_Session]] = {}
        self._account_changed = False
        self.account = account

    async def load(self, identity_keys: Collection[str]) -> None:
        """Read the sessions with the devices that have these Curve25519 identity keys."""
        wanted = sorted(set(identity_keys) - self._sessions.keys())
        for key in wanted:
            self._sessions[key] = []
        for places, some in in_lists(wanted, first=3):
            rows = await self._conn.fetch(
                "SELECT sender_key, pickle, used_ms FROM crypto_olm_session"  # noqa: S608  # placeholders and constants only
                f" WHERE bot_id = $1 AND device_id = $2 AND sender_key IN {places}"
                " ORDER BY used_ms DESC, session_id",  # placeholders only
                *self.account.me,
                *some,
            )
            for row in rows:
                session = _Session(self._post.unpickle(row["pickle"]), int(row["used_ms"]))
                self._sessions[row["sender_key"]].append(session)

    def has_session(self, identity_key: str) -> bool:
        """Whether a loaded device can be written to."""
        return bool(self._sessions[identity_key])

    def decrypt(self, sender_key: str, kind: int, body: str) -> bytes:
        """Decrypt with the loaded sessions, or with a new one for a pre-key message.

        Raises:
            OlmReadError: it cannot be read.
        """
        try:
            if kind == PRE_KEY:
                message = vodozemac.PreKeyMessage.from_base64(body)
                return self._decrypt_pre_key(sender_key, message)
            normal = vodozemac.AnyOlmMessage.from_parts(NORMAL, from_unpadded(body))
        except ValueError as error:
            raise OlmReadError("not an Olm message") from error
        return self._decrypt_with(sender_key, self._sessions[sender_key], normal)

    def establish(self, device: Device, one_time_key: str) -> None:
        """Make a new session from a claimed key; raise ``ValueError`` if the key is none."""
        session = self.account.olm.create_outbound_session(
            vodozemac.Curve25519PublicKey.from_base64(device.curve25519),
            vodozemac.Curve25519PublicKey.from_base64(one_time_key),
        )
        self._add(device.curve25519, session)

    def encrypt(self, device: Device, event_type: str, content: Json) -> Json:
        """Return the content of an ``m.room.encrypted`` to-device event for this device."""
        me = self.account.me
        payload = {
            "type": event_type,
            "content": content,
            "sender": me.user_id,
            "recipient": device.address.user_id,
            "recipient_keys": {"ed25519": device.ed25519},
            "keys": {"ed25519": self.account.ed25519},
        }
        if self._post.signed_device_keys is not None:
            payload["sender_device_keys"] = self._post.signed_device_keys
        # The session from which a message came last is the one that the other side has.
        session = self._sessions[device.curve25519][0]
        session.changed = True
        kind, ciphertext = session.olm.encrypt(canonical_json(payload)).to_parts()
        return {
            "algorithm": OLM,
            "sender_key": self.account.curve25519,
            "ciphertext": {device.curve25519: {"type": kind, "body": unpadded(ciphertext)}},
        }

    async def save(self) -> None:
        """Write the sessions and the account as far as they changed."""
        changed, dropped = [], []
        for identity_key, sessions in self._sessions.items():
            for place, session in enumerate(sessions):
                name = (*self.account.me, identity_key, session.olm.session_id)
                if place >= MOST_SESSIONS:
                    dropped.append(name)
                elif session.changed:
                    changed.append((*name, self._post.pickle(session.olm), session.used_ms))
        await self._conn.executemany(
            "INSERT INTO crypto_olm_session"
            " (bot_id, device_id, sender_key, session_id, pickle, used_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6)"
            " ON CONFLICT (bot_id, device_id, sender_key, session_id)"
            " DO UPDATE SET pickle = excluded.pickle, used_ms = excluded.used_ms",
            changed,
        )
        await self._conn.executemany(
            "DELETE FROM crypto_olm_session WHERE bot_id = $1 AND device_id = $2"
            " AND sender_key = $3 AND session_id = $4",
            dropped,
        )
        if self._account_changed:
            await self._post.accounts.save(self._conn, self.account)

    def _decrypt_pre_key(self, sender_key: str, message: vodozemac.PreKeyMessage) -> bytes:
        session_id = message.session_id()
        known = [s for s in self._sessions[sender_key] if s.olm.session_id == session_id]
        if known:
            return self._decrypt_with(sender_key, known, message.to_any())
        identity_key = vodozemac.Curve25519PublicKey.from_base64(sender_key)
        # Its one-time key is used up: the object in memory differs from the row until saved.
        self._post.accounts.forget()
        self._account_changed = True
        try:
            session, plaintext = self.account.olm.create_inbound_session(identity_key, message)
        except ValueError as error:
            raise OlmReadError("no session can be made of it", wedged=True) from error
        self._add(sender_key, session)
        return plaintext

    def _decrypt_with(
        self, sender_key: str, sessions: Sequence[_Session], message: vodozemac.AnyOlmMessage
    ) -> bytes:
        repeated = False
        for session in sessions:
            try:
                plaintext = session.olm.decrypt(message)
            except ValueError as error:
                repeated = repeated or _REPEATED in str(error)
                continue
            session.changed = True
            self._to_front(sender_key, session)
            return plaintext
        if repeated:
            raise OlmReadError("a repeated message")
        raise OlmReadError("no session reads it", wedged=True)

    def _add(self, identity_key: str, olm: vodozemac.Session) -> None:
        session = _Session(olm, 0, changed=True)
        self._sessions[identity_key].append(session)
        self._to_front(identity_key, session)

    def _to_front(self, identity_key: str, session: _Session) -> None:
        sessions = self._sessions[identity_key]
        newest = max((other.used_ms for other in sessions), default=0)
        session.used_ms = max(self._post.clock.now_ms(), newest + 1)
        sessions.remove(session)
        sessions.insert(0, session)


class OlmPost:
    """Opens boxes; knows the device keys that are sent along (MSC4147), once there are any."""

    def __init__(self, accounts: AccountStore, sealer: Sealer, clock: Clock) -> None:
        self._key = sealer.pickle_key
        self.accounts = accounts
        self.clock = clock
        self.signed_device_keys: Json | None = None

    async def open(self, conn: Connection) -> OlmBox:
        """Return a box; it holds the account's lock until the transaction ends."""
        return OlmBox(self, conn, await self.accounts.load(conn))

    def pickle(self, session: vodozemac.Session) -> str:
        """Return a session encrypted for the database."""
        return session.pickle(self._key)

    def unpickle(self, pickle: str) -> vodozemac.Session:
        """Return a session of the database."""
        try:
            return vodozemac.Session.from_pickle(pickle, self._key)
        except ValueError as error:
            raise WrongPickleKeyError from error
