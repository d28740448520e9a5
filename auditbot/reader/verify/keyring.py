"""From the keys in an archive, and what somebody trusts, to the keys that may have signed it."""

from collections.abc import Collection
from dataclasses import dataclass

from auditbot.reader.documents import LARGEST_DOCUMENT_BYTES, Manifest, Rotation
from auditbot.reader.layout import signature_key, signing_key_id
from auditbot.reader.parse import parse
from auditbot.reader.signatures import PublicKey, key_of_base64, key_of_pem
from auditbot.reader.trust import SignedRotation, Trust, build_trust
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.inventory import Inventory
from auditbot.storage.reading import MissingObjectError, Place, TooLargeError

_SIGNATURE_MOST = 1024
_PEM_MOST = 16 * 1024


@dataclass(frozen=True, slots=True)
class Keyring:
    """What may have signed the archive, and how that is known."""

    trust: Trust
    anchors: tuple[str, ...]
    """The fingerprints at which trust begins."""
    first_use: bool
    """Whether they were taken from the archive itself, for want of anything better."""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class LyingKeys:
    """The keys in one server's archive, whoever put them there.

    Args:
        inventory: what lies in the archive
        lying: the keys by their key ids
        rotations: what is said to vouch for them
        known: all of these keys by their fingerprints
        first_key_id: which one the first manifest names
        server_name: whose archive that says it is
    """

    inventory: Inventory
    lying: dict[str, PublicKey]
    rotations: list[SignedRotation]
    known: dict[str, PublicKey]
    first_key_id: str | None
    server_name: str


async def read_keys(place: Place, inventory: Inventory, findings: Findings) -> LyingKeys:
    """Read the keys in an archive; none of them is trusted yet.

    Args:
        place: where the archive is
        inventory: what lies there
        findings: is told what is wrong with keys and rotations
    """
    lying = await _lying_keys(place, inventory, findings)
    rotations = await _rotations(place, inventory, findings)
    known = {key.fingerprint: key for key in lying.values()}
    for rotation in rotations:
        new = key_of_base64(rotation.document.new_public_key)
        if new is not None:
            known.setdefault(new.fingerprint, new)
    manifest = await _first_manifest(place, inventory)
    return LyingKeys(
        inventory,
        lying,
        rotations,
        known,
        manifest.key_id if manifest else None,
        manifest.server_name if manifest else inventory.server,
    )


async def load_keyring(
    place: Place, inventory: Inventory, fingerprints: Collection[str], findings: Findings
) -> Keyring:
    """Read the archive's keys and find out which of them are trusted; see ``trusted_of``."""
    return trusted_of(await read_keys(place, inventory, findings), fingerprints, findings)


def trusted_of(keys: LyingKeys, fingerprints: Collection[str], findings: Findings) -> Keyring:
    """Return which of an archive's keys are trusted.

    Args:
        keys: those that lie there
        fingerprints: those that somebody wrote down or that were seen before; if there are
            none, the key of the first manifest is taken for the right one
        findings: is told what is wrong with keys and rotations
    """
    inventory, lying, known = keys.inventory, keys.lying, keys.known
    first_use = not fingerprints
    if first_use:
        first = keys.first_key_id
        fingerprints = [lying[first].fingerprint] if first in lying else []
    anchors = [known[text] for text in fingerprints if text in known]
    # Beside one that is here, another one may be of another server's archive at the same place.
    tell = findings.notice if anchors else findings.wrong
    for text in sorted(set(fingerprints) - set(known)):
        tell(
            "key_missing",
            f"v1/{inventory.server}/keys/",
            f"The key with the trusted fingerprint {text} is not in the archive: it was removed, "
            "or this is another archive. If it was typed wrong, give the right one with --key.",
        )
    trust = build_trust(anchors, keys.rotations, keys.server_name)
    _tell_faults(inventory, lying, trust, findings)
    return Keyring(trust, tuple(key.fingerprint for key in anchors), first_use, keys.server_name)


def _tell_faults(
    inventory: Inventory, lying: dict[str, PublicKey], trust: Trust, findings: Findings
) -> None:
    for key, fault in trust.faults:
        findings.wrong("rotation", key, f"This key rotation vouches for nothing: {fault}.")
    for key_id, key_there in lying.items():
        if key_id not in trust.keys:
            findings.wrong(
                "strange_key",
                f"v1/{inventory.server}/keys/signing-{key_id}.pem",
                f"Nothing that is trusted vouches for the key {key_id}. Fingerprint: "
                f"{key_there.fingerprint}",
            )


async def read_signed(place: Place, key: str) -> tuple[bytes, bytes]:
    """Return a document and its signature, which is empty if there is none.

    Raises:
        MissingObjectError: the document is not there.
        TooLargeError: it cannot be a document.
    """
    body = await place.get(key, most_bytes=LARGEST_DOCUMENT_BYTES)
    try:
        signature = await place.get(signature_key(key), most_bytes=_SIGNATURE_MOST)
    except (MissingObjectError, TooLargeError):
        signature = b""
    return body, signature


async def _lying_keys(
    place: Place, inventory: Inventory, findings: Findings
) -> dict[str, PublicKey]:
    found: dict[str, PublicKey] = {}
    for name in inventory.keys(["keys"]):
        key_id = signing_key_id(name)
        if key_id is None or not inventory.there(name):
            continue
        try:
            key = key_of_pem(await place.get(name, most_bytes=_PEM_MOST))
        except TooLargeError:
            key = None
        if key is None or key.key_id != key_id:
            findings.wrong("key_file", name, "It does not hold the key that its name says.")
        else:
            found[key_id] = key
    return found


async def _rotations(
    place: Place, inventory: Inventory, findings: Findings
) -> list[SignedRotation]:
    found = []
    for name in inventory.keys(["keys"]):
        if "/keys/rotation-" not in name or not name.endswith(".json"):
            continue
        if not inventory.there(name):
            continue
        body, signature = await read_signed(place, name)
        try:
            document = parse(body, type=Rotation)
        except ValueError:
            findings.wrong("rotation", name, "It is no key rotation.")
            continue
        if not name.endswith(f"/rotation-{document.new_key_id}.json"):
            findings.wrong("rotation", name, "It is of another key than its name says.")
            continue
        found.append(SignedRotation(name, document, body, signature))
    return found


async def _first_manifest(place: Place, inventory: Inventory) -> Manifest | None:
    for stream in inventory.streams:
        for _, key in inventory.manifests[stream]:
            try:
                body = await place.get(key, most_bytes=LARGEST_DOCUMENT_BYTES)
                return parse(body, type=Manifest)
            except (ValueError, MissingObjectError, TooLargeError):
                continue
    return None
