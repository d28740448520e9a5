"""JSON that is nested deeper than anything can read is named, as any other damage is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from auditbot.reader.documents import is_newer
from auditbot.reader.parse import parse
from tests.support.archive_maker import Maker, make_archive
from tests.unit.auditbot.reader.test_tampering import lines_of, relist, verified, wrongs

DEEP = b'{"v":1,"created_ms":1,"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def _manifest(maker: Maker) -> str:
    key = maker.manifests[1]
    (maker.root / key).write_bytes(DEEP)
    return key


def _statement(folder: str) -> Callable[[Maker], str]:
    def put(maker: Maker) -> str:
        key = f"{maker.base}/{folder}.json"
        path = maker.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DEEP)
        path.with_suffix(".sig").write_bytes(b"x" * 64)
        return key

    return put


def _record(maker: Maker) -> str:
    key: str = maker.all_objects()[0]["key"]
    lines = lines_of(maker, key)
    relist(maker, key, [DEEP, *lines[1:]])
    return key


@pytest.mark.parametrize(
    "damage",
    [
        _manifest,
        _statement("removals/20251124T170000Z000001"),
        _statement("holds/20251124T170000Z000001"),
        _statement("erasures/20251124T170000Z000001"),
        _statement("reports/dt=2025-11-24/completeness"),
        _statement(f"keys/rotation-{'0' * 16}"),
        _record,
    ],
    ids=["manifest", "removal", "hold", "erasure", "report", "rotation", "record"],
)
async def test_it_is_named(damage: Callable[[Maker], str], tmp_path: Path) -> None:
    maker = make_archive(tmp_path / "archive")
    key = damage(maker)
    assert key in [where for _, where in wrongs(await verified(maker))]


def test_it_is_no_error_of_another_kind() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        parse(DEEP)
    assert not is_newer(DEEP)
