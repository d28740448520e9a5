"""The keys that a proof needs: the one that is trusted, and how it vouches for later ones."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from auditbot.reader.index.library import IndexedManifest
from auditbot.reader.layout import server_of
from auditbot.reader.parse import parse
from auditbot.reader.signatures import parse_note
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.inventory import Inventory
from auditbot.reader.verify.keyring import Keyring, load_keyring, read_signed
from auditbot.storage.reading import Place

_NOTE_MOST = 2**16

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Vouching:
    """What of an archive's keys goes with a proof."""

    keyring: Keyring
    document: Json


async def vouching(place: Place, server: str, fingerprints: tuple[str, ...]) -> Vouching:
    """Return the trusted key and the rotations from it.

    Nothing is taken at first sight here: what is handed over claims more than what is shown.

    Raises:
        DamagedArchiveError: the archive has no key that is trusted.
    """
    inventory = Inventory(server)
    for folder in ("keys", "manifests"):
        async for item in place.list(f"v1/{server}/{folder}/"):
            inventory.add(item)
    inventory.sort()
    keyring = await load_keyring(place, inventory, fingerprints, Findings())
    if keyring.first_use or not keyring.anchors:
        raise DamagedArchiveError("The archive has no key that is trusted: run verify.")
    anchor = next(
        known.key
        for known in keyring.trust.keys.values()
        if known.key.fingerprint == keyring.anchors[0]
    )
    rotations = []
    for key in inventory.keys(["keys"]):
        is_valid = key not in {name for name, _ in keyring.trust.faults}
        if "/keys/rotation-" in key and key.endswith(".json") and is_valid:
            body, signature = await read_signed(place, key)
            rotations.append((body, signature))
    ordered = _ordered(rotations)
    return Vouching(
        keyring,
        {
            "public_key": base64.b64encode(anchor.data).decode(),
            "fingerprint": anchor.fingerprint,
            "rotations": [
                {
                    "document": base64.b64encode(body).decode(),
                    "signature": base64.b64encode(signature).decode(),
                }
                for body, signature in ordered
            ],
        },
    )


def _ordered(rotations: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return rotations by their time, so that each follows the one that it needs."""

    def when(pair: tuple[bytes, bytes]) -> int:
        try:
            return int(parse(pair[0])["created_ms"])
        except (ValueError, KeyError, TypeError):
            return 0

    return sorted(rotations, key=when)


async def checkpoint(place: Place, head: IndexedManifest, keyring: Keyring) -> bytes:
    """Return the signed tree head that a manifest names.

    Raises:
        DamagedArchiveError: it is not the one, or no trusted key signed it.
    """
    if server_of(head.checkpoint) is None:
        raise DamagedArchiveError(f"“{head.checkpoint}” is not the key of a checkpoint.")
    body = await place.get(head.checkpoint, most_bytes=_NOTE_MOST)
    try:
        note = parse_note(body)
    except ValueError as error:
        raise DamagedArchiveError(f"“{head.checkpoint}” is no checkpoint: {error}.") from error
    is_same = hashlib.sha256(body).hexdigest() == head.checkpoint_sha256
    trusted = [known.key for known in keyring.trust.keys.values()]
    if not is_same or note.size != head.size or note.root.hex() != head.root:
        raise DamagedArchiveError(f"“{head.checkpoint}” was changed: run verify.")
    if not any(note.signed_by(key) for key in trusted):
        raise DamagedArchiveError(f"No trusted key signed “{head.checkpoint}”: run verify.")
    return body
