"""How streams follow each other: what is missing between them, and what was put in, is found."""

import hashlib
from pathlib import Path

import pytest

from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Verified
from auditbot.storage.addressing import place_name
from tests.support.archive_maker import Json, Maker, make_archive
from tests.unit.auditbot.reader.test_tampering import erase, verified, wrongs

SECOND, THIRD = "20251124T180000Zbbbbbb", "20251124T190000Zcccccc"


def said_of(maker: Maker, **also: object) -> Json:
    """Return what the next stream says of this one."""
    body = (maker.root / maker.manifests[-1]).read_bytes()
    return {
        "stream": maker.stream,
        "destination": "file:archive",
        "stopped_ms": maker.now_ms,
        "final_manifest": len(maker.manifests) - 1,
        "final_sha256": hashlib.sha256(body).hexdigest(),
        **also,
    }


def follow(before: Maker, stream: str, said: Json, *, place: str | None) -> Maker:
    """Make a stream after another one."""
    later = before.now_ms + 3_600_000
    maker = Maker(
        before.root,
        stream=stream,
        previous_stream=said,
        started_ms=later,
        now_ms=later,
        place=place,
    )
    maker.message(f"in {stream}", event_id=f"$in-{stream}")
    maker.segment()
    maker.manifest()
    return maker


def end(maker: Maker, **closed: object) -> Maker:
    known = {"reason": "destination changed", "next_stream": None, "next_destination": None}
    maker.manifest(closed={**known, **closed})
    return maker


def notices(result: Verified) -> list[str]:
    return [item.code for item in result.findings.of(Severity.NOTICE)]


HERE = "file:/srv/archive"


@pytest.mark.parametrize(
    "spelled", ["file:archive", "file:./archive", "file:/mnt/archive", "s3://copy/archive"]
)
async def test_a_stream_that_was_removed_is_missed_however_the_place_is_spelled(
    spelled: str, tmp_path: Path
) -> None:
    first = end(make_archive(tmp_path))
    second = follow(first, SECOND, said_of(first, place=HERE), place=HERE)
    assert not wrongs(await verified(second, destination=spelled))
    erase(tmp_path, f"*{first.stream}*")

    result = await verified(second, destination=spelled)

    assert ("stream_missing", f"stream {SECOND}") in wrongs(result)


async def test_a_stream_that_was_kept_elsewhere_is_not_missed(tmp_path: Path) -> None:
    first = end(make_archive(tmp_path))
    said = said_of(first, place="file:/old/archive")
    second = follow(first, SECOND, said, place=HERE)
    erase(tmp_path, f"*{first.stream}*")

    # The same words, but relative to another directory.
    result = await verified(second, destination="file:archive")

    assert not wrongs(result)
    assert "stream_missing" in notices(result)


async def test_what_an_older_writer_says_of_one_place_counts_for_the_next(tmp_path: Path) -> None:
    """Its manifests do not name their own place, but what follows them does."""
    first = end(make_archive(tmp_path))
    second = end(follow(first, SECOND, said_of(first), place=None))
    third = follow(second, THIRD, said_of(second), place=None)
    erase(tmp_path, f"*{first.stream}*")

    result = await verified(third, destination="file:/mnt/copy")

    assert ("stream_missing", f"stream {SECOND}") in wrongs(result)


async def test_two_streams_with_the_same_one_before_them_are_found(tmp_path: Path) -> None:
    first = end(make_archive(tmp_path))
    second = follow(first, SECOND, said_of(first, place=HERE), place=HERE)
    forged = follow(second, THIRD, said_of(first, place=HERE), place=HERE)

    result = await verified(forged)

    assert wrongs(result) == [("succession", f"stream {THIRD}")]


async def test_a_second_first_stream_is_found(tmp_path: Path) -> None:
    first = end(make_archive(tmp_path))
    other = Maker(tmp_path, stream=SECOND, started_ms=first.now_ms, now_ms=first.now_ms)
    other.manifest()

    result = await verified(other)

    assert wrongs(result) == [("succession", f"stream {SECOND}")]


async def test_streams_of_one_second_may_be_named_in_any_order(tmp_path: Path) -> None:
    first = end(make_archive(tmp_path))
    second = follow(first, "20251124T160000Z000000", said_of(first, place=HERE), place=HERE)

    assert not wrongs(await verified(second))


async def test_a_next_stream_that_should_be_here_is_missed(tmp_path: Path) -> None:
    went = {"next_stream": SECOND, "next_destination": "file:x"}
    here = end(make_archive(tmp_path / "one"), **went, next_place=HERE)
    elsewhere = end(make_archive(tmp_path / "two"), **went, next_place="file:/srv/x")

    assert wrongs(await verified(here)) == [("stream_missing", f"stream {here.stream}")]
    result = await verified(elsewhere)
    assert not wrongs(result)
    assert notices(result) == ["stream_missing"]


def test_a_place_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {
        place_name(text)
        for text in ("file:a", "file:./a/", f"file:{tmp_path}/a", f"file://{tmp_path}/b/../a")
    }
    assert names == {f"file:{tmp_path}/a"}
    assert place_name("s3://b/p/") == place_name("s3://b/p")
    assert place_name("s3://b/p", "https://one/") != place_name("s3://b/p", "https://two")
