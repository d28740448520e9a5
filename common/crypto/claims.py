"""One-time keys of other devices, claimed and checked.

Source: Matrix specification v1.18, client-server API, "POST /_matrix/client/v3/keys/claim".
"""

from collections.abc import Collection

from common.crypto.canonical import is_signed
from common.crypto.devices import Device
from common.crypto.wire import Wire


async def claim(wire: Wire, devices: Collection[Device]) -> dict[Device, str]:
    """Return one key of each device that has one, if the device itself signed it."""
    if not devices:
        return {}
    claimed = await wire.claim_keys([device.address for device in devices])
    keys = {}
    for device in devices:
        value = claimed.get(device.address, {})
        key = value.get("key")
        if isinstance(key, str) and is_signed(
            value,
            user_id=device.address.user_id,
            key_id=f"ed25519:{device.address.device_id}",
            public_key=device.ed25519,
        ):
            keys[device] = key
    return keys
