"""An officer's configuration says where the archive is, and holds nothing of the homeserver's."""

from pathlib import Path

import pytest

from auditbot.reader.cli import main
from auditbot.reader.commands.options import which
from common.errors import ConfigError
from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]


def configure(*lines: str) -> None:
    Path("config.yaml").write_text("".join(f"{line}\n" for line in lines))


def test_two_lines_are_enough(officer: Officer) -> None:
    configure("auditbot:", f"  destination: file:{officer.maker.root}")
    home = f"--home={officer.folder / 'home'}"

    assert main(["rooms", home]) == 0
    assert "Trading desk" in officer.capsys.readouterr().out


def test_what_others_half_wrote_is_not_read(officer: Officer) -> None:
    configure(
        "homeserver:",
        "  somewhere: x",
        "auditbot:",
        f"  destination: file:{officer.maker.root}",
        "  keep_days:",
    )

    assert which(None, None)[0] == f"file:{officer.maker.root}"


def test_a_key_that_is_none_is_refused_but_blocks_nobody_who_names_the_place(
    officer: Officer,
) -> None:
    configure("auditbot:", "  destinations: file:elsewhere")

    with pytest.raises(ConfigError, match="did you mean “destination”"):
        main(["rooms", f"--home={officer.folder / 'home'}"])
    with pytest.raises(ConfigError, match="did you mean"):
        main(["rooms", "--destination=s3://archive/x", f"--home={officer.folder / 'home'}"])
    assert officer.types("rooms") == 0
    assert "What is configured is not used: config.yaml, line 2" in officer.told


def test_a_bucket_is_reached_as_the_file_and_the_environment_say(
    officer: Officer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (officer.folder / "secret").write_text("not-to-be-seen\n")
    configure(
        "auditbot:",
        "  destination: s3://archive/prod",
        "  s3:",
        "    access_key_id: reader",
        "    secret_access_key: {file: secret}",
    )
    monkeypatch.setenv("STEWARD__AUDITBOT__S3__REGION", "eu-west-1")

    place, s3, _ = which(None, None)

    assert (place, s3.region) == ("s3://archive/prod", "eu-west-1")
    assert s3.secret_access_key is not None
    assert s3.secret_access_key.reveal() == "not-to-be-seen"
    monkeypatch.delenv("STEWARD__AUDITBOT__S3__REGION")
    configure("auditbot:", "  destination: s3://archive/prod", "  s3:", "    access_key_id: x")
    with pytest.raises(ConfigError, match="secret_access_key is not"):
        which(None, None)
