"""What waits for a bridge ends when it is not wanted any more, and only then."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from adminbot.bridging.stopping import StoppedError, unless_stopped
from common.errors import StewardError


def answering(value: object) -> Callable[[], Awaitable[object]]:
    async def act() -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    return act


async def wanted() -> bool:
    return False


async def unwanted() -> bool:
    return True


async def test_what_was_asked_for_is_returned() -> None:
    assert await unless_stopped(answering("done"), wanted) == "done"


async def test_a_refusal_comes_through_as_it_is() -> None:
    with pytest.raises(StewardError, match="no such number"):
        await unless_stopped(answering(StewardError("no such number")), wanted)


async def test_what_is_not_wanted_is_cut_short() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cut short")

    with pytest.raises(StoppedError):
        await unless_stopped(forever, unwanted)
    assert ended == ["cut short"]


async def test_the_end_of_the_process_is_no_cancelling_by_a_person() -> None:
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(unless_stopped(forever, wanted))
        await begun.wait()
        task.cancel()
    assert task.cancelled()
