"""Encrypted files: vectors, another implementation, hostile descriptions, bounded portions."""

import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nio.crypto.attachments import decrypt_attachment, encrypt_attachment

from common.crypto.attachments import (
    AttachmentError,
    EncryptedFile,
    decrypt_stream,
    encrypt_stream,
)
from common.crypto.canonical import Json, from_unpadded
from tests.unit.crypto.test_verification import json_values


def described(k: str, iv: str, sha256: str) -> Json:
    return {
        "v": "v2",
        "url": "mxc://example.org/file",
        "key": {"kty": "oct", "alg": "A256CTR", "key_ops": ["decrypt"], "k": k, "ext": True},
        "iv": iv,
        "hashes": {"sha256": sha256},
    }


# Those of matrix-encrypt-attachment, which clients have in common; the specification has none.
VECTORS = [
    (
        described(
            "__________________________________________8",
            "//////////8AAAAAAAAAAA",
            "IOq7/dHHB+mfHfxlRY5XMeCWEwTPmlf4cJcgrkf6fVU",
        ),
        "zhtFStAeFx0s+9L/sSQO+WQMtldqYEHqTxMduJrCIpnkyer09kxJJuA4K+adQE4w+7jZe/vR9kIcqj9rOhDR8Q",
        b"alphanumerically" * 4,
    ),
    (
        described(
            "__________________________________________8",
            "//////////8AAAAAAAAAAA",
            "YzF08lARDdOCzJpzuSwsjTNlQc4pHxpdHcXiD/wpK6k",
        ),
        "5xJZTt5cQicm+9f4",
        b"Hello, World",
    ),
]


async def portions(data: Iterable[bytes]) -> AsyncIterator[bytes]:
    for portion in data:
        yield portion


async def decrypted(ciphertext: bytes, file: EncryptedFile, size: int = 7) -> bytes:
    cut = [ciphertext[at : at + size] for at in range(0, len(ciphertext), size)]
    return b"".join([portion async for portion in decrypt_stream(portions(cut), file)])


@pytest.mark.parametrize(("file", "ciphertext", "plaintext"), VECTORS, ids=["blocks", "short"])
async def test_vectors(file: Json, ciphertext: str, plaintext: bytes) -> None:
    assert await decrypted(from_unpadded(ciphertext), EncryptedFile.parse(file)) == plaintext


@given(cut=st.lists(st.binary(max_size=100), max_size=5))
async def test_another_implementation_reads_ours(cut: list[bytes]) -> None:
    stream = encrypt_stream(portions(cut))
    ciphertext = b"".join([portion async for portion in stream])
    file = stream.file("mxc://example.org/file").content()

    plaintext = decrypt_attachment(
        ciphertext, file["key"]["k"], file["hashes"]["sha256"], file["iv"]
    )

    assert plaintext == b"".join(cut)
    assert len(ciphertext) == len(plaintext)
    assert base64.b64decode(file["iv"] + "==")[8:] == bytes(8)
    parsed = EncryptedFile.parse(file)
    assert await decrypted(ciphertext, parsed) == plaintext


@given(plaintext=st.binary(max_size=200))
async def test_we_read_another_implementations(plaintext: bytes) -> None:
    ciphertext, file = encrypt_attachment(plaintext)

    parsed = EncryptedFile.parse({**file, "url": "mxc://example.org/file"})

    assert await decrypted(ciphertext, parsed) == plaintext


@pytest.mark.parametrize("place", [0, 63])
async def test_another_file_than_described_is_an_error(place: int) -> None:
    file, text, _ = VECTORS[0]
    ciphertext = bytearray(from_unpadded(text))
    ciphertext[place] ^= 1

    with pytest.raises(AttachmentError, match="not the one"):
        await decrypted(bytes(ciphertext), EncryptedFile.parse(file))
    with pytest.raises(AttachmentError, match="not the one"):
        await decrypted(from_unpadded(text)[:-1], EncryptedFile.parse(file))


async def test_portions_are_handed_on_as_they_come() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1000)

    ciphertext = aiter(encrypt_stream(endless()))
    plaintext = decrypt_stream(ciphertext, EncryptedFile.parse(VECTORS[0][0]))
    for number in range(1, 10):
        assert len(await anext(plaintext)) == 1000
        assert taken == number


async def test_a_file_that_was_not_read_to_its_end_cannot_be_described() -> None:
    stream = encrypt_stream(portions([b"one", b"two"]))
    await anext(aiter(stream))

    with pytest.raises(AttachmentError):
        stream.file("mxc://example.org/file")


@pytest.mark.parametrize(
    "change",
    [
        {"v": "v1"},
        {"url": None},
        {"iv": "AAAA"},
        {"hashes": {}},
        {"key": {"kty": "oct", "alg": "A256CTR", "k": "AAAA"}},
        {"key": "k"},
    ],
)
def test_a_malformed_description_is_refused(change: Json) -> None:
    with pytest.raises(AttachmentError):
        EncryptedFile.parse({**VECTORS[0][0], **change})


@given(value=json_values, name=st.sampled_from(["v", "url", "key", "iv", "hashes", "all"]))
def test_any_other_description_is_refused_or_read(value: Any, name: str) -> None:
    hostile = value if name == "all" else {**VECTORS[0][0], name: value}
    with suppress(AttachmentError):
        EncryptedFile.parse(hostile)
