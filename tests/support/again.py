"""Giving a command again where adminbot says that the world has changed since it asked.

Between a question and its answer something of Steward's own may do part of the same work: the
keeper enters a room, a watch notices an account. Whoever uses adminbot then does as it says.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_CHANGED = "has changed since I asked"
_ATTEMPTS = 3


async def unless_changed(do: Callable[[], Awaitable[T]], words: Callable[[T], str]) -> T:
    """Give a command and confirm it; return what became of it, or of one of the next attempts."""
    done = await do()
    for _ in range(_ATTEMPTS - 1):
        if _CHANGED not in words(done):
            break
        done = await do()
    return done
