"""``steward init``: a configuration and the registration that belongs to it, with fresh secrets.

The promise kept here: both files are written or neither, never over an existing one, readable
by nobody else.
"""

import contextlib
import json
import os
import secrets
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.config.example import render_example
from common.config.load import load_text
from common.config.options import Keys
from common.config.registration import render_registration, user_ids
from common.config.schema import Config
from common.errors import ConfigError, UserError

CONFIG, REGISTRATION = "config.yaml", "registration.yaml"

_PRIVATE = 0o600


@dataclass(frozen=True)
class _Question:
    """One option that init can be given: by an argument, or asked for on a terminal."""

    keys: Keys
    flag: str
    metavar: str
    meaning: str
    suggestion: str = ""
    is_asked: bool = False


_QUESTIONS = (
    _Question(
        ("homeserver", "server_name"),
        "--server-name",
        "NAME",
        "the homeserver's name, the part after the colon in user IDs",
        is_asked=True,
    ),
    _Question(
        ("homeserver", "url"),
        "--homeserver-url",
        "URL",
        "where Steward reaches the homeserver",
        suggestion="http://127.0.0.1:8008",
        is_asked=True,
    ),
    _Question(
        ("appservice", "listen_host"), "--listen-host", "ADDRESS", "address Steward listens on"
    ),
    _Question(("appservice", "listen_port"), "--listen-port", "PORT", "port Steward listens on"),
    _Question(
        ("appservice", "url"),
        "--appservice-url",
        "URL",
        "where the homeserver reaches Steward, if not at that address and port",
    ),
    _Question(
        ("auditbot", "destination"),
        "--destination",
        "PLACE",
        "where the archive goes: file:DIRECTORY or s3://BUCKET/PREFIX",
    ),
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what ``steward init`` can be given."""
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where to write both files (default: here)",
    )
    for question in _QUESTIONS:
        parser.add_argument(
            question.flag,
            dest=question.flag,
            type=int if question.keys[-1] == "listen_port" else str,
            metavar=question.metavar,
            help=question.meaning,
        )


def main(arguments: Namespace) -> int:
    """Write both files and say what comes next."""
    directory: Path = arguments.directory
    files = (directory / CONFIG, directory / REGISTRATION)
    _refuse_existing(files)
    ask = input if sys.stdin.isatty() else None
    values = _answers(vars(arguments), ask) | _fresh_secrets()
    text = render_example(values)
    try:
        config = load_text(text, "the answers")
    except ConfigError as error:
        raise UserError(_without_line(str(error))) from None
    write_both(files, (text, render_registration(config)))
    sys.stdout.write(_next_steps(config, directory))
    return 0


def _fresh_secrets() -> dict[Keys, object]:
    return {
        ("appservice", "as_token"): secrets.token_urlsafe(32),
        ("appservice", "hs_token"): secrets.token_urlsafe(32),
        ("encryption", "pickle_key"): secrets.token_urlsafe(32),
    }


def _answers(given: Mapping[str, object], ask: Callable[[str], str] | None) -> dict[Keys, object]:
    """Return the options that were given; ask for the ones that must be known."""
    values: dict[Keys, object] = {}
    for question in _QUESTIONS:
        value = given.get(question.flag)
        if value is None and question.is_asked:
            value = _asked(question, ask)
        if value is not None:
            values[question.keys] = value
    return values


def _asked(question: _Question, ask: Callable[[str], str] | None) -> str:
    if ask is None:
        raise UserError(
            f"{question.flag} is missing: {question.meaning}. (There is no terminal to ask on.)"
        )
    default = f" [{question.suggestion}]" if question.suggestion else ""
    while True:
        try:
            answer = ask(f"{question.meaning[0].upper()}{question.meaning[1:]}{default}: ")
        except EOFError:
            raise UserError(f"{question.flag} is missing: {question.meaning}.") from None
        if answer.strip() or question.suggestion:
            return answer.strip() or question.suggestion


def _without_line(sentence: str) -> str:
    """Drop "the answers, line 12: ", which means nothing to the person who answered."""
    return sentence.partition(": ")[2]


def _refuse_existing(files: tuple[Path, Path]) -> None:
    for file in files:
        # lexists: a link that leads nowhere is somebody's too.
        if os.path.lexists(file):
            raise UserError(
                f"{file} exists already and is not overwritten; nothing was written. Move it "
                "away, or name another directory with --directory."
            )


def write_both(files: tuple[Path, Path], texts: tuple[str, str]) -> None:
    """Write two new private files, or none of them.

    Raises:
        UserError: one exists already, or cannot be written.
    """
    written: list[Path] = []
    try:
        for file, text in zip(files, texts, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
            written.append(file)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        for file in written:
            with contextlib.suppress(OSError):
                file.unlink()
        where = error.filename or files[len(written) - 1]
        raise UserError(
            f"{where} cannot be written: {error.strerror}. Nothing was written."
        ) from None


def homeserver_lines(config: Config, registration: Path) -> str:
    """Return what homeserver.yaml needs, to be copied as it stands."""
    _, *bots = user_ids(config)
    direct_chats = json.dumps(config.rooms.direct_chats)
    return (
        "app_service_config_files:\n"
        f"  - {json.dumps(str(registration), ensure_ascii=False)}\n"
        "modules:\n"
        "  - module: common.synapse_module.StewardModule\n"
        "    config:\n"
        f"      bots: {json.dumps(bots)}\n"
        f"      direct_chats: {direct_chats}\n"
    )


def _next_steps(config: Config, directory: Path) -> str:
    registration = (directory / REGISTRATION).resolve()
    # The configuration's relative paths (database, archive) are relative to where it is started.
    enter = "" if directory.resolve() == Path.cwd() else f"   cd {shlex.quote(str(directory))}\n"
    file = shlex.quote(str(registration))
    return f"""\
Wrote {directory / CONFIG} and {directory / REGISTRATION}, both readable by you alone.

1. Add these lines to homeserver.yaml (to the lists, where they exist already):

{homeserver_lines(config, registration)}
   Synapse must be able to read {REGISTRATION}, for example:
     chgrp matrix-synapse {file} && chmod 640 {file}
   The module puts both bots into each new room before its first message. It is one file,
   common/synapse_module.py; install Steward into Synapse's Python environment, or copy the
   file to where that environment finds it and write its name there.

2. Restart Synapse: it reads both only at its start.

3. See whether all is well, then start:

{enter}   steward doctor
   steward run
"""
