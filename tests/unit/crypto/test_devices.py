"""What a homeserver may say of a device, and what is believed of it."""

from typing import Any

import pytest

from common.crypto.canonical import sign_json
from common.crypto.devices import parse_device, parse_devices, parse_identity
from tests.unit.crypto.peers import Peer

BOB = "@bob:example.org"


def signed(alice: Peer, user: str, **changes: Any) -> dict[str, Any]:
    """Return alice's device keys with changes, signed by the device under a user's name."""
    value = {**alice.account.device_keys(), **changes}
    return sign_json(value, user_id=user, key_id="ed25519:ALICE", sign=alice.account.sign)


def test_a_valid_device_is_believed(alice: Peer) -> None:
    user = alice.me.user_id

    device = parse_device(user, "ALICE", signed(alice, user))

    assert device is not None
    assert (device.address, device.curve25519) == (alice.me, alice.account.curve25519)


def test_a_device_is_not_taken_for_another(alice: Peer) -> None:
    assert parse_device(BOB, "ALICE", signed(alice, BOB)) is None
    assert parse_device(alice.me.user_id, "OTHER", signed(alice, alice.me.user_id)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": None},
        {"keys": []},
        {"keys": {"ed25519:ALICE": 1, "curve25519:ALICE": 2}},
        {"keys": {"ed25519:ALICE": "short", "curve25519:ALICE": "é"}},
        {"user_id": 1},
        {"device_id": None},
        {"number": 1.5},
    ],
)
def test_hostile_device_keys_are_no_device(alice: Peer, changes: dict[str, Any]) -> None:
    value = {**signed(alice, alice.me.user_id), **changes}

    assert parse_device(alice.me.user_id, "ALICE", value) is None


@pytest.mark.parametrize("value", [None, [], 1, "x", {}, {"@alice:example.org": []}])
def test_hostile_answers_hold_nothing(value: Any) -> None:
    sections = ("device_keys", "master_keys", "self_signing_keys")
    answer = dict.fromkeys(sections, value)

    assert parse_devices("@alice:example.org", answer) == {}
    assert parse_identity("@alice:example.org", answer).master == ""
