"""Entries on their way: whatever fails when, they stay one chain, and nothing passes unwritten."""

import errno
import hashlib
import multiprocessing
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from auditbot.reader.access.checking import Chain, Checked, Ends, Stored, check
from auditbot.reader.access.entries import LARGEST_BYTES, Entry, digest_of, object_key, read
from auditbot.reader.access.writing import RemoteLog
from auditbot.reader.access_log import AccessLog
from auditbot.storage.adding import RefusedError, TakenKeyError
from auditbot.storage.reading import MOST_BYTES, DirectoryPlace
from common.clock import SystemClock
from common.errors import PermanentError, StewardError, TransientError
from tests.support.losing_disk import LosingDisk, PowerCutError
from tests.unit.auditbot.builders import StoppedClock


@dataclass
class Place:
    """A place that may be away, or lose its answers."""

    there: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    answers: StewardError | None = None
    """What is said although the object was created."""

    def create(self, key: str, body: bytes) -> None:
        if self.away:
            raise TransientError("nobody answers")
        if key in self.there:
            raise TakenKeyError("it is there")
        self.there[key] = body
        if self.answers is not None:
            raise self.answers


LOST = TransientError("the answer was lost")


def chained(place: Place) -> list[tuple[int, str]]:
    """Return number and act of what is stored, having checked that each follows the one before."""
    found = []
    previous = "0" * 64
    for key in sorted(key for key in place.there if "/entries/" in key):
        one = read(place.there[key])
        assert one is not None
        assert object_key(one.entry) == key
        assert one.entry.previous == previous
        previous = digest_of(place.there[key])
        found.append((one.entry.number, one.entry.what))
    return found


def entry_of(body: bytes) -> Entry:
    found = read(body)
    assert found is not None
    return found.entry


def stored(place: Place, folder: Path) -> DirectoryPlace:
    """Return what lies there as somebody reads it."""
    for key, body in place.there.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(body)
    return DirectoryPlace(folder)


def log_at(place: Place, folder: Path) -> RemoteLog:
    return RemoteLog(folder, "s3://log", place, SystemClock(), "Mend it.")


@pytest.mark.parametrize("answer", [LOST, PermanentError("The store answered 418.")], ids=str)
def test_an_answer_that_was_lost_breaks_nothing(tmp_path: Path, answer: StewardError) -> None:
    place = Place()
    log = log_at(place, tmp_path)
    log.write("alice", "first", {})
    place.answers = answer
    with pytest.raises(StewardError, match="othing is shown before"):
        log.write("alice", "second", {})
    place.answers = None
    written = log_at(place, tmp_path).write("alice", "second again", {})

    assert chained(place) == [(0, "key made"), (1, "first"), (2, "second"), (3, "second again")]
    entries = [entry_of(body) for key, body in sorted(place.there.items()) if "/entries/" in key]
    assert [one.unconfirmed for one in entries] == [False, False, False, True]
    assert written.earlier == object_key(entries[2])
    assert not written.is_earlier_confirmed


def test_what_was_plainly_refused_was_never_there(tmp_path: Path) -> None:
    class Refusing(Place):
        def create(self, key: str, body: bytes) -> None:
            raise RefusedError("You may not.")

    place = Place()
    log_at(place, tmp_path).write("alice", "first", {})
    with pytest.raises(PermanentError, match=r"You may not\. Nothing is shown .* Mend it\."):
        log_at(Refusing(), tmp_path).write("alice", "refused", {})
    written = log_at(place, tmp_path).write("alice", "second", {})

    assert chained(place) == [(0, "key made"), (1, "first"), (2, "second")]
    assert written.earlier is None


async def test_a_name_that_somebody_else_took_is_found_by_whoever_can_read(
    tmp_path: Path,
) -> None:
    place = Place()
    log = log_at(place, tmp_path / "home")
    log.write("alice", "first", {})
    (taken,) = [key for key in place.there if "00000001" in key]
    taken = taken.replace("00000001", "00000002")
    place.away = True
    with pytest.raises(TransientError):
        log.write("alice", "second", {})
    place.away = False
    place.there[taken] = b"somebody else's"

    local = AccessLog(tmp_path / "access.jsonl", SystemClock(), log)
    local.write("third")

    (noted,) = [one for one, _ in local.entries()]
    assert noted["sent_again"] == taken
    assert "the name was taken" in noted["sent_again_outcome"]
    checked = await check(stored(place, tmp_path / "log"), {})
    none, follower = checked.all_faults
    assert "it is no entry" in none
    assert "00000003.json: it does not follow the one before it, whose name was taken" in follower
    assert "somebody else put that one there" in follower


def test_what_could_not_be_sent_is_sent_first_when_it_can_be(tmp_path: Path) -> None:
    place = Place(away=True)
    log = log_at(place, tmp_path)
    for _ in range(3):
        with pytest.raises(TransientError, match="try again when it can be"):
            log.write("alice", "search", {"query": "x"})
    assert place.there == {}
    place.away = False
    log.write("alice", "rooms listed", {})
    place.away = True
    with pytest.raises(TransientError):
        log.write("alice", "in the train", {})
    place.away = False
    log.write("alice", "people listed", {})

    assert chained(place) == [
        (0, "key made"),
        (1, "rooms listed"),
        (2, "in the train"),
        (3, "people listed"),
    ]


def test_a_machine_that_was_set_back_shows_nothing_until_a_new_key_begins(tmp_path: Path) -> None:
    place = Place()
    log = log_at(place, tmp_path)
    log.write("alice", "first", {})
    (state,) = tmp_path.glob("*.json")
    before = state.read_bytes()
    log.write("alice", "second", {})
    state.write_bytes(before)

    for _ in range(2):
        with pytest.raises(PermanentError, match=r"brought back from a backup.*access key --new"):
            log.write("alice", "third", {})
    assert [what for _, what in chained(place)] == ["key made", "first", "second"]
    old, new = log.key(), log.renew()
    log.write("alice", "third", {})
    log.write("alice", "fourth", {})

    others = Place({key: body for key, body in place.there.items() if new.key_id in key})
    assert chained(others) == [(0, "key made"), (1, "third"), (2, "fourth")]
    made = entry_of(others.there[f"access/entries/{new.key_id}-00000000.json"])
    assert made.detail["older_keys"] == [old.key_id]
    assert set(log.states()) == {old.key_id, new.key_id}, (
        "how far the old one went is not forgotten"
    )


def test_a_number_is_taken_on_every_day(tmp_path: Path) -> None:
    place, clock = Place(), StoppedClock()
    log = RemoteLog(tmp_path, "s3://log", place, clock, "")
    log.write("alice", "first", {})
    (state,) = tmp_path.glob("*.json")
    before = state.read_bytes()
    log.write("alice", "second", {})
    state.write_bytes(before)
    clock.moment_ms += 3 * 86_400_000

    with pytest.raises(PermanentError, match="already, which this machine does not know of"):
        log.write("alice", "second, days later", {})
    assert [number for number, _ in chained(place)] == [0, 1, 2]


def test_what_is_damaged_here_says_so_until_a_new_key_begins(tmp_path: Path) -> None:
    place = Place()
    log = log_at(place, tmp_path)
    log.write("alice", "first", {})
    (state,) = tmp_path.glob("*.json")
    state.write_bytes(b"{")
    with pytest.raises(PermanentError, match=r"is damaged.*access key --new"):
        log.write("alice", "second", {})
    log.renew()
    log.write("alice", "second", {})
    (tmp_path / "key.pem").write_bytes(b"x")
    with pytest.raises(
        PermanentError, match=r"signs the access log, is damaged.*access key --new"
    ):
        log.write("alice", "third", {})
    log.renew()
    log.write("alice", "third", {})

    acts = [entry_of(body).what for key, body in place.there.items() if "/entries/" in key]
    assert acts == ["key made", "first", "key made", "second", "key made", "third"]


def test_what_is_damaged_of_an_older_key_keeps_no_new_one_from_beginning(tmp_path: Path) -> None:
    place = Place()
    log = log_at(place, tmp_path)
    log.write("alice", "first", {})
    (older,) = tmp_path.glob("*.json")
    log.renew()
    log.write("alice", "second", {})
    older.write_bytes(b"{")
    (tmp_path / "key.pem").write_bytes(b"x")
    with pytest.raises(PermanentError, match=r"is damaged.*access key --new"):
        log.states()

    log.renew()

    log.write("alice", "third", {})
    assert len(log.states()) == 2


def test_what_cannot_be_read_here_says_whose_it_has_to_be(tmp_path: Path) -> None:
    log = log_at(Place(), tmp_path)
    log.write("alice", "first", {})
    (state,) = tmp_path.glob("*.json")
    state.unlink()
    state.mkdir()
    (tmp_path / "seen.json").mkdir()

    with pytest.raises(PermanentError, match=r"cannot be read .* give it to this user"):
        log.states()
    with pytest.raises(PermanentError, match=r"cannot be read .* give it to this user"):
        Ends(tmp_path / "seen.json").recall("s3://log")


def test_no_power_cut_breaks_the_chain(tmp_path: Path) -> None:
    cuts = 0
    while True:
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            disk = LosingDisk(Path(name))
            place = Place()
            with disk.watched():
                disk.cut_in(cuts)
                try:
                    log_at(place, Path(name)).write("alice", "first", {})
                except PowerCutError:
                    is_cut = True
                else:
                    is_cut = False
                disk.cut_in(None)
                disk.lose()
                log_at(place, Path(name)).write("alice", "second", {})
            disk.close()
        acts = [what for _, what in chained(place)]
        assert acts in (["key made", "first", "second"], ["key made", "second"]), cuts
        assert acts[1] == "first" or is_cut, "what was said to be stored is"
        if not is_cut:
            break
        cuts += 1
    assert cuts > 20


@pytest.mark.parametrize("letter", ["a", '"', "\\", "\x00", "😀", "\ud800"], ids=ascii)
def test_no_entry_is_too_long_to_be_read(tmp_path: Path, letter: str) -> None:
    place = Place()
    log = AccessLog(tmp_path / "access.jsonl", SystemClock(), log_at(place, tmp_path / "home"))
    text = letter * 1_000_000
    log.write("search", found=3, **{f"query{number}": text for number in range(9)})
    log.write("drawn", conversations=[{"id": text}])

    bodies = [body for key, body in sorted(place.there.items()) if "/entries/" in key]
    assert all(len(body) <= LARGEST_BYTES for body in bodies)
    assert [what for _, what in chained(place)] == ["key made", "search", "drawn"]
    detail = entry_of(bodies[1]).detail
    assert detail["found"] == 3
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    assert detail["query8"].startswith(letter.replace("\ud800", "?") * 200)
    assert digest in detail["query8"]
    assert set(entry_of(bodies[2]).detail) == {"cut", "bytes", "sha256"}


def test_a_line_longer_than_what_is_read_at_once_is_followed(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "reviews.jsonl", SystemClock())
    log.write("drawn", conversations=["x" * 100] * 3000)
    log.write("reviewed")
    seal = log.seal()
    log.write("reviewed")

    assert [follows for _, follows in log.entries()] == [True, True, True]
    assert log.has(seal)


@pytest.mark.parametrize("length", [1, 40, 5000])
def test_after_a_line_that_broke_off_the_log_goes_on(tmp_path: Path, length: int) -> None:
    log = AccessLog(tmp_path / "access.jsonl", SystemClock())
    log.write("first")
    whole = log.path.read_bytes()
    log.write("second", query="x" * 4000)
    log.path.write_bytes(log.path.read_bytes()[: len(whole) + min(length, 4050)])

    log.write("third")
    log.write("fourth")

    found = [(entry["what"], follows) for entry, follows in log.entries()]
    assert found == [
        ("first", True),
        ("NO ENTRY, it broke off or was changed", False),
        ("third", True),
        ("fourth", True),
    ]


def test_a_full_disk_leaves_no_half_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AccessLog(tmp_path / "access.jsonl", SystemClock())
    log.write("first")
    real = os.write

    def some(handle: int, body: bytes) -> int:
        if len(body) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, body[:20])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", some)
        with pytest.raises(PermanentError, match=r"No space left.*make room"):
            log.write("second")
    log.write("third")

    assert [(one["what"], follows) for one, follows in log.entries()] == [
        ("first", True),
        ("third", True),
    ]


async def test_each_key_is_remembered_by_itself_and_never_less_far(tmp_path: Path) -> None:
    place = Place()
    alice, bob = log_at(place, tmp_path / "alice"), log_at(place, tmp_path / "bob")
    ends = Ends(tmp_path / "seen.json")
    for log in (alice, bob):
        log.write("somebody", "first", {})
    ends.keep("log", await check(stored(place, tmp_path / "one"), ends.recall("log")))
    older = await check(stored(place, tmp_path / "two"), ends.recall("log"))
    for log in (alice, bob):
        log.write("somebody", "second", {})
    place.there[f"access/entries/{bob.key().key_id}-00000001.json"] = b"changed"

    checked = await check(stored(place, tmp_path / "three"), ends.recall("log"))
    ends.keep("log", checked)
    ends.keep("log", older)

    assert checked.all_faults
    seen = ends.recall("log")
    assert seen[alice.key().key_id].number == 2, "nothing is wrong with hers"
    assert seen[bob.key().key_id].number == 1


def keep_own(path: str, key_id: str, chains: int) -> None:
    """Remember the ends of keys; run in processes of their own."""
    ends = Ends(Path(path))
    for number in range(chains):
        name = f"{key_id}{number}"
        entry = Entry(key_id=name, number=1, previous="", time_ms=0, user="", machine="", what="")
        chain = Chain(name, entries=[Stored(entry, "0", is_sound=True)])
        ends.keep("log", Checked({name: chain}))


def test_two_who_remember_at_once_forget_nothing(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=keep_own, args=(str(path), name, 40)) for name in ("a", "b", "c")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0

    assert len(Ends(path).recall("log")) == 120


async def test_a_place_that_goes_away_while_it_is_read_says_so_itself(tmp_path: Path) -> None:
    class Leaving(DirectoryPlace):
        async def get(
            self, key: str, version: str | None = None, *, most_bytes: int = MOST_BYTES
        ) -> bytes:
            raise TransientError("The bucket cannot be reached.")

    place = Place()
    log_at(place, tmp_path / "home").write("alice", "first", {})
    stored(place, tmp_path / "log")
    for key in [key for key in place.there if "/keys/" in key]:
        (tmp_path / "log" / key).unlink()

    with pytest.raises(TransientError, match="cannot be reached"):
        await check(Leaving(tmp_path / "log"), {})
