"""Read the configuration: a YAML file, then environment variables on top, checked once.

The promise kept here: ``load`` returns a ``Config`` that can be used, or raises ``ConfigError``
with one sentence that names the file and line (or the variable) and says what to write. No
sentence ever repeats a secret.
"""

import difflib
import math
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from common.config.bot_settings import Auditbot
from common.config.document import (
    MAX_BYTES,
    Group,
    Groups,
    Scalar,
    Value,
    at,
    parse,
    parse_groups,
    shown_key,
    single_values,
)
from common.config.environment import Override, content, overrides
from common.config.options import PREFIX, Keys, Kind, Option, Section, schema
from common.config.rules import check, check_archive
from common.config.schema import Config
from common.config.secret import Secret
from common.errors import ConfigError


class Warn(Protocol):
    """Says what deserves attention but stops nothing; ``Log.warning`` fits."""

    def __call__(self, sentence: str, **values: object) -> None:
        """Say it."""
        ...


def _keep_quiet(sentence: str, **values: object) -> None:
    """Say nothing."""


def load(path: Path | None, environ: Mapping[str, str], *, warn: Warn = _keep_quiet) -> Config:
    """Return the configuration.

    Args:
        path: the YAML file; None means that the environment alone says everything
        environ: environment variables
        warn: told of files with secrets that every account of the machine may read

    Raises:
        ConfigError: the configuration cannot be used.
    """
    tree = Group(line=0, last_line=0) if path is None else _read(path)
    name = None if path is None else str(path)
    loader = _Loader(name, overrides(schema(), environ))
    config = loader.config(tree)
    secret_files = ([path] if path and loader.has_secrets else []) + loader.secret_files
    for file in secret_files:
        if _is_public(file):
            warn(
                "every account of this machine can read a file with secrets; "
                "run “chmod o-rwx” on it",
                file=str(file),
            )
    return config


def load_archive(path: Path | None, environ: Mapping[str, str]) -> Auditbot:
    """Return where the archive is and how its store is reached; nothing else is looked at.

    Whoever reads archives has no homeserver and none of its secrets: the rest may be missing, or
    half written.

    Args:
        path: the YAML file; None means that the environment alone says everything
        environ: environment variables

    Raises:
        ConfigError: what is there of it cannot be used.
    """
    tree = Group(line=0, last_line=0) if path is None else _read(path)
    loader = _Loader(None if path is None else str(path), overrides(schema(), environ))
    return loader.archive(tree)


def load_text(text: str, name: str) -> Config:
    """Return the configuration that a YAML text says by itself; ``name`` stands in errors."""
    return _Loader(name, {}).config(parse(text, name))


def has_settings(environ: Mapping[str, str]) -> bool:
    """Whether any environment variable holds an option."""
    return any(name.startswith(PREFIX) for name in environ)


def _read(path: Path) -> Group:
    data = _bytes(path, "", "write one with “steward init”, or name it with --config")
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES // 1024} KiB; this cannot be a configuration."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{at(str(path), line)}: this is not UTF-8 text.") from None
    return parse(text, str(path))


def _bytes(path: Path, where: str, advice: str) -> bytes:
    start = f"{where}: " if where else ""
    # A name with a line break in it would make two lines of the sentence.
    name = str(path) if str(path).isprintable() else ascii(str(path))
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{start}there is no file {name}; {advice}.") from None
    except IsADirectoryError:
        raise ConfigError(f"{start}{name} is a directory; name the file in it.") from None
    except PermissionError:
        raise ConfigError(
            f"{start}{name} may not be read by this account; give it the right to read."
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the path is not valid"
        raise ConfigError(f"{start}{name} cannot be read: {reason}.") from None


def _is_public(path: Path) -> bool:
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


class _Loader:
    """Builds the typed structures and remembers where each value came from.

    ``name`` is the file's, None if there is no file. Afterwards ``has_secrets`` tells whether
    the file itself holds any, and ``secret_files`` which other files do.
    """

    def __init__(self, name: str | None, variables: Mapping[Keys, Override]) -> None:
        self._name = name
        self._variables = variables
        self._places: dict[str, str] = {}
        self.has_secrets = False
        self.secret_files: list[Path] = []

    def config(self, tree: Group) -> Config:
        """Return the whole configuration, checked."""
        config = cast(Config, self.section(schema(), tree))
        check(config, self.place)
        return config

    def archive(self, tree: Group) -> Auditbot:
        """Return of auditbot's section what a reader of archives needs, checked."""
        section = schema().members["auditbot"]
        if not isinstance(section, Section):
            raise TypeError("auditbot is no section")
        group = self._group(section, tree)
        self._refuse_unknown(section, group)
        needed = {name: section.members[name] for name in ("destination", "s3")}
        values = self._values(replace(section, members=needed), group)
        auditbot = Auditbot(**cast(dict[str, Any], values))
        check_archive(auditbot, self.place)
        return auditbot

    def place(self, *dotted: str) -> str:
        """Return where the first of these options that was set stands, as an error names it."""
        nowhere = self._name or "the environment"
        return next((self._places[one] for one in dotted if one in self._places), nowhere)

    def section(self, section: Section, group: Group) -> msgspec.Struct:
        """Return one section as its typed structure."""
        self._refuse_unknown(section, group)
        return section.type(**self._values(section, group))

    def _refuse_unknown(self, section: Section, group: Group) -> None:
        for key in group.entries:
            if key not in section.members:
                raise ConfigError(self._unknown(key, section, group))

    def _values(self, section: Section, group: Group) -> dict[str, object]:
        values: dict[str, object] = {}
        for name, member in section.members.items():
            if isinstance(member, Section):
                values[name] = self.section(member, self._group(member, group))
            elif member.path in self._variables:
                values[name] = self._from_variable(member, self._variables[member.path])
            elif name in group.entries:
                where = self._at(group.key_lines[name])
                values[name] = self.value(member, group.entries[name], where)
            elif member.required:
                raise ConfigError(self._missing(member, section, group))
        return values

    def _group(self, section: Section, parent: Group) -> Group:
        name = section.path[-1]
        entry = parent.entries.get(name)
        if entry is None:
            return Group(line=parent.last_line, last_line=parent.last_line)
        line = parent.key_lines[name]
        if isinstance(entry, Group):
            return Group(line, line, entry.entries, entry.key_lines)
        if isinstance(entry, Value) and entry.content is None:
            return Group(line, line)
        raise ConfigError(
            f"{self._at(line)}: {section.dotted} is a section; write “{name}:” and its keys "
            "indented below it."
        )

    def value(self, option: Option, entry: Value | Group | Groups, where: str) -> object:
        """Return what a file says of an option, as its type."""
        self._places[option.dotted] = where
        if option.item is not None and isinstance(entry, Groups):
            return tuple(self.section(option.item, group) for group in entry.items)
        if isinstance(entry, Groups):
            raise ConfigError(single_values(self._name or where, entry.line))
        if isinstance(entry, Value):
            self.has_secrets = self.has_secrets or option.kind is Kind.SECRET
            return _convert(option, entry.content, where, strict=True)
        if option.kind is not Kind.SECRET:
            raise ConfigError(
                f"{where}: {option.dotted} must be {option.expected}, not a section."
            )
        file = entry.entries.get("file")
        if set(entry.entries) != {"file"} or not (
            isinstance(file, Value) and isinstance(file.content, str) and file.content
        ):
            raise ConfigError(
                f"{where}: {option.dotted} must be text, or {{file: PATH}} to read it from a file."
            )
        return self._secret_file(option, Path(file.content), where)

    def _from_variable(self, option: Option, override: Override) -> object:
        self._places[option.dotted] = override.name
        if override.is_file:
            return self._secret_file(option, Path(override.text), override.name)
        if option.kind is Kind.GROUPS:
            groups = parse_groups(override.text, override.name)
            if groups is None:
                raise ConfigError(
                    f"{override.name} is not a list of sections; write [{{key: value, …}}, …]."
                )
            return _Loader(override.name, {}).value(option, groups, override.name)
        return _convert(option, content(option, override), override.name, strict=False)

    def _secret_file(self, option: Option, path: Path, where: str) -> object:
        data = _bytes(path, where, "it should hold a secret")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{where}: {path} does not hold UTF-8 text.") from None
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{where}: {path} is too large to hold a secret.")
        self.secret_files.append(path)
        text = text.removesuffix("\n").removesuffix("\r")
        return _convert(option, text, f"{where} (file {path})", strict=True)

    def _at(self, line: int) -> str:
        return at(self._name or "the environment", line)

    def _unknown(self, key: str, section: Section, group: Group) -> str:
        where = self._at(group.key_lines[key])
        known = list(section.members)
        home = section.dotted or "the configuration"
        start = f"{where}: {shown_key(key)} is not a key of {home}"
        near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.6)
        if near:
            return f"{start}; did you mean “{near[0]}”?"
        for option in schema().options():
            if option.path[-1] == key:
                return f"{start}; it belongs below “{'.'.join(option.path[:-1])}:”."
        return f"{start}; its keys are {', '.join(known)}."

    def _missing(self, option: Option, section: Section, group: Group) -> str:
        value = "…" if option.example is None else option.example
        meaning = option.description.removesuffix(".")
        if self._name is None:
            return (
                f"{option.variable} is not set and there is no configuration file; set it "
                f"({meaning}), or write a file with “steward init”."
            )
        return (
            f"{self._at(group.line)}: {option.dotted} is missing; below “{section.path[-1]}:” "
            f"write “{option.path[-1]}: {value}” ({meaning})."
        )


def _convert(
    option: Option, found: Scalar | tuple[Scalar, ...], where: str, *, strict: bool
) -> object:
    """Return the typed value; ``strict=False`` reads numbers and truth values out of text."""
    start = f"{where}: {option.dotted}"
    if found is None:
        if option.nullable:
            return None
        raise ConfigError(
            f"{start} has no value; it must be {option.expected}"
            f"{'' if option.required else ', or remove the line'}."
        )
    if option.kind is Kind.SECRET:
        _check_secret(found, start)
    try:
        value: object = msgspec.convert(found, option.annotation, strict=strict, dec_hook=_decode)
    except msgspec.ValidationError:
        raise ConfigError(f"{start} must be {option.expected}{_but(option, found)}.") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{start} must be {option.expected}, not without end.")
    if option.is_address and isinstance(value, str):
        return value.rstrip("/")
    return value


def _decode(kind: type, found: object) -> object:
    if kind is Secret and isinstance(found, str):
        return Secret(found)
    raise NotImplementedError


def _check_secret(found: object, start: str) -> None:
    if not isinstance(found, str):
        raise ConfigError(f"{start} must be text; put the value in double quotes.")
    if not found.strip():
        raise ConfigError(
            f"{start} is empty; write the secret there, or run “steward init” in an empty "
            "directory for a configuration with fresh ones."
        )
    if not found.isprintable():
        raise ConfigError(
            f"{start} holds a line break or another character that cannot be printed; "
            "write it in one line."
        )


_LONGEST = 40


def _but(option: Option, found: object) -> str:
    """Return the rest of "must be a whole number", e.g. ", not “abc”"."""
    match found:
        case str() if option.kind is Kind.TEXT and not found:
            return ", not empty"
        case str():
            # An address may carry a password before its “@”.
            if "@" in found and "//" in found:
                return ""
            cut = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}…"
            shown = "".join(sign if sign.isprintable() else "�" for sign in cut)
            return f", not {'' if option.kind is Kind.TEXT else 'the text '}“{shown}”"
        case bool():
            said = f", not {str(found).lower()}"
        case int() | float() if abs(found) < 1e15:  # noqa: PLR2004  # what a person still reads
            said = f", not {found}"
        case int() | float():
            said = ", not so large a number"
        case _:
            is_list = option.kind in {Kind.LIST, Kind.GROUPS}
            return "" if is_list else ", not a list"
    return said + ("; put it in double quotes" if option.kind is Kind.TEXT else "")
