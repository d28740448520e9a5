"""One stream's manifests in order → whether they form a chain and a tree; pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from auditbot.reader.documents import ListedSegment, Manifest
from auditbot.reader.layout import (
    NEWER,
    VERSION,
    ManifestKey,
    day_of,
    is_otherwise_packed,
    segment_key,
    server_folder,
)
from auditbot.reader.signatures import Note
from auditbot.reader.times import MOST_INTERVALS, SLACK_MS, moment, span
from auditbot.reader.tree import HASH_BYTES, Range, heights
from auditbot.reader.verify.findings import Finding, Severity


@dataclass
class Chain:
    """A stream as far as its manifests were read."""

    stream: str
    last: Manifest | None = None
    last_key: str = ""
    last_sha256: str = ""
    first: Manifest | None = None
    range: Range | None = field(default_factory=lambda: Range(0, 0, ()))
    """What all objects so far give; ``None`` once it cannot be told."""
    next_seq: int = 0
    broken: bool = False
    """Whether a manifest is missing, so that sums cannot be compared any more."""
    records: int = 0
    objects: int = 0
    bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)

    def follow(
        self, named: ManifestKey, key: str, manifest: Manifest, sha256: str
    ) -> Iterator[Finding]:
        """Yield what is wrong with the next manifest, and go on from it."""
        yield from self._identity(named, key, manifest)
        yield from self._succession(key, manifest, named.number)
        for item in manifest.objects:
            yield from self._object(key, manifest, item)
        yield from self._sums(key, manifest)
        if self.first is None:
            self.first = manifest
        self.last, self.last_key, self.last_sha256 = manifest, key, sha256

    def check_note(self, key: str, note: Note, manifest: Manifest) -> Iterator[Finding]:
        """Yield what a checkpoint says otherwise than its manifest."""
        origin = f"{manifest.server_name}/steward/{manifest.stream}"
        if note.origin != origin:
            yield Finding("checkpoint", key, f"It is of “{note.origin}”, not of “{origin}”.")
        if note.size != manifest.tree.size or note.root.hex() != manifest.tree.root:
            yield Finding(
                "checkpoint", key, "Its size and root are not those of the manifest that names it."
            )

    def _identity(self, named: ManifestKey, key: str, manifest: Manifest) -> Iterator[Finding]:
        if manifest.v > VERSION:
            yield Finding("manifest", key, NEWER.format(what="This manifest"))
        elif manifest.v != VERSION or manifest.type != "steward.manifest":
            yield Finding("manifest", key, "It is no manifest of a version that is known here.")
        if (manifest.stream, manifest.number) != (named.stream, named.number):
            yield Finding(
                "manifest_place",
                key,
                f"It is number {manifest.number} of stream {manifest.stream}, under the name of "
                "another: it was moved or copied.",
            )
        if server_folder(manifest.server_name) != named.server:
            yield Finding("manifest_place", key, "It is of another server: it was copied here.")
        if day_of(manifest.created_ms) != named.day:
            yield Finding("manifest_place", key, "It was not made on the day of its folder.")

    def _succession(self, key: str, manifest: Manifest, number: int) -> Iterator[Finding]:
        last = self.last
        expected = 0 if last is None else last.number + 1
        if number > expected:
            self.broken = True
            missing = f"{expected}" if number == expected + 1 else f"{expected} to {number - 1}"
            yield Finding(
                "manifest_missing",
                key,
                f"The manifest {missing} of stream {self.stream}, which comes before this one, is "
                "missing.",
            )
        elif number < expected:
            yield Finding("manifest_twice", key, "There are two manifests of this number.")
        elif last is None:
            if manifest.previous is not None:
                yield Finding("chain", key, "It is the first one, but names one before it.")
        elif (
            manifest.previous is None
            or manifest.previous.sha256 != self.last_sha256
            or manifest.previous.key != self.last_key
        ):
            yield Finding(
                "chain",
                key,
                f"The one before it, {self.last_key}, is not the one that it names: one of them "
                "was replaced.",
            )
        if last is not None:
            yield from self._in_time(key, last, manifest, adjacent=number == expected)

    def _in_time(
        self, key: str, last: Manifest, manifest: Manifest, *, adjacent: bool
    ) -> Iterator[Finding]:
        if last.closed is not None:
            yield Finding("after_end", key, "The one before it says that the stream had ended.")
        if adjacent and manifest.from_ms != last.created_ms:
            yield Finding("chain_time", key, "It does not begin when the one before it was made.")
        silent = manifest.created_ms - manifest.from_ms
        if silent > last.interval_ms * MOST_INTERVALS + SLACK_MS:
            down = manifest.process_started_ms > manifest.from_ms
            why = (
                f"Steward was not running until {moment(manifest.process_started_ms)}"
                if down
                else "Steward was running"
            )
            yield Finding(
                "silence",
                key,
                f"No manifest was made for {span(silent)}, from {moment(manifest.from_ms)} to "
                f"{moment(manifest.created_ms)} UTC: {why}. Messages of that time may be in the "
                "next segments, or were never received.",
                severity=Severity.NOTICE,
            )

    def _object(self, key: str, manifest: Manifest, item: ListedSegment) -> Iterator[Finding]:
        named = segment_key(item.key)
        if is_otherwise_packed(item.key):
            yield Finding("newer", item.key, NEWER.format(what="How this segment is compressed"))
        elif (
            named is None
            or named.stream != manifest.stream
            or named.first_seq != item.first_seq
            or named.server != server_folder(manifest.server_name)
        ):
            yield Finding("listing", key, f"It lists “{item.key}”, which is no segment of it.")
        if item.key in self.seen:
            yield Finding("listed_twice", key, f"It lists {item.key}, which was listed before.")
        self.seen.add(item.key)
        if item.first_seq != self.next_seq:
            is_hole = item.first_seq > self.next_seq
            between = sorted((item.first_seq, self.next_seq))
            yield Finding(
                "hole" if is_hole else "overlap",
                item.key,
                f"Records {between[0]} to {between[1] - 1} of stream {self.stream} are "
                + ("listed by no manifest." if is_hole else "there twice."),
            )
            self.range = None
        if item.last_seq < item.first_seq or item.records != item.last_seq - item.first_seq + 1:
            yield Finding("listing", key, f"It gives {item.key} a count that cannot be.")
            self.range = None
        self.next_seq = item.last_seq + 1
        self._join(item)
        if self.range is None and _nodes(item) is None:
            yield Finding("listing", key, f"The hashes that it gives for {item.key} cannot be.")
        self.records += item.records
        self.objects += 1
        self.bytes += item.size
        self.counts.update(item.counts)

    def _join(self, item: ListedSegment) -> None:
        nodes = _nodes(item)
        if self.range is None or nodes is None:
            self.range = None
            return
        part = Range(item.first_seq, item.last_seq + 1, nodes)
        self.range = self.range.joined(part) if part.start == self.range.end else None

    def _sums(self, key: str, manifest: Manifest) -> Iterator[Finding]:
        if self.range is not None and (
            manifest.tree.size != self.range.end or manifest.tree.root != self.range.root().hex()
        ):
            yield Finding(
                "root",
                key,
                f"The Merkle root that it signs for {manifest.tree.size} records is not that of "
                "the objects listed up to here.",
            )
            self.range = None
        totals = manifest.totals
        if not self.broken and (
            (totals.records, totals.objects, totals.bytes)
            != (self.records, self.objects, self.bytes)
            or Counter(totals.counts) != self.counts
        ):
            yield Finding("totals", key, "Its totals are not the sum of what is listed so far.")


def _nodes(item: ListedSegment) -> tuple[bytes, ...] | None:
    """Return the compact range of a segment as bytes, ``None`` if it cannot be one."""
    if not 0 <= item.first_seq <= item.last_seq:
        return None
    try:
        nodes = tuple(bytes.fromhex(text) for text in item.hashes)
    except ValueError:
        return None
    fits = len(nodes) == len(heights(item.first_seq, item.last_seq + 1))
    return nodes if fits and all(len(node) == HASH_BYTES for node in nodes) else None
