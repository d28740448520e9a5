"""Reading kinds: the ones that come with Steward, and own ones named in the configuration.

The promise: ``load_kinds`` returns kinds that can be used, or raises ``ConfigError`` with the
file's name and what is wrong.
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from adminbot.bridges.kind import VERBS, Command, Kind, Vocabulary, Words
from adminbot.bridges.phrase import parse_phrase
from common.errors import ConfigError

MAX_BYTES = 256 * 1024

T = TypeVar("T")


def load_kinds(own: Iterable[Path] = ()) -> Mapping[str, Kind]:
    """Return every kind by its id; an own kind replaces one of ours with the same id."""
    here = files("adminbot.bridges")
    families = {
        entry.name.removesuffix(".yaml"): _typed(entry.read_text("utf-8"), entry.name, Words)
        for entry in here.joinpath("families").iterdir()
        if entry.name.endswith(".yaml")
    }
    for name, words in families.items():
        _check_commands(words.commands, f"families/{name}.yaml")
    shipped = (
        (entry.name, entry.read_text("utf-8"))
        for entry in sorted(here.joinpath("kinds").iterdir(), key=lambda each: each.name)
        if entry.name.endswith(".yaml")
    )
    kinds: dict[str, Kind] = {}
    for name, text in [*shipped, *((str(path), read_file(path)) for path in own)]:
        kind = read_kind(text, name, families)
        kinds[kind.id] = kind
    return kinds


def read_kind(text: str, name: str, families: Mapping[str, Words]) -> Kind:
    """Return one kind from its YAML text; ``name`` stands in errors."""
    kind = _typed(text, name, Kind)
    full = tuple(_complete(each, name, families) for each in kind.vocabularies)
    if len({each.name for each in full}) != len(full):
        raise ConfigError(f"{name}: two vocabularies have the same name.")
    for each in full:
        _check_commands(each.commands, name)
        _check_phrases([*each.recognised_by, *each.unknown], name)
    return msgspec.structs.replace(kind, vocabularies=full)


def read_file(path: Path) -> str:
    """Return a file's text, within limits; ``ConfigError`` says why not."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES // 1024} KiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None


def read_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds; only plain values, lists and groups."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigError(f"{name}{where}: this is not valid YAML.") from None


def _typed(text: str, name: str, type_: type[T]) -> T:
    try:
        return msgspec.convert(read_yaml(text, name), type_)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(f"{name}: {error}.") from None


def _complete(one: Vocabulary, name: str, families: Mapping[str, Words]) -> Vocabulary:
    """Return a vocabulary with what its family brings; ``null`` takes a command away."""
    if one.like is not None and one.like not in families:
        raise ConfigError(f"{name}: there is no family “{one.like}”.")
    base = families[one.like] if one.like is not None else None
    joined = {**(base.commands if base else {}), **one.commands}
    return msgspec.structs.replace(
        one,
        commands={verb: command for verb, command in joined.items() if command is not None},
        unknown=one.unknown or (base.unknown if base else ()),
    )


def _check_commands(commands: Mapping[str, Command | None], name: str) -> None:
    unknown = sorted(set(commands) - VERBS)
    if unknown:
        raise ConfigError(f"{name}: there is no command “{unknown[0]}”.")
    for verb, command in commands.items():
        for step in command.steps if command else ():
            asked = [each.hears for each in step.asks]
            _check_phrases([*step.done, *step.failed, *asked], f"{name}, {verb}")
            if step.ends != "left" and not step.done and step.reaction is None:
                raise ConfigError(f"{name}, {verb}: nothing says when “{step.say}” is done.")


def _check_phrases(phrases: Iterable[str], name: str) -> None:
    for phrase in phrases:
        try:
            parse_phrase(phrase)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}.") from None
