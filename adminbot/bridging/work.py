"""Everything about bridges that runs beside the commands, put together for the bot."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from adminbot.bridging.at_work import AtWork
from adminbot.bridging.connections import Connections
from adminbot.bridging.ears import Ears
from adminbot.bridging.limits import Limits
from adminbot.bridging.operating import Operating
from adminbot.bridging.performing import Perform, Performing
from adminbot.bridging.probe import Probe
from adminbot.bridging.registry import Registry
from adminbot.bridging.search import Search
from adminbot.bridging.speaking import Speaking
from adminbot.bridging.stopping import Closing
from adminbot.bridging.telling import Heralds
from adminbot.bridging.upkeep import Upkeep
from adminbot.bridging.watch import Watch
from adminbot.execution import step_cancelled
from adminbot.telling import Telling
from common.bots import Services
from common.database.pool import Connection
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import GetUser
from common.ids import UserId
from common.inbox.consumer import Effect
from common.inbox.port import Entry
from common.inbox.signal import Signal


@dataclass
class BridgeWork:
    """Looks at every batch, runs the upkeep, and carries the steps of plans out."""

    registry: Registry
    watch: Watch
    upkeep: Upkeep
    performing: Performing
    operating: Operating
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _loaded: bool = False

    @property
    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {**self.performing.performers(), **self.operating.performers()}

    async def look(self, entries: Sequence[Entry]) -> Effect:
        """Look at a batch; nothing is looked at before it is known which bridges there are."""
        await self._load()
        traffic = self.watch.look(entries)

        async def effect(connection: Connection) -> None:
            await self.watch.keep(connection, traffic)

        return effect

    async def run(self) -> None:
        """Look after bridges until cancelled."""
        await self._load()
        await self.upkeep.run()

    async def _load(self) -> None:
        async with self._loading:
            if not self._loaded:
                await self.registry.load()
                await self.watch.load()
                self._loaded = True


def bridge_work(services: Services, telling: Telling, own: frozenset[UserId]) -> BridgeWork:
    """Put it together.

    Raises:
        ConfigError: a file that the configuration names cannot be used.
    """
    config, clock, database = services.config, services.clock, services.database
    server = config.homeserver.server_name
    registry = Registry(
        config.bridges, server, database, clock, partial(_is_of_service, services.admin)
    )
    registry.read_configuration()
    ears = Ears(clock)
    watch = Watch(registry, ears, clock, own, counted=Signal(), sighted=Signal())
    probe = Probe(services.client, services.client.session)
    heralds = Heralds(telling, database)
    limits = Limits(
        registry=registry,
        admin=services.admin,
        database=database,
        clock=clock,
        heralds=heralds,
        at_least=config.bridges.active_days,
    )
    upkeep = Upkeep(
        registry=registry,
        watch=watch,
        probe=probe,
        limits=limits,
        outages=heralds,
        search=Search(registry, services.client, services.admin, database, clock),
        at_work=AtWork(registry, watch, services.admin),
        database=database,
        clock=clock,
        interval_seconds=config.bridges.check_interval_seconds,
    )
    speaking = Speaking(ears, clock, probe.why_silent)
    performing = Performing(
        registry=registry,
        speaking=speaking,
        closing=Closing(speaking, partial(step_cancelled, database)),
        upkeep=upkeep,
        connections=Connections(services.client),
        telling=telling,
        admin=services.admin,
        client=services.client,
        database=database,
        clock=clock,
        acting_token=config.bridges.acting_token,
    )
    operating = Operating(registry, upkeep, clock)
    return BridgeWork(registry, watch, upkeep, performing, operating)


async def _is_of_service(admin: AdminReader, user: UserId) -> bool:
    """Say whether an account is an application service's.

    One that sends and that the homeserver has no account for is a service's sender.
    """
    try:
        return (await admin.read(GetUser(user))).appservice_id is not None
    except NotFoundError:
        return True
