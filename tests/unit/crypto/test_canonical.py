"""Canonical JSON and signatures, with the specification's own examples (appendices)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.canonical import (
    NotCanonicalError,
    canonical_json,
    from_unpadded,
    is_signed,
    parse_object,
    sign_json,
    text_of,
    unpadded,
)
from common.crypto.cross_signing import SigningKey

VECTORS: list[tuple[dict[str, Any], str]] = [
    ({}, "{}"),
    ({"one": 1, "two": "Two"}, '{"one":1,"two":"Two"}'),
    ({"b": "2", "a": "1"}, '{"a":"1","b":"2"}'),
    (
        {
            "auth": {
                "success": True,
                "mxid": "@john.doe:example.com",
                "profile": {
                    "display_name": "John Doe",
                    "three_pids": [
                        {"medium": "email", "address": "john.doe@example.org"},
                        {"medium": "msisdn", "address": "123456789"},
                    ],
                },
            }
        },
        (
            '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe",'
            '"three_pids":[{"address":"john.doe@example.org","medium":"email"},'
            '{"address":"123456789","medium":"msisdn"}]},"success":true}}'
        ),
    ),
    ({"a": "日本語"}, '{"a":"日本語"}'),
    ({"本": 2, "日": 1}, '{"日":1,"本":2}'),
    ({"a": "\u65e5"}, '{"a":"日"}'),
    ({"a": None}, '{"a":null}'),
    ({"a": -0, "b": 10**10}, '{"a":0,"b":10000000000}'),
]

SEED = from_unpadded("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")

SIGNATURES = [
    (
        {},
        "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
    ),
    (
        {"one": 1, "two": "Two"},
        "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
    ),
]


@pytest.mark.parametrize(("value", "encoding"), VECTORS)
def test_canonical_json_is_the_specifications(value: dict[str, Any], encoding: str) -> None:
    assert canonical_json(value).decode() == encoding


@pytest.mark.parametrize(("value", "signature"), SIGNATURES)
def test_signatures_are_the_specifications(value: dict[str, Any], signature: str) -> None:
    key = SigningKey(SEED)

    signed = sign_json(value, user_id="domain", key_id="ed25519:1", sign=key.sign)

    assert signed == {**value, "signatures": {"domain": {"ed25519:1": signature}}}
    assert is_signed(signed, user_id="domain", key_id="ed25519:1", public_key=key.public)


@pytest.mark.parametrize(
    "value",
    [{"a": 1.0}, {"a": 2**53}, {"a": -(2**53)}, {"a": "\ud800"}, {"a": b""}, {1: 2}],
)
def test_what_has_no_canonical_form_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(NotCanonicalError):
        canonical_json(value)


def test_what_is_too_deep_is_refused() -> None:
    value: dict[str, Any] = {}
    for _ in range(10_000):
        value = {"a": value}

    with pytest.raises(NotCanonicalError):
        canonical_json(value)


def test_a_signature_covers_everything_but_itself_and_unsigned() -> None:
    key = SigningKey(SEED)
    names = {"user_id": "@a:b", "key_id": "ed25519:1"}
    signed = sign_json({"a": 1, "unsigned": {"x": 1}}, sign=key.sign, **names)

    assert is_signed({**signed, "unsigned": {}}, public_key=key.public, **names)
    assert not is_signed({**signed, "a": 2}, public_key=key.public, **names)
    assert not is_signed({**signed, "b": 2}, public_key=key.public, **names)
    assert not is_signed(signed, public_key=SigningKey(bytes(32)).public, **names)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), JSON), signatures=JSON, public_key=st.text())
def test_hostile_signatures_are_false_and_never_raise(
    value: dict[str, Any], signatures: object, public_key: str
) -> None:
    hostile = {**value, "signatures": signatures}

    assert not is_signed(hostile, user_id="u", key_id="k", public_key=public_key)
    assert not is_signed(
        {**value, "signatures": {"u": {"k": "AA"}}}, user_id="u", key_id="k", public_key="AA"
    )


@given(data=st.binary())
def test_base64_without_padding_comes_back(data: bytes) -> None:
    assert from_unpadded(unpadded(data)) == data
    assert "=" not in unpadded(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000 + b"}" * 100_000],
)
def test_what_is_no_object_is_none(data: bytes) -> None:
    assert parse_object(data) is None


def test_a_lone_surrogate_is_let_through_but_not_into_names() -> None:
    value = parse_object(b'{"a": "\\ud800", "b": "x\\u0000", "c": "ok"}')

    assert value is not None
    assert [text_of(value, key) for key in "abcd"] == [None, None, "ok", None]
