"""Where content is sealed, a room key opens with the key of what it was needed for, and goes with it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrage
import pytest
import vodozemac
import zstandard

from auditbot.operations import erasure
from auditbot.pipeline.seal import lines_in
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.index.library import Library
from auditbot.reader.index.sync import sync
from auditbot.reader.layout import sessions_key
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS
from auditbot.reader.recheck.comparing import State
from auditbot.reader.recheck.gathering import gather
from auditbot.reader.recheck.run import decrypted_in, recheck
from auditbot.reader.recheck.shelf import Shelf
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.sealed_sessions import sealed_sessions as lines_of_sessions
from auditbot.storage.reading import DirectoryPlace
from common.config.bot_settings import RetentionClass
from common.crypto.port import KeySource, SessionRef
from common.crypto.room_keys import RoomKey
from common.database.pool import Database
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, event, message, new_room
from tests.unit.auditbot.megolm import Device
from tests.unit.auditbot.test_operations import TODAY, Office, retain

BOB = "@bob:example.org"
DAY = NOON // DAY_MS
IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@dataclass
class Desk:
    """An office whose content is sealed and whose room keys are kept; alice and bob encrypt."""

    office: Office
    alice: Device = field(default_factory=Device)
    bob: Device = field(default_factory=Device)

    def __post_init__(self) -> None:
        self.office.world.crypto = self.alice
        self.give(self.alice, ALICE)
        self.give(self.bob, BOB)

    def give(self, device: Device, user: str, source: KeySource = KeySource.DIRECT) -> SessionRef:
        """Give Steward the key of somebody's device."""
        ref = SessionRef(ROOM, device.outbound.session_id)
        session = vodozemac.InboundGroupSession(device._beginning)
        key = RoomKey(ref, user, f"curve of {user}", f"ed of {user}", source, session)
        self.alice.copies[ref] = key
        return ref

    @property
    def root(self) -> Path:
        return self.office.world.directory / "archive"

    async def say(self, *bodies: bytes) -> None:
        await self.office.say(*bodies)
        await self.office.store()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines with room keys as they lie in the archive."""
        return [
            json.loads(line)
            for key, body in self.office.objects().items()
            if "/sessions/" in key
            for line in lines_in(body)
        ]

    def opened(self) -> list[dict[str, Any]]:
        """Return the room keys that officers can still open, by any key that lies there."""
        found = []
        for line in self.lines():
            sealed = base64.b64decode(line["sealed"])
            for key, wrapped in self.office.objects().items():
                if "/keys/content-" not in key:
                    continue
                secret = bytes(pyrage.decrypt(wrapped, IDENTITIES)).decode().strip()
                try:
                    packed = pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(secret)])
                except pyrage.DecryptError:
                    continue
                found.append(json.loads(zstandard.ZstdDecompressor().decompress(bytes(packed))))
        return found

    async def rechecks(self, cache: Path) -> dict[str, State]:
        library = Library(cache, (str(IDENTITIES[1]),))
        place = DirectoryPlace(self.root)
        assert (await sync(place, library, lambda _: Remembered())).faults == []
        shelf = Shelf(place, library)
        ids = decrypted_in(library, ALWAYS)
        found = [one async for one in recheck(library, shelf, ids)]
        assert shelf.faults == []
        library.close()
        return {str(one.record["event_id"]): one.compared.state for one in found}

    async def wrong(self, *, identities: bool = True) -> list[tuple[str, str]]:
        options = Options(
            now_ms=self.office.world.clock.now_ms(),
            destination=f"file:{self.root}",
            identities=(str(IDENTITIES[0]),) if identities else (),
        )
        (result,) = await verify(DirectoryPlace(self.root), options)
        return [(one.code, one.key) for one in result.findings.of(Severity.WRONG)]


MakeDesk = Callable[..., Desk]


@pytest.fixture
def make(database: Database, tmp_path: Path) -> MakeDesk:
    def make(erasable: Any, *classes: RetentionClass) -> Desk:
        office = Office(database, tmp_path)
        office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
        office.world.seal = "content"
        office.world.session_keys = True
        office.world.erasable = erasable
        office.world.classes = classes
        desk = Desk(office)
        office.start()
        return desk

    return make


def opens_from(line: dict[str, Any]) -> int:
    exported = vodozemac.ExportedSessionKey(line["session_key"])
    return vodozemac.InboundGroupSession.import_session(exported).first_known_index


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
@pytest.mark.parametrize("erasable", [False, "day", "person"])
async def test_each_message_agrees_and_each_key_is_sealed_as_its_record_is(
    make: MakeDesk, erasable: Any, compression: str, tmp_path: Path
) -> None:
    desk = make(erasable)
    desk.office.world.compression = compression
    desk.office.start()
    await desk.say(
        *new_room(BOB),
        message("$clear"),
        desk.alice.say("$a1", "one"),
        desk.bob.say("$b1", "two", sender=BOB),
        desk.alice.say("$a2", "three"),
    )
    await desk.say(desk.bob.say("$b2", "four", sender=BOB))

    found = await desk.rechecks(tmp_path / "cache")

    assert found == dict.fromkeys(("$a1", "$a2", "$b1", "$b2"), State.AGREES)
    assert len(desk.lines()) == 2
    sealed_to = {
        (record["stream"], record["seq"]): record["sealed_to"]
        for key, body in desk.office.objects().items()
        if "/events/" in key
        for record in map(json.loads, lines_in(body))
    }
    for line in desk.lines():
        assert line["sealed_to"] == sealed_to[line["stream"], line["seq"]]
        assert set(line) == {"v", "stream", "seq", "sealed_to", "sealed_sha256", "sealed"}
    kept = [sessions_key(key) for key in desk.office.objects() if "/sessions/" in key]
    assert [one is not None and one.sealed for one in kept] == [False]
    assert {one["sender"] for one in desk.opened()} == {ALICE, BOB}
    assert await desk.wrong() == []
    assert await desk.wrong(identities=False) == []


async def test_no_room_key_lies_anywhere_in_clear(make: MakeDesk, tmp_path: Path) -> None:
    desk = make("person")
    await desk.office.say(*new_room(BOB), desk.alice.say("$a1", "one"))
    exported = desk.alice.copies[SessionRef(ROOM, desk.alice.outbound.session_id)].export_at(0)
    assert exported is not None
    ratchet = base64.b64decode(exported + "==")[5:133]

    def is_somewhere() -> bool:
        paths = [path for path in tmp_path.rglob("*") if path.is_file()]
        bodies = [path.read_bytes() for path in paths]
        bodies += [b"\n".join(lines_in(body)) for key, body in desk.office.objects().items()
                   if "/sessions/" in key]  # fmt: skip
        return any(one in body for body in bodies for one in (ratchet, exported.encode()[8:100]))

    assert not is_somewhere()
    await desk.office.store()
    assert not is_somewhere()
    assert [one["session_key"] for one in desk.opened()] == [exported]


async def test_an_erased_day_leaves_neither_content_nor_room_keys(
    make: MakeDesk, tmp_path: Path
) -> None:
    desk = make("day")
    await desk.say(*new_room(BOB), desk.alice.say("$1", "day one"), desk.alice.say("$2", "too"))
    desk.office.at(NOON + DAY_MS)
    await desk.say(desk.alice.say("$3", "day two"), desk.bob.say("$4", "too", sender=BOB))
    desk.office.at(NOON + 2 * DAY_MS)
    await desk.say(message("$after"))
    assert set((await desk.rechecks(tmp_path / "cache")).values()) == {State.AGREES}

    survey = await erasure.survey(desk.office.desk, first_day=DAY, last_day=DAY)
    await erasure.apply(desk.office.desk, survey, reason="x")
    await desk.office.store()

    for cache in ("cache", "another"):
        assert await desk.rechecks(tmp_path / cache) == {
            "$1": State.NOT_KEPT, "$2": State.NOT_KEPT, "$3": State.AGREES, "$4": State.AGREES,
        }  # fmt: skip
    assert sorted(opens_from(one) for one in desk.opened()) == [0, 2], "nothing of day one opens"
    assert len(desk.lines()) == 3
    rows = await desk.office.world.database.fetch("SELECT DISTINCT day FROM audit_session_key")
    assert [row["day"] for row in rows] == [DAY + 1]
    assert await desk.wrong() == []


async def test_an_erased_person_leaves_none_and_the_others_stay(
    make: MakeDesk, tmp_path: Path
) -> None:
    desk = make("person")
    await desk.say(
        *new_room(BOB),
        *[desk.alice.say(f"$a{number}", "said") for number in range(3)],
        desk.bob.say("$b0", "said", sender=BOB),
    )
    desk.office.at(NOON + 3600_000)

    found = await erasure.survey_person(desk.office.desk, ALICE)
    await erasure.apply(desk.office.desk, found, reason="x")
    await desk.say(desk.alice.say("$a3", "later"), desk.bob.say("$b1", "later", sender=BOB))

    for cache in ("cache", "another"):
        assert await desk.rechecks(tmp_path / cache) == {
            **dict.fromkeys(("$a0", "$a1", "$a2"), State.NOT_KEPT),
            **dict.fromkeys(("$a3", "$b0", "$b1"), State.AGREES),
        }
    assert sorted((one["sender"], opens_from(one)) for one in desk.opened()) == [
        (ALICE, 3), (BOB, 0),
    ]  # fmt: skip
    assert len(desk.lines()) == 3, "the erased one is there, shut for everybody"
    rows = await desk.office.world.database.fetch(
        "SELECT sender, first_index FROM audit_session_key"
    )
    assert sorted((row["sender"], row["first_index"]) for row in rows) == [(ALICE, 3), (BOB, 0)]
    assert await desk.wrong() == []


async def test_what_a_person_writes_while_being_erased_has_its_own_room_key(
    make: MakeDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make("person")
    await desk.say(*new_room(BOB), *[desk.alice.say(f"$a{number}", "x") for number in range(2)])
    found = await erasure.survey_person(desk.office.desk, ALICE)

    async def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "_destroy", killed)
        with pytest.raises(RuntimeError):
            await erasure.apply(desk.office.desk, found, reason="x")
    await desk.say(desk.alice.say("$a2", "between"))
    await erasure.carry_out(desk.office.desk)
    await desk.say(desk.alice.say("$a3", "later"))

    assert [opens_from(one) for one in desk.opened()] == [2]
    assert await desk.rechecks(tmp_path / "cache") == {
        "$a0": State.NOT_KEPT, "$a1": State.NOT_KEPT, "$a2": State.AGREES, "$a3": State.AGREES,
    }  # fmt: skip


async def test_a_key_that_comes_after_its_person_was_erased_is_not_kept(
    make: MakeDesk, tmp_path: Path
) -> None:
    desk = make("person")
    ref = desk.give(desk.alice, ALICE, KeySource.BACKUP)
    key = desk.alice.copies.pop(ref)
    await desk.say(*new_room(BOB), desk.alice.say("$late", "late"), message("$clear"))
    found = await erasure.survey_person(desk.office.desk, ALICE)
    await erasure.apply(desk.office.desk, found, reason="x")

    desk.alice.copies[ref] = key
    await desk.office.bot.keys_arrived([ref])
    await desk.office.store()

    assert desk.lines() == []
    assert await desk.rechecks(tmp_path / "cache") == {}


async def test_of_a_day_one_class_goes_alone(make: MakeDesk, tmp_path: Path) -> None:
    board = RetentionClass(name="board", keep_days=None, rooms=("#board:*",))
    desk = make("day", board)
    alias = {"alias": "#board:example.org"}
    await desk.say(
        *new_room(BOB),
        desk.alice.say("$plain", "before"),
        event("$alias", alias, type="m.room.canonical_alias", state_key=""),
        desk.alice.say("$board", "after"),
    )
    desk.office.at(NOON + DAY_MS)
    await desk.say(message("$after"))
    assert {line["sealed_to"].rpartition("-")[0][-7:] for line in desk.lines()} == {
        "default", "4-board",
    }  # fmt: skip

    survey = await erasure.survey(desk.office.desk, first_day=DAY, last_day=DAY, label="default")
    await erasure.apply(desk.office.desk, survey, reason="x")
    await desk.office.store()

    assert await desk.rechecks(tmp_path / "cache") == {
        "$plain": State.NOT_KEPT, "$board": State.AGREES,
    }  # fmt: skip
    assert [opens_from(one) for one in desk.opened()] == [1], "the class that went is not in it"


async def test_retention_takes_them_with_their_day(make: MakeDesk) -> None:
    desk = make(False)
    await desk.say(*new_room(BOB), desk.alice.say("$old", "said"))
    desk.office.at(TODAY)
    await desk.say(desk.alice.say("$new", "said"))

    await retain(desk.office)
    await desk.office.store()

    assert [opens_from(one) for one in desk.opened()] == [1]
    assert await desk.wrong() == []


async def test_keys_are_written_out_of_such_an_archive(make: MakeDesk, tmp_path: Path) -> None:
    desk = make("person")
    said = [desk.alice.say(f"$a{number}", "said") for number in range(3)]
    await desk.say(*new_room(BOB), *said, desk.bob.say("$b", "said", sender=BOB))
    library = Library(tmp_path / "cache", (str(IDENTITIES[0]),))
    place = DirectoryPlace(desk.root)
    await sync(place, library, lambda _: Remembered())

    found = await gather(library, Shelf(place, library), decrypted_in(library, ALWAYS), None)

    assert {one.sender for one in found.sessions} == {ALICE, BOB}
    assert (found.messages, found.without) == (4, 0)
    library.close()


async def test_without_an_identity_it_is_said_that_all_is_sealed(
    make: MakeDesk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = make("day")
    await desk.say(*new_room(BOB), desk.alice.say("$1", "said"))
    words = ["recheck", f"--destination=file:{desk.root}", f"--home={tmp_path / 'home'}"]

    status = await asyncio.to_thread(main, words)

    told = capsys.readouterr()
    assert status == 3
    assert "1 sealed, and no key to open them is here" in told.err
    assert "without their ciphertext" in told.err


def swapped(line: dict[str, Any], other: dict[str, Any]) -> None:
    line["sealed"] = other["sealed"]


def of_nobody(line: dict[str, Any], _: dict[str, Any]) -> None:
    line["sealed_to"] = line["sealed_to"].replace("-1.age", "-7.age")


def in_clear(line: dict[str, Any], _: dict[str, Any]) -> None:
    line.clear()
    line.update(session_key="…")


@pytest.mark.parametrize(
    ("change", "code"),
    [(swapped, "sessions"), (of_nobody, "sealed_key"), (in_clear, "sessions")],
)
async def test_what_whoever_holds_the_signing_key_does_to_them_is_found(
    make: MakeDesk, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], code: str
) -> None:
    """The manifest fits the object here: only opening it tells."""
    desk = make("person")
    whole = lines_of_sessions

    async def changed(*arguments: Any, **more: Any) -> list[bytes]:
        lines = [json.loads(line) for line in await whole(*arguments, **more)]
        change(lines[0], lines[1])
        return [json.dumps(line).encode() + b"\n" for line in lines]

    monkeypatch.setattr("auditbot.segments.sealed_sessions", changed)
    await desk.say(
        *new_room(BOB), desk.alice.say("$1", "said"), desk.bob.say("$2", "said", sender=BOB)
    )
    (key,) = [name for name in desk.office.objects() if "/sessions/" in name]

    assert (code, key) in await desk.wrong()
