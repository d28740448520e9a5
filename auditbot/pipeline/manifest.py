"""What a manifest says, from what was found in the ledger; pure.

docs/archive-format.md is the specification.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditbot.pipeline.merkle import EMPTY, CompactRange, join
from auditbot.pipeline.seal import day_of, root_of
from auditbot.pipeline.segment import DAY_MS

LATEST = "state/head.json"
MOST_ROOMS = 1000
"""Rooms without the bot that are named one by one."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment as a manifest lists it."""

    key: str
    version_id: str | None
    size: int
    sha256: str
    raw_size: int
    tree: CompactRange
    first_ms: int
    last_ms: int
    counts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int | None]] | None = None
    """The retention classes of its records; ``None`` if all are of the default one."""

    def entry(self) -> Json:
        """Return its entry."""
        return {
            "key": self.key,
            "version_id": self.version_id,
            "size": self.size,
            "sha256": self.sha256,
            "raw_size": self.raw_size,
            "first_seq": self.tree.begin,
            "last_seq": self.tree.end - 1,
            "records": self.tree.end - self.tree.begin,
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "counts": dict(self.counts),
            "hashes": [digest.hex() for digest in self.tree.hashes],
            **({} if self.classes is None else {"classes": dict(self.classes)}),
        }


@dataclass(frozen=True, slots=True)
class Before:
    """Where the stream stood with the manifest before; the default is before the first."""

    number: int = -1
    key: str | None = None
    sha256: str | None = None
    created_ms: int = 0
    tree: CompactRange = EMPTY
    totals: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a manifest is about besides its objects: everything there is no rule for."""

    server_name: str
    stream: str
    created_ms: int
    from_ms: int
    extra: Mapping[str, Any]


def next_manifest(
    occasion: Occasion, before: Before, segments: Sequence[Listed]
) -> tuple[Json, Before]:
    """Return a manifest without its signature, and where the stream stands with it.

    The returned state has no digest yet: that is of the bytes, which name the key too.
    """
    tree = before.tree
    for segment in segments:
        tree = join(tree, segment.tree)
    number = before.number + 1
    totals = _totals(before.totals, segments)
    manifest: Json = {
        "v": 1,
        "type": "steward.manifest",
        "server_name": occasion.server_name,
        "stream": occasion.stream,
        "number": number,
        "previous": (None if before.key is None else {"key": before.key, "sha256": before.sha256}),
        "created_ms": occasion.created_ms,
        "from_ms": occasion.from_ms,
        "objects": [segment.entry() for segment in segments],
        "tree": {"size": tree.end, "root": tree.root.hex()},
        "totals": totals,
        **occasion.extra,
    }
    key = manifest_key(occasion, number)
    return manifest, Before(number, key, None, occasion.created_ms, tree, totals)


def manifest_key(occasion: Occasion, number: int) -> str:
    """Return where a manifest is stored."""
    day = day_of(occasion.created_ms // DAY_MS)
    root = root_of(occasion.server_name)
    return f"{root}manifests/dt={day}/{occasion.stream}-{number:08d}.json"


def signature_key(key: str) -> str:
    """Return where the signature of a document is stored."""
    return f"{key.removesuffix('.json')}.sig"


def note_key(server_name: str, stream: str, size: int) -> str:
    """Return where a checkpoint is stored."""
    return f"{root_of(server_name)}checkpoints/{stream}-{size:012d}.note"


def head(manifest: Mapping[str, Any], key: str, sha256: str, *, written_ms: int) -> bytes:
    """Return the hint to the newest manifest."""
    tree = manifest["tree"]
    return json.dumps(
        {
            "v": 1,
            "server_name": manifest["server_name"],
            "stream": manifest["stream"],
            "number": manifest["number"],
            "manifest": key,
            "manifest_sha256": sha256,
            "tree_size": tree["size"],
            "root": tree["root"],
            "written_ms": written_ms,
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def _totals(before: Mapping[str, Any], segments: Sequence[Listed]) -> Json:
    counts: Counter[str] = Counter(before.get("counts", {}))
    for segment in segments:
        counts.update(segment.counts)
    return {
        "records": before.get("records", 0) + sum(s.tree.end - s.tree.begin for s in segments),
        "objects": before.get("objects", 0) + len(segments),
        "bytes": before.get("bytes", 0) + sum(s.size for s in segments),
        "counts": dict(counts),
    }
