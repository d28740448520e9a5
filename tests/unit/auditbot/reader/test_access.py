"""What an officer does is written down elsewhere before anything is shown, and it stays whole."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import structs

from auditbot.reader.access.entries import read, sealed
from auditbot.reader.access.settings import FILE, VARIABLE, access_place
from auditbot.reader.access.writing import RemoteLog
from auditbot.reader.cli import main
from auditbot.reader.verify.report import grouped
from auditbot.storage.adding import Adding, DirectoryAdding, RefusedError
from auditbot.storage.reading import DirectoryPlace
from common.clock import SystemClock
from common.config.schema import S3
from common.errors import ConfigError, StewardError
from tests.support.archive_maker import Maker
from tests.support.archive_story import tell_story


@dataclass
class Officer:
    """Types commands on a machine of its own, whose acts go to a directory elsewhere."""

    maker: Maker
    folder: Path
    log: Path
    capsys: pytest.CaptureFixture[str]
    said: str = ""
    told: str = ""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def types(self, *words: str) -> int:
        status = main(
            [
                *words,
                f"--destination=file:{self.maker.root}",
                f"--home={self.home}",
                f"--access-log=file:{self.log}",
            ]
        )
        self.said, self.told = self.capsys.readouterr()
        return status

    def fails(self, *words: str) -> str:
        with pytest.raises(StewardError) as caught:
            self.types(*words)
        self.said, self.told = self.capsys.readouterr()
        return str(caught.value)

    def objects(self) -> list[Path]:
        return sorted(self.log.glob("access/entries/*.json"), key=lambda path: path.name)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(json.loads(path.read_bytes())["signed"]) for path in self.objects()]


@pytest.fixture
def officer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Officer:
    monkeypatch.chdir(tmp_path)
    maker = tell_story(tmp_path / "archive")
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("correct horse staple\n")
    return Officer(maker, tmp_path / "officer", tmp_path / "log", capsys)


def test_each_act_is_stored_elsewhere_and_the_log_is_whole(officer: Officer) -> None:
    assert officer.types("search", "price") == 0
    assert officer.types("rooms") == 0
    assert officer.types("read", "--from", "2026-03-27") == 0
    assert officer.types("verify") == 0

    entries = officer.entries()
    assert [one["what"] for one in entries] == [
        "key made",
        "search",
        "rooms listed",
        "read",
        "verified",
    ]
    assert [one["number"] for one in entries] == [0, 1, 2, 3, 4]
    assert "price" in entries[1]["detail"]["query"]
    assert entries[1]["detail"]["found"] == 2
    assert entries[2]["detail"]["archive"] == f"file:{officer.maker.root}"
    key = officer.home / "access" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    local = [json.loads(line) for line in (officer.home / "access.jsonl").open()]
    assert [one["stored"] for one in local] == [
        path.relative_to(officer.log).as_posix() for path in officer.objects()[1:]
    ]
    assert officer.types("access", "key") == 0
    fingerprint = officer.said.splitlines()[-1].strip()
    assert grouped(entries[0]["detail"]["fingerprint"]) == fingerprint
    assert officer.types("access", "verify", "--key", fingerprint) == 0
    assert "WHOLE: every entry" in officer.said
    assert "5 entries" in officer.said
    assert fingerprint in officer.said


def test_who_looks_at_the_log_on_this_machine_is_in_it(officer: Officer) -> None:
    officer.types("search", "price")

    assert officer.types("log") == 0

    assert [one["what"] for one in officer.entries()] == ["key made", "search", "access log shown"]
    *_, shown, whole, end = officer.said.splitlines()
    assert "access log shown" in shown, "that, too"
    assert whole == "The log is unbroken."
    assert officer.types("log", "--since", end.rpartition(" ")[2].rstrip(".")) == 0
    assert officer.types("log", "--since", "0" * 63 + "1") == 1


def test_a_key_is_of_the_account_and_not_of_who_the_environment_says(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")

    assert officer.types("access", "key", "--new") == 0
    said = officer.said
    officer.types("rooms")

    assert f" of {officer.entries()[-1]['user']} signs " in said
    assert "somebody-else" not in said


def test_who_did_what_is_listed_and_counted(officer: Officer) -> None:
    officer.types("search", "price")
    officer.types("search", "nothing at all")

    assert officer.types("access", "list") == 0
    assert len([line for line in officer.said.splitlines() if " search: " in line]) == 2
    assert "access log listed" in officer.said, "that, too"
    assert officer.types("access", "list", "--sum") == 0
    assert "search 2" in officer.said
    assert officer.types("access", "list", "--person", "nobody", "--json") == 0
    assert officer.said == ""
    assert officer.types("access", "list", "--log", f"file:{officer.log}", "--json") == 0
    assert all(json.loads(line)["sound"] for line in officer.said.splitlines())


def test_who_looks_at_the_log_of_others_is_written_down_too(
    officer: Officer, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    write_some(str(others), str(tmp_path / "bob"), "bob", 2)
    where = f"--log=file:{others}"

    assert officer.types("access", "list", where, "--person", "bob") == 0
    assert "bob" in officer.said
    assert officer.types("access", "verify", where) == 0
    assert officer.types("access", "verify") == 0

    assert [(one["what"], one["detail"].get("log")) for one in officer.entries()] == [
        ("key made", None),
        ("access log listed", f"file:{others}"),
        ("access log verified", f"file:{others}"),
        ("access log verified", f"file:{officer.log}"),
    ]
    assert officer.entries()[2]["detail"]["entries"] == 3
    assert len(list(others.glob("access/entries/*"))) == 3, "only the log that is configured grows"
    # Whoever has none configured has it on their own machine.
    auditor = tmp_path / "auditor"
    assert main(["access", "list", where, f"--home={auditor}"]) == 0
    assert b"access log listed" in (auditor / "access.jsonl").read_bytes()
    assert len(list(others.glob("access/entries/*"))) == 3


COMMANDS = (
    ("search", "price"),
    ("rooms",),
    ("people",),
    ("read",),
    ("read", "--unsigned"),
    ("coverage",),
    ("coverage", "--unsigned"),
    ("report",),
    ("log",),
    ("sql", "SELECT * FROM records"),
    ("transcript", "Trading desk"),
    ("prove", "$4"),
    ("recheck",),
    ("recheck", "--export-keys=keys", "--passphrase-file=passphrase"),
    ("sample", "draw", "3", "--from", "2026-03-23", "--to", "2026-03-27"),
    ("sample", "log"),
    ("case", "create", "Desk"),
    ("case", "list"),
    ("verify",),
    ("drill",),
    ("parquet", "--into=copy"),
    ("access", "verify"),
    ("access", "list"),
    ("access", "verify", "--log=file:others"),
    ("access", "list", "--log=file:others"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_nothing_is_shown_that_is_not_stored(
    officer: Officer, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: Adding, key: str, body: bytes) -> None:
        raise RefusedError("The bucket does not let these credentials create objects.")

    monkeypatch.setattr(DirectoryAdding, "create", refuse)
    before = set(officer.folder.parent.glob("*"))
    try:
        status = officer.types(*words)
    except StewardError as error:
        told = str(error)
        officer.said, _ = officer.capsys.readouterr()
    else:
        told = officer.told
        assert status != 0
    assert officer.said == ""
    assert "Nothing is shown" in told
    assert set(officer.folder.parent.glob("*")) - before <= {officer.folder}
    assert not (officer.home / "access.jsonl").exists()
    monkeypatch.undo()
    monkeypatch.chdir(officer.folder.parent)
    officer.types(*words)
    assert len(officer.objects()) >= 2


def test_a_review_is_shown_and_kept_once_it_is_stored_elsewhere(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = ("--from", "2025-11-01", "--to", "2025-11-30")
    officer.types("sample", "draw", "1", *period, "--json")
    id_ = json.loads(officer.said)["conversations"][0]["id"]

    def refuse(store: Adding, key: str, body: bytes) -> None:
        raise RefusedError("The bucket does not let these credentials create objects.")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryAdding, "create", refuse)
        assert "Nothing is shown" in officer.fails("sample", "mark", id_)
    assert officer.said == ""
    assert officer.types("sample", "mark", id_, "--result=concern") == 0
    assert officer.types("sample", "log") == 0

    assert officer.said.count(f"reviewed {id_}") == 1
    *_, marked, shown = officer.entries()
    assert (marked["what"], shown["what"]) == ("sample reviewed", "sample log shown")
    assert marked["detail"]["conversations"] == id_
    assert marked["detail"]["result"] == "concern"


def write_some(log: str, home: str, name: str, count: int) -> None:
    """Add entries; run in processes of their own."""
    adding = DirectoryAdding(Path(log))
    remote = RemoteLog(Path(home), log, adding, SystemClock(), "")
    for number in range(count):
        remote.write(name, "search", {"number": number})


def test_two_officers_and_two_windows_at_once(officer: Officer, tmp_path: Path) -> None:
    # Alice has two windows open; Bob works on another machine.
    homes = [("alice", "a"), ("alice", "a"), ("bob", "b")]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_some, args=(str(officer.log), str(tmp_path / home), name, 10))
        for name, home in homes
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0

    assert officer.types("access", "verify", "--json") == 0
    keys = json.loads(officer.said)["keys"]
    assert sorted((one["people"], one["entries"]) for one in keys) == [
        (["alice"], 21),
        (["bob"], 11),
    ]


Damage = Callable[[list[Path]], int | None]


def gone(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def changed(paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes().replace(b"price", b"prize"))


def exchanged(paths: list[Path]) -> None:
    first, second = paths[1].read_bytes(), paths[2].read_bytes()
    paths[1].write_bytes(second)
    paths[2].write_bytes(first)


def renumbered(paths: list[Path]) -> None:
    """Take one out and move the others up."""
    bodies = [path.read_bytes() for path in paths]
    for path, body in zip(paths[2:], bodies[3:], strict=False):
        path.write_bytes(body)
    paths[-1].unlink()


def twice(paths: list[Path]) -> None:
    name = paths[1].name.replace("-0", "-00")
    paths[1].with_name(name).write_bytes(paths[1].read_bytes())


def forged(paths: list[Path]) -> None:
    """Sign an entry anew with another key, under the officer's name."""
    one = read(paths[2].read_bytes())
    assert one is not None
    paths[2].write_bytes(sealed(one.entry, Ed25519PrivateKey.generate()))


def rewritten(paths: list[Path]) -> None:
    """Say something else of an act, signed with the officer's own key."""
    (home,) = paths[0].parents[3].glob("officer/home/access/key.pem")
    key = load_pem_private_key(home.read_bytes(), None)
    one = read(paths[2].read_bytes())
    assert isinstance(key, Ed25519PrivateKey)
    assert one is not None
    other = structs.replace(one.entry, detail={**one.entry.detail, "query": "harmless"})
    paths[2].write_bytes(sealed(other, key))


DAMAGES: list[tuple[Damage, str]] = [
    (lambda paths: paths[2].unlink(), "Entry 2 of key"),
    (lambda paths: gone(paths[1:3]), "Entries 1 to 2 of key"),
    (lambda paths: paths[0].unlink(), "Entry 0 of key"),
    (lambda paths: paths[-1].unlink(), "They were here before"),
    (gone, "Entries 0 to"),
    (changed, "its signature is not by its key"),
    (exchanged, "belongs elsewhere"),
    (renumbered, "belongs elsewhere"),
    (twice, "-000000001.json: nothing of an access log has this name"),
    (forged, "its signature is not by its key"),
    (rewritten, "does not follow the one before it"),
    (lambda paths: paths[1].write_bytes(b"[]"), "it is no entry"),
    (lambda paths: paths[1].write_bytes(b"x" * 300_000), "larger than it may be"),
    (lambda paths: (paths[1].parent / "a.txt").write_bytes(b"x"), "has this name"),
    (
        lambda paths: next((paths[0].parent.parent / "keys").iterdir()).write_bytes(b"x"),
        "not the key that it is named after",
    ),
    (
        lambda paths: next((paths[0].parent.parent / "keys").iterdir()).unlink(),
        "keys/",
    ),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_what_is_done_to_the_log_is_found(officer: Officer, damage: Damage, words: str) -> None:
    for _ in range(3):
        officer.types("search", "price")
    assert officer.types("access", "verify") == 0

    damage(officer.objects())

    assert officer.types("access", "verify") == 1
    assert "NOT WHOLE" in officer.said
    assert words in officer.said
    # Somebody else's machine has seen it before, too, and goes by that.
    assert officer.types("access", "verify") == 1, "what is wrong is not learnt"
    assert officer.types("access", "list", "--log", f"file:{officer.log}") == 1
    assert "THE LOG IS NOT WHOLE" in officer.told


def test_an_end_that_was_cut_off_is_noticed_by_whoever_saw_it(
    officer: Officer, tmp_path: Path
) -> None:
    for _ in range(3):
        officer.types("search", "price")
    auditor = [f"--log=file:{officer.log}", f"--home={tmp_path / 'auditor'}"]
    assert main(["access", "verify", *auditor]) == 0

    officer.objects()[-1].unlink()

    assert main(["access", "verify", *auditor]) == 1
    assert "They were here before" in officer.capsys.readouterr().out
    fresh = [f"--log=file:{officer.log}", f"--home={tmp_path / 'fresh'}"]
    assert main(["access", "verify", *fresh]) == 0, "nobody told this machine"


def test_keys_that_nobody_wrote_down_are_told(officer: Officer, tmp_path: Path) -> None:
    officer.types("rooms")
    known = officer.entries()[0]["detail"]["fingerprint"]
    assert officer.types("access", "verify", "--key", known) == 0
    write_some(str(officer.log), str(tmp_path / "mallory"), "alice", 1)

    assert officer.types("access", "verify", "--key", known) == 1
    assert "none of those that you named" in officer.said
    assert officer.types("access", "verify", "--key", known, "--key", "0" * 64) == 1
    assert "Nothing was done with the key 0000" in officer.said


def test_what_could_not_be_looked_at_is_said(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    officer.types("rooms")
    monkeypatch.setattr(DirectoryPlace, "remarks", ("Versions cannot be listed.",))

    assert officer.types("access", "verify") == 0
    assert "NOTE: Versions cannot be listed." in officer.said
    assert officer.types("access", "verify", "--json") == 0
    assert json.loads(officer.said)["remarks"] == ["Versions cannot be listed."]
    officer.types("access", "list")
    assert "NOTE: Versions cannot be listed." in officer.said + officer.told


def test_a_new_key_says_at_once_that_it_was_begun(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    officer.types("rooms")
    (first, _) = officer.entries()
    assert officer.types("access", "key", "--new") == 0
    made, renewed = [one for one in officer.entries() if one["key_id"] != first["key_id"]]
    assert (made["what"], renewed["what"]) == ("key made", "key renewed")
    assert made["detail"]["older_keys"] == [first["key_id"]]
    assert grouped(renewed["detail"]["fingerprint"]) in officer.said
    stored = len(officer.objects())

    def refuse(store: Adding, key: str, body: bytes) -> None:
        raise RefusedError("The bucket does not let these credentials create objects.")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryAdding, "create", refuse)
        assert officer.types("access", "key", "--new") == 1
    assert "no entry says so yet: do not make another one" in officer.told
    assert "does not let these credentials" in officer.told
    third = officer.said.splitlines()[-1].strip()
    assert len(officer.objects()) == stored
    *_, noted = [json.loads(line) for line in (officer.home / "access.jsonl").open()]
    assert grouped(noted["fingerprint"]) == third
    assert "does not let" in noted["not_stored"]
    assert officer.types("rooms") == 0
    assert [one["what"] for one in officer.entries() if grouped(one["key_id"]) in third] == [
        "key made",
        "rooms listed",
    ]
    assert officer.types("access", "verify") == 0
    assert officer.types("log") == 0


def test_a_new_key_is_begun_and_the_old_one_not_forgotten(officer: Officer) -> None:
    officer.types("rooms")
    assert officer.types("access", "key") == 0
    old = officer.said.splitlines()[-1].strip()
    assert officer.types("access", "key", "--new") == 0
    new = officer.said.splitlines()[-1].strip()
    assert officer.types("rooms") == 0

    assert old != new
    assert officer.types("access", "verify", "--key", old, "--key", new) == 0
    assert officer.said.count("2 entries by") == 1
    assert officer.said.count("3 entries by") == 1
    for path in officer.objects():
        if path.name.startswith(old.replace(" ", "")[:16]):
            path.unlink()
    assert officer.types("access", "verify", "--key", new) == 1
    assert "Entries 0 to 1 of key" in officer.said


def test_verify_calls_the_access_log_of_the_same_bucket_no_stranger(officer: Officer) -> None:
    for log in (officer.maker.root, officer.maker.root / "v1" / "example.org"):
        officer.log = log
        assert officer.types("rooms") == 0
    (officer.home / "access").rename(officer.folder / "old")
    assert officer.types("verify") == 0
    assert "foreign" not in officer.said
    (log / "access" / "entries" / "x.json").write_bytes(b"{}")
    assert officer.types("verify") == 1, "what is none is told"


def test_where_it_is_configured(tmp_path: Path) -> None:
    archive = S3(endpoint_url="http://127.0.0.1:1", region="eu")
    assert access_place(None, tmp_path, archive, {}) is None
    file = tmp_path / FILE
    file.write_text("place: s3://log/one\naccess_key_id: a\nsecret_access_key: b\n")
    with pytest.raises(ConfigError, match="chmod 600"):
        access_place(None, tmp_path, archive, {})
    file.chmod(0o600)
    found = access_place(None, tmp_path, archive, {})
    assert found is not None
    assert (found.url, found.s3.endpoint_url, found.s3.region) == (
        "s3://log/one",
        "http://127.0.0.1:1",
        "eu",
    )
    assert found.s3.access_key_id is not None
    assert found.s3.access_key_id.reveal() == "a"
    by_variable = access_place(None, tmp_path, archive, {VARIABLE: "file:two"})
    by_option = access_place("file:three", tmp_path, archive, {VARIABLE: "file:two"})
    assert by_variable is not None
    assert by_option is not None
    assert (by_variable.url, by_option.url) == ("file:two", "file:three")
    for text, words in (
        ("place: ftp://x\n", "no place for the access log"),
        ("place: s3://\n", "no place for the access log"),
        ("plaice: file:x\n", "cannot be used"),
        ("access_key_id: a\n", "write both"),
        ("[", "no YAML"),
        ("- a\n", "cannot be used"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=words):
            access_place(None, tmp_path, archive, {})


def test_nothing_is_asked_of_who_wants_no_such_log(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = f"--home={officer.home}"
    assert main(["rooms", home, f"--destination=file:{officer.maker.root}"]) == 0
    assert not (officer.home / "access").exists()
    with pytest.raises(ConfigError, match="Which access log"):
        main(["access", "verify", home])
    monkeypatch.setenv(VARIABLE, f"file:{officer.log}")
    assert main(["rooms", home, f"--destination=file:{officer.maker.root}"]) == 0
    assert [one["what"] for one in officer.entries()] == ["key made", "rooms listed"]
