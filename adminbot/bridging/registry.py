"""Which bridges there are: those of the configuration, and those that were found.

The table ``bridge`` is what everybody reads; this is what keeps it, and what holds the tokens,
which never go into it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from adminbot.bridges.instance import (
    Bridge,
    BridgeSettings,
    assembled,
    guess,
    name_for,
    read_registration,
    read_settings,
)
from adminbot.bridges.kind import Kind
from adminbot.bridges.limit import Means, ladder
from adminbot.bridges.load import load_kinds, read_file, read_yaml
from adminbot.bridges.namespaces import Owners
from adminbot.own.bridges import BridgeRow, bridge_row
from common.clock import Clock
from common.config.schema import Bridges as BridgesSection
from common.database.pool import Connection, Database
from common.errors import ConfigError
from common.ids import UserId
from common.telemetry.log import Log

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Sighting:
    """A bridge's bot that was seen somewhere, with the protocols it gave itself."""

    bot: UserId
    protocols: tuple[str, ...]
    source: str


@dataclass
class Registry:
    """The bridges of this server; ``configured`` are those that the configuration names.

    ``is_of_service`` says whether an account is an application service's. Without it nothing
    that was seen is believed: anybody can write into a room of theirs that they are a bridge.
    """

    section: BridgesSection
    server: str
    database: Database
    clock: Clock
    is_of_service: Callable[[UserId], Awaitable[bool]] | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    configured: dict[str, Bridge] = field(default_factory=dict)
    bridges: dict[str, Bridge] = field(default_factory=dict)
    owners: Owners = field(default_factory=lambda: Owners({}))

    def read_configuration(self) -> None:
        """Read kinds, settings and registrations.

        Raises:
            ConfigError: one of the files cannot be used.
        """
        self.kinds = load_kinds(Path(name) for name in self.section.kinds)
        self.configured = {}
        settings: Mapping[str, BridgeSettings] = {}
        if self.section.settings is not None:
            name = self.section.settings
            settings = read_settings(read_yaml(read_file(Path(name)), name), name)
        for name, one in settings.items():
            self._add(name, one, one.registration, "settings")
        taken = {one.registration for one in settings.values()}
        for path in self.section.registrations:
            if path not in taken:
                self._add("", BridgeSettings(), path, "registration")

    def _add(self, name: str, settings: BridgeSettings, path: str | None, source: str) -> None:
        registration = None
        if path is not None:
            data = read_yaml(read_file(Path(path)), path)
            registration = read_registration(data, path, self.server)
        found = name or name_for(registration.id if registration else "bridge", self.configured)
        bridge = assembled(
            found,
            kinds=self.kinds,
            server=self.server,
            settings=settings,
            registration=registration,
            source=source,
        )
        if any(each.bot == bridge.bot for each in self.configured.values()):
            raise ConfigError(f"{path or self.section.settings}: {bridge.bot} is named twice.")
        self.configured[found] = bridge

    async def load(self) -> None:
        """Write down what is configured, and take up what was found earlier."""
        async with self.database.transaction() as connection:
            for bridge in self.configured.values():
                await self._write(connection, bridge)
        await self.refresh()

    async def refresh(self) -> None:
        """Read the table anew, e.g. because a bridge was found or spoken to in other words."""
        bridges: dict[str, Bridge] = {}
        for row in await self.database.fetch("SELECT * FROM bridge"):
            bridge = self._from_row(bridge_row(row))
            if bridge is not None:
                bridges[bridge.name] = bridge
        self.bridges = bridges
        self.owners = Owners({name: bridge.namespaces for name, bridge in bridges.items()})

    async def sight(self, sightings: Iterable[Sighting]) -> bool:
        """Take up bridges that were seen and are not known; return whether there was one."""
        fresh = False
        for one in sightings:
            if any(one.bot in bridge.namespaces.bots for bridge in self.bridges.values()):
                continue
            kind = guess(self.kinds.values(), one.bot, one.protocols)
            if kind is None or not await self._is_believed(one):
                continue
            name = name_for(kind.id, self.bridges)
            bridge = assembled(
                name,
                kinds=self.kinds,
                server=self.server,
                settings=BridgeSettings(bot=one.bot, kind=kind.id),
                source=one.source,
            )
            async with self.database.transaction() as connection:
                await self._write(connection, bridge)
            log.info("a bridge was found", bridge=name, bot=one.bot, source=one.source)
            await self.refresh()
            fresh = True
        return fresh

    async def _is_believed(self, one: Sighting) -> bool:
        if self.is_of_service is not None and await self.is_of_service(one.bot):
            return True
        if one.source != "account":
            # By its name alone nobody calls themselves a bridge.
            log.warning("an account that is no service's calls itself a bridge", user=one.bot)
        return False

    def _from_row(self, row: BridgeRow) -> Bridge | None:
        bridge = self.configured.get(row.name)
        if bridge is None:
            if row.kind not in self.kinds:
                return None
            try:
                bridge = assembled(
                    row.name,
                    kinds=self.kinds,
                    server=self.server,
                    settings=BridgeSettings(bot=row.bot, kind=row.kind, users=row.expressions),
                    source=row.source,
                )
            except ConfigError as error:
                log.warning("a bridge is left out", bridge=row.name, reason=error)
                return None
        if row.vocabulary is None or bridge.settings.vocabulary is not None:
            return bridge
        return replace(bridge, vocabulary=bridge.kind.vocabulary(row.vocabulary))

    async def _write(self, connection: Connection, bridge: Bridge) -> None:
        # A name or bot that was found earlier and is now configured gives way.
        await connection.execute(
            "DELETE FROM bridge WHERE bot = $1 AND name <> $2", bridge.bot, bridge.name
        )
        await connection.execute(
            "INSERT INTO bridge (name, kind, bot, source, expressions, config_limit, means,"
            " first_seen_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, bot = excluded.bot,"
            " source = excluded.source, expressions = excluded.expressions,"
            " config_limit = excluded.config_limit, means = excluded.means",
            bridge.name,
            bridge.kind.id,
            bridge.bot,
            bridge.source,
            msgspec.json.encode(bridge.namespaces.expressions).decode(),
            bridge.settings.limit,
            ",".join(means_of(bridge)),
            self.clock.now_ms(),
        )


def means_of(bridge: Bridge, *, by_hand: bool = False) -> tuple[Means, ...]:
    """Return by what a bridge is kept from sending."""
    return ladder(
        own=bridge.settings.own_limit,
        ghosts=bool(bridge.namespaces.expressions),
        hook=bool(bridge.settings.on_pause),
        by_hand=by_hand,
    )
