"""What long lists have in common: which part is shown, and how it is told."""

from collections.abc import Sequence
from typing import TypeVar

from adminbot.engine.text import joined
from common.i18n import t

PAGE_SIZE = 50

T = TypeVar("T")


def page_of(items: Sequence[T], page: int, *, size: int = PAGE_SIZE) -> Sequence[T]:
    """Return one page of a list that is known whole."""
    return items[(page - 1) * size : page * size]


def paged(in_all: str, total: int, page: int, *, size: int = PAGE_SIZE) -> str:
    """Return which page of how many this is, how much there is in all, and how to go on."""
    pages = max(1, -(-total // size))
    said: list[str] = []
    if pages > 1:
        said.append(t("Page {page} of {pages}.", page=page, pages=pages))
    said.append(in_all)
    if page < pages:
        said.append(t("Go on with --page {page}.", page=page + 1))
    return joined(said, " ")
