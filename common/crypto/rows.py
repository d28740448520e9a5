"""Small pieces of SQL that both databases understand."""

from collections.abc import Collection, Iterator
from typing import TypeVar

from common.crypto.wire import batches

_VALUES_A_QUERY = 500
"""Well below SQLite's limit of 32,766 parameters, and few enough different statements."""

T = TypeVar("T")


def in_lists(values: Collection[T], *, first: int) -> Iterator[tuple[str, list[T]]]:
    """Yield bounded ``($2, $3, …)`` lists whose numbering begins at ``first``, with their values."""
    for some in batches(list(values), _VALUES_A_QUERY):
        yield f"({', '.join(f'${first + place}' for place in range(len(some)))})", some
