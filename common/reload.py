"""Reading the configuration anew while running: at SIGHUP, as daemons do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from common.config.schema import Config
from common.errors import ConfigError
from common.telemetry.log import Log

log = Log("run")

_KEPT = (
    *("homeserver", "appservice", "encryption", "database", "metrics", "logging"),
    *("adminbot.localpart", "auditbot.localpart"),
)
"""What the listening half of the process was built with, and who Steward is."""


@dataclass
class Reload:
    """The configuration that holds, and the one that is to hold next."""

    config: Config
    read: Callable[[], Config]
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> None:
        """Have the configuration read; for a signal handler."""
        self._asked.set()

    async def changed(self) -> Config:
        """Wait until another configuration was read that can hold from now on; take it.

        One that is wrong, or changes what only a restart can change, is told of and changes nothing.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                found = await asyncio.to_thread(self.read)
            except ConfigError as error:
                log.error(
                    "the configuration stays as it was, since the file is wrong", reason=error
                )
                continue
            fixed = [
                name for name in _KEPT if attrgetter(name)(found) != attrgetter(name)(self.config)
            ]
            if fixed:
                log.error(
                    "the configuration stays as it was: these settings need a restart",
                    settings=", ".join(fixed),
                )
            elif found == self.config:
                log.info("the configuration was read and is as it was")
            else:
                self.config = found
                log.info("the configuration was read, and holds from now on")
                return found
