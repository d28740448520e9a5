"""What the archive keeps of room keys opens what it has to, and nothing that it must not."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyrage
import pytest
import vodozemac

from auditbot.operations import erasure, held_versions, retention
from auditbot.operations.holds import Hold
from auditbot.pipeline.seal import lines_in
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.index.library import Library
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS
from auditbot.reader.recheck.comparing import State
from auditbot.reader.recheck.run import Rechecked, decrypted_in, decrypted_of, recheck
from auditbot.reader.recheck.shelf import Shelf
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.directory import DirectoryStore
from auditbot.storage.reading import DirectoryPlace
from common.config.bot_settings import RetentionClass
from common.crypto.port import KeySource
from common.database.pool import Database
from common.errors import TransientError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, ROOM, encrypted, message, new_room
from tests.unit.auditbot.megolm import SENDER_KEY, SIGNING_KEY, Device
from tests.unit.auditbot.test_operations import TODAY, Office, retain

DAY = NOON // DAY_MS
IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@dataclass
class Expert:
    """An office whose archive keeps room keys, and somebody who decrypts again."""

    office: Office
    device: Device
    cache: Path

    @property
    def root(self) -> Path:
        return self.office.world.directory / "archive"

    async def say(self, *bodies: bytes) -> None:
        await self.office.say(*bodies)

    async def store(self) -> None:
        await self.office.store()

    def session_objects(self) -> list[str]:
        return [key for key in self.office.objects() if "/sessions/" in key]

    def lines(self, day: str = "") -> list[dict[str, Any]]:
        """Return all room keys that are kept, opened as an officer opens them."""
        return [
            json.loads(line)
            for key in self.session_objects()
            if day in key
            for line in lines_in(self.opened(key))
        ]

    def opened(self, key: str) -> bytes:
        identities = list(IDENTITIES)
        stream_day = key.rpartition("/")[2].rpartition("-")[0], key.split("dt=")[1][:10]
        wrapped = self.root / f"v1/example.org/keys/day-{'-'.join(stream_day)}.age"
        if wrapped.exists():
            secret = bytes(pyrage.decrypt(wrapped.read_bytes(), identities)).decode().strip()
            identities = [pyrage.x25519.Identity.from_str(secret)]
        return bytes(pyrage.decrypt((self.root / key).read_bytes(), identities))

    async def rechecks(self, *event_ids: str) -> tuple[list[Rechecked], list[str]]:
        library = Library(self.cache, (str(IDENTITIES[1]),))
        place = DirectoryPlace(self.root)
        done = await sync(place, library, lambda _: Remembered())
        assert done.faults == []
        shelf = Shelf(place, library)
        ids = decrypted_in(library, ALWAYS)
        if event_ids:
            ids = [one for name in event_ids for one in decrypted_of(library, name)]
        found = [one async for one in recheck(library, shelf, ids)]
        library.close()
        return found, shelf.faults

    async def verified(self) -> Verified:
        options = Options(now_ms=self.office.world.clock.now_ms(), destination=f"file:{self.root}")
        (result,) = await verify(DirectoryPlace(self.root), options)
        return result


MakeExpert = Callable[..., Expert]


@pytest.fixture
def make(database: Database, tmp_path: Path) -> MakeExpert:
    def make(*, erasable: bool = False, session_keys: bool = True) -> Expert:
        office = Office(database, tmp_path)
        device = Device()
        office.world.crypto = device
        office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
        office.world.erasable = erasable
        office.world.session_keys = session_keys
        office.start()
        return Expert(office, device, tmp_path / "cache")

    return make


def wrong(result: Verified) -> list[tuple[str, str]]:
    return [(one.code, one.key) for one in result.findings.of(Severity.WRONG)]


def states(found: Sequence[Rechecked]) -> dict[str, State]:
    return {str(one.record["event_id"]): one.compared.state for one in found}


def opens_from(line: dict[str, Any]) -> int:
    exported = vodozemac.ExportedSessionKey(line["session_key"])
    return vodozemac.InboundGroupSession.import_session(exported).first_known_index


@pytest.mark.parametrize("erasable", [False, True])
async def test_each_message_that_was_read_agrees(make: MakeExpert, erasable: bool) -> None:
    expert = make(erasable=erasable)
    expert.device.give()
    said = [expert.device.say(f"${number}", f"word {number}") for number in range(5)]
    await expert.say(*new_room("@bob:example.org"), message("$clear"), *said[:3])
    await expert.store()
    await expert.say(*said[3:])
    await expert.store()

    found, faults = await expert.rechecks()

    assert states(found) == {f"${number}": State.AGREES for number in range(5)}
    assert faults == []
    (line,) = expert.lines()
    assert line["session_id"] == expert.device.outbound.session_id
    assert line["algorithm"] == "m.megolm.v1.aes-sha2"
    assert (line["sender_key"], line["sender_claimed_keys"]) == (
        SENDER_KEY,
        {"ed25519": SIGNING_KEY},
    )
    assert (line["source"], line["first_known_index"], line["first_index"]) == ("direct", 0, 0)
    result = await expert.verified()
    assert wrong(result) == []
    manifests = [
        json.loads(body)
        for key, body in expert.office.objects().items()
        if "/manifests/" in key and key.endswith(".json")
    ]
    listed = [item["key"] for one in manifests for item in one["sessions"]]
    assert listed == expert.session_objects()
    assert all(one["session_keys"] for one in manifests)


async def test_nothing_is_kept_unless_it_is_asked_for(make: MakeExpert) -> None:
    expert = make(session_keys=False)
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$1", "said"))
    await expert.store()

    found, faults = await expert.rechecks()

    assert expert.session_objects() == []
    assert (states(found), faults) == ({"$1": State.NO_KEY}, [])
    assert not found[0].keys_wanted


async def test_no_key_lies_anywhere_in_clear(make: MakeExpert, tmp_path: Path) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$1", "said"))
    (copy,) = expert.device.copies.values()
    exported = copy.export_at(0)
    assert exported is not None
    ratchet = base64.b64decode(exported + "==")[5:133]
    spellings = (ratchet, exported.encode(), exported.encode()[8:100])

    def is_somewhere() -> bool:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return any(one in path.read_bytes() for path in files for one in spellings)

    assert not is_somewhere()
    rows = await expert.office.world.database.fetch("SELECT sealed FROM audit_session_key")
    assert [row["sealed"] is not None for row in rows] == [True]
    await expert.store()
    assert not is_somewhere()
    rows = await expert.office.world.database.fetch("SELECT sealed FROM audit_session_key")
    assert [row["sealed"] for row in rows] == [None]
    assert [line["session_key"] for line in expert.lines()] == [exported]


async def test_the_same_bytes_are_stored_whatever_is_killed(
    make: MakeExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$1", "said"))
    office = expert.office
    await office.bot.archive.seal(flush=True)
    (place,) = await office.bot.archive.segments.streams_waiting()
    first = await office.bot.archive.segments.oldest_sealed(place.stream)
    assert first is not None
    assert first.sessions is not None

    async def crash(*_: object, **__: object) -> None:
        raise TransientError("killed")

    with monkeypatch.context() as patch:
        # The objects are there, and nobody wrote that down.
        patch.setattr(type(office.bot.archive.segments), "mark_uploaded", crash)
        await office.bot.archive.upload()
    assert (expert.root / first.sessions.key).read_bytes() == first.sessions.body
    assert not [key for key in office.objects() if "/manifests/" in key and "-00000001" in key]
    office.start()
    await expert.store()

    assert (expert.root / first.sessions.key).read_bytes() == first.sessions.body
    found, _ = await expert.rechecks()
    assert states(found) == {"$1": State.AGREES}
    assert wrong(await expert.verified()) == []


async def test_an_earlier_message_that_comes_later_has_its_key_too(make: MakeExpert) -> None:
    expert = make()
    expert.device.give()
    said = [expert.device.say(f"${number}", "said") for number in range(4)]
    await expert.say(*new_room(), said[2], said[3])
    await expert.store()
    await expert.say(said[1])
    await expert.say(said[0])
    await expert.store()

    found, _ = await expert.rechecks()

    assert set(states(found).values()) == {State.AGREES}
    assert [opens_from(line) for line in expert.lines()] == [2, 1, 0]
    assert [line["first_index"] for line in expert.lines()] == [2, 1, 0]


async def test_of_another_day_nothing_earlier_is_opened(make: MakeExpert) -> None:
    expert = make(erasable=True)
    expert.device.give()
    await expert.say(*new_room(), *[expert.device.say(f"${n}", f"day one {n}") for n in range(3)])
    await expert.store()
    segments = {key for key in expert.office.objects() if "/events/" in key}
    expert.office.at(NOON + DAY_MS)
    await expert.say(expert.device.say("$3", "day two"), expert.device.say("$4", "day two"))
    await expert.store()
    expert.office.at(NOON + 2 * DAY_MS)
    await expert.say(message("$after"))
    await expert.store()

    survey = await erasure.survey(expert.office.desk, first_day=DAY, last_day=DAY)
    assert await erasure.apply(expert.office.desk, survey, reason="x") == "1 keys were destroyed."
    await expert.store()

    found, faults = await expert.rechecks()
    assert states(found) == {"$3": State.AGREES, "$4": State.AGREES}
    assert faults == []
    (line,) = expert.lines("2025-11-25")
    assert opens_from(line) == 3, "nothing of the first day opens with it"
    (erased,) = [key for key in expert.session_objects() if "2025-11-24" in key]
    for key in (erased, *segments):
        with pytest.raises(pyrage.DecryptError):
            expert.opened(key)
    rows = await expert.office.world.database.fetch("SELECT DISTINCT day FROM audit_session_key")
    assert [row["day"] for row in rows] == [DAY + 1]
    assert wrong(await expert.verified()) == []


async def test_a_message_that_was_read_later_agrees(make: MakeExpert) -> None:
    expert = make(erasable=True)
    await expert.say(*new_room(), expert.device.say("$1", "late"), expert.device.say("$2", "too"))
    await expert.store()
    expert.office.at(NOON + DAY_MS)
    ref = expert.device.give(source=KeySource.BACKUP)
    await expert.office.bot.keys_arrived([ref])
    await expert.store()

    found, _ = await expert.rechecks("$1")

    assert [(one.record["kind"], one.compared.state) for one in found] == [
        ("decryption", State.AGREES)
    ]
    (line,) = expert.lines()
    assert line["source"] == "backup"
    expert.office.at(NOON + 2 * DAY_MS)
    await expert.say(message("$after"))
    await expert.store()
    survey = await erasure.survey(expert.office.desk, first_day=DAY, last_day=DAY)
    await erasure.apply(expert.office.desk, survey, reason="x")
    await expert.store()
    for cache in ("cache", "another"):
        expert.cache = expert.cache.with_name(cache)
        for event_ids in ((), ("$1",)):
            found, _ = await expert.rechecks(*event_ids)
            # Its ciphertext went with its day.
            assert {one.compared.state for one in found} == {State.NOT_KEPT}, (cache, event_ids)


async def test_retention_takes_the_keys_with_their_day(make: MakeExpert) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$old", "said"))
    await expert.store()
    expert.office.at(TODAY)
    await expert.say(expert.device.say("$new", "said"))
    await expert.store()
    (old, new) = expert.session_objects()

    await retain(expert.office)
    await expert.store()

    assert expert.session_objects() == [new]
    (removal,) = [
        json.loads(body)
        for key, body in expert.office.objects().items()
        if "/removals/" in key and key.endswith(".json")
    ]
    assert [item["key"] for item in removal["sessions"]] == [old]
    assert wrong(await expert.verified()) == []
    found, faults = await expert.rechecks()
    assert (states(found), faults) == ({"$new": State.AGREES}, [])
    rows = await expert.office.world.database.fetch("SELECT day FROM audit_session_key")
    assert [row["day"] for row in rows] == [TODAY // DAY_MS]


async def test_room_keys_that_the_store_keeps_are_tried_again(
    make: MakeExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$old", "said"))
    await expert.store()
    expert.office.at(TODAY)
    (kept,) = expert.session_objects()
    whole = DirectoryStore.delete

    async def refuse(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if "/sessions/" in key:
            raise TransientError("it is locked")
        await whole(store, key, version_id)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "delete", refuse)
        assert "it is locked" in await retain(expert.office)
        assert "it is locked" in (await retention.carry_out(expert.office.desk)).text
    assert expert.session_objects() == [kept]
    await expert.store()
    assert wrong(await expert.verified()) == []

    expert.office.at(TODAY + 16 * 60_000)
    await expert.office.bot.daily.look()

    assert expert.session_objects() == []
    await expert.store()
    assert wrong(await expert.verified()) == []


async def test_room_keys_stay_with_a_segment_that_the_store_keeps(
    make: MakeExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$first", "said"))
    await expert.store()
    await expert.say(expert.device.say("$next", "said"))
    await expert.store()
    expert.office.at(TODAY)
    (kept,) = expert.session_objects()
    whole = DirectoryStore.delete

    async def refuse(store: DirectoryStore, key: str, version_id: str | None = None) -> None:
        if "/events/" in key and key != kept.replace("/sessions/", "/events/"):
            raise TransientError("it is locked")
        await whole(store, key, version_id)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "delete", refuse)
        assert "it is locked" in await retain(expert.office)
    await expert.store()
    found, faults = await expert.rechecks()
    assert (states(found), faults) == ({"$next": State.AGREES}, [])

    expert.office.at(TODAY + 16 * 60_000)
    await expert.office.bot.daily.look()

    assert expert.session_objects() == []


async def held_on(office: Office, day: int) -> list[str]:
    """Return the room keys that a bucket's own hold would be set on for a day."""
    hold = Hold("h", "x", frozenset(), frozenset(), None, None)
    async with office.world.database.transaction() as connection:
        await connection.execute("UPDATE audit_segment SET sessions_version = 'v'")
        await connection.execute(
            "INSERT INTO audit_hold_day (hold_id, stream, day, seen_seq, rooms, held)"
            " SELECT DISTINCT 'h', stream, day, 0, '', 1 FROM audit_segment WHERE day = $1",
            day,
        )
    found = [row["object_key"] for row in await held_versions.sessions(office.desk, hold)]
    async with office.world.database.transaction() as connection:
        await connection.execute("UPDATE audit_segment SET sessions_version = NULL")
        await connection.execute("DELETE FROM audit_hold_day")
    return found


async def test_room_keys_stay_as_long_as_any_segment_of_their_day(make: MakeExpert) -> None:
    expert = make()
    office = expert.office
    office.world.classes = (
        RetentionClass(name="chats", keep_days=30, rooms=(ROOM,)),
        RetentionClass(name="board", keep_days=60, rooms=("!board",)),
    )
    office.start()
    expert.device.give()
    await expert.say(*new_room())
    await expert.store()
    office.at(NOON + DAY_MS)
    await expert.say(expert.device.say("$short", "said"))
    await expert.store()
    await expert.say(expert.device.say("$long", "said"), message("$board", room_id="!board"))
    await expert.store()
    (kept,) = expert.session_objects()
    office.at(NOON + 40 * DAY_MS)

    await retain(office, keep_days=10_000)
    await expert.store()

    assert kept.replace("/sessions/", "/events/") not in office.objects(), "its segment is gone"
    assert await held_on(office, (NOON + DAY_MS) // DAY_MS) == [kept]
    found, faults = await expert.rechecks()
    assert (states(found), faults) == ({"$long": State.AGREES}, [])
    assert wrong(await expert.verified()) == []

    office.at(NOON + 70 * DAY_MS)
    await retain(office, keep_days=10_000)
    await expert.store()

    assert expert.session_objects() == []
    assert wrong(await expert.verified()) == []
    assert await office.world.database.fetch("SELECT * FROM audit_session_key") == []


async def test_the_exit_status_tells(
    make: MakeExpert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expert = make()
    expert.device.give()
    await expert.say(
        *new_room(),
        message("$clear"),
        expert.device.say("$fMV7nVwWbCQlk0x3uMYUwRO5lCQvCqlTA5nBDvAHqk4", "said"),
        expert.device.say("$2", "said too"),
        encrypted("$unread"),
    )
    await expert.store()
    identity = tmp_path / "identity"
    identity.write_text(f"{IDENTITIES[0]}\n")

    async def types(*words: str) -> tuple[int, str, str]:
        options = [f"--destination=file:{expert.root}", f"--home={tmp_path / 'home'}"]
        command = ["recheck", *words, *options, f"--identity={identity}"]
        status = await asyncio.to_thread(main, command)
        return status, *capsys.readouterr()

    status, said, told = await types("$fMV7nVwWbCQlk0x3uMYUwRO5lCQvCqlTA5nBDvAHqk4")
    assert status == 0
    assert said.startswith("AGREES  $fMV7nVwWbCQlk0x3uMYUwRO5lCQvCqlTA5nBDvAHqk4  2025-11-24 ")
    assert f"session {expert.device.outbound.session_id}, message 0, device DEVICE" in said
    assert "1 agree, 0 DIFFER, 0 without a session key, 0 without their ciphertext." in told
    status, said, told = await types()
    assert (status, said) == (0, "")
    assert "2 agree" in told
    assert "1 more could never be read" in told
    assert (await types("--room", "!other"))[0] == 3, "nothing was compared"
    assert (await types("--to", "2025-11-23"))[0] == 3
    for event_id, why in (
        ("$clear", "was not encrypted"),
        ("$unread", "was never read"),
        ("$none", "is not in the archive"),
    ):
        status, said, told = await types(event_id)
        assert (status, said) == (2, "")
        assert why in told
    entries = map(json.loads, (tmp_path / "home" / "access.jsonl").read_text().splitlines())
    told_of = [(one["what"], one.get("outcome")) for one in entries]
    assert told_of == [("rechecked", None)] * 4 + [("rechecked", None), ("recheck", "refused")] * 3
    for path in expert.root.rglob("sessions/**/*.age"):
        path.unlink()
    status, said, told = await types()
    assert status == 1
    assert said.count("NO SESSION KEY") == 2
    assert "NOT ALL ROOM KEYS CAN BE USED" in told


@pytest.mark.parametrize("damage", ["changed", "gone", "foreign", "exchanged"])
async def test_what_is_done_to_the_keys_is_found(make: MakeExpert, damage: str) -> None:
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), expert.device.say("$1", "said"))
    await expert.store()
    expert.office.at(NOON + DAY_MS)
    await expert.say(expert.device.say("$2", "said"))
    await expert.store()
    first, second = expert.session_objects()
    path = expert.root / first
    code, key = "sessions", first
    match damage:
        case "changed":
            body = path.read_bytes()
            path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        case "gone":
            path.unlink()
            code = "missing"
        case "exchanged":
            path.write_bytes((expert.root / second).read_bytes())
        case _:
            code, key = "foreign", first.replace("000000000000", "000000000001")
            (expert.root / key).write_bytes(path.read_bytes())

    assert (code, key) in wrong(await expert.verified())

    found, faults = await expert.rechecks()
    if damage == "foreign":
        assert set(states(found).values()) == {State.AGREES}
    else:
        assert states(found) == {"$1": State.NO_KEY, "$2": State.AGREES}
        assert len(faults) == 1
        assert first in faults[0]


def test_a_line_is_what_matrix_clients_import() -> None:
    from auditbot.session_keys import SessionLine  # noqa: PLC0415  # needed only here

    names = {field.name for field in msgspec.structs.fields(SessionLine)}
    # Matrix specification v1.18, client-server API, "ExportedSessionData".
    assert names >= {
        "algorithm",
        "forwarding_curve25519_key_chain",
        "room_id",
        "sender_claimed_keys",
        "sender_key",
        "session_id",
        "session_key",
    }
