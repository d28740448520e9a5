"""Stored JSON: bytes → values, whoever wrote the bytes; pure."""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def parse(data: bytes | str, type: type[T] = Any) -> T:  # type: ignore[assignment]  # noqa: A002  # msgspec's name for it
    """Return what JSON says, as a type.

    Raises:
        ValueError: it is no JSON of this type, or is nested deeper than anything we write; msgspec
            raises a RecursionError then, which would end a look at an archive where it only has
            to name a damaged file
    """
    try:
        return msgspec.json.decode(data, type=type)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
