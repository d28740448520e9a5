"""Values as DuckDB's SQL writes them, where it takes no parameters; pure."""

from collections.abc import Mapping, Sequence


def literal(value: str | Mapping[str, str] | Sequence[str]) -> str:
    """Return a text, a list of texts or a structure of texts as SQL."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{literal(name)}: {literal(text)}" for name, text in value.items())
        return "{" + inner + "}"
    return "[" + ", ".join(literal(item) for item in value) + "]"
