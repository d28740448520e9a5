"""What could be read is counted from the archive alone."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.record import (
    Arrival,
    Place,
    Setting,
    decryption_record,
    event_record,
    to_line,
)
from auditbot.pipeline.seal import compress
from auditbot.reader.cli import main
from auditbot.storage.directory import DirectoryStore
from common.crypto.port import Reading, Undecryptable, Why
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, decrypted, encrypted, message
from tests.unit.auditbot.lines import LOBBY

PAYLOAD = b'{"type":"m.room.message","content":{"body":"at last"}}'


class Written:
    """Lines of one stream, and the archive made of them."""

    def __init__(self, directory: Path) -> None:
        self.destination = f"file:{directory}"
        self._store = DirectoryStore(directory)
        self._lines: list[bytes] = []

    def event(self, body: bytes, reading: Reading | None, *, at_ms: int = NOON) -> int:
        envelope, arrival = read_envelope(body), Arrival(at_ms, "transaction", "1")
        record = event_record(envelope, reading, self._place(), arrival, Setting(LOBBY, LOBBY))
        self._lines.append(to_line(record))
        return record.seq

    def late(self, body: bytes, of_seq: int, *, at_ms: int) -> None:
        place = Place("s", of_seq, bytes(16), "example.org")
        first = event_record(
            read_envelope(body),
            Undecryptable(Why.NO_SESSION),
            place,
            Arrival(NOON, "transaction", "1"),
            Setting(LOBBY, LOBBY),
        )
        record = decryption_record(
            first, decrypted(PAYLOAD), self._place(), ts_received=at_ms, edited_sender=None
        )
        self._lines.append(to_line(record))

    async def store(self) -> None:
        body = compress(self._lines)
        key = "v1/example.org/events/dt=2025-11-24/s-000000000000.jsonl.zst"
        await self._store.put(key, body, hashlib.sha256(body).hexdigest())

    def _place(self) -> Place:
        return Place("s", len(self._lines), bytes(16), "example.org")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the log of what is looked at away from the home of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
async def written(tmp_path: Path) -> Written:
    written = Written(tmp_path)
    written.event(message("$clear"), None)
    written.event(encrypted("$read"), decrypted(PAYLOAD))
    first = written.event(
        encrypted("$late"), Undecryptable(Why.NO_SESSION, "session", "c", "DEVICE")
    )
    slow = written.event(
        encrypted("$slow"), Undecryptable(Why.NO_SESSION, "session", "c", "DEVICE")
    )
    written.event(encrypted("$lost"), Undecryptable(Why.NO_SESSION, "session", "c", "DEVICE"))
    withheld = Undecryptable(Why.WITHHELD_UNVERIFIED, "session", "c", "OLD\x1b")
    written.event(encrypted("$withheld", sender="@bob:x", room_id="!other"), withheld)
    written.late(encrypted("$late"), first, at_ms=NOON + 10_000)
    written.late(encrypted("$late"), first, at_ms=NOON + 11_000)  # a second key: counted once
    written.late(encrypted("$slow"), slow, at_ms=NOON + 3_600_000)
    await written.store()
    return written


async def coverage_of(written: Written, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    arguments = ["coverage", "--unsigned", "--destination", written.destination, *words]
    assert await asyncio.to_thread(main, arguments) == 0
    return capsys.readouterr().out


async def test_events_are_counted_by_what_became_of_them(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = json.loads(await coverage_of(written, capsys, "--json"))

    assert counts["clear"] == 1
    assert counts["decrypted"] == 1
    assert counts["late_decrypted"] == 2
    assert counts["undecryptable"] == {"no_session": 1, "withheld_unverified": 1}
    assert (counts["late_within_60_s"], counts["late_within_24_h"]) == (1, 2)
    assert counts["rooms"] == [
        {
            "room_id": ROOM,
            "room_name": "Lobby",
            "decrypted": 1,
            "late_decrypted": 2,
            "undecryptable": {"no_session": 1},
        },
        {
            "room_id": "!other",
            "room_name": "Lobby",
            "decrypted": 0,
            "late_decrypted": 0,
            "undecryptable": {"withheld_unverified": 1},
        },
    ]
    assert [device["device_id"] for device in counts["devices"]] == ["DEVICE", "OLD\x1b"]


async def test_people_read_the_same(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    text = await coverage_of(written, capsys)

    assert "Encrypted: 1 read, 2 read later, 2 not read (" in text
    assert "Read later: 1 within 60 s, 2 within 24 h, 2 altogether" in text
    assert (
        f"{ALICE} DEVICE: 1 read, 2 read later, 1 not read (1: its key was not received [no_session])\n"
        in text
    )
    assert "@bob:x OLD\\x1b: 0 read, 0 read later, 1 not read" in text
    assert " — never readable\nRooms without the bot: none known\n" in text


async def test_a_key_that_came_after_the_period_counts_for_its_event(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    within = json.loads(
        await coverage_of(written, capsys, "--json", "--to", "2025-11-24T16:00:05")
    )
    after = json.loads(await coverage_of(written, capsys, "--json", "--from", "2025-11-25"))

    assert (within["late_decrypted"], within["decrypted"]) == (2, 1)
    assert after["rooms"] == []
