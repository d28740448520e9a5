"""Check an archive as docs/archive-format.md says, with nothing of the writer or the reader."""

import base64
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

Json = dict[str, Any]
Objects = Mapping[str, bytes]
Open = Callable[[bytes], bytes]


@dataclass
class Checked:
    """What a sound archive holds."""

    manifests: dict[str, list[Json]] = field(default_factory=dict)
    records: list[Json] = field(default_factory=list)
    """Those of objects that a manifest lists, in order."""
    unlisted: list[str] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)

    def of_kind(self, kind: str) -> list[Json]:
        return [record for record in self.records if record["kind"] == kind]


def read_directory(root: Path) -> dict[str, bytes]:
    """Return all objects of an archive in a directory."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".writing-")
    }


def check_archive(objects: Objects, *, open_body: Open | None = None) -> Checked:
    """Check everything; the first wrong thing is an ``AssertionError`` that names it."""
    checked = Checked()
    keys = _keys(objects, checked)
    numbers: dict[str, list[tuple[int, str]]] = {}
    for key in objects:
        if "/manifests/" in key and key.endswith(".json"):
            stream, _, number = key.rpartition("/")[2].removesuffix(".json").rpartition("-")
            numbers.setdefault(stream, []).append((int(number), key))
    removed = _removed(objects, keys)
    listed: set[str] = set()
    for stream in sorted(numbers):
        check = _Stream(objects, keys, removed, open_body)
        checked.manifests[stream] = check.run(sorted(numbers[stream]))
        checked.records.extend(check.records)
        listed |= check.listed
    checked.unlisted = [key for key in objects if "/events/" in key and key not in listed]
    return checked


def root_of(lines: Sequence[bytes]) -> bytes:
    """Return the root of RFC 6962, section 2.1, as it stands there."""
    if not lines:
        return hashlib.sha256(b"").digest()
    if len(lines) == 1:
        return hashlib.sha256(b"\0" + lines[0]).digest()
    half = 1 << ((len(lines) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root_of(lines[:half]) + root_of(lines[half:])).digest()


def lines_of(body: bytes) -> list[bytes]:
    """Return the lines of a segment, without their newlines."""
    if body.startswith(b"\x1f\x8b"):
        text = gzip.decompress(body)
        assert text.endswith(b"\n")
        return text[:-1].split(b"\n")
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True)
    text = reader.read()
    assert text.endswith(b"\n")
    return text[:-1].split(b"\n")


def _keys(objects: Objects, checked: Checked) -> dict[str, Ed25519PublicKey]:
    keys: dict[str, Ed25519PublicKey] = {}
    for name, body in objects.items():
        if "/keys/signing-" not in name:
            continue
        key = load_pem_public_key(body)
        assert isinstance(key, Ed25519PublicKey)
        fingerprint = hashlib.sha256(key.public_bytes_raw()).hexdigest()
        assert name.endswith(f"/keys/signing-{fingerprint[:16]}.pem")
        keys[fingerprint[:16]] = key
        checked.fingerprints.add(fingerprint)
    return keys


def _signed(objects: Objects, keys: Mapping[str, Ed25519PublicKey], key: str) -> Json:
    content: Json = json.loads(objects[key])
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical.encode() == objects[key], key
    signature = objects[f"{key.removesuffix('.json')}.sig"]
    keys[content["key_id"]].verify(signature, objects[key])
    return content


def _removed(objects: Objects, keys: Mapping[str, Ed25519PublicKey]) -> set[str]:
    removed: set[str] = set()
    for key in objects:
        if "/removals/" in key and key.endswith(".json"):
            content = _signed(objects, keys, key)
            removed.update(item["key"] for item in (*content["objects"], *content["media"]))
    return removed


@dataclass
class _Stream:
    """The check of one stream."""

    objects: Objects
    keys: Mapping[str, Ed25519PublicKey]
    removed: set[str]
    open_body: Open | None
    leaves: list[bytes] | None = field(default_factory=list)
    """None once some are not to be had."""
    next_seq: int = 0
    records: list[Json] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)

    def run(self, numbers: Sequence[tuple[int, str]]) -> list[Json]:
        manifests: list[Json] = []
        before: str | None = None
        for place, (number, key) in enumerate(numbers):
            manifest = _signed(self.objects, self.keys, key)
            assert number == place == manifest["number"], key
            if before is None:
                assert manifest["previous"] is None
            else:
                digest = hashlib.sha256(self.objects[before]).hexdigest()
                assert manifest["previous"] == {"key": before, "sha256": digest}, key
                assert manifest["from_ms"] == manifests[-1]["created_ms"]
                assert manifests[-1]["closed"] is None, f"{key} follows a closed one"
            self._content(manifest, key)
            _check_note(self.objects, self.keys, manifest)
            before = key
            manifests.append(manifest)
        return manifests

    def _content(self, manifest: Json, key: str) -> None:
        for item in manifest["objects"]:
            assert item["first_seq"] == self.next_seq, item["key"]
            self.next_seq = item["last_seq"] + 1
            self.listed.add(item["key"])
            lines = None if self._is_gone(item) else self._object(item)
            if self.leaves is not None:
                self.leaves = self.leaves + lines if lines is not None else None
        for item in (*manifest["media"], *manifest["statements"]):
            if not self._is_gone(item):
                self._bytes(item)
        assert manifest["tree"]["size"] == self.next_seq, key
        if self.leaves is not None:
            assert root_of(self.leaves).hex() == manifest["tree"]["root"], key

    def _is_gone(self, item: Json) -> bool:
        return item["key"] in self.removed and item["key"] not in self.objects

    def _bytes(self, item: Json) -> bytes:
        body = self.objects[item["key"]]
        assert len(body) == item["size"], item["key"]
        assert hashlib.sha256(body).hexdigest() == item["sha256"], item["key"]
        return body

    def _object(self, item: Json) -> list[bytes] | None:
        body = self._bytes(item)
        if item["key"].endswith(".age"):
            if self.open_body is None:
                return None
            body = self.open_body(body)
        lines = lines_of(body)
        records = [json.loads(line) for line in lines]
        seqs = list(range(item["first_seq"], item["last_seq"] + 1))
        assert [record["seq"] for record in records] == seqs, item["key"]
        assert len(lines) == item["records"]
        assert sum(len(line) + 1 for line in lines) == item["raw_size"]
        assert dict(Counter(record["kind"] for record in records)) == item["counts"]
        moments = [record["ts_received"] for record in records]
        assert (min(moments), max(moments)) == (item["first_ms"], item["last_ms"])
        hashes = [digest.hex() for digest in _range(item["first_seq"], lines)]
        assert hashes == item["hashes"], item["key"]
        self.records.extend(records)
        return lines


def _range(begin: int, lines: Sequence[bytes]) -> list[bytes]:
    """Return the compact range, from its definition."""
    found, at, end = [], begin, begin + len(lines)
    while at < end:
        size = 1
        while at % (size * 2) == 0 and at + size * 2 <= end:
            size *= 2
        found.append(root_of(lines[at - begin : at - begin + size]))
        at += size
    return found


def _check_note(objects: Objects, keys: Mapping[str, Ed25519PublicKey], manifest: Json) -> None:
    body = objects[manifest["checkpoint"]["key"]]
    assert hashlib.sha256(body).hexdigest() == manifest["checkpoint"]["sha256"]
    text, _, signature = body.decode().partition("\n\n")
    text += "\n"
    origin, size, root, _ = text.split("\n")
    assert origin == f"{manifest['server_name']}/steward/{manifest['stream']}"
    assert int(size) == manifest["tree"]["size"]
    assert base64.b64decode(root).hex() == manifest["tree"]["root"]
    dash, name, signed = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", origin)
    data = base64.b64decode(signed)
    for key in keys.values():
        named = f"{name}\n".encode() + b"\x01" + key.public_bytes_raw()
        if hashlib.sha256(named).digest()[:4] == data[:4]:
            key.verify(data[4:], text.encode())
            return
    raise AssertionError(f"{manifest['checkpoint']['key']} is signed by nobody")
