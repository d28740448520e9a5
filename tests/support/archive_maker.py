"""Archives made from docs/archive-format.md alone, so that tests can make any, forged ones too.

Shares no code with Steward's writer and none with its reader: the format is written down a third
time here, and whoever is wrong disagrees with the other two.
"""

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOON = 1_764_000_000_000
"""2025-11-24T16:00:00Z."""
INTERVAL_MS = 900_000
STREAM = "20251124T160000Zaaaaaa"

Json = dict[str, Any]


def key_number(number: int) -> Ed25519PrivateKey:
    """Return a signing key that is always the same."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def fingerprint(key: Ed25519PrivateKey) -> str:
    return hashlib.sha256(public_bytes(key)).hexdigest()


def key_id(key: Ed25519PrivateKey) -> str:
    return fingerprint(key)[:16]


def canonical(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def day(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%d}"


def leaf(line: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:])).digest()


def cover(start: int, end: int) -> list[tuple[int, int]]:
    found = []
    while start < end:
        level = 0
        while start % (2 << level) == 0 and start + (2 << level) <= end:
            level += 1
        found.append((start, level))
        start += 1 << level
    return found


def compress(lines: Sequence[bytes], *, gzipped: bool = False) -> bytes:
    """Return frames, or gzip's members, of a few lines each."""
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True)
    pack = (lambda data: gzip.compress(data, mtime=0)) if gzipped else packer.compress
    return b"".join(
        pack(b"".join(line + b"\n" for line in lines[start : start + 3]))
        for start in range(0, len(lines), 3)
    )


@dataclass
class Maker:
    """Makes one stream's archive below ``root``."""

    root: Path
    server_name: str = "example.org"
    stream: str = STREAM
    key: Ed25519PrivateKey = field(default_factory=lambda: key_number(1))
    started_ms: int = NOON
    previous_stream: Json | None = None
    now_ms: int = NOON
    interval_ms: int = INTERVAL_MS
    gzipped: bool = False
    """Whether segments are compressed with gzip from now on."""
    place: str | None = "file:/srv/archive"
    """Where the writer says that it is."""
    versions: dict[str, str] = field(default_factory=dict)
    """What a store calls the versions of objects, by their keys."""
    lines: list[bytes] = field(default_factory=list)
    """All lines so far."""
    leaves: list[bytes] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    """What ``state/head.json`` has said."""
    keeps: dict[str, int | None] = field(default_factory=dict)
    """For how many days each retention class is kept."""
    _waiting: list[bytes] = field(default_factory=list)
    _objects: list[Json] = field(default_factory=list)
    _media: list[Json] = field(default_factory=list)
    _statements: list[Json] = field(default_factory=list)
    _description: list[Json] | None = None
    _last: tuple[str, bytes, int] | None = None
    _counts: Counter[str] = field(default_factory=Counter)
    _records: int = 0
    _bytes: int = 0
    _object_count: int = 0

    @property
    def key_id(self) -> str:
        return key_id(self.key)

    @property
    def base(self) -> str:
        return f"v1/{self.server_name}"

    def put(self, key: str, body: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def publish_key(self, key: Ed25519PrivateKey | None = None) -> None:
        key = key or self.key
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.put(f"{self.base}/keys/signing-{key_id(key)}.pem", pem)

    def record(self, record_kind: str = "event", /, **fields: object) -> Json:
        """Add a record; return it."""
        seq = len(self.lines)
        self.now_ms += 1000
        record: Json = {
            "v": 1,
            "kind": record_kind,
            "stream": self.stream,
            "seq": seq,
            "salt": base64.b64encode(hashlib.md5(b"%d" % seq).digest()).decode(),
            "of_seq": None,
            "ts_received": self.now_ms,
            "ts_origin": self.now_ms - 10,
            "server_name": self.server_name,
            **fields,
        }
        self.add_line(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())
        return record

    def add_line(self, line: bytes) -> None:
        self.lines.append(line)
        self.leaves.append(leaf(line))
        self._waiting.append(line)

    def message(self, body: str, sender: str = "@alice:example.org", /, **fields: object) -> Json:
        """Add a text message; return its record."""
        event_id = str(fields.pop("event_id", f"$event{len(self.lines)}"))
        content = {"msgtype": "m.text", "body": body}
        event = {"type": "m.room.message", "event_id": event_id, "content": content}
        known: Json = {
            "room_id": "!lobby:example.org",
            "room_name": "Lobby",
            "event_id": event_id,
            "event_type": "m.room.message",
            "state_key": None,
            "sender": sender,
            "sender_name": sender[1:].partition(":")[0].title(),
            "msgtype": "m.text",
            "body": body,
            "content_state": "as_sent",
            "enc_status": "clear",
            "event_json": json.dumps(event, ensure_ascii=False),
        }
        return self.record(**{**known, **fields})

    def packed(self, lines: list[bytes]) -> bytes:
        return compress(lines, gzipped=self.gzipped)

    def segment(self, suffix: str = "") -> str:
        """Seal what is waiting; return the object's key."""
        lines, self._waiting = self._waiting, []
        first = len(self.lines) - len(lines)
        records = [json.loads(line) for line in lines]
        received = [record["ts_received"] for record in records]
        key = (
            f"{self.base}/events/dt={day(received[0])}/"
            f"{self.stream}-{first:012d}.jsonl.{'gz' if self.gzipped else 'zst'}{suffix}"
        )
        body = self.packed(lines)
        self.put(key, body)
        counts = Counter(record["kind"] for record in records)
        self._objects.append(
            {
                "key": key,
                "version_id": self.versions.get(key),
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "raw_size": sum(len(line) + 1 for line in lines),
                "first_seq": first,
                "last_seq": len(self.lines) - 1,
                "records": len(lines),
                "first_ms": min(received),
                "last_ms": max(received),
                "counts": dict(counts),
                "hashes": [
                    root(self.leaves[start : start + (1 << level)]).hex()
                    for start, level in cover(first, len(self.lines))
                ],
                **self._classes(records),
            }
        )
        self._counts.update(counts)
        self._records += len(lines)
        self._bytes += len(body)
        self._object_count += 1
        self.segments.append(key)
        return key

    def _classes(self, records: Sequence[Json]) -> Json:
        counts = Counter(record.get("retention_class") or "default" for record in records)
        if set(counts) == {"default"}:
            return {}
        return {
            "classes": {
                name: {"records": count}
                | ({} if name == "default" else {"keep_days": self.keeps[name]})
                for name, count in counts.items()
            }
        }

    def describe(self) -> None:
        """Store what explains the archive; the first manifest lists it."""
        found = []
        for name in ("README.txt", "schema/record-1.json", "sql/duckdb.sql", "sql/athena.sql"):
            body = f"This is {name}.\n".encode()
            key = f"{self.base}/{name}"
            self.put(key, body)
            digest = hashlib.sha256(body).hexdigest()
            found.append({"key": key, "version_id": None, "size": len(body), "sha256": digest})
        self._description = found

    def file(self, body: bytes) -> tuple[str, str]:
        """Store an attachment; return its key and hash."""
        digest = hashlib.sha256(body).hexdigest()
        key = f"{self.base}/media/{digest[:2]}/{digest}"
        self.put(key, body)
        self._media.append(
            {"key": key, "version_id": self.versions.get(key), "size": len(body), "sha256": digest}
        )
        return key, digest

    def signed(self, key: str, document: Json, *, by: Ed25519PrivateKey | None = None) -> bytes:
        """Store a document with its signature; return its bytes."""
        body = canonical(document)
        self.put(key, body)
        self.put(key.replace(".json", ".sig"), (by or self.key).sign(body))
        return body

    def state(self, key: str, document: Json, *, by: Ed25519PrivateKey | None = None) -> None:
        """Store a statement that the next manifest lists."""
        body = self.signed(key, document, by=by)
        self._statements.append(
            {
                "key": key,
                "version_id": self.versions.get(key),
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
        )

    def rotate(self, new: Ed25519PrivateKey) -> None:
        """Sign with another key from now on, for which the present one vouches."""
        self.now_ms += 1000
        self.publish_key(new)
        self.state(
            f"{self.base}/keys/rotation-{key_id(new)}.json",
            {
                "v": 1,
                "type": "steward.key_rotation",
                "server_name": self.server_name,
                "created_ms": self.now_ms,
                "old_key_id": key_id(self.key),
                "new_key_id": key_id(new),
                "new_public_key": base64.b64encode(public_bytes(new)).decode(),
            },
        )
        self.key = new

    def remove(self, *keys: str, reason: str = "retention", media: Sequence[str] = ()) -> str:
        """Delete objects and attachments as a removal announces; return the removal's key."""
        listed = {item["key"]: item for item in self.all_objects()}
        self.now_ms += 1000
        name = f"{self.base}/removals/20251124T170000Z{len(self._statements):06d}.json"
        names = ("key", "version_id", "sha256", "size", "first_seq", "last_seq")
        self.state(
            name,
            {
                "v": 1,
                "type": "steward.removal",
                "id": name.rpartition("/")[2].removesuffix(".json"),
                "server_name": self.server_name,
                "created_ms": self.now_ms,
                "actor": "@officer:example.org",
                "reason": reason,
                "policy": {},
                "objects": [
                    {**{what: listed[key][what] for what in names}, "stream": self.stream}
                    for key in keys
                ],
                "media": [
                    {name: item[name] for name in ("key", "version_id", "sha256", "size")}
                    for item in self._all("media")
                    if item["key"] in media
                ],
                "key_id": key_id(self.key),
            },
        )
        for key in (*keys, *media):
            (self.root / key).unlink()
        return name

    def all_objects(self) -> list[Json]:
        """Return what the manifests, and the next one, list."""
        return [*self._all("objects"), *self._objects]

    def _all(self, what: str) -> list[Json]:
        return [
            item
            for key in self.manifests
            for item in json.loads((self.root / key).read_bytes())[what]
        ]

    def manifest(self, *, closed: Json | None = None, **changed: object) -> str:
        """Sign what came since the last one; return its key."""
        number = len(self.manifests)
        size = len(self.leaves) - len(self._waiting)
        tree = root(self.leaves[:size])
        self.now_ms += 1000
        key = f"{self.base}/manifests/dt={day(self.now_ms)}/{self.stream}-{number:08d}.json"
        note_key = f"{self.base}/checkpoints/{self.stream}-{size:012d}.note"
        if not (self.root / note_key).exists():
            self.put(note_key, self.note(size, tree))
        note = (self.root / note_key).read_bytes()
        document: Json = {
            "v": 1,
            "type": "steward.manifest",
            "server_name": self.server_name,
            "stream": self.stream,
            "number": number,
            "previous": None
            if self._last is None
            else {"key": self._last[0], "sha256": hashlib.sha256(self._last[1]).hexdigest()},
            "previous_stream": self.previous_stream if number == 0 else None,
            "created_ms": self.now_ms,
            "from_ms": self.started_ms if self._last is None else self._last[2],
            "process_started_ms": self.started_ms,
            "interval_ms": self.interval_ms,
            "place": self.place,
            "closed": closed,
            "objects": self._objects,
            "media": self._media,
            "statements": self._statements,
            "tree": {"size": size, "root": tree.hex()},
            "checkpoint": {"key": note_key, "sha256": hashlib.sha256(note).hexdigest()},
            "totals": {
                "records": self._records,
                "objects": self._object_count,
                "bytes": self._bytes,
                "counts": dict(self._counts),
            },
            "undecryptable_open": 0,
            "gaps_open": 0,
            "media_open": 0,
            "rooms": {"covered": 1, "not_covered": [], "not_covered_count": 0},
            "receipts": False,
            "encryption": None,
            "storage": {"kind": "directory", "object_lock": None},
            "clock_offset_ms": None,
            "config_sha256": "0" * 64,
            "software": {"name": "steward", "version": "0.1.0"},
            "key_id": key_id(self.key),
            **({} if self._description is None else {"description": self._description}),
            **changed,
        }
        self._description = None if self._description is None else []
        body = self.signed(key, document)
        self._last = (key, body, self.now_ms)
        self._objects, self._media, self._statements = [], [], []
        self.manifests.append(key)
        self.head()
        return key

    def note(self, size: int, tree: bytes, *, by: Ed25519PrivateKey | None = None) -> bytes:
        """Return a checkpoint."""
        signer = by or self.key
        origin = f"{self.server_name}/steward/{self.stream}"
        text = f"{origin}\n{size}\n{base64.b64encode(tree).decode()}\n".encode()
        hint = hashlib.sha256(origin.encode() + b"\n\x01" + public_bytes(signer)).digest()[:4]
        signature = base64.b64encode(hint + signer.sign(text)).decode()
        return text + f"\n— {origin} {signature}\n".encode()

    def head(self) -> None:
        """Write the hint to the newest manifest."""
        assert self._last is not None
        size = len(self.leaves) - len(self._waiting)
        body = canonical(
            {
                "v": 1,
                "server_name": self.server_name,
                "stream": self.stream,
                "number": len(self.manifests) - 1,
                "manifest": self._last[0],
                "manifest_sha256": hashlib.sha256(self._last[1]).hexdigest(),
                "tree_size": size,
                "root": root(self.leaves[:size]).hex(),
                "written_ms": self.now_ms,
            }
        )
        self.heads.append(body)
        self.put(f"{self.base}/state/head.json", body)


def make_archive(folder: Path, versions: dict[str, str] | None = None) -> Maker:
    """Make an archive of two segments before and one after a second manifest, with a file."""
    maker = Maker(folder, versions=versions or {})
    maker.publish_key()
    maker.describe()
    maker.record("control", actor="steward", action="export_started")
    maker.manifest()
    for number in range(7):
        maker.message(f"message {number}")
    maker.segment()
    for number in range(7, 10):
        maker.message(f"message {number}", sender="@bob:example.org")
    maker.segment()
    maker.manifest()
    key, digest = maker.file(b"a small file")
    first = maker.message(
        "plan.txt", msgtype="m.file", media_name="plan.txt", media_status="pending"
    )
    maker.record(
        "media",
        of_seq=first["seq"],
        media_status="stored",
        media_key=key,
        media_sha256=digest,
        media_size=12,
    )
    maker.segment()
    maker.manifest()
    return maker
