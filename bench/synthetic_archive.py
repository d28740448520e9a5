"""A large archive by the writer's own pipeline, for measuring its reader.

Lines, segments, hashes, manifests and signatures are made by the functions that Steward writes
with; only what the events say is made up.
"""

import hashlib
import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.line import Arrival, Place, Record, to_line
from auditbot.pipeline.manifest import (
    LATEST,
    Before,
    Listed,
    Occasion,
    head,
    next_manifest,
    note_key,
    signature_key,
)
from auditbot.pipeline.merkle import range_of
from auditbot.pipeline.note import note_of, origin_of, text_of
from auditbot.pipeline.record import Setting, event_record
from auditbot.pipeline.room_state import RoomContext, completed, fold
from auditbot.pipeline.seal import FRAME_BYTES, compress, leaves_of, object_key, root_of
from auditbot.pipeline.segment import DAY_MS, Segment
from auditbot.signing import SigningKey

SERVER = "example.org"
STREAM = "20260101T000000Zbench0"
START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
ROOMS, PEOPLE = 200, 1000
IN_SEGMENT = 20_000
PER_DAY = 60_000
SEGMENTS_IN_MANIFEST = 8
NEEDLE = "zanzibar"
"""A word of one message in a hundred thousand."""


@dataclass(frozen=True, slots=True)
class Made:
    """A segment that is on disk."""

    listed: Listed


def write_archive(root: Path, records: int) -> None:
    """Write an archive of so many records."""
    bounds = list(_bounds(records))
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    _put(root, f"{root_of(SERVER)}keys/signing-{key.key_id}.pem", key.pem)
    before = Before()
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        waiting: list[Listed] = []
        for made in pool.map(_segment, [(root, first, last) for first, last in bounds]):
            waiting.append(made.listed)
            if len(waiting) == SEGMENTS_IN_MANIFEST:
                before = _manifest(root, key, before, waiting)
                waiting = []
    _manifest(root, key, before, waiting)


def _bounds(records: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of each segment's records; none goes beyond a day."""
    first = 0
    while first < records:
        day_end = (first // PER_DAY + 1) * PER_DAY
        last = min(first + IN_SEGMENT, day_end, records) - 1
        yield first, last
        first = last + 1


def _segment(what: tuple[Path, int, int]) -> Made:
    root, first, last = what
    chance = random.Random(first)  # noqa: S311  # the same archive every time
    templates = _templates(chance)
    texts = _texts(chance)
    lines = [_line(chance, templates, texts, seq) for seq in range(first, last + 1)]
    frames, some, size = [], [], 0
    for line in lines:
        some.append(line)
        size += len(line)
        if size >= FRAME_BYTES:
            frames.append(compress(some))
            some, size = [], 0
    body = b"".join([*frames, compress(some)] if some else frames)
    day = _received(first) // DAY_MS
    raw = sum(map(len, lines))
    key = object_key(SERVER, STREAM, Segment(first, last, day, raw))
    _put(root, key, body)
    listed = Listed(
        key=key,
        version_id=None,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        raw_size=raw,
        tree=range_of(first, leaves_of(lines)),
        first_ms=_received(first),
        last_ms=_received(last),
        counts=Counter(event=last - first + 1),
    )
    return Made(listed)


def _manifest(root: Path, key: SigningKey, before: Before, segments: list[Listed]) -> Before:
    created_ms = max(before.created_ms, segments[-1].last_ms + 1 if segments else 0)
    occasion = Occasion(
        SERVER,
        STREAM,
        created_ms,
        from_ms=before.created_ms or START_MS,
        extra={
            "process_started_ms": START_MS,
            "interval_ms": DAY_MS * 3,
            "previous": None
            if before.key is None
            else {"key": before.key, "sha256": before.sha256},
            "previous_stream": None,
            "closed": None,
            "media": [],
            "statements": [],
        },
    )
    document, after = next_manifest(occasion, before, segments)
    origin = origin_of(SERVER, STREAM)
    text = text_of(origin, after.tree.end, after.tree.root)
    note = note_of(text, origin, key.public_key, key.sign(text.encode()))
    place = note_key(SERVER, STREAM, after.tree.end)
    _put(root, place, note)
    document["checkpoint"] = {"key": place, "sha256": hashlib.sha256(note).hexdigest()}
    signed = key.sign_document(document)
    name = str(after.key)
    _put(root, name, signed.body)
    _put(root, signature_key(name), signed.signature)
    hint = head(document, name, signed.sha256, written_ms=created_ms)
    _put(root, f"{root_of(SERVER)}{LATEST}", hint)
    return Before(
        after.number, after.key, signed.sha256, created_ms, after.tree, dict(after.totals)
    )


def _templates(chance: random.Random) -> list[Record]:
    """Return a record for each of some senders, by the writer's own function."""
    found = []
    for number in [7, *chance.sample(range(PEOPLE), 50)]:
        room_number = number % ROOMS
        room = completed(fold(RoomContext(f"!room{room_number}:{SERVER}"), []))
        event = read_envelope(
            json.dumps(
                {
                    "type": "m.room.message",
                    "event_id": "$template",
                    "room_id": f"!room{room_number}:{SERVER}",
                    "sender": f"@person{number}:{SERVER}",
                    "origin_server_ts": START_MS,
                    "content": {"msgtype": "m.text", "body": "template"},
                }
            ).encode()
        )
        place = Place(STREAM, 0, bytes(16), SERVER)
        arrival = Arrival(START_MS, "transaction", "t1")
        found.append(event_record(event, None, place, arrival, Setting(room, room)))
    return found


def _texts(chance: random.Random) -> list[str]:
    return [
        " ".join(chance.choices(_WORDS, weights=_WEIGHTS, k=chance.randrange(3, 25)))
        for _ in range(2000)
    ]


def _line(chance: random.Random, templates: list[Record], texts: list[str], seq: int) -> bytes:
    number = chance.getrandbits(256)
    template = templates[number % len(templates)]
    body = f"{texts[number % len(texts)]} {number % 99991}"
    if seq % 100_000 == 4242:  # noqa: PLR2004  # anywhere
        body = f"{body} {NEEDLE}"
    event_id = f"${number:043x}"[:44]
    event_json = (
        f'{{"type":"m.room.message","event_id":"{event_id}","room_id":"{template.room_id}",'
        f'"sender":"{template.sender}","origin_server_ts":{_received(seq) - 40},'
        f'"content":{{"msgtype":"m.text","body":"{body}"}},"unsigned":{{"age":40}}}}'
    )
    record = msgspec.structs.replace(
        template,
        seq=seq,
        salt=f"{number >> 128:032x}"[:22] + "==",
        ts_received=_received(seq),
        ts_origin=_received(seq) - 40,
        event_id=event_id,
        body=body,
        event_json=event_json,
        payload_sha256=hashlib.sha256(event_json.encode()).hexdigest(),
        audience_id="c" * 64,
        audience_count=25,
        audience_basis="stream_order",
        enc_status="decrypted",
        enc_device_id=f"DEVICE{seq % 7}",
        enc_trust="cross_signed",
    )
    return to_line(record)


def _received(seq: int) -> int:
    return START_MS + seq // PER_DAY * DAY_MS + seq % PER_DAY * (DAY_MS // PER_DAY)


def _put(root: Path, key: str, body: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


_WORDS = [
    f"{a}{b}{c}" for a in "bdfklmnprst" for b in "aeiou" for c in ("n", "ra", "lo", "st", "me")
]
_WEIGHTS = [1 / (number + 1) for number in range(len(_WORDS))]
