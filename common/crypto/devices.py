"""What ``POST /keys/query`` says of a user, checked: devices, identity, who signed what.

Source: Matrix specification v1.18, client-server API, "Tracking the device list for a user",
"Cross-signing". Pure; every value given in is hostile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import vodozemac

from common.crypto.canonical import Json, is_signed, object_of, text_of
from common.crypto.port import DeviceAddress
from common.ids import DeviceId, UserId


@dataclass(frozen=True, slots=True)
class Device:
    """A device's keys, in the spelling that all our comparisons use."""

    address: DeviceAddress
    ed25519: str
    curve25519: str


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """A user's cross-signing keys as far as they are consistent; ``""`` where there is none."""

    master: str = ""
    self_signing: str = ""


def parse_device(user_id: str, device_id: str, value: object) -> Device | None:
    """Return a device if the object speaks of it and carries its own valid signature."""
    if not isinstance(value, Mapping) or not text_of({"id": device_id}, "id"):
        return None
    if value.get("user_id") != user_id or value.get("device_id") != device_id:
        return None
    keys = object_of(value, "keys")
    ed25519 = _ed25519(keys.get(f"ed25519:{device_id}"))
    curve25519 = _curve25519(keys.get(f"curve25519:{device_id}"))
    if not ed25519 or not curve25519:
        return None
    if not is_signed(value, user_id=user_id, key_id=f"ed25519:{device_id}", public_key=ed25519):
        return None
    return Device(DeviceAddress(UserId(user_id), DeviceId(device_id)), ed25519, curve25519)


def parse_own_device(user_id: str, value: Mapping[str, Any]) -> Device | None:
    """Return the device that an object of its own making describes (MSC4147)."""
    device_id = value.get("device_id")
    return parse_device(user_id, device_id, value) if isinstance(device_id, str) else None


def parse_devices(user_id: str, answer: Json) -> dict[DeviceId, tuple[Device, Json]]:
    """Return the valid devices of a user in an answer, each with the object it came as."""
    found = {}
    for device_id, value in object_of(object_of(answer, "device_keys"), user_id).items():
        device = parse_device(user_id, device_id, value)
        if device is not None:
            found[device.address.device_id] = (device, value)
    return found


def parse_identity(user_id: str, answer: Json) -> PublicIdentity:
    """Return a user's identity in an answer; a self-signing key only if the master signs it."""
    master = cross_signing_key(user_id, "master", object_of(answer, "master_keys").get(user_id))
    value = object_of(answer, "self_signing_keys").get(user_id)
    self_signing = cross_signing_key(user_id, "self_signing", value)
    if not master:
        return PublicIdentity()
    if isinstance(value, Mapping) and is_signed(
        value, user_id=user_id, key_id=f"ed25519:{master}", public_key=master
    ):
        return PublicIdentity(master, self_signing)
    return PublicIdentity(master)


def cross_signing_key(user_id: str, usage: str, value: object) -> str:
    """Return the public key of a ``CrossSigningKey`` object for this usage, or ``""``."""
    if not isinstance(value, Mapping) or value.get("user_id") != user_id:
        return ""
    usages, keys = value.get("usage"), object_of(value, "keys")
    if not isinstance(usages, list) or usage not in usages or len(keys) != 1:
        return ""
    name, key = next(iter(keys.items()))
    public_key = _ed25519(key)
    return public_key if name == f"ed25519:{public_key}" else ""


def signer_of(device: Device, value: Mapping[str, Any], identity: PublicIdentity) -> str:
    """Return the master key of the identity that vouches for a device, or ``""``."""
    if not identity.self_signing or not is_signed(
        value,
        user_id=device.address.user_id,
        key_id=f"ed25519:{identity.self_signing}",
        public_key=identity.self_signing,
    ):
        return ""
    return identity.master


def _ed25519(value: object) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return vodozemac.Ed25519PublicKey.from_base64(value).to_base64()
    except ValueError:
        return ""


def _curve25519(value: object) -> str:
    if not isinstance(value, str):
        return ""
    try:
        return vodozemac.Curve25519PublicKey.from_base64(value).to_base64()
    except ValueError:
        return ""
