"""Ending what waits for a bridge or a person, because whoever asked for it cancelled it.

The promise: who cancels does not wait for a bridge that may never answer; the bridge is told with
its own word where it has one; whatever it goes on with is said.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from adminbot.bridges.arguments import spoken
from adminbot.bridges.hearing import Done
from adminbot.bridging.speaking import Conversation, Speaking
from common.errors import StewardError
from common.i18n import Msg, t

LOOK_SECONDS = 0.5

T = TypeVar("T")

Stopped = Callable[[str], Awaitable[bool]]
"""Says whether the job of a step's key is to end early."""


class StoppedError(Exception):
    """It is not wanted any more."""


async def unless_stopped(
    act: Callable[[], Awaitable[T]], stopped: Callable[[], Awaitable[bool]]
) -> T:
    """Return what an act returns.

    Raises:
        StoppedError: it was not wanted any more, and was cut short.
    """

    async def watch() -> None:
        while not await stopped():  # noqa: ASYNC110  # somebody writes it into the database
            await asyncio.sleep(LOOK_SECONDS)
        raise StoppedError

    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            result = await act()
            watching.cancel()
    except BaseExceptionGroup as several:
        # One of the two at most has anything to say.
        raise several.exceptions[0] from None
    return result


@dataclass(frozen=True)
class Closing:
    """Carries conversations out until they are cancelled, and ends them then."""

    speaking: Speaking
    stopped: Stopped

    async def unless_cancelled(
        self, talk: Conversation, act: Callable[[], Awaitable[Done]]
    ) -> Done:
        """Have a conversation.

        Raises:
            StewardError: as in ``Speaking.carry_out``, or it was cancelled.
        """
        try:
            return await unless_stopped(act, partial(self.stopped, talk.key))
        except StoppedError:
            raise StewardError(await self._closed(talk)) from None

    async def _closed(self, talk: Conversation) -> Msg:
        """Tell the bridge, and say what became of that."""
        if talk.place is None:
            return t("It was cancelled before anything was typed.")
        command = talk.bridge.vocabulary.command("cancel")
        if command is None:
            return t(
                "I wait no longer. {kind} has no word to take back what was typed: it may still "
                "do it.",
                kind=talk.bridge.kind.name,
            )
        step = command.steps[0]
        words = spoken(talk.bridge.kind, step, {})
        if talk.account.on_behalf_of is not None:
            return t("I wait no longer. To end it at the bridge, type there: {words}", words=words)
        bot, place = talk.bridge.bot, talk.place
        with self.speaking.ears.listening(bot, talk.account.user, place) as listener:
            try:
                await talk.account.say(place, words, key=f"{talk.key}-cancel")
                done = await self.speaking.follow(talk, step, listener, place)
            except StewardError as error:
                return t(
                    "The bridge was told “{words}”; what it does is not known: {why}",
                    words=words,
                    why=str(error),
                )
        return t(
            "The bridge was told “{words}”, and says: {text}", words=words, text=done.text.strip()
        )
