"""Checkpoints as signed notes; pure.

Source: C2SP, c2sp.org/signed-note and c2sp.org/tlog-checkpoint.
"""

import base64
import hashlib

_ED25519 = b"\x01"


def origin_of(server_name: str, stream: str) -> str:
    """Return the name of a stream's log, under which its key signs."""
    return f"{server_name}/steward/{stream}"


def text_of(origin: str, size: int, root: bytes) -> str:
    """Return what is signed."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def key_hash(name: str, public_key: bytes) -> bytes:
    """Return the four bytes that tell a reader which key a signature may be by."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def note_of(text: str, name: str, public_key: bytes, signature: bytes) -> bytes:
    """Return the note."""
    signed = base64.b64encode(key_hash(name, public_key) + signature).decode()
    return f"{text}\n\N{EM DASH} {name} {signed}\n".encode()
