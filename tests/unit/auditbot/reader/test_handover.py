"""What is handed over proves itself with nothing but Python, and every change is found."""

import base64
import hashlib
import json
import py_compile
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditbot.reader.handover import verify
from auditbot.reader.handover.cases import Case, Cases, Item, with_items
from auditbot.reader.handover.package import HandedOver, hand_over
from auditbot.reader.handover.proofs import Prover
from auditbot.reader.index.library import Library
from auditbot.reader.read import ALWAYS
from auditbot.reader.transcript.build import Request
from auditbot.reader.tree import leaf_hash, root_from_inclusion
from common.errors import UserError
from tests.support.archive_maker import NOON, Maker, fingerprint, key_number
from tests.support.archive_story import tell_story
from tests.unit.auditbot.reader.test_transcript import Archive

is_signed: Callable[[bytes, bytes, bytes], bool] = verify.is_signed

RFC_8032 = [
    # Section 7.1: public key, message, signature.
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
            "39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f"
            "3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67"
            "f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba"
            "3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfb"
            "c7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_signatures_are_checked_as_the_rfc_says(key: str, message: str, signature: str) -> None:
    public, said, signed = (bytes.fromhex(text) for text in (key, message, signature))

    assert is_signed(public, said, signed)
    assert not is_signed(public, said + b"x", signed)
    for place in (0, 31, 32, 63):
        changed = bytearray(signed)
        changed[place] ^= 1
        assert not is_signed(public, said, bytes(changed))


def test_signatures_agree_with_a_known_library() -> None:
    chance = random.Random(1)
    for _ in range(10):
        key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        message = chance.randbytes(chance.randrange(200))
        public = key.public_key().public_bytes_raw()
        assert is_signed(public, message, key.sign(message))
        assert not is_signed(chance.randbytes(32), message, key.sign(message))


def test_a_signature_with_a_number_above_the_order_is_refused() -> None:
    key, message, signature = (bytes.fromhex(text) for text in RFC_8032[1])
    number = int.from_bytes(signature[32:], "little") + verify.L
    assert not is_signed(key, message, signature[:32] + number.to_bytes(32, "little"))
    assert not is_signed(bytes([255] * 32), message, signature)
    assert not is_signed(key, message, signature[:-1])


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    library = Library(tmp_path / "cache")
    opened = Archive(tell_story(tmp_path / "archive"), library)
    await opened.sync()
    yield opened
    library.close()


def case_of(archive: Archive, *event_ids: str) -> Case:
    items = []
    for event_id in event_ids:
        stored = archive.library.event(event_id)
        assert stored is not None
        items.append(Item(stored.stream, stored.seq, event_id, NOON, "olivia"))
    return Case("Desk, March", "file:archive", NOON, "olivia", items=tuple(items))


async def handed_over(archive: Archive, folder: Path, *event_ids: str) -> HandedOver:
    request = Request(
        archive="file:archive",
        subject=None,
        period=ALWAYS,
        zone=UTC,
        zone_name="UTC",
        made_ms=NOON,
        made_by="olivia",
        verdict="RIGHT",
        standing="right",
        fingerprints=(fingerprint(key_number(1)),),
        case="Desk, March",
    )
    case = case_of(archive, *event_ids)
    done = await hand_over(archive.library, archive.place, case, request, folder / "case.zip")
    with zipfile.ZipFile(done.path) as packed:
        packed.extractall(folder / "case")
    return done


def checked(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a receiver would: nothing installed but Python itself."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(folder / "verify.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


async def test_a_case_proves_itself_with_nothing_but_python(
    archive: Archive, tmp_path: Path
) -> None:
    done = await handed_over(archive, tmp_path, "$3", "$4", "$5")

    result = checked(tmp_path / "case", "--key", fingerprint(key_number(1)))

    assert result.returncode == 0, result.stdout
    # The edit, the deletion, the attachment's record and the list of readers go with them.
    assert result.stdout.startswith("RIGHT: 7 records, each as it was archived; 1 attachments")
    assert (done.messages, done.records, done.attachments) == (3, 7, 1)
    page = (tmp_path / "case/transcript.html").read_text(encoding="utf-8")
    assert "Delete this afterwards" in page
    assert "Good morning" not in page
    assert "verify.py" in (tmp_path / "case/README.txt").read_text(encoding="utf-8")


async def test_the_key_is_compared(archive: Archive, tmp_path: Path) -> None:
    await handed_over(archive, tmp_path, "$3")

    assert "Compare this fingerprint" in checked(tmp_path / "case").stdout
    other = checked(tmp_path / "case", "--key", fingerprint(key_number(9)))
    assert other.returncode == 1
    assert "not the one that you trust" in other.stdout


def change_record(folder: Path) -> None:
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b"The price is 100.", b"The price is 900."))


def drop_record(folder: Path) -> None:
    path = folder / "records.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[1:]))


def change_proof(folder: Path) -> None:
    document = json.loads((folder / "proofs.json").read_bytes())
    document["records"][0]["path"][0] = "0" * 64
    (folder / "proofs.json").write_text(json.dumps(document))


def move_record(folder: Path) -> None:
    document = json.loads((folder / "proofs.json").read_bytes())
    document["records"][0]["seq"] += 1
    (folder / "proofs.json").write_text(json.dumps(document))


def change_checkpoint(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes().replace(b"\n29\n", b"\n28\n"))


def other_key(folder: Path) -> None:
    maker = Maker(folder.parent / "other", key=key_number(9))
    (path,) = (folder / "checkpoints").iterdir()
    maker.stream = path.stem
    body = path.read_bytes()
    root = body.split(b"\n")[2]
    path.write_bytes(maker.note(29, base64.b64decode(root)))


def change_media(folder: Path) -> None:
    (path,) = (folder / "media").iterdir()
    path.write_bytes(b"another picture")


def add_file(folder: Path) -> None:
    (folder / "more.html").write_text("<script>")


def path_outside(folder: Path) -> None:
    document = json.loads((folder / "proofs.json").read_bytes())
    document["checkpoints"] = dict.fromkeys(document["checkpoints"], "../../../etc/passwd")
    (folder / "proofs.json").write_text(json.dumps(document))


def no_json(folder: Path) -> None:
    (folder / "proofs.json").write_text("[" * 100_000)


def swap_media(folder: Path) -> None:
    """Give an attachment that a record names the name of another one."""
    (path,) = (folder / "media").iterdir()
    renamed = path.with_name("0" * 64 + path.suffix)
    path.rename(renamed)
    listed = json.loads((folder / "files.json").read_bytes())
    listed[f"media/{renamed.name}"] = listed.pop(f"media/{path.name}")
    (folder / "files.json").write_text(json.dumps(listed))


def change_messages(folder: Path) -> None:
    path = folder / "messages.jsonl"
    path.write_bytes(path.read_bytes().replace(b"The price is 100.", b"The price is 900."))


def relist(folder: Path) -> None:
    """Make the list of files fit, as whoever changes one would."""
    listed = json.loads((folder / "files.json").read_bytes())
    for name in listed:
        listed[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "files.json").write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_record, "not the archived one"),
        (drop_record, "not as many records as proofs"),
        (change_proof, "not the archived one"),
        (move_record, "not the archived one"),
        (change_checkpoint, "not signed by a key that counts"),
        (other_key, "not signed by a key that counts"),
        (change_media, "no record speaks of the attachment"),
        (change_messages, "another record than is proved"),
        (path_outside, "is no name of a file in here"),
        (no_json, "not of the form"),
    ],
)
async def test_every_change_of_a_hand_over_is_found(
    change: Callable[[Path], None], words: str, archive: Archive, tmp_path: Path
) -> None:
    await handed_over(archive, tmp_path, "$3", "$5")
    folder = tmp_path / "case"
    change(folder)
    first = checked(folder)
    relist(folder)

    second = checked(folder)

    assert first.returncode == second.returncode == 1
    assert "was changed" in first.stdout
    assert words in second.stdout, second.stdout
    assert second.stdout.isprintable() or second.stdout.rstrip("\n").isprintable()


async def test_attachments_cannot_change_places(archive: Archive, tmp_path: Path) -> None:
    await handed_over(archive, tmp_path, "$5")
    swap_media(tmp_path / "case")

    result = checked(tmp_path / "case")

    assert result.returncode == 1
    assert "another one than its name says" in result.stdout


async def test_a_forged_transcript_is_not_called_proved(archive: Archive, tmp_path: Path) -> None:
    """No signature covers what is for reading; only the hash that people tell each other does."""
    done = await handed_over(archive, tmp_path, "$3")
    folder = tmp_path / "case"
    good = checked(folder, "--files", done.files_sha256)
    page = folder / "transcript.html"
    page.write_text(page.read_text().replace("The price is 100.", "The price is 900."))
    relist(folder)

    alone, told = checked(folder), checked(folder, "--files", done.files_sha256)

    assert good.returncode == 0
    assert "the transcript too, is the one that was handed over" in good.stdout
    assert "no signature covers them" in alone.stdout
    assert "handed over if" in alone.stdout
    assert told.returncode == 1
    assert "not the one that you were told" in told.stdout


def link_folder(folder: Path) -> None:
    (folder / "more").symlink_to("/etc")


def link_file(folder: Path) -> None:
    (folder / "more.html").symlink_to("/etc/hostname")


def link_listed_folder(folder: Path) -> None:
    (folder / "media").rename(folder.parent / "media")
    (folder / "media").symlink_to(folder.parent / "media")


def link_nowhere(folder: Path) -> None:
    (folder / "more").symlink_to("nowhere")


def named(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("evil")

    put.__name__ = name
    return put


DOES_NOT_BELONG = "does not belong here"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_file, DOES_NOT_BELONG),
        (named("transcript-corrected__pycache__.html"), DOES_NOT_BELONG),
        (named("__pycache__/transcript.html"), DOES_NOT_BELONG),
        (named("__pycache__/json.cpython-311.pyc"), DOES_NOT_BELONG),
        (named("media/__pycache__/verify.cpython-311.pyc"), DOES_NOT_BELONG),
        (named("__pycache__/verify.cpython-311.pyc.html"), DOES_NOT_BELONG),
        (link_folder, "is a link"),
        (link_file, "is a link"),
        (link_listed_folder, "is a link"),
        (link_nowhere, "is a link"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_what_does_not_belong_is_found(
    change: Callable[[Path], None], words: str, archive: Archive, tmp_path: Path
) -> None:
    done = await handed_over(archive, tmp_path, "$3", "$5")
    folder = tmp_path / "case"
    change(folder)

    result = checked(folder, "--files", done.files_sha256)

    assert result.returncode == 1
    assert words in result.stdout


async def test_what_python_keeps_of_the_program_may_lie_beside_it(
    archive: Archive, tmp_path: Path
) -> None:
    done = await handed_over(archive, tmp_path, "$3")
    folder = tmp_path / "case"
    for level in (0, 1):
        py_compile.compile(str(folder / "verify.py"), optimize=level)
    assert len(list((folder / "__pycache__").iterdir())) == 2

    assert checked(folder, "--files", done.files_sha256).returncode == 0


async def test_rotated_keys_vouch_for_each_other(tmp_path: Path) -> None:
    maker = tell_story(tmp_path / "archive")
    maker.rotate(key_number(2))
    maker.message("after the first rotation", event_id="$r1")
    maker.segment()
    maker.manifest()
    maker.rotate(key_number(3))
    maker.message("after the second", event_id="$r2")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    await handed_over(archive, tmp_path, "$3", "$r2")

    result = checked(tmp_path / "case", "--key", fingerprint(key_number(1)))
    assert result.returncode == 0, result.stdout
    library.close()


async def test_a_key_that_was_replaced_signs_nothing_later(
    archive: Archive, tmp_path: Path
) -> None:
    await handed_over(archive, tmp_path, "$3")
    folder = tmp_path / "case"
    new = key_number(2).public_key().public_bytes_raw()
    rotation = json.dumps(
        {
            "old_key_id": fingerprint(key_number(1))[:16],
            "new_key_id": fingerprint(key_number(2))[:16],
            "new_public_key": base64.b64encode(new).decode(),
            "created_ms": NOON - 86_400_000,
        }
    ).encode()
    keys = json.loads((folder / "keys.json").read_bytes())
    keys["rotations"] = [
        {
            "document": base64.b64encode(rotation).decode(),
            "signature": base64.b64encode(key_number(1).sign(rotation)).decode(),
        }
    ]
    (folder / "keys.json").write_text(json.dumps(keys))
    relist(folder)

    assert "signed by a key that was replaced before it" in checked(folder).stdout


async def test_every_record_of_an_archive_can_be_proven(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    for number in range(50):
        maker.message(f"message {number}")
        if number % 7 == 3:
            maker.segment()
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()
    prover = Prover(library)

    for seq in range(50):
        stored = library.at(maker.stream, seq)
        assert stored is not None
        proof = prover.prove(stored)
        root = root_from_inclusion(leaf_hash(stored.line), seq, 50, proof.path)
        assert root.hex() == proof.head.root
    library.close()


async def test_a_record_is_proven_although_others_were_deleted(archive: Archive) -> None:
    archive.maker.remove(archive.maker.segments[0])
    archive.maker.manifest()
    await archive.sync()
    stored = archive.library.event("$6")
    assert stored is not None

    assert Prover(archive.library).prove(stored).path


def test_cases_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    case = Case("Desk, March", "file:a", NOON, "olivia")
    cases.create(case)
    with pytest.raises(UserError, match="already"):
        cases.create(Case("desk march", "file:a", NOON, "olivia"))
    with pytest.raises(UserError, match="There is no case"):
        cases.load("other")
    with pytest.raises(UserError, match="no name"):
        cases.load("../..")
    item = Item("s", 1, "$1", NOON, "olivia")
    cases.save(with_items(with_items(case, [item]), [item]))

    assert cases.load("Desk, March").items == (item,)
    assert cases.names() == ["Desk, March"]
    (path,) = (tmp_path / "cases").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path / "cases")
