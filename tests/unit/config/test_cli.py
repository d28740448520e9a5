"""Every foreseen failure of the command is one sentence and the promised exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.checks import broken, fine, noted
from common.cli import main
from common.doctor.report import render
from common.errors import ConfigError, PermanentError, TransientError, UserError
from tests.unit.config.builders import AS_TOKEN, VALID


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEWARD_CONFIG", raising=False)


def write(name: str, text: str = VALID) -> None:
    Path(name).write_text(text)
    Path(name).chmod(0o600)


def test_the_default_is_config_yaml_in_the_working_directory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("config.yaml")

    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "config.yaml can be used.\n"


@pytest.mark.parametrize(
    "words", [["-c", "x.yaml", "config", "check"], ["config", "check", "--config", "x.yaml"]]
)
def test_another_file_can_be_named_before_or_after_the_subcommand(words: list[str]) -> None:
    write("x.yaml")

    assert main(words) == 0


def test_the_environment_can_name_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("y.yaml")
    monkeypatch.setenv("STEWARD_CONFIG", "y.yaml")

    assert main(["config", "check"]) == 0


def test_the_environment_can_be_the_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEWARD__HOMESERVER__URL", "http://127.0.0.1")

    assert main(["config", "check"]) == 2
    assert "STEWARD__HOMESERVER__SERVER_NAME is not set" in capsys.readouterr().err


def test_a_wrong_configuration_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("config.yaml", VALID + "adminbott: 1\n")

    assert main(["run"]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "steward: config.yaml, line 9: “adminbott” is not a key of the configuration; "
        "did you mean “adminbot”?\n"
    )


def raising(error: BaseException):  # type: ignore[no-untyped-def]  # noqa: ANN201  # what it returns stands in for anything
    def run(_config: object, _read: object) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("No."), 1, "steward: No.\n"),
        (TransientError("Away."), 1, "steward: Away.\n"),
        (PermanentError("Never."), 1, "steward: Never.\n"),
        (ConfigError("Two\nlines."), 2, "steward: Two lines.\n"),
        (ExceptionGroup("", [ExceptionGroup("", [UserError("Deep.")])]), 1, "steward: Deep.\n"),
        (ExceptionGroup("", [UserError("a"), ConfigError("b")]), 2, "steward: b\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failure_that_was_foreseen_is_one_sentence(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("config.yaml")
    monkeypatch.setattr("common.run.main", raising(error))

    assert main(["run"]) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "error", [RuntimeError("bug"), ExceptionGroup("", [UserError("a"), RuntimeError("bug")])]
)
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    write("config.yaml")
    monkeypatch.setattr("common.run.main", raising(error))

    with pytest.raises(type(error)):
        main(["run"])


def test_help_and_version_need_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert main(["help"]) == 0
    assert main(["version"]) == 0

    printed = capsys.readouterr().out
    for command in ("init", "doctor", "run", "demo", "config", "audit"):
        assert f"\n    {command} " in printed
    assert printed.endswith("steward 0.1.0\n")


def test_a_subcommand_of_a_package_gets_all_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["audit", "--help"])

    assert caught.value.code == 0
    assert "usage: steward audit" in capsys.readouterr().out


def test_a_wrong_command_line_is_status_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["dance"])

    assert caught.value.code == 2


def test_the_printed_registration_has_the_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    write("config.yaml")

    assert main(["config", "registration"]) == 0
    assert f'as_token: "{AS_TOKEN}"' in capsys.readouterr().out


def test_a_reader_that_goes_away_makes_no_traceback() -> None:
    process = subprocess.run(
        f"{sys.executable} -m common.cli config example | true",
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )

    assert process.stderr == ""


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = "import sys, common.cli; common.cli.main(['help']); print('aiohttp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )

    assert done.stdout.endswith("False\n")


def test_a_finding_is_one_line_even_if_a_server_says_more() -> None:
    report = render([broken("Bad\nnews.", "do\nthis"), noted("Hm."), fine("Good.")], "utf-8")

    assert report == "✘ Bad news. → do this\n! Hm.\n✔ Good.\n\n1 to mend.\n"


def test_a_terminal_without_signs_gets_plain_words() -> None:
    report = render([broken("“Bad”", "x"), noted("Hm."), fine("Gut für mich.")], "ascii")

    assert report.splitlines() == [
        'MEND "Bad" -> x',
        "note Hm.",
        "ok   Gut f?r mich.",
        "",
        "1 to mend.",
    ]
