"""How Steward is doing, as adminbot's commands may ask it."""

from dataclasses import dataclass
from importlib.metadata import version

from adminbot.engine.supply import HealthReport
from adminbot.store import Store
from common.checks import Finding
from common.clock import Clock
from common.config.schema import Config
from common.database.pool import Database
from common.doctor.report import examine


@dataclass(frozen=True)
class OwnHealth:
    """The figures that ``status`` shows."""

    store: Store
    database: Database
    clock: Clock
    started: float

    async def report(self) -> HealthReport:
        """Return the figures of this moment."""
        waiting, unreadable = await self.store.counts()
        set_aside = await self.database.fetchval("SELECT COUNT(*) FROM inbox_set_aside")
        return HealthReport(
            version=version("matrix-steward"),
            up_seconds=self.clock.monotonic() - self.started,
            commands_waiting=max(0, waiting - 1),  # without the one that asks
            commands_unreadable=unreadable,
            entries_set_aside=int(set_aside),
            database="PostgreSQL" if self.database.is_postgres else "SQLite",
        )

    def now_ms(self) -> int:
        """Return the time of this machine in milliseconds."""
        return self.clock.now_ms()

    def seconds(self) -> float:
        """Return seconds on a clock that never jumps."""
        return self.clock.monotonic()


@dataclass(frozen=True)
class OwnDoctor:
    """The checks of ``steward doctor``, from inside."""

    config: Config
    clock: Clock

    async def findings(self) -> list[Finding]:
        """Examine everything that can be seen while Steward runs."""
        return await examine(self.config, None, self.clock)
