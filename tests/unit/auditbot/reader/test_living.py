"""An archive that is written, rotated and cleaned up while it is verified is right."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from tests.support.archive_maker import Maker, fingerprint, key_number, make_archive
from tests.support.living_place import LivingPlace


async def verified(maker: Maker, place: LivingPlace, **options: object) -> Verified:
    known = {"now_ms": maker.now_ms, "fingerprints": (fingerprint(key_number(1)),)}
    wanted = Options(**{**known, **options})  # type: ignore[arg-type]  # any of the options
    (result,) = await verify(place, wanted)
    return result


def say(maker: Maker) -> None:
    maker.message("said while somebody looks")
    maker.segment()
    maker.file(b"sent while somebody looks")
    maker.manifest()


def hold(maker: Maker) -> None:
    key = f"{maker.base}/holds/20251124T170000Z-aaaa.json"
    maker.state(
        key,
        {
            "v": 1,
            "type": "steward.hold",
            "id": "x",
            "server_name": maker.server_name,
            "created_ms": maker.now_ms,
            "actor": "officer",
            "reason": "x",
            "rooms": [],
            "users": [],
            "from_ms": None,
            "to_ms": None,
            "key_id": maker.key_id,
        },
    )
    maker.manifest()


def rotate(maker: Maker) -> None:
    maker.rotate(key_number(2))
    maker.manifest()


def remove(maker: Maker) -> None:
    maker.remove(maker.segments[0])
    maker.manifest()


ACTS: list[tuple[Callable[[Maker], None], str]] = [
    (say, "events"),
    (say, "manifests"),
    (say, "state"),
    (hold, "holds"),
    (rotate, "keys"),
    (remove, "events"),
    (remove, "removals"),
    (remove, "state"),
]


@pytest.mark.parametrize(
    ("act", "after"), ACTS, ids=[f"{act.__name__}-after-{after}" for act, after in ACTS]
)
async def test_what_happens_meanwhile_is_right(
    act: Callable[[Maker], None], after: str, tmp_path: Path
) -> None:
    maker = make_archive(tmp_path)
    place = LivingPlace(tmp_path, maker.base, {after: lambda: act(maker)})

    result = await verified(maker, place)

    assert not result.findings.of(Severity.WRONG)


async def test_where_only_signatures_are_looked_at_too(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    place = LivingPlace(tmp_path, maker.base, {"events": lambda: say(maker)})

    assert not (await verified(maker, place, sample=0)).findings.of(Severity.WRONG)


@pytest.mark.parametrize("sample", [None, 0])
async def test_what_was_lost_meanwhile_is_lost(sample: int | None, tmp_path: Path) -> None:
    maker = make_archive(tmp_path)

    def lose() -> None:
        say(maker)
        (tmp_path / maker.segments[-1]).unlink()

    place = LivingPlace(tmp_path, maker.base, {"events": lose})

    result = await verified(maker, place, sample=sample)

    assert [(item.code, item.key) for item in result.findings.of(Severity.WRONG)] == [
        ("missing", maker.segments[-1])
    ]


async def test_a_hint_to_what_never_came_is_wrong(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)

    def cut() -> None:
        say(maker)
        (tmp_path / maker.manifests[-1]).unlink()

    place = LivingPlace(tmp_path, maker.base, {"state": cut})

    result = await verified(maker, place)

    assert [item.code for item in result.findings.of(Severity.WRONG)] == ["cut_back"]


CRASHES = ["sig", "note", "html"]


@pytest.mark.parametrize("ending", CRASHES)
async def test_what_a_crash_left_before_its_document_is_no_fault(
    ending: str, tmp_path: Path
) -> None:
    """Each document is stored last, so that it is never there without what it needs."""
    maker = make_archive(tmp_path)
    say(maker)
    if ending == "html":
        maker.put(f"{maker.base}/reports/dt=2025-11-24/completeness.html", b"<p>")
    else:
        (tmp_path / maker.manifests[-1]).unlink()
        maker.put(f"{maker.base}/state/head.json", maker.heads[-2])
    if ending == "note":
        (tmp_path / maker.manifests[-1]).with_suffix(".sig").unlink()

    result = await verified(maker, LivingPlace(tmp_path, maker.base))

    assert not result.findings.of(Severity.WRONG)
    assert "unlisted" in {item.code for item in result.findings.found}


async def test_a_new_stream_whose_first_manifest_is_still_to_come_is_no_fault(
    tmp_path: Path,
) -> None:
    """After an outage its segments are stored first."""
    maker = make_archive(tmp_path)
    maker.manifest(closed={"reason": "destination cleared"})
    now_ms = maker.now_ms + 3_600_000
    following = Maker(tmp_path, stream="20251125T180000Zb", now_ms=now_ms)
    following.message("in the new stream")
    key = following.segment()
    os.utime(tmp_path / key, (now_ms / 1000, now_ms / 1000))

    for later_ms, wrong in ((0, []), (3 * maker.interval_ms, [("foreign", key)])):
        place = LivingPlace(tmp_path, maker.base)
        result = await verified(maker, place, now_ms=now_ms + later_ms)
        found = result.findings.of(Severity.WRONG)
        assert [(item.code, item.key) for item in found] == wrong
