"""The process that decrypts for another one, which it is told to by its standard input.

It keeps nothing and decides nothing: what it is asked is a session, a message, and what that says.
It imports as little as it can, and ends when its input does.
"""

import sys
from typing import BinaryIO

import msgspec
import vodozemac

KEY_BYTES = 32
LENGTH_BYTES = 4


class Request(msgspec.Struct, array_like=True, gc=False):
    """What is to be done, in this order; sessions are named by numbers."""

    new: list[tuple[int, str]]
    """Sessions to be kept, as pickles."""
    messages: list[tuple[int, str]]
    """Which session each message is to be read with, and its ciphertext."""
    forget: list[int]
    """Sessions to be kept no longer."""


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer requests until there are no more."""
    key = source.read(KEY_BYTES)
    decoder, encoder = msgspec.msgpack.Decoder(Request), msgspec.msgpack.Encoder()
    sessions: dict[int, vodozemac.InboundGroupSession] = {}
    while len(length := source.read(LENGTH_BYTES)) == LENGTH_BYTES:
        request = decoder.decode(source.read(int.from_bytes(length, "big")))
        for number, pickle in request.new:
            sessions[number] = vodozemac.InboundGroupSession.from_pickle(pickle, key)
        answer = encoder.encode([_read(sessions[n], text) for n, text in request.messages])
        for number in request.forget:
            del sessions[number]
        target.write(len(answer).to_bytes(LENGTH_BYTES, "big"))
        target.write(answer)
        target.flush()


def _read(session: vodozemac.InboundGroupSession, ciphertext: str) -> bytes | None:
    try:
        return session.decrypt(vodozemac.MegolmMessage.from_base64(ciphertext)).plaintext
    except ValueError:
        return None  # whoever asked reads it again, and says why it cannot be read


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
