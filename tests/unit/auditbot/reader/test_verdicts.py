"""What a command concludes is what was found: nobody is accused, or calmed, by a wrong word."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from tests.support.fixture_archive import FOLDER
from tests.unit.auditbot.reader.test_releases import RELEASES, Officer

RELEASE = FOLDER / RELEASES[0]
IDENTITIES = f"--identity={RELEASE / 'identities.txt'}"
Of = Callable[[str], Officer]


@pytest.fixture
def of(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Of:
    """Return who types commands about a copy of an archive of a form."""
    monkeypatch.chdir(tmp_path)

    def copied(form: str) -> Officer:
        shutil.copytree(RELEASE / form, tmp_path / form)
        return Officer(tmp_path / form, tmp_path / "home", capsys)

    return copied


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """Return the option that names an identity of somebody else."""
    path = tmp_path / "stranger.txt"
    path.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    return f"--identity={path}"


@pytest.mark.parametrize(("form", "keys"), [("sealed", 2), ("content", 3)])
def test_somebody_else_s_identity_accuses_nobody(
    of: Of, stranger: str, form: str, keys: int
) -> None:
    officer = of(form)

    assert officer.types("verify", stranger) == 2
    assert "RIGHT from outside" in officer.said
    assert "none of the identities you named opens it (is it the right file?)" in officer.said
    assert "WRONG" not in officer.said
    assert officer.types("verify", "--json", stranger) == 2
    (result,) = json.loads(officer.said)
    told = [item["object"] for item in result["findings"] if item["code"] == "identity"]
    assert len(told) == len(set(told)) == keys, "each key once"
    assert all("/keys/" in key for key in told)

    assert officer.types("search", "price", stranger) == 1
    assert "is it the right file?" in officer.told
    assert "No matching keys" not in officer.told
    assert officer.types("drill", stranger) == 1
    assert "is it the right file?" in officer.said


def test_a_key_that_was_replaced_is_wrong_whoever_looks(of: Of, stranger: str) -> None:
    """To be told that one's own key does not fit must not hide that theirs was changed."""
    officer = of("content")
    other = pyrage.x25519.Identity.generate()
    for path in Path("content").rglob("content-*.age"):
        if path.parent.name == "keys":
            path.write_bytes(pyrage.encrypt(b"x", [other.to_public()]))

    for option in (stranger, IDENTITIES):
        assert officer.types("verify", option) == 1
        assert "WRONG" in officer.said
