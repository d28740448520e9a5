"""A Megolm session of the archive and a ciphertext → what it says; pure.

The only module of the reader that knows the encryption library, and nothing of the writer's: what
one of the two gets wrong, the other one finds.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2", "Key export format".
"""

from dataclasses import dataclass

import msgspec
import vodozemac
from msgspec import structs

MEGOLM = "m.megolm.v1.aes-sha2"


class Session(msgspec.Struct, frozen=True):
    """A session as the archive keeps it.

    ``first_index`` is the first message that it opens; ``source`` is how the writer got it.
    """

    algorithm: str
    room_id: str
    session_id: str
    sender: str
    sender_key: str
    sender_claimed_keys: dict[str, str]
    source: str
    first_known_index: int
    first_index: int
    session_key: str
    stream: str
    seq: int
    forwarding_curve25519_key_chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a ciphertext says: exact bytes, and which message of its session it is."""

    payload: bytes
    index: int


class UnopenedError(ValueError):
    """A ciphertext does not open with a session; the sentence says why."""


def message_index(ciphertext: str) -> int:
    """Return which message of its session a ciphertext is, as it says itself.

    Raises:
        UnopenedError: it is no ciphertext.
    """
    return _message(ciphertext).message_index()


def opened(session: Session, ciphertext: str) -> Opened:
    """Decrypt, which checks the message's signature by the key that the session is named by.

    Raises:
        UnopenedError: it does not open.
    """
    message = _message(ciphertext)
    inbound = _inbound(session)
    try:
        found = inbound.decrypt(message)
    except ValueError as error:
        raise UnopenedError(f"it does not open with the key ({error})") from None
    return Opened(found.plaintext, found.message_index)


def advanced(session: Session, index: int) -> Session:
    """Return a session that opens nothing before a message, itself if it begins there or later.

    Raises:
        UnopenedError: its key is none, or of another session than it says.
    """
    inbound = _inbound(session)
    key = inbound.export_at(index) if index > inbound.first_known_index else None
    if key is None:
        return session
    return structs.replace(session, session_key=key.to_base64(), first_index=index)


def _inbound(session: Session) -> vodozemac.InboundGroupSession:
    if session.algorithm != MEGOLM:
        raise UnopenedError("the key is for another algorithm")
    try:
        exported = vodozemac.ExportedSessionKey(session.session_key)
        inbound = vodozemac.InboundGroupSession.import_session(exported)
    except ValueError:
        raise UnopenedError("the key is none") from None
    if inbound.session_id != session.session_id:
        raise UnopenedError("the key is of another session than it says")
    return inbound


def _message(ciphertext: str) -> vodozemac.MegolmMessage:
    try:
        return vodozemac.MegolmMessage.from_base64(ciphertext)
    except ValueError:
        raise UnopenedError("it is no ciphertext") from None
