"""The templates: everything is escaped, nothing is left undefined unnoticed."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from auditbot.reader.render.words import named, one_line, spelled, why


@cache
def templates() -> Environment:
    """Return the environment in which the templates are rendered."""
    environment = Environment(
        loader=PackageLoader("auditbot.reader", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["spelled"] = spelled
    environment.filters["one_line"] = one_line
    environment.filters["size"] = size
    environment.filters["why"] = why
    environment.filters["named"] = named
    return environment


def size(count: object) -> str:
    """Return a size in bytes for people."""
    if not isinstance(count, int):
        return "size not known"
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":  # noqa: PLR2004  # the units' factor
            return f"{count:,} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{count:,} bytes"
