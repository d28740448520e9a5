"""A person is given what is archived of them, and of others only what was asked for."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.archive_maker import Maker, fingerprint, key_number
from tests.support.archive_story import DESK
from tests.unit.auditbot.reader.test_commands import Officer, officer
from tests.unit.auditbot.reader.test_later_readers import ALICE, BOB, CAROL, ROOM, Room
from tests.unit.auditbot.reader.test_transcript import Page

__all__ = ["officer"]


def unpacked(officer: Officer, name: str) -> Path:
    folder = officer.folder / name.removesuffix(".zip")
    with zipfile.ZipFile(officer.folder / name) as packed:
        packed.extractall(folder)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.suffix in {".html", ".csv", ".json", ".jsonl", ".txt"}
    }


def shown(folder: Path, name: str) -> str:
    return " ".join(Page((folder / name).read_text(encoding="utf-8")).text.split())


def test_what_a_person_wrote_and_sent_is_there_and_proves_itself(officer: Officer) -> None:
    words = ("subject", "@carol:example.org", "--verify=all", "--output=carol.zip")
    assert officer.types(*words, "--key", fingerprint(key_number(1))) == 0
    assert officer.said.startswith("@carol:example.org: 1 room. Begin with index.html.\n")

    folder = unpacked(officer, "carol.zip")
    files_hash = re.search(r"files\.json  ([0-9a-f]{64})", officer.said)
    assert files_hash
    checked = subprocess.run(
        [
            *(sys.executable, folder / "verify.py"),
            *("--key", fingerprint(key_number(1)), "--files", files_hash[1]),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.startswith("RIGHT: ")
    assert "1 attachments" in checked.stdout
    assert len(list((folder / "media").iterdir())) == 1
    transcript = shown(folder, "transcript.html")
    for said in ("From the research team, sent from my laptop.", "chart.png", "我们明天见面吧"):
        assert said in transcript
    assert 'reacted "🎉" to $2' in transcript
    index = shown(folder, "index.html")
    assert "RIGHT: nothing was changed, added or removed." in index
    assert "Trading desk" in index
    assert DESK in index
    assert "What others saidnot in here" in index
    missing = shown(folder, "missing.html")
    assert (
        "1 could not be read: the sender's client gives keys to verified devices only" in missing
    )
    assert "without the bot" in missing
    assert "Sound and picture of calls." in missing
    (room,) = json.loads((folder / "rooms.json").read_text())
    assert room["room_id"] == DESK
    assert "script" not in Page((folder / "index.html").read_text()).tags


def test_what_others_said_is_not_told_unless_it_is_asked_for(officer: Officer) -> None:
    officer.types("subject", "@alice:example.org", "--verify=no", "--output=without.zip")
    without = texts(unpacked(officer, "without.zip"))
    assert "The price is 100." in without["messages.jsonl"]
    assert "Where is that from?" in without["transcript.html"]
    assert "in reply to a message that is not this person&#39;s" in without["transcript.html"]
    for name, text in without.items():
        for others in ("Not yet", "buy before the news", "chart.png", "Understood.", "Lunch"):
            assert others not in text, (name, others)

    words = ("subject", "@alice:example.org", "--verify=no", "--with-conversations")
    assert officer.types(*words, "--output=with.zip") == 0
    folder = unpacked(officer, "with.zip")
    rooms = {one["room_id"]: one["page"] for one in json.loads(texts(folder)["rooms.json"])}
    desk = shown(folder, rooms[DESK])
    assert "Not yet — I will call them at ten." in desk
    assert "The price is 120." in desk, "what the person said stands there, too"
    assert "buy before the news" in desk
    assert "buy before the news" not in texts(folder)["messages.jsonl"]
    assert [path.name for path in folder.glob("media/*")] == []
    checked = subprocess.run(
        [sys.executable, folder / "verify.py"], capture_output=True, text=True, check=True
    )
    assert checked.stdout.startswith("RIGHT: "), checked.stdout


@pytest.fixture
def room(officer: Officer, tmp_path: Path) -> Room:
    officer.maker = Maker(tmp_path / "other")
    officer.maker.publish_key()
    return Room(officer.maker, "joined", ALICE)


def given(officer: Officer, person: str, *words: str) -> Path:
    officer.maker.segment()
    officer.maker.manifest()
    words = ("subject", person, "--verify=no", "--with-conversations", "--output=it.zip", *words)
    assert officer.types(*words) == 0
    return unpacked(officer, "it.zip")


def test_the_periods_of_a_member_and_what_they_could_read(officer: Officer, room: Room) -> None:
    room.says("before Bob")
    room.member(BOB, "invite", by=ALICE)
    room.visibility = "invited"
    room.says("while Bob is invited")
    room.member(BOB, "join", displayname="Bob")
    room.says("while Bob is there")
    room.member(BOB, "join", displayname="Robert")
    room.member(BOB, "leave")
    room.says("after Bob")
    room.visibility = "shared"
    room.says("shown to whoever comes")
    room.visibility = "joined"
    room.member(BOB, "join")
    room.says("when Bob is back")
    room.member(BOB, "ban", by=ALICE)
    room.says("without Bob")

    folder = given(officer, BOB)
    words = ("subject", BOB, "--verify=no", "--with-conversations", "--output=part.zip")
    assert officer.types(*words, "--to=2025-11-24T16:00:11") == 0
    part = unpacked(officer, "part.zip")

    assert len(json.loads((part / "rooms.json").read_text())[0]["periods"]) == 1
    assert "shown to whoever" in shown(part, "rooms/room-0001.html"), "they came again after it"
    (found,) = json.loads((folder / "rooms.json").read_text())
    assert found["periods"] == [
        {"from": "2025-11-24 16:00:05", "to": "2025-11-24 16:00:09", "ended": "leave"},
        {"from": "2025-11-24 16:00:12", "to": "2025-11-24 16:00:14", "ended": "ban"},
    ]
    assert found["invited"] == ["2025-11-24 16:00:03"]
    page = shown(folder, found["page"])
    for text in ("while Bob is invited", "while Bob is there", "shown to whoever", "Bob is back"):
        assert text in page
    for text in ("before Bob", "after Bob", "without Bob"):
        assert text not in page
        assert text not in (folder / "records.jsonl").read_text()
    assert "2025-11-24 16:00:12 to 2025-11-24 16:00:14 (banned)" in shown(folder, "index.html")


def test_somebody_who_was_there_before_and_never_said_a_word(officer: Officer, room: Room) -> None:
    room.inside.add(CAROL)
    room.says("to Alice and Carol")

    folder = given(officer, CAROL)
    with pytest.raises(UserError, match="Nobody of the archive fits “carol”"):
        officer.types("subject", "carol")

    (found,) = json.loads((folder / "rooms.json").read_text())
    assert (found["room_id"], found["periods"]) == (
        ROOM,
        [{"from": None, "to": None, "ended": ""}],
    )
    assert "before the record of this room begins to 2025-11-24" in shown(folder, "index.html")
    assert "to Alice and Carol" in shown(folder, found["page"])
    kinds = [json.loads(line)["kind"] for line in (folder / "records.jsonl").open()]
    assert kinds == ["audience", "event"], "the list that names them is proved"


def test_only_the_time_that_was_asked_for(officer: Officer, room: Room) -> None:
    room.member(BOB, "join")
    room.says("in November", BOB)
    room.member(BOB, "leave")
    officer.maker.now_ms += 40 * 86_400_000
    room.says("in January", ALICE)

    officer.maker.segment()
    officer.maker.manifest()
    with pytest.raises(UserError, match=r"holds nothing of “@bob:example\.org” in that time"):
        officer.types("subject", BOB, "--verify=no", "--from=2026-01-01")
    assert officer.types("subject", BOB, "--verify=no", "--to=2025-12-31") == 0


def test_it_is_written_down_first_and_over_nothing(officer: Officer) -> None:
    assert officer.types("subject", "@bob:example.org", "--verify=no") == 0
    taken = officer.folder / "subject-bob-example-org.zip"
    before = taken.read_bytes()
    assert taken.stat().st_mode & 0o777 == 0o600

    with pytest.raises(UserError, match="is there already"):
        officer.types("subject", "@bob:example.org", "--verify=no")
    assert taken.read_bytes() == before
    assert officer.types("subject", "@bob:example.org", "--verify=no", "--force") == 0
    with pytest.raises(UserError, match="fits more than one"):
        officer.types("subject", "example.org")

    log = [json.loads(line) for line in (officer.folder / "home/access.jsonl").open()]
    asked = [(entry["what"], entry.get("subject"), entry.get("outcome")) for entry in log]
    assert asked[:3] == [
        ("subject access", "@bob:example.org", None),
        ("subject given", "@bob:example.org", None),
        ("subject", None, "refused"),
    ]
