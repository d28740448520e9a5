"""Megolm sessions → the file that Matrix clients import room keys from, under a passphrase.

Source: Matrix specification v1.18, client-server API, "Key exports", "Key export format".
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from auditbot.reader.recheck.opening import Session
from common.config.secret import Secret

ROUNDS = 500_000
_BEGIN, _END = "-----BEGIN MEGOLM SESSION DATA-----", "-----END MEGOLM SESSION DATA-----"
_VERSION = b"\x01"
_SALT_BYTES = _IV_BYTES = 16
_KEY_BYTES = 32
_LINE = 96
_MEMBERS = (
    "algorithm",
    "forwarding_curve25519_key_chain",
    "room_id",
    "sender_claimed_keys",
    "sender_key",
    "session_id",
    "session_key",
)
"""Of the specification's ``ExportedSessionData``; what else the archive knows is left out."""


def key_file(sessions: Sequence[Session], passphrase: Secret) -> bytes:
    """Return the file; takes some tenths of a second."""
    clear = msgspec.json.encode(
        [{name: getattr(session, name) for name in _MEMBERS} for session in sessions]
    )
    salt = secrets.token_bytes(_SALT_BYTES)
    iv = bytearray(secrets.token_bytes(_IV_BYTES))
    iv[8] &= 0x7F  # bit 63: where a counter ends differs between libraries
    keys = hashlib.pbkdf2_hmac(
        "sha512", passphrase.reveal().encode(), salt, ROUNDS, 2 * _KEY_BYTES
    )
    cipher = Cipher(algorithms.AES(keys[:_KEY_BYTES]), modes.CTR(bytes(iv))).encryptor()
    sealed = cipher.update(clear) + cipher.finalize()
    body = _VERSION + salt + bytes(iv) + ROUNDS.to_bytes(4) + sealed
    text = base64.b64encode(body + hmac.digest(keys[_KEY_BYTES:], body, "sha256")).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()
