"""What is hidden behind delete markers, which a lock does not keep anybody from, is found."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.storage.s3_place import S3Place
from common.config.schema import S3
from tests.support.archive_maker import Maker, fingerprint, key_number, make_archive
from tests.support.versioned_place import VersionedPlace

Hide = Callable[[Maker, VersionedPlace], str]
"""Hides a part of an archive; returns a key that must be named."""


async def verified(maker: Maker, place: VersionedPlace) -> Verified:
    options = Options(
        now_ms=maker.now_ms,
        destination="s3://archive",
        fingerprints=(fingerprint(key_number(1)),),
    )
    (result,) = await verify(place, options)
    return result


def hide_newest(maker: Maker, place: VersionedPlace) -> list[str]:
    """Hide the newest manifest with all that came with it, and show the head of before."""
    maker.put(f"{maker.base}/state/head.json", maker.heads[-2])
    key = maker.manifests[-1]
    note = max((maker.root / maker.base / "checkpoints").iterdir())
    media = next((maker.root / maker.base / "media").rglob("*/*"))
    keys = [
        key,
        key.replace(".json", ".sig"),
        note.relative_to(maker.root).as_posix(),
        maker.segments[-1],
        media.relative_to(maker.root).as_posix(),
    ]
    for name in keys:
        place.hide(name)
    return keys


def end_hidden(maker: Maker, place: VersionedPlace) -> str:
    return hide_newest(maker, place)[0]


def segment_of_the_end_hidden(maker: Maker, place: VersionedPlace) -> str:
    """As above, but the attacker may delete all versions of the rest."""
    keys = hide_newest(maker, place)
    for key in keys:
        if "/events/" not in key:
            del place.hidden[key]
    return maker.segments[-1]


def checkpoint_of_the_end_hidden(maker: Maker, place: VersionedPlace) -> str:
    keys = hide_newest(maker, place)
    for key in keys:
        if "/checkpoints/" not in key:
            del place.hidden[key]
    return next(key for key in keys if "/checkpoints/" in key)


def attachment_of_the_end_hidden(maker: Maker, place: VersionedPlace) -> str:
    keys = hide_newest(maker, place)
    for key in keys:
        if "/media/" not in key:
            del place.hidden[key]
    return next(key for key in keys if "/media/" in key)


def manifest_in_the_middle_hidden(maker: Maker, place: VersionedPlace) -> str:
    place.hide(maker.manifests[1])
    return maker.manifests[1]


def segment_hidden(maker: Maker, place: VersionedPlace) -> str:
    place.hide(maker.segments[0])
    return maker.segments[0]


def hold_hidden(maker: Maker, place: VersionedPlace) -> str:
    """A hold that no manifest lists yet."""
    key = f"{maker.base}/holds/20251124T170000Z-aaaa.json"
    maker.signed(key, {"v": 1, "type": "steward.hold"})
    place.hide(key)
    place.hide(key.replace(".json", ".sig"))
    return key


HIDINGS: list[tuple[Hide, str]] = [
    (end_hidden, "hidden"),
    (segment_of_the_end_hidden, "hidden"),
    (checkpoint_of_the_end_hidden, "hidden"),
    (attachment_of_the_end_hidden, "hidden"),
    (manifest_in_the_middle_hidden, "hidden"),
    (segment_hidden, "missing"),
    (hold_hidden, "hidden"),
]


@pytest.mark.parametrize(("hide", "code"), HIDINGS, ids=[case[0].__name__ for case in HIDINGS])
async def test_what_was_hidden_is_found_and_named(hide: Hide, code: str, tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    place = VersionedPlace(maker.root)
    named = hide(maker, place)

    result = await verified(maker, place)

    assert (code, named) in {
        (item.code, item.key) for item in result.findings.of(Severity.WRONG)
    }, result.findings.found


async def test_what_was_removed_on_purpose_may_be_behind_a_marker(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    place = VersionedPlace(maker.root)
    body = (maker.root / maker.segments[0]).read_bytes()
    maker.remove(maker.segments[0])
    maker.manifest()
    place.hidden[maker.segments[0]] = body
    # Somebody cleaned up what was put there by mistake.
    place.hidden[f"{maker.base}/events/notes.txt"] = b"mine"

    result = await verified(maker, place)

    assert not result.findings.found
    assert result.tombstones == 1


async def test_a_place_that_does_not_tell_of_deletions_says_so(tmp_path: Path) -> None:
    maker = make_archive(tmp_path)
    place = VersionedPlace(maker.root, remarks=("Older versions are not told.",))

    result = await verified(maker, place)

    assert [(item.code, item.severity) for item in result.findings.found] == [
        ("no_versions", Severity.NOTICE)
    ]


class Refusing:
    """A client whose key may not list versions."""

    def __init__(self, code: str) -> None:
        self.code = code

    async def list_object_versions(self, **_: object) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": self.code}}, "ListObjectVersions")

    async def list_objects_v2(self, **_: object) -> dict[str, Any]:
        when = datetime(2025, 11, 24, tzinfo=UTC)
        return {"Contents": [{"Key": "v1/a", "Size": 1, "LastModified": when}]}


@pytest.mark.parametrize(("code", "told"), [("AccessDenied", 1), ("NotImplemented", 0)])
async def test_a_bucket_that_refuses_to_list_versions_is_remarked_on(code: str, told: int) -> None:
    place = S3Place("archive", "", S3())
    place._client = cast(Any, Refusing(code))

    found = [item.key async for item in place.list("v1/")]

    assert found == ["v1/a"]
    assert len(place.remarks) == told
    assert all("s3:ListBucketVersions" in remark for remark in place.remarks)
