"""One segment: its stored bytes → whether they are what its manifest says; pure, for a worker.

Everything of a segment is checked in one pass over its lines, and what comes back is small.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from auditbot.reader.documents import ListedSegment, is_newer
from auditbot.reader.layout import (
    DAY_MS,
    DEFAULT_CLASS,
    NEWER,
    VERSION,
    begin_ms,
    day_of,
    is_content_key,
    segment_key,
)
from auditbot.reader.tree import GrowingRange
from auditbot.reader.unpack import DamagedArchiveError, lines
from auditbot.reader.verify.findings import Finding, Severity

KINDS = frozenset(
    {
        "event",
        "decryption",
        "media",
        "audience",
        "receipt",
        "gap",
        "gap_closed",
        "control",
        "graph",
    }
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_STORED = frozenset({"stored", "duplicate"})
_MOST_FINDINGS = 20
"""In one segment; the rest would say the same."""
_MOST_MEDIA = 100_000
_LISTS_KEPT = 64
"""Lists of people in memory, to which later ones say what differs."""
_INT63 = 2**63


class _Record(msgspec.Struct):
    """The fields that a verification looks at."""

    kind: str
    stream: str
    seq: int
    server_name: str
    ts_received: int
    v: int = 1
    salt: str | None = None
    room_id: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    state_key: str | None = None
    sender: str | None = None
    of_seq: int | None = None
    prev_events: str | None = None
    depth: int | None = None
    source: str | None = None
    enc_status: str | None = None
    enc_error: str | None = None
    audience_id: str | None = None
    media_key: str | None = None
    media_status: str | None = None
    media_sha256: str | None = None
    retention_class: str | None = None
    action: str | None = None
    detail_json: str | None = None
    sealed: str | None = None
    sealed_to: str | None = None
    sealed_sha256: str | None = None


@dataclass
class SegmentResult:
    """What was found in a segment.

    ``graph`` are lines for the check of the room graph: ``e`` for an event, ``p`` for the parent of
    one, ``g`` for an event that a gap tells of, ``x`` for a gap that names none; the hashes of event, room and child; depth; record; the place in a record that tells of several.
    """

    key: str
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    raw_bytes: int = 0
    graph: bytes = b""
    media: list[tuple[int, str, str | None]] = field(default_factory=list)
    undecryptable: dict[str, int] = field(default_factory=dict)
    sealed_to: dict[str, int] = field(default_factory=dict)
    """How many records' content is sealed to each key."""
    unfit: str | None = None
    """The key, or the segment itself, that none of the identities opens which somebody named."""

    def wrong(self, code: str, sentence: str, line: int | None = None) -> None:
        """Add a finding, up to a number of them."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(code, self.key, sentence, line))

    def notice(self, code: str, sentence: str, line: int | None = None) -> None:
        """Add what a person should know, up to a number of findings."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(Finding(code, self.key, sentence, line, Severity.NOTICE))


def check_stored(listed: ListedSegment, body: bytes) -> SegmentResult:
    """Return whether stored bytes are those that a manifest lists."""
    result = SegmentResult(listed.key)
    digest = hashlib.sha256(body).hexdigest()
    if len(body) != listed.size:
        result.wrong(
            "size",
            f"It has {len(body)} bytes, but its manifest says {listed.size}: it was changed.",
        )
    elif digest != listed.sha256:
        result.wrong(
            "sha256",
            f"Its SHA-256 is {digest}, but its manifest says {listed.sha256}: it was changed.",
        )
    return result


def check_segment(
    listed: ListedSegment, body: bytes, server_name: str, *, clear: bytes | None = None
) -> SegmentResult:
    """Return what is wrong with a segment.

    Args:
        listed: what the manifest says of it
        body: the stored bytes
        server_name: whose archive it is
        clear: the compressed bytes if the stored ones are encrypted
    """
    result = check_stored(listed, body)
    check = _Check(listed, result, server_name)
    try:
        for number, line in enumerate(lines(listed.key, body if clear is None else clear), 1):
            check.line(number, line)
    except DamagedArchiveError as error:
        result.wrong("unreadable", f"It cannot be unpacked: {error}", check.number + 1)
        return result
    check.finish()
    return result


class _Check:
    """The state of one pass over a segment's lines."""

    def __init__(self, listed: ListedSegment, result: SegmentResult, server_name: str) -> None:
        named = segment_key(listed.key)
        self.number = 0
        self._listed = listed
        self._result = result
        self._server_name = server_name
        self._stream = named.stream if named else ""
        self._day_ms = begin_ms(named.day) if named else 0
        self._range = GrowingRange(listed.first_seq)
        self._counts: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._first_ms: int | None = None
        self._strange: set[str] = set()
        self._last_ms: int | None = None
        self._expected = listed.first_seq
        self._graph: list[str] = []
        self._lists: dict[object, dict[str, str]] = {}
        self._decoder = msgspec.json.Decoder(_Record)

    def line(self, number: int, line: bytes) -> None:
        """Check a line."""
        self.number = number
        self._range.add(hashlib.sha256(b"\x00" + line).digest())
        self._result.raw_bytes += len(line) + 1
        try:
            record = self._decoder.decode(line)
        except (ValueError, RecursionError):
            sentence = "This line is no record."
            if is_newer(line):
                sentence = NEWER.format(what="This record")
            self._result.wrong("record", sentence, number)
            return
        self._counts[record.kind] += 1
        self._classes[record.retention_class or DEFAULT_CLASS] += 1
        if record.seq != self._expected:
            self._result.wrong(
                "seq", f"Record {record.seq} is where {self._expected} belongs.", number
            )
        self._expected = record.seq + 1
        self._identity(number, record)
        self._time(number, record)
        self._by_kind(number, record)

    def finish(self) -> None:
        """Compare the whole with what the manifest says."""
        listed, result = self._listed, self._result
        result.records = self.number
        found = self._range.fixed()
        hashes = tuple(node.hex() for node in found.nodes)
        result.graph = "".join(self._graph).encode()
        for code, what, is_, said in (
            ("count", "records", self.number, listed.records),
            ("raw_size", "bytes unpacked", result.raw_bytes, listed.raw_size),
            ("time_range", "as its first moment", self._first_ms, listed.first_ms),
            ("time_range", "as its last moment", self._last_ms, listed.last_ms),
        ):
            if is_ != said:
                result.wrong(code, f"It has {is_} {what}, but its manifest says {said}.")
        if dict(self._counts) != {kind: n for kind, n in listed.counts.items() if n}:
            result.wrong("counts", "Its records by kind are not those that its manifest says.")
        classes = listed.classes
        said_classes = (
            {DEFAULT_CLASS: listed.records}
            if classes is None
            else {name: one.records for name, one in classes.items()}
        )
        if dict(self._classes) != {name: n for name, n in said_classes.items() if n}:
            result.wrong(
                "classes", "Its records by retention class are not those that its manifest says."
            )
        if hashes != listed.hashes:
            result.wrong(
                "leaves",
                "Its lines do not give the hashes that its manifest holds for the Merkle tree: "
                "at least one record was changed, added, removed or moved.",
            )

    def _identity(self, number: int, record: _Record) -> None:
        if record.stream != self._stream:
            self._result.wrong("stream", f"This record is of stream {record.stream}.", number)
        if record.server_name != self._server_name:
            self._result.wrong("server", "This record is of another server.", number)
        if record.v > VERSION:
            self._result.wrong("newer", NEWER.format(what="This record"), number)
        elif record.kind not in KINDS and record.kind not in self._strange:
            # A newer writer of the same major version may have more of them.
            self._strange.add(record.kind)
            self._result.notice(
                "kind",
                f"This version of Steward knows no records of the kind “{record.kind}”: they are "
                "proven, and not looked into. A newer version may know them.",
                number,
            )
        if record.sealed is not None or record.sealed_to is not None:
            self._sealed(number, record)
        if not record.salt:
            self._result.wrong("salt", "This record has no salt.", number)

    def _sealed(self, number: int, record: _Record) -> None:
        """Take note of which key opens a record; what is sealed is looked into apart."""
        name, digest = record.sealed_to or "", record.sealed_sha256 or ""
        if record.sealed is None or not is_content_key(name) or not _DIGEST.fullmatch(digest):
            self._result.wrong("sealed", "It does not say what is sealed of it for whom.", number)
        else:
            self._result.sealed_to[name] = self._result.sealed_to.get(name, 0) + 1

    def _time(self, number: int, record: _Record) -> None:
        moment = record.ts_received
        self._first_ms = moment if self._first_ms is None else min(self._first_ms, moment)
        self._last_ms = moment if self._last_ms is None else max(self._last_ms, moment)
        if not 0 <= moment - self._day_ms < DAY_MS:
            self._result.wrong("day", f"This record was received on {day_of(moment)}.", number)

    def _by_kind(self, number: int, record: _Record) -> None:
        match record.kind:
            case "event":
                self._event(record)
            case "media":
                self._media(number, record)
            case "audience":
                self._audience(number, record)
            case "gap":
                self._gap(record)
            case "graph":
                self._parents(record)
            case _:
                pass
        if record.kind in {"decryption", "media"} and record.of_seq is None:
            self._result.wrong("reference", "This record does not say of which it is.", number)

    def _event(self, record: _Record) -> None:
        if record.enc_status == "undecryptable":
            why = record.enc_error or "unknown"
            self._result.undecryptable[why] = self._result.undecryptable.get(why, 0) + 1
        if record.event_id is None:
            return
        own, room = event_hash(record.event_id), event_hash(record.room_id or "")
        self._graph.append(f"e,{own},{room},{own},-1,{record.seq},-1\n")
        self._follow(own, room, record.depth, _ids(record.prev_events), f"{record.seq},-1")

    def _gap(self, record: _Record) -> None:
        told = list(_told(record))
        self._graph.extend(told)
        if record.action == "not_recorded":
            return  # what an event names among these has a gap of its own
        if not told or record.action != "event_missing":
            # It stands for events that it does not name, in its room or, without one, anywhere.
            self._graph.append(f"x,0,{event_hash(record.room_id or '')},0,-1,{record.seq},-1\n")

    def _parents(self, record: _Record) -> None:
        """Take up the parents of events, as the second feed tells them."""
        events = _object(record.detail_json).get("events")
        room = event_hash(record.room_id or "")
        for number, told in enumerate(events if isinstance(events, list) else []):
            match told:
                case [str(event_id), depth, [*parents]]:
                    known = depth if isinstance(depth, int) else None
                    names = [name for name in parents if isinstance(name, str)]
                    place = f"{record.seq},{number}"
                    self._follow(event_hash(event_id), room, known, names, place)
                case _:
                    continue

    def _follow(
        self, own: int, room: int, depth: int | None, parents: list[str], place: str
    ) -> None:
        known = depth if depth is not None and 0 <= depth < _INT63 else -1
        for parent in parents:
            self._graph.append(f"p,{event_hash(parent)},{room},{own},{known},{place}\n")

    def _media(self, number: int, record: _Record) -> None:
        kept = record.media_status == "infected" and record.media_key is not None
        if record.media_status not in _STORED and not kept:
            return
        if record.media_key is None:
            self._result.wrong("media_key", "It says that a file is stored, not where.", number)
        elif len(self._result.media) < _MOST_MEDIA:
            self._result.media.append((number, record.media_key, record.media_sha256))

    def _audience(self, number: int, record: _Record) -> None:
        people = self._people(record)
        if people is None:
            return  # what it differs from is in another segment, which is checked by itself
        self._lists[record.seq] = people
        if len(self._lists) > _LISTS_KEPT:
            del self._lists[next(iter(self._lists))]
        joined = sorted(user for user, membership in people.items() if membership == "join")
        try:
            digest = hashlib.sha256("\n".join(joined).encode()).hexdigest()
        except UnicodeEncodeError:
            digest = ""
        if digest != record.audience_id:
            self._result.wrong(
                "audience",
                "The people in this list are not those that its name stands for.",
                number,
            )

    def _people(self, record: _Record) -> dict[str, str] | None:
        """Return who is in a list of people and how, ``None`` if that cannot be told here."""
        detail = _object(record.detail_json)
        listed = {
            str(person.get("user_id")): str(person.get("membership"))
            for person in _dicts(detail.get("members") or detail.get("added"))
        }
        if "members" in detail:
            return listed
        base = self._lists.get(detail.get("base_seq"))
        if base is None:
            return None
        removed = detail.get("removed")
        gone = {str(user) for user in removed} if isinstance(removed, list) else set()
        return {user: how for user, how in base.items() if user not in gone} | listed


def event_hash(event_id: str) -> int:
    """Return 63 bits that stand for an event in the check of the room graph."""
    digest = hashlib.blake2b(event_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _told(record: _Record) -> Iterator[str]:
    """Yield the events that a gap speaks of: their absence is known and signed."""
    detail = _object(record.detail_json)
    for value in detail.values():
        for event_id in value if isinstance(value, list) else [value]:
            if isinstance(event_id, str) and event_id.startswith("$"):
                yield f"g,{event_hash(event_id)},0,0,-1,{record.seq},-1\n"


def _ids(text: str | None) -> list[str]:
    if text is None:
        return []
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [name for name in ids if isinstance(name, str)] if isinstance(ids, list) else []


def _dicts(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(text: str | None) -> dict[str, object]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
