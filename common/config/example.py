"""The example configuration and the reference page, written from the schema."""

import json
import textwrap
from collections.abc import Mapping

from common.config.options import Keys, Kind, Option, Section, schema
from common.config.secret import Secret

_WIDTH = 95
_NOTHING: Mapping[Keys, object] = {}

_HEAD = """\
# Steward's configuration.
#
# What is commented out shows the default. YAML 1.2: "yes" and "on" are text, true is true.
# Relative paths are relative to the working directory.
# Every key can also be set by an environment variable, which wins over this file:
# STEWARD__HOMESERVER__URL for homeserver.url, STEWARD__AUDITBOT__S3__REGION for
# auditbot.s3.region. A secret can be read from a file: STEWARD__APPSERVICE__AS_TOKEN_FILE in the
# environment, or `as_token: {file: /run/secrets/as_token}` here.
# `steward init` writes this file with fresh secrets; `steward config check` tells whether it can
# be used.
"""


def render_example(values: Mapping[Keys, object] = _NOTHING) -> str:
    """Return the commented configuration file.

    Args:
        values: what to write for some options; required ones without a value here get their
            example or, where they are secrets, nothing.
    """
    lines = [_HEAD.rstrip("\n")]
    for member in schema().members.values():
        if isinstance(member, Section):
            _section(member, values, lines, depth=0)
    return "\n".join(lines) + "\n"


def _section(
    section: Section, values: Mapping[Keys, object], lines: list[str], depth: int
) -> None:
    indent = "  " * depth
    lines += ["", *_comment(section.description, indent), f"{indent}{section.path[-1]}:"]
    for place, member in enumerate(section.members.values()):
        if isinstance(member, Section):
            _section(member, values, lines, depth + 1)
            continue
        if place:
            lines.append("")
        lines += _option(member, values, "  " * (depth + 1))


def _option(option: Option, values: Mapping[Keys, object], indent: str) -> list[str]:
    key = option.path[-1]
    notes = _comment(option.description, indent)
    if option.required:
        value = values.get(option.path, "" if option.example is None else option.example)
        return [*notes, f"{indent}# Required.", f"{indent}{key}: {to_yaml(value)}"]
    example = "" if option.example is None else f" Example: {to_yaml(option.example)}"
    notes.append(f"{indent}# Default: {_default(option)}.{example}")
    if option.path in values:
        return [*notes, f"{indent}{key}: {to_yaml(values[option.path])}"]
    return [*notes, f"{indent}#{key}: {to_yaml(option.default)}"]


def _comment(text: str, indent: str) -> list[str]:
    width = _WIDTH - len(indent) - len("# ")
    return [
        f"{indent}# {line}"
        for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    ]


def to_yaml(value: object) -> str:
    """Return a value as YAML on one line; JSON is YAML."""
    if isinstance(value, Secret):
        return to_yaml(value.reveal())
    return json.dumps(value, ensure_ascii=False)


_MIB = 2**20


def _default(option: Option) -> str:
    if option.default is None:
        return "null (unset)"
    unit = f" {option.unit}" if option.unit else ""
    if option.unit == "bytes" and isinstance(option.default, int) and option.default >= _MIB:
        unit += f" ({option.default // _MIB} MiB)"
    return f"{to_yaml(option.default)}{unit}"


_REFERENCE_HEAD = """\
# Configuration reference

This page is generated from `common/config/schema.py` by `make generate`; change it there.

Steward reads one YAML file (YAML 1.2), `config.yaml` in the working directory unless `--config`
or `$STEWARD_CONFIG` names another. `steward init` writes one with fresh secrets, `steward config
example` prints a commented one, `steward config check` tells whether a file can be used.

- Sections nest as the headings say: `auditbot.s3` is the key `s3` below `auditbot:`.
- An environment variable wins over the file: `STEWARD__SECTION__KEY`, for example
  `STEWARD__AUDITBOT__S3__REGION`. A list is written `one,two` or `["one", "two"]`; `null` unsets
  a key whose default is null or that allows null. An empty variable is an error.
- If there is no `config.yaml` and no other file is named, the environment alone can say
  everything.
- A secret can come from a file, without its last line break: `STEWARD__APPSERVICE__AS_TOKEN_FILE`
  in the environment, or `as_token: {file: /run/secrets/as_token}` in the YAML file. Secrets are
  marked “secret” below; nothing ever prints them.
- Relative paths are relative to the working directory.
- Whatever cannot be used is reported as one sentence with the file and line, or the variable, and
  the exit status is 2.
"""


def render_reference() -> str:
    """Return ``docs/reference/config.md``."""
    lines = [_REFERENCE_HEAD.rstrip("\n")]
    for member in schema().members.values():
        if isinstance(member, Section):
            _table(member, lines)
    return "\n".join(lines) + "\n"


def _table(section: Section, lines: list[str]) -> None:
    lines += [
        "",
        f"## {section.dotted}",
        "",
        section.description,
        "",
        "| Key | Must be | Default | Meaning |",
        "|---|---|---|---|",
    ]
    deeper: list[Section] = []
    for member in section.members.values():
        if isinstance(member, Section):
            deeper.append(member)
            continue
        cells = (f"`{member.path[-1]}`", _kind(member), _default_cell(member), member.description)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        if member.item is not None:
            deeper.append(member.item)
    for member in deeper:
        _table(member, lines)


def _kind(option: Option) -> str:
    if option.kind is Kind.SECRET:
        return "secret text"
    or_null = " or null" if option.nullable and "null" not in option.expected else ""
    return f"{option.expected}{or_null}"


def _default_cell(option: Option) -> str:
    if option.required:
        return "**required**"
    value, _, unit = _default(option).partition(" ") if option.unit else (_default(option), "", "")
    if option.default is None:
        return "null"
    return f"`{value}` {unit}".strip()
