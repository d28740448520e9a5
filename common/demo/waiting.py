"""Wait for something to become true, never longer than a deadline."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.1


@overload
async def wait_for(
    condition: Callable[[], Awaitable[T]], deadline_seconds: float, what: str
) -> T: ...
@overload
async def wait_for(condition: Callable[[], T], deadline_seconds: float, what: str) -> T: ...
async def wait_for(condition: Callable[[], object], deadline_seconds: float, what: str) -> object:
    """Return the first true value of the condition.

    Args:
        condition: looked at again and again; what it raises is not caught
        deadline_seconds: how long to keep looking
        what: what is waited for, as a noun phrase for the error, e.g. "the bot's answer"

    Raises:
        TimeoutError: it did not become true in time; the sentence has the last value seen.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        value = condition()
        seen = await value if inspect.isawaitable(value) else value
        if seen:
            return seen
        if loop.time() >= end:
            raise TimeoutError(f"{what}: not within {deadline_seconds:g} s (last seen: {seen!r})")
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
