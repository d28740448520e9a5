"""Long lists in pages, and what is said below one."""

from collections.abc import Sequence
from typing import TypeVar

from adminbot.engine.text import joined
from adminbot.engine.values import Page
from common.i18n import Msg, t

T = TypeVar("T")

PAGE_SIZE = 50


def page_of(items: Sequence[T], page: Page, size: int = PAGE_SIZE) -> Sequence[T]:
    """Return the items of one page."""
    return items[(page - 1) * size : page * size]


def paged(in_all: str, total: int, page: Page, size: int = PAGE_SIZE, *more: str) -> Msg:
    """Return which page it is and of how many; ``in_all`` is a sentence with the total."""
    pages = max(1, -(-total // size))
    said: list[str] = [t("Page {page} of {pages}.", page=page, pages=pages), in_all, *more]
    if page < pages:
        said.append(t("Go on with --page {page}.", page=page + 1))
    return joined(said, " ")
