"""Options from environment variables: ``STEWARD__SECTION__KEY``, and ``…_FILE`` for secrets."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.config.document import Scalar, parse_list
from common.config.options import PREFIX, Keys, Kind, Option, Section, variable
from common.errors import ConfigError

_FILE = "_FILE"


@dataclass(frozen=True)
class Override:
    """What a variable says about one option; ``is_file`` means the text is a file's path."""

    name: str
    text: str
    is_file: bool = False


def environment() -> Mapping[str, str]:
    """Return the process's environment; the one place that reads it."""
    return os.environ  # noqa: TID251  # this is the one place


def overrides(root: Section, environ: Mapping[str, str]) -> dict[Keys, Override]:
    """Return the options that the environment sets.

    Raises:
        ConfigError: a variable with our prefix names no option, is empty, or is set twice.
    """
    options = {option.variable: option for option in root.options()}
    found: dict[Keys, Override] = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        override, option = _override(name, environ[name], options)
        if option is None:
            raise ConfigError(_unknown(name, root, options))
        if not override.text:
            raise ConfigError(f"{name} is set but empty; give it a value or unset it.")
        if option.path in found:
            raise ConfigError(f"{found[option.path].name} and {name} are both set; unset one.")
        found[option.path] = override
    return found


def _override(
    name: str, text: str, options: Mapping[str, Option]
) -> tuple[Override, Option | None]:
    # The plain name first: auditbot.s3.ca_file ends in “_FILE” by itself.
    if name in options:
        return Override(name, text), options[name]
    option = options.get(name.removesuffix(_FILE))
    if option is not None and option.kind is not Kind.SECRET:
        raise ConfigError(
            f"{name}: only a secret may come from a file; set {option.variable} to the value."
        )
    return Override(name, text, is_file=True), option


def _unknown(name: str, root: Section, options: Mapping[str, Option]) -> str:
    for section in _sections(root):
        if variable(section.path) == name.upper():
            first = next(iter(section.options())).variable
            return f"{name} names a section, not a setting; name a key of it, such as {first}."
    near = difflib.get_close_matches(name.upper(), options, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else "; docs/reference/config.md lists them all."
    return f"{name} is set, but there is no such setting{hint}"


def _sections(section: Section) -> list[Section]:
    below = [member for member in section.members.values() if isinstance(member, Section)]
    return below + [deeper for member in below for deeper in _sections(member)]


def content(option: Option, override: Override) -> Scalar | tuple[Scalar, ...]:
    """Return a variable's text as YAML would have given it, as far as text alone cannot say."""
    if option.kind is Kind.LIST:
        if override.text.lstrip().startswith("["):
            items = parse_list(override.text, override.name)
            if items is None:
                raise ConfigError(
                    f'{override.name} is not a list; write one,two or ["one", "two"].'
                )
            return items
        return tuple(item.strip() for item in override.text.split(","))
    if option.nullable and override.text.lower() == "null":
        return None
    return override.text
