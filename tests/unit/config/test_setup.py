"""``steward init`` writes two private files that belong together, or nothing."""

import io
import os
import stat
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from common.cli import main
from common.config.load import load
from common.config.registration import registration

ANSWERS = ["--server-name", "example.org", "--homeserver-url", "http://127.0.0.1:8008"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def init(directory: Path, *more: str) -> int:
    return main(["init", "--directory", str(directory), *more])


def test_both_files_belong_together_and_are_private(tmp_path: Path) -> None:
    usual = os.umask(0)
    try:
        assert init(tmp_path / "new", *ANSWERS) == 0
    finally:
        os.umask(usual)

    config = load(tmp_path / "new/config.yaml", {})
    read_back = YAML(typ="safe").load(tmp_path / "new/registration.yaml")
    assert read_back == registration(config)
    for name in ("config.yaml", "registration.yaml"):
        assert stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) == 0o600


def test_secrets_are_fresh_each_time(tmp_path: Path) -> None:
    init(tmp_path / "a", *ANSWERS)
    init(tmp_path / "b", *ANSWERS)

    first, second = (load(tmp_path / name / "config.yaml", {}) for name in "ab")
    secrets = {
        secret.reveal()
        for config in (first, second)
        for secret in (
            config.appservice.as_token,
            config.appservice.hs_token,
            config.encryption.pickle_key,
        )
    }
    assert len(secrets) == 6
    assert all(len(secret) >= 43 for secret in secrets)


@pytest.mark.parametrize("name", ["config.yaml", "registration.yaml"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    if kind == "file":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")

    assert init(tmp_path, *ANSWERS) == 1

    assert f"{tmp_path / name} exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert init(tmp_path / "file/below", *ANSWERS) == 1

    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1


def test_what_homeserver_yaml_needs_is_printed_as_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init(tmp_path, *ANSWERS)

    printed = capsys.readouterr().out
    block = printed[printed.index("app_service_config_files") : printed.index("   Synapse must")]
    lines = YAML(typ="safe").load(block)
    assert lines["app_service_config_files"] == [str(tmp_path / "registration.yaml")]
    assert lines["modules"][0]["module"] == "common.synapse_module.StewardModule"
    assert lines["modules"][0]["config"]["bots"] == [
        "@adminbot:example.org",
        "@auditbot:example.org",
    ]
    assert "steward doctor" in printed
    assert "token" not in printed.lower()


def test_without_a_terminal_nothing_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("example.org\n"))

    assert init(tmp_path) == 1

    assert "--server-name is missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_what_is_missing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("\nexample.org\n\n"))

    assert init(tmp_path) == 0

    config = load(tmp_path / "config.yaml", {})
    assert config.homeserver.server_name == "example.org"
    assert config.homeserver.url == "http://127.0.0.1:8008", "the suggestion"


def test_a_wrong_answer_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "new", *ANSWERS, "--listen-port", "70000") == 1

    assert "appservice.listen_port must be a whole number" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_optional_answers_are_written(tmp_path: Path) -> None:
    destination = ["--destination", "s3://archive/matrix"]
    assert init(tmp_path, *ANSWERS, "--appservice-url", "http://bots:29350", *destination) == 0

    config = load(tmp_path / "config.yaml", {})
    assert config.appservice.url == "http://bots:29350"
    assert config.auditbot.destination == "s3://archive/matrix"
