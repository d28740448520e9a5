"""What a second party cosigned can be compared with the archive by anybody, whoever has its key."""

import base64
import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from auditbot.reader.cli import main
from auditbot.reader.cosigning.notes import cosignature_in, object_key
from auditbot.reader.signatures import parse_note
from auditbot.reader.tree import consistency_proof, is_consistent, range_of
from common.errors import ConfigError
from common.officers import OfficerKey, cosigned_message, parse_officer_key
from tests.support.archive_maker import (
    Maker,
    fingerprint,
    key_number,
    leaf,
    make_archive,
    public_bytes,
)

NAME = "auditor.example.com/desk"

# A checkpoint of a public log of certificates, and what a public witness said of it.
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
LOG = "arche2025h1.staging.ct.transparency.dev"
WITNESSED = f"""\
{LOG}
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— {LOG} ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
"""


@dataclass
class Machine:
    """A machine of somebody: who cosigns, or who verifies."""

    maker: Maker
    home: Path
    place: Path
    capsys: pytest.CaptureFixture[str]
    said: str = ""
    told: str = ""

    def types(self, *words: str, destination: Path | None = None) -> int:
        root = destination or self.maker.root
        status = main([*words, f"--destination=file:{root}", f"--home={self.home}"])
        self.said, self.told = self.capsys.readouterr()
        return status

    def begin(self, name: str = NAME) -> str:
        """Make a key; return the public half."""
        assert self.types("cosign", "--new", name) == 0
        return self.said.splitlines()[-1].strip()

    def cosigns(self, *words: str) -> int:
        return self.types("cosign", f"--cosignatures=file:{self.place}", *KEY, *words)

    def verifies(self, *keys: str, place: Path | None = None) -> int:
        named = [f"--cosigned-by={key}" for key in keys]
        where = f"--cosignatures=file:{place or self.place}"
        return self.types("verify", *KEY, *named, where)

    def codes(self, *keys: str) -> set[str]:
        """Verify as a machine that has never seen the archive; return what is wrong."""
        shutil.rmtree(self.home, ignore_errors=True)
        named = [f"--cosigned-by={key}" for key in keys]
        where = [f"--cosignatures=file:{self.place}"] if keys else []
        status = self.types("verify", *KEY, *named, *where, "--json")
        (result,) = json.loads(self.said)
        wrong = {one["code"] for one in result["findings"] if one["severity"] == "wrong"}
        assert status == (1 if wrong else 0)
        return wrong

    def notes(self) -> list[Path]:
        return sorted(self.place.rglob("*.note"))


KEY = ("--key", fingerprint(key_number(1)))


@pytest.fixture
def auditor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Machine:
    maker = make_archive(tmp_path / "archive")
    return Machine(maker, tmp_path / "auditor", tmp_path / "cosignatures", capsys)


@pytest.fixture
def verifier(auditor: Machine, tmp_path: Path) -> Machine:
    return Machine(auditor.maker, tmp_path / "verifier", auditor.place, auditor.capsys)


def grow(maker: Maker, text: str = "one more") -> None:
    maker.message(text)
    maker.segment()
    maker.manifest()


def checked_by_hand(body: bytes, key: str) -> tuple[str, int, bytes, int]:
    """Check a cosignature from the words of the specification alone; return what it is of, and when."""
    name, hint, encoded = key.split("+", 2)
    typed = base64.b64decode(encoded)
    assert typed[0] == 4
    assert hashlib.sha256(name.encode() + b"\n" + typed).hexdigest()[:8] == hint
    text, _, below = body.decode().partition("\n\n")
    (line,) = [one for one in below.split("\n") if one.startswith(f"— {name} ")]
    signed = base64.b64decode(line.removeprefix(f"— {name} "))
    assert signed[:4].hex() == hint
    time_s = int.from_bytes(signed[4:12], "big")
    message = f"cosignature/v1\ntime {time_s}\n{text}\n".encode()
    Ed25519PublicKey.from_public_bytes(typed[1:]).verify(signed[12:], message)
    origin, size, root = text.split("\n")
    return origin, int(size), base64.b64decode(root), time_s


def test_what_a_public_witness_signed_is_read_as_it_was_meant() -> None:
    witness = parse_officer_key(WITNESS)
    note = parse_note(WITNESSED.encode())
    (signed,) = [data for name, data in note.signatures if name == witness.name]
    time_s = int.from_bytes(signed[4:12], "big")

    assert witness.text == WITNESS
    assert signed[:4] == witness.hint
    assert time_s == 1779573024
    assert witness.signed(cosigned_message(note.text, time_s), signed[12:])
    assert not witness.signed(cosigned_message(note.text, time_s + 1), signed[12:])
    assert checked_by_hand(WITNESSED.encode(), WITNESS)[1] == 1432088532


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("remora.n621.de", "looks like"),
        (WITNESS.replace("da77ade7", "da77ade8"), "misspelt"),
        (WITNESS.replace("da77ade7", "DA77ADE7"), "misspelt"),
        (WITNESS.replace("remora", "remara"), "misspelt"),
        (WITNESS[:-1] + "3", "misspelt"),
        (WITNESS[:-4], "missing or misspelt"),
        (WITNESS + "=", "missing or misspelt"),
        (WITNESS + "\n", "missing or misspelt"),
        ("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6", "of another type"),
        ("a b+" + WITNESS.partition("+")[2], "a space"),
        ("a\u202eb+" + WITNESS.partition("+")[2], "invisible"),
        ("+" + WITNESS.partition("+")[2], "is empty"),
    ],
)
def test_a_key_that_is_misspelt_is_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_officer_key(text)


def test_an_auditor_cosigns_and_anybody_verifies(auditor: Machine, verifier: Machine) -> None:
    key = auditor.begin()
    assert stat.S_IMODE((auditor.home / "officer/officer-key.json").stat().st_mode) == 0o600
    assert auditor.types("cosign", "--show") == 0
    assert key in auditor.said
    before = {path: path.read_bytes() for path in auditor.maker.root.rglob("*") if path.is_file()}

    assert auditor.cosigns() == 0, auditor.told
    assert "Cosigned as auditor.example.com/desk" in auditor.said
    (path,) = auditor.notes()
    origin, size, root, _ = checked_by_hand(path.read_bytes(), key)
    assert (origin, size) == (f"example.org/steward/{auditor.maker.stream}", 13)
    after = {path: path.read_bytes() for path in auditor.maker.root.rglob("*") if path.is_file()}
    assert before == after

    assert verifier.verifies(key) == 0
    assert "cosigned      1 time by auditor.example.com/desk, the last on" in verifier.said
    assert "the archive extends them all" in verifier.said

    grow(auditor.maker)
    assert verifier.verifies(key) == 0, "what came since is not cosigned, and right"
    assert auditor.cosigns("--all") == 0
    assert verifier.verifies(key) == 0
    assert "2 times by" in verifier.said
    # The format's own proof says the same of the two trees.
    leaves = auditor.maker.leaves
    tree = range_of(0, leaves)
    proof = consistency_proof(
        size, len(leaves), lambda start, end: range_of(0, leaves[start:end]).root()
    )
    assert is_consistent(size, len(leaves), root, tree.root(), proof)


def test_a_key_is_made_once(auditor: Machine) -> None:
    auditor.begin()
    made = (auditor.home / "officer/officer-key.json").read_bytes()

    assert auditor.types("cosign", "--new", "other.example.com") == 2
    assert "There is a key in" in auditor.told
    assert (auditor.home / "officer/officer-key.json").read_bytes() == made


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u200bb", "a" * 256])
def test_a_key_has_a_name_that_can_be_written_down(auditor: Machine, name: str) -> None:
    assert auditor.types("cosign", f"--new={name}") == 2
    assert "cannot have this name" in auditor.told


def test_nothing_is_cosigned_without_a_key_a_place_or_a_fingerprint(auditor: Machine) -> None:
    assert auditor.cosigns() == 2
    assert "There is no officer's key" in auditor.told
    auditor.begin()
    with pytest.raises(ConfigError, match="Where to"):
        auditor.types("cosign", *KEY)
    with pytest.raises(ConfigError, match="among the archive's own objects"):
        auditor.types(
            "cosign", *KEY, f"--cosignatures=file:{auditor.maker.root}/v1/example.org/checkpoints"
        )
    assert auditor.types("cosign", f"--cosignatures=file:{auditor.place}") == 2
    assert "was only found in the archive" in auditor.told
    assert not auditor.notes()


def test_a_key_that_others_may_read_or_that_is_damaged_signs_nothing(auditor: Machine) -> None:
    auditor.begin()
    path = auditor.home / "officer/officer-key.json"
    path.chmod(0o640)
    assert auditor.cosigns() == 2
    assert "others may read it" in auditor.told
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"private_key":"', b'"private_key":"A'))
    assert auditor.cosigns() == 2
    assert "is damaged" in auditor.told


def test_cosignatures_may_stand_beside_the_archive(auditor: Machine, verifier: Machine) -> None:
    key = auditor.begin()
    auditor.place = auditor.maker.root
    assert auditor.cosigns() == 0

    assert verifier.types("verify", *KEY, f"--cosigned-by={key}") == 0
    assert "1 time by" in verifier.said


def rewritten(maker: Maker) -> None:
    """Write other messages, and sign them with the stolen key."""
    shutil.rmtree(maker.root)
    other = Maker(maker.root)
    other.publish_key()
    other.describe()
    other.record("control", actor="steward", action="export_started")
    other.manifest()
    for number in range(12):
        other.message(f"nothing happened {number}")
    other.segment()
    other.manifest()


def rewritten_with_other_manifests(maker: Maker) -> None:
    """The same, and no tree has the size that was cosigned."""
    rewritten(maker)
    shutil.rmtree(maker.root)
    other = Maker(maker.root)
    other.publish_key()
    other.describe()
    for number in range(20):
        other.message(f"nothing happened {number}")
    other.segment()
    other.manifest()


def truncated(maker: Maker) -> None:
    """Cut the newest manifest off, with what it lists and the hint to it."""
    manifest = maker.root / maker.manifests[-1]
    listed = json.loads(manifest.read_bytes())
    for item in (*listed["objects"], *listed["media"]):
        (maker.root / item["key"]).unlink()
    (maker.root / listed["checkpoint"]["key"]).unlink()
    manifest.unlink()
    manifest.with_suffix(".sig").unlink()
    maker.put(f"{maker.base}/state/head.json", maker.heads[-2])


def another_stream(maker: Maker) -> None:
    """Put an archive that began elsewhen in its place."""
    shutil.rmtree(maker.root)
    other = Maker(maker.root, stream="20251124T170000Zbbbbbb")
    other.publish_key()
    other.describe()
    for number in range(20):
        other.message(f"nothing happened {number}")
    other.segment()
    other.manifest()


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (rewritten, "cosigned_other"),
        (rewritten_with_other_manifests, "cosigned_other"),
        (truncated, "cosigned_cut"),
        (another_stream, "cosigned_cut"),
    ],
)
def test_who_has_the_signing_key_cannot_change_what_was_cosigned(
    tamper: Callable[[Maker], None], code: str, auditor: Machine, verifier: Machine
) -> None:
    key = auditor.begin()
    assert auditor.cosigns() == 0
    tamper(auditor.maker)

    assert not verifier.codes(), "the archive alone does not show it"
    assert verifier.codes(key) == {code}
    # Who cosigned it does not cosign this, and says why, even without what verify remembers.
    (auditor.home / "memory.json").unlink()
    assert auditor.cosigns() == 1
    assert "NOT COSIGNED" in auditor.said
    assert "“auditor.example.com/desk” cosigned 13 records" in auditor.said
    assert len(auditor.notes()) == 1


def test_a_copy_that_was_set_back_is_not_cosigned_under_another_address(
    auditor: Machine, tmp_path: Path
) -> None:
    auditor.begin()
    shutil.copytree(auditor.maker.root, tmp_path / "older")
    grow(auditor.maker)
    assert auditor.cosigns() == 0

    options = [f"--cosignatures=file:{auditor.place}", *KEY]
    status = auditor.types("cosign", *options, destination=tmp_path / "older")

    assert status == 1
    assert "the archive was cut back" in auditor.said


def test_another_place_s_stream_need_not_be_here(auditor: Machine, tmp_path: Path) -> None:
    auditor.begin()
    assert auditor.cosigns() == 0
    other = Maker(tmp_path / "second", stream="20251124T180000Zcccccc")
    other.publish_key()
    other.describe()
    other.message("elsewhere")
    other.segment()
    other.manifest()

    options = [f"--cosignatures=file:{auditor.place}", *KEY]
    assert auditor.types("cosign", *options, destination=other.root) == 0
    assert auditor.cosigns() == 0


def test_damage_to_anything_is_not_cosigned(auditor: Machine) -> None:
    auditor.begin()
    path = auditor.maker.root / auditor.maker.manifests[1]
    path.with_suffix(".sig").write_bytes(bytes(64))

    assert auditor.cosigns() == 1
    assert "This manifest proves nothing" in auditor.said
    assert not auditor.notes()


def test_a_byte_in_a_segment_is_seen_where_all_is_looked_into(auditor: Machine) -> None:
    auditor.begin()
    path = auditor.maker.root / auditor.maker.segments[0]
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)

    assert auditor.cosigns("--all") == 1
    assert not auditor.notes()


def test_what_was_cosigned_must_be_remembered(auditor: Machine) -> None:
    auditor.begin()
    assert auditor.cosigns() == 0
    path = auditor.home / "officer/cosigned.json"
    kept = path.read_bytes()
    for damage in (b"", kept[:-5], kept.replace(b"auditor", b"another")):
        path.write_bytes(damage)
        assert auditor.cosigns() == 2
        assert "remembers what this key cosigned" in auditor.told
    path.unlink()
    assert auditor.cosigns() == 2
    assert len(auditor.notes()) == 1


def test_it_is_remembered_before_it_is_stored(auditor: Machine, tmp_path: Path) -> None:
    auditor.begin()
    auditor.place.write_bytes(b"a file where the folder should be")
    older = tmp_path / "older"
    shutil.copytree(auditor.maker.root, older)
    grow(auditor.maker)
    assert auditor.cosigns() == 2
    auditor.place.unlink()

    options = [f"--cosignatures=file:{auditor.place}", *KEY]
    assert auditor.types("cosign", *options, destination=older) == 1
    assert auditor.cosigns() == 0


def test_a_key_that_never_cosigned_proves_nothing(auditor: Machine, verifier: Machine) -> None:
    auditor.begin()
    assert auditor.cosigns() == 0
    stranger = OfficerKey(NAME, public_bytes(key_number(7))).text

    assert verifier.codes(stranger) == {"cosignature_missing"}
    assert "There is no cosignature of this archive" in verifier.said


def test_a_cosignature_of_another_archive_says_nothing_of_this_one(
    auditor: Machine, verifier: Machine, tmp_path: Path
) -> None:
    key = auditor.begin()
    other = make_archive(tmp_path / "other")
    shutil.rmtree(other.root)
    other = Maker(tmp_path / "other", server_name="example.com")
    other.publish_key()
    other.describe()
    other.message("elsewhere")
    other.segment()
    other.manifest()
    options = [f"--cosignatures=file:{auditor.place}", *KEY]
    assert auditor.types("cosign", *options, destination=other.root) == 0

    assert verifier.codes(key) == {"cosignature_missing"}
    assert "The 1 that are there are of other archives" in verifier.said
    assert auditor.cosigns() == 0
    assert not verifier.codes(key)
    # Nor under the name of one of this archive.
    theirs = next(path for path in auditor.notes() if "example.com" in path.parts)
    shutil.copyfile(theirs, auditor.notes()[-1])
    assert verifier.codes(key) == {"cosignature", "cosignature_missing"}


def changed(path: Path, old: bytes, new: bytes) -> None:
    body = path.read_bytes()
    assert old in body
    path.write_bytes(body.replace(old, new, 1))


def bit_of_the_signature(path: Path, maker: Maker) -> None:
    head, _, last = path.read_bytes()[:-1].rpartition(b" ")
    signed = bytearray(base64.b64decode(last))
    signed[-1] ^= 1
    path.write_bytes(head + b" " + base64.b64encode(signed) + b"\n")


def later(path: Path, maker: Maker) -> None:
    """Pretend that it was cosigned at another time, in its bytes and its name."""
    head, _, last = path.read_bytes()[:-1].rpartition(b" ")
    signed = bytearray(base64.b64decode(last))
    time_s = int.from_bytes(signed[4:12], "big")
    signed[4:12] = (time_s + 10).to_bytes(8, "big")
    path.write_bytes(head + b" " + base64.b64encode(signed) + b"\n")
    path.rename(path.with_name(path.name.replace(str(time_s), str(time_s + 10))))


def other_root(path: Path, maker: Maker) -> None:
    root = base64.b64encode(parse_note(path.read_bytes()).root)
    changed(path, root, base64.b64encode(leaf(b"x")))


def renamed(path: Path, maker: Maker) -> None:
    path.rename(path.with_name(path.name.replace("000000000013", "000000000012")))


def cut_off(path: Path, maker: Maker) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def emptied(path: Path, maker: Maker) -> None:
    path.write_bytes(b"")


def huge(path: Path, maker: Maker) -> None:
    path.write_bytes(path.read_bytes() + b"x" * 2**17)


def own_signature_only(path: Path, maker: Maker) -> None:
    """Take the cosigner's line out."""
    path.write_bytes(path.read_bytes().rpartition("— auditor".encode())[0])


def by_another_name(path: Path, maker: Maker) -> None:
    changed(path, "— auditor".encode(), "— nobody1".encode())


def extended(path: Path, maker: Maker) -> None:
    changed(path, b"\n\n", b"\nanother line\n\n")


def strange_name(path: Path, maker: Maker) -> None:
    path.rename(path.with_name("copy of it.note"))


def linked(path: Path, maker: Maker) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "damage",
    [
        bit_of_the_signature,
        later,
        other_root,
        renamed,
        cut_off,
        emptied,
        huge,
        own_signature_only,
        by_another_name,
        extended,
        strange_name,
        linked,
    ],
)
def test_a_damaged_cosignature_is_named(
    damage: Callable[[Path, Maker], None], auditor: Machine, verifier: Machine
) -> None:
    key = auditor.begin()
    assert auditor.cosigns() == 0
    grow(auditor.maker)
    assert auditor.cosigns() == 0
    assert not verifier.codes(key)

    damage(auditor.notes()[0], auditor.maker)

    assert verifier.codes(key) == {"cosignature"}


def test_several_parties_must_all_have_cosigned(
    auditor: Machine, verifier: Machine, tmp_path: Path
) -> None:
    parent = Machine(auditor.maker, tmp_path / "parent", auditor.place, auditor.capsys)
    keys = (auditor.begin(), parent.begin("parent.example.com"))
    assert auditor.cosigns() == 0
    assert verifier.codes(*keys) == {"cosignature_missing"}
    grow(auditor.maker)
    assert parent.cosigns() == 0

    assert not verifier.codes(*keys)
    truncated(auditor.maker)
    assert verifier.codes(*keys) == {"cosigned_cut"}
    assert not verifier.codes(keys[0]), "this one never saw what was cut off"


def test_a_closed_stream_s_end_is_cosigned_too(auditor: Machine, verifier: Machine) -> None:
    key = auditor.begin()
    maker = auditor.maker
    final = maker.manifest(closed={"reason": "destination cleared"})
    said = {
        "stream": maker.stream,
        "destination": "file:archive",
        "stopped_ms": maker.now_ms,
        "final_manifest": len(maker.manifests) - 1,
        "final_sha256": hashlib.sha256((maker.root / final).read_bytes()).hexdigest(),
    }
    following = Maker(maker.root, stream="20251125T180000Zb", previous_stream=said)
    following.now_ms = maker.now_ms
    following.message("in the second stream", event_id="$later")
    following.segment()
    following.manifest()

    assert auditor.cosigns() == 0
    assert {path.name.partition("-")[0] for path in auditor.notes()} == {
        maker.stream,
        following.stream,
    }
    assert not verifier.codes(key)


def test_two_signatures_of_one_party_in_one_note_are_refused() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)
    party = OfficerKey(NAME, private.public_key().public_bytes_raw())
    root = base64.b64encode(leaf(b"x")).decode()
    text = f"example.org/steward/20251124T160000Zaaaaaa\n1\n{root}\n".encode()

    def line(time_s: int) -> bytes:
        signed = party.hint + time_s.to_bytes(8, "big")
        signed += private.sign(cosigned_message(text, time_s))
        return f"— {NAME} {base64.b64encode(signed).decode()}\n".encode()

    key = object_key(party, "example.org", "20251124T160000Zaaaaaa", 1, 1_764_000_000)
    one = text + b"\n" + line(1_764_000_000)

    assert cosignature_in(key, one, party).size == 1
    assert checked_by_hand(one, party.text)[3] == 1_764_000_000
    with pytest.raises(ValueError, match="two signatures"):
        cosignature_in(key, one + line(1_764_000_001), party)
    with pytest.raises(InvalidSignature):
        checked_by_hand(one.replace(b"\n1\n", b"\n2\n"), party.text)


def test_a_cosignature_of_tomorrow_is_told(auditor: Machine, verifier: Machine) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes([5]) * 32)
    party = OfficerKey(NAME, private.public_key().public_bytes_raw())
    maker, time_s = auditor.maker, 4_000_000_000
    body = maker.note(13, range_of(0, maker.leaves).root())
    text = body.partition(b"\n\n")[0] + b"\n"
    signed = party.hint + time_s.to_bytes(8, "big")
    signed += private.sign(cosigned_message(text, time_s))
    path = auditor.place / object_key(party, maker.server_name, maker.stream, 13, time_s)
    path.parent.mkdir(parents=True)
    path.write_bytes(body + f"— {NAME} {base64.b64encode(signed).decode()}\n".encode())

    assert verifier.verifies(party.text) == 0
    assert "which is yet to come" in verifier.said
