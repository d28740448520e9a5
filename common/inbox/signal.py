"""“Something is new”, for any number of waiting tasks, without a moment in which it is missed."""

import asyncio


class Signal:
    """A counter that can be awaited: remember ``count``, look at the world, wait for a change."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake everybody who waits."""
        self.count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, since: int, *, timeout_seconds: float | None = None) -> None:
        """Return when ``count`` differs from ``since``, or after the time-out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.count == since:
                    await self._changed.wait()
        except TimeoutError:
            return
