"""Secret storage: the specification's algorithms, and what hostile account data can do."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.canonical import Json, from_unpadded
from common.crypto.secret_storage import (
    ROUNDS,
    BrokenSecretError,
    Derivation,
    StorageKey,
    decode_recovery_key,
    decrypt,
    derivation_of,
    describe,
    encode_recovery_key,
    encrypt,
    fits,
    fresh_derivation,
    key_from,
)

# The key of RFC 7748, section 6.1, and how every Matrix client writes it.
RAW = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
RECOVERY_KEY = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d"

keys = st.binary(min_size=32, max_size=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_recovery_key_is_written_as_clients_write_it() -> None:
    assert encode_recovery_key(RAW) == RECOVERY_KEY


@pytest.mark.parametrize(
    "text", [RECOVERY_KEY, RECOVERY_KEY.replace(" ", ""), f"  {RECOVERY_KEY}\n"]
)
def test_blanks_in_a_recovery_key_do_not_matter(text: str) -> None:
    assert decode_recovery_key(text) == RAW


@given(key=keys)
def test_every_key_survives_being_written_down(key: bytes) -> None:
    assert decode_recovery_key(encode_recovery_key(key)) == key


@given(text=st.text(max_size=80))
def test_any_other_text_is_no_recovery_key(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever is wrong with it
        decode_recovery_key(text)


@given(place=st.integers(0, 47), digit=st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZ"))
def test_a_mistyped_recovery_key_is_another_key_or_none(place: int, digit: str) -> None:
    typed = RECOVERY_KEY.replace(" ", "")
    typed = typed[:place] + digit + typed[place + 1 :]
    description = describe(StorageKey("k", RAW), None)

    assert (key_from(typed, description) == RAW) == (typed == RECOVERY_KEY.replace(" ", ""))


def test_pbkdf2_is_the_specified_one() -> None:
    # RFC 6070's inputs with SHA-512, as published with its errata; 32 bytes of the output.
    derived = Derivation("salt", 1).derive("password")

    assert derived.hex() == "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
    assert ROUNDS == 500_000


def test_a_passphrase_opens_with_and_without_blanks_around_it() -> None:
    derivation = Derivation("some salt", 10)
    raw = derivation.derive("correct horse")
    description = describe(StorageKey("k", raw), derivation)

    assert key_from(" correct horse\n", description) == raw
    assert key_from(encode_recovery_key(raw), description) == raw
    assert key_from("wrong horse", description) is None
    assert key_from(RECOVERY_KEY, description) is None


def test_salts_differ() -> None:
    assert fresh_derivation().salt != fresh_derivation().salt


@given(key=keys, name=st.text(max_size=30), secret=st.text(max_size=100))
def test_a_secret_comes_back_under_its_own_name_and_key_only(
    key: bytes, name: str, secret: str
) -> None:
    sealed = encrypt(key, name, secret)

    assert decrypt(key, name, sealed) == secret
    with pytest.raises(BrokenSecretError):
        decrypt(key, f"{name}x", sealed)
    with pytest.raises(BrokenSecretError):
        decrypt(bytes([key[0] ^ 1]) + key[1:], name, sealed)


def test_bit_63_of_the_counter_is_zero() -> None:
    for _ in range(64):
        assert not from_unpadded(encrypt(RAW, "x", "y")["iv"])[8] & 0x80


@given(value=st.dictionaries(st.sampled_from(["iv", "mac", "ciphertext"]), json_values))
def test_no_account_data_opens_or_crashes_anything(value: Json) -> None:
    assert not fits(RAW, {**value, "algorithm": "m.secret_storage.v1.aes-hmac-sha2"})
    with pytest.raises(BrokenSecretError):
        decrypt(RAW, "m.megolm_backup.v1", value)


@given(said=json_values)
def test_a_hostile_derivation_is_not_followed(said: object) -> None:
    assert derivation_of({"passphrase": said}) is None


@pytest.mark.parametrize("rounds", [0, -1, 10**9, True, "500000", 1.5])
def test_absurd_numbers_of_rounds_are_refused(rounds: object) -> None:
    described = {"algorithm": "m.pbkdf2", "salt": "s", "iterations": rounds}

    assert derivation_of({"passphrase": described}) is None


def test_the_repr_of_a_key_does_not_show_it() -> None:
    raw = secrets.token_bytes(32)

    assert repr(raw) not in repr(StorageKey("k", raw))
