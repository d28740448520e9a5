"""YAML text as a tree that remembers its lines, so that every fault can name one.

YAML 1.2 (``on`` and ``yes`` are text), duplicate keys refused, no tags, one document. Nothing
that was written in the file is repeated in a syntax error: it may be a secret.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from common.errors import ConfigError

MAX_BYTES = 256 * 1024
"""Far above any sensible configuration; bounds what a wrong path can cost."""

_DEEPEST = 10

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Value:
    """A text, number, truth value, null, or a list of them; ``line`` counts from 1."""

    content: Scalar | tuple[Scalar, ...]
    line: int


@dataclass(frozen=True)
class Group:
    """Keys and what they hold; ``last_line`` is the end of the file for the outermost one."""

    line: int
    last_line: int
    entries: Mapping[str, "Value | Group | Groups"] = field(default_factory=dict)
    key_lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Groups:
    """A list of groups, at least one."""

    items: tuple[Group, ...]
    line: int


def parse(text: str, name: str) -> Group:
    """Return the document as a tree.

    Args:
        text: the YAML text
        name: what to call it in an error: the file's path or the variable's name

    Raises:
        ConfigError: it is not YAML, or uses more of YAML than a configuration needs.
    """
    last_line = text.count("\n") + (not text.endswith("\n"))
    node = _compose(text, name)
    if node is None:
        return Group(line=1, last_line=last_line)
    reader = _Reader(name)
    tree = reader.read(node)
    if isinstance(tree, Group):
        return Group(tree.line, last_line, tree.entries, tree.key_lines)
    if isinstance(tree, Value) and tree.content is None:
        return Group(line=1, last_line=last_line)
    raise ConfigError(
        f"{at(name, tree.line)}: the configuration must be sections with keys below them, "
        "such as “homeserver:” and, indented below it, “url: …”."
    )


def parse_list(text: str, name: str) -> tuple[Scalar, ...] | None:
    """Return a YAML flow list such as ``[a, "b"]``; ``None`` if the text is something else."""
    tree = _sequence(text, name)
    return tree.content if isinstance(tree, Value) and isinstance(tree.content, tuple) else None


def parse_groups(text: str, name: str) -> Groups | Value | None:
    """Return a YAML flow list such as ``[{a: 1}, {b: 2}]``; ``None`` for something else."""
    tree = _sequence(text, name)
    return tree if isinstance(tree, Groups) or (tree is not None and tree.content == ()) else None


def _sequence(text: str, name: str) -> Value | Groups | None:
    try:
        node = _compose(text, name)
        if not isinstance(node, SequenceNode):
            return None
        tree = _Reader(name).read(node)
    except ConfigError:
        return None
    return None if isinstance(tree, Group) else tree


def at(name: str, line: int) -> str:
    """Return how an error names a place in a file."""
    return f"{name}, line {line}"


def _compose(text: str, name: str) -> Node | None:
    try:
        # A reused anchor is only warned about, with a piece of the file.
        with warnings.catch_warnings(action="ignore"):
            return cast(Node | None, YAML(typ="safe", pure=True).compose(text))
    except MarkedYAMLError as error:
        # A missing quote or bracket is noticed far below; what helps is where the text began.
        unclosed = re.search("end of stream|expected ('[,:]')", error.problem or "")
        mark = (unclosed and error.context_mark) or error.problem_mark or error.context_mark
        where = at(name, mark.line + 1) if mark is not None else name
        raise ConfigError(f"{where}: {_advice(error)}") from None
    except RecursionError:
        raise ConfigError(f"{name}: the sections are nested too deeply.") from None
    except (YAMLError, ValueError):
        raise ConfigError(
            f"{name}: this is not YAML text; it holds characters that YAML does not allow."
        ) from None


_ADVICE = (
    (r"'\\t' that cannot start", "a tab cannot indent YAML; indent with spaces"),
    (
        r"character '(.)' that cannot start",
        "a value cannot begin with “{0}”; put the value in double quotes",
    ),
    (
        r"undefined alias|expected alphabetic or numeric",
        "put a value that begins with “*” or “&” in double quotes",
    ),
    (r"escape", "“\\” has a meaning in double quotes; use single quotes"),
    (
        r"quoted scalar|unexpected end of stream",
        "a quoted text is not closed; add the missing quote",
    ),
    (
        r"mapping values are not allowed",
        "a colon cannot stand here; mend the indentation of this line, or put the value in double quotes",
    ),
    (r"could not find expected ':'", "a key without a colon; write “key: value”"),
    (
        r"expected <block end>|did not find expected key",
        "the indentation does not fit the lines above; keys of one section stand in one column",
    ),
    (r"expected ',' or", "a list or group in brackets is not closed, or a comma is missing"),
    (r"expected a single document", "only one document is allowed; remove the line “---”"),
    (
        r"undefined tag|tag",
        "tags are not understood; put a value that begins with “!” in double quotes",
    ),
)


def _advice(error: MarkedYAMLError) -> str:
    said = f"{error.context or ''} {error.problem or ''}"
    for pattern, sentence in _ADVICE:
        if found := re.search(pattern, said):
            return f"{sentence.format(*found.groups())}."
    return "this is not valid YAML; look at this line and the one before for a missing colon, quote or bracket."


class _Reader:
    """Turns nodes into our own tree; bounded in depth, because an alias can close a circle."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = 0

    def read(self, node: Node, depth: int = 0) -> Value | Group | Groups:
        self._seen += 1
        line = node.start_mark.line + 1
        # Aliases let a few lines stand for millions of nodes.
        if depth > _DEEPEST or self._seen > MAX_BYTES:
            raise ConfigError(f"{at(self._name, line)}: the sections are nested too deeply.")
        if isinstance(node, MappingNode):
            return self._group(node, depth)
        if isinstance(node, SequenceNode):
            if node.value and all(isinstance(item, MappingNode) for item in node.value):
                return Groups(tuple(self._group(item, depth + 1) for item in node.value), line)
            return Value(tuple(self._item(item, depth) for item in node.value), line)
        if isinstance(node, ScalarNode):
            return Value(self._scalar(node), line)
        raise ConfigError(f"{at(self._name, line)}: this is not understood.")

    def _group(self, node: MappingNode, depth: int) -> Group:
        entries: dict[str, Value | Group | Groups] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                raise ConfigError(f"{at(self._name, line)}: a key must be a plain word.")
            key = str(key_node.value)
            if key in entries:
                raise ConfigError(
                    f"{at(self._name, line)}: {shown_key(key)} stands here a second time, first "
                    f"in line {lines[key]}; remove one of them."
                )
            lines[key] = line
            entries[key] = self.read(value_node, depth + 1)
        line = node.start_mark.line + 1
        return Group(line, line, entries, lines)

    def _item(self, node: Node, depth: int) -> Scalar:
        item = self.read(node, depth + 1)
        if isinstance(item, Value) and not isinstance(item.content, tuple):
            return item.content
        raise ConfigError(single_values(self._name, node.start_mark.line + 1))

    def _scalar(self, node: ScalarNode) -> Scalar:
        text = str(node.value)
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        try:
            match kind:
                case "str" | "timestamp" | "merge" | "value":
                    return text
                case "null":
                    return None
                case "bool":
                    return _truth(text)
                case "int":
                    return _whole_number(text)
                case "float":
                    return _number(text)
                case _:
                    pass
        except ValueError:
            pass
        raise ConfigError(
            f"{at(self._name, node.start_mark.line + 1)}: this value is not understood; put it in "
            "double quotes."
        )


def single_values(name: str, line: int) -> str:
    """Return what is said of a list that holds more than single values."""
    return f"{at(name, line)}: a list holds single values here, no lists and no sections."


def shown_key(key: str) -> str:
    """Return a key as an error may repeat it: what does not look like one may be a secret."""
    return f"“{key}”" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", key) else "this key"


def _truth(text: str) -> bool:
    # A “%YAML 1.1” line makes “yes” a truth value; we read 1.2, whatever the file says.
    if text.lower() not in {"true", "false"}:
        raise ValueError
    return text.lower() == "true"


def _whole_number(text: str) -> int:
    plain = text.replace("_", "")
    sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.removeprefix("+"))
    for mark, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if digits.startswith(mark):
            return sign * int(digits[2:], base)
    return sign * int(digits)


def _number(text: str) -> float:
    plain = text.replace("_", "").lower()
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
