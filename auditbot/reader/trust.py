"""Which keys may have signed what: from fingerprints that somebody wrote down, along rotations.

A key that lies in the archive is worth nothing by itself: whoever can write there can add one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from auditbot.reader.documents import Rotation
from auditbot.reader.signatures import PublicKey, key_of_base64


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A trusted key and the time in which it may sign."""

    key: PublicKey
    from_ms: int | None = None
    until_ms: int | None = None

    def covers(self, moment_ms: int) -> bool:
        """Return whether the key was in force at a moment."""
        return (self.from_ms is None or moment_ms >= self.from_ms) and (
            self.until_ms is None or moment_ms <= self.until_ms
        )


@dataclass(frozen=True, slots=True)
class SignedRotation:
    """A rotation as it lies in the archive."""

    key: str
    document: Rotation
    body: bytes
    signature: bytes


@dataclass
class Trust:
    """The trusted keys by their key id."""

    keys: dict[str, TrustedKey] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Rotations that no trusted key signed: key of the object and what is wrong with it."""

    def judge(self, key_id: str, moment_ms: int, body: bytes, signature: bytes) -> str | None:
        """Return what is wrong with a signature, ``None`` if nothing is."""
        known = self.keys.get(key_id)
        if known is None:
            return f"it is signed with the key {key_id}, which is not trusted"
        if not known.key.signed(body, signature):
            return "its signature is not that of its bytes: one of the two was changed"
        if not known.covers(moment_ms):
            return f"it is signed with the key {key_id} outside of the time in which that is valid"
        return None


def build_trust(
    anchors: Collection[PublicKey], rotations: Iterable[SignedRotation], server_name: str
) -> Trust:
    """Return what follows from the keys that somebody trusts.

    Args:
        anchors: the keys whose fingerprints were written down, or seen first
        rotations: what lies in the archive
        server_name: rotations of another server vouch for nothing
    """
    trust = Trust({key.key_id: TrustedKey(key) for key in anchors})
    waiting = {item.key: item for item in rotations}
    progress = True
    while progress:
        progress = False
        for name, item in list(waiting.items()):
            if item.document.old_key_id in trust.keys:
                del waiting[name]
                progress = True
                _follow(trust, item, server_name)
    for name, item in waiting.items():
        trust.faults.append(
            (name, f"it is by the key {item.document.old_key_id}, which is not trusted")
        )
    return trust


def _follow(trust: Trust, item: SignedRotation, server_name: str) -> None:
    document = item.document
    old = trust.keys[document.old_key_id]
    new = key_of_base64(document.new_public_key)
    fault = trust.judge(document.old_key_id, document.created_ms, item.body, item.signature)
    if fault is None and (new is None or new.key_id != document.new_key_id):
        fault = "the new key in it is not the one that it names"
    if fault is None and document.server_name != server_name:
        fault = "it speaks of another server"
    if fault is None and old.until_ms is not None:
        fault = f"the key {document.old_key_id} was replaced before, by another one"
    if fault is not None or new is None:
        trust.faults.append((item.key, str(fault)))
        return
    trust.keys[old.key.key_id] = TrustedKey(old.key, old.from_ms, document.created_ms)
    known: Mapping[str, TrustedKey] = trust.keys
    if new.key_id not in known:
        trust.keys[new.key_id] = TrustedKey(new, document.created_ms)
