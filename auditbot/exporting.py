"""Which export period is open: looked after while the program runs.

A destination may be chosen, changed and cleared from outside, in the database: whoever records
next obeys at once, because it is read under the ledger's lock; this sees to it that it also
happens when nobody says anything.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from auditbot.ledger import Destinations, Writing, open_stream
from auditbot.observed import is_anything_new, record_observed
from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError
from common.telemetry.log import Log

LOOK_SECONDS = 2.0

log = Log("audit.export")

_CHOICE = ("chosen", "destination", "endpoint_url", "chosen_ms")
_Choice = tuple[object, ...]


@dataclass
class Exporting:
    """Opens and closes streams.

    ``changed`` is told when one began or ended, and when a segment began that this process may
    not know of: what is typed on the command line is recorded by another one.
    """

    database: Database
    destinations: Destinations
    server_name: str
    clock: Clock
    written: Callable[[Writing], None]
    changed: Callable[[], None]
    active: bool = False
    """Whether anything is exported at present."""
    _seen: _Choice | None = None
    _open_since_ms: int | None = None
    _settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def settle(self) -> None:
        """Open the stream that is wanted, and close any other; the first time only."""
        if self._seen is None:
            async with self._settling:
                if self._seen is None:
                    await self._open(await self._choice())

    async def watch(self) -> None:
        """Follow what is chosen, and record what happened elsewhere in Steward, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except TransientError as error:
                log.warning("will look again", wait=LOOK_SECONDS, reason=error)

    async def look(self) -> None:
        """Look once."""
        async with self._settling:
            choice = await self._choice()
            if choice != self._seen:
                await self._open(choice)
        if self.active and await is_anything_new(self.database):
            await self._record_observed()
        await self._look_at_segment()

    async def _look_at_segment(self) -> None:
        """Have it closed in time, whoever began it."""
        since_ms = await self.database.fetchval(
            "SELECT open_since_ms FROM audit_stream JOIN audit_head ON stream = audit_stream.id"
        )
        if since_ms is not None and since_ms != self._open_since_ms:
            self.changed()
        self._open_since_ms = since_ms

    async def _choice(self) -> _Choice:
        row = await self.database.fetchrow(
            f"SELECT {', '.join(_CHOICE)} FROM audit_head WHERE id = 1"  # noqa: S608  # our words
        )
        return () if row is None else tuple(row[name] for name in _CHOICE)

    async def _open(self, choice: _Choice) -> None:
        async with self.database.transaction() as connection:
            writing = await open_stream(
                connection,
                self.destinations,
                server_name=self.server_name,
                now_ms=self.clock.now_ms(),
            )
            if writing is not None:
                await record_observed(connection, writing)
        if writing is not None and not self.active:
            log.info("recording", stream=writing.stream)
        elif writing is None and (self.active or self._seen is None):
            log.warning("nothing is recorded: there is no destination for the archive")
        self.active = writing is not None
        self._seen = choice
        self.changed()

    async def _record_observed(self) -> None:
        async with self.database.transaction() as connection:
            writing = await open_stream(
                connection,
                self.destinations,
                server_name=self.server_name,
                now_ms=self.clock.now_ms(),
            )
            if writing is not None:
                await record_observed(connection, writing)
                self.written(writing)
