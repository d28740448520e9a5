"""Counts the homeserver's transactions by their numbers, for the daily statement: information only.

Synapse 1.163 gives all application services their numbers from one sequence
(``application_services_txn_id_seq``), so a number that never comes here is, as a rule, another service's
(a bridge's) or that of a database transaction that was rolled back; with SQLite it begins anew when it
was restarted with nothing left to send (``LocalSequenceGenerator``). It sends a service one
transaction at a time, the oldest first, until it is answered with 200: only the newest one comes again.

What is missing is found by the second feed and by the graph of each room, whatever the numbers say.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field

from common.clock import Clock
from common.database.pool import Database
from common.errors import TransientError

SAVE_SECONDS = 30.0
KEEP_DAYS = 14
_DAY_MS = 86_400_000
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass
class _Day:
    """The counts of a UTC day since they were saved last."""

    seen: int = 0
    repeated: int = 0
    skipped: int = 0
    restarted: int = 0

    def add(self, other: "_Day") -> None:
        """Add other counts of the same day."""
        self.seen += other.seen
        self.repeated += other.repeated
        self.skipped += other.skipped
        self.restarted += other.restarted


@dataclass
class Tally:
    """The counts of a process; a crash loses those of half a minute."""

    database: Database
    clock: Clock
    _days: dict[int, _Day] = field(default_factory=dict)
    _newest: str | None = None

    async def begin(self, stored: str | None) -> None:
        """Go on from where the last process was.

        Args:
            stored: the newest transaction of which something is in the inbox; it may be newer than
                what was saved here before a crash
        """
        saved = await self.database.fetchval(
            "SELECT newest FROM appservice_transaction ORDER BY day DESC LIMIT 1"
        )
        saved_number, stored_number = _number(saved), _number(stored)
        is_newer = stored_number is not None and (
            saved_number is None or stored_number > saved_number
        )
        self._newest = stored if is_newer or saved is None else str(saved)

    def count(self, txn_id: str) -> None:
        """Count a transaction that is stored and will be acknowledged."""
        day = self._days.setdefault(self.clock.now_ms() // _DAY_MS, _Day())
        day.seen += 1
        number, before = _number(txn_id), _number(self._newest)
        if txn_id == self._newest:
            day.repeated += 1
        elif number is not None and before is not None:
            if number > before:
                day.skipped += number - before - 1
            else:
                day.restarted += 1
        self._newest = txn_id

    async def save(self) -> None:
        """Add what was counted to what is in the database.

        Raises:
            TransientError: the database is away; nothing is lost yet.
        """
        if not self._days:
            return
        days, self._days, newest = self._days, {}, self._newest or ""
        try:
            async with self.database.transaction() as connection:
                for number, day in days.items():
                    await connection.execute(
                        "INSERT INTO appservice_transaction"
                        " (day, seen, repeated, skipped, restarted, newest)"
                        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (day) DO UPDATE SET"
                        " seen = appservice_transaction.seen + excluded.seen,"
                        " repeated = appservice_transaction.repeated + excluded.repeated,"
                        " skipped = appservice_transaction.skipped + excluded.skipped,"
                        " restarted = appservice_transaction.restarted + excluded.restarted,"
                        " newest = excluded.newest",
                        number,
                        day.seen,
                        day.repeated,
                        day.skipped,
                        day.restarted,
                        newest,
                    )
                await connection.execute(
                    "DELETE FROM appservice_transaction WHERE day < $1", max(days) - KEEP_DAYS
                )
        except BaseException:
            for number, day in days.items():
                self._days.setdefault(number, _Day()).add(day)
            raise

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            with suppress(TransientError):
                await self.save()


def _number(txn_id: object) -> int | None:
    """Return a transaction's number, ``None`` where the homeserver gives them other names."""
    return int(txn_id) if isinstance(txn_id, str) and _NUMBER.fullmatch(txn_id) else None
