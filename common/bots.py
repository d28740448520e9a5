"""What a bot is to the process that runs it, and how installed bots are found."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Protocol, cast

from common.clock import Clock
from common.config.schema import Config
from common.crypto.machine import CryptoMachine
from common.crypto.port import SessionRef
from common.database.pool import Database
from common.homeserver.client import AdminClient
from common.inbox.consumer import Effect, Prepare
from common.inbox.port import Entry
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient
from common.matrix.messenger import Messenger
from common.membership.keeper import Keeper
from common.telemetry.metrics import Metrics

GROUP = "steward.bots"


class Bot(Protocol):
    """One of the two bots, ready to run."""

    @property
    def prepare(self) -> Prepare | None:
        """What gives it a head start on the next batch, if anything does."""
        ...

    async def handle(self, entries: Sequence[Entry]) -> Effect:
        """Decide what a batch of room events means."""
        ...

    async def keys_arrived(self, sessions: Collection[SessionRef]) -> None:
        """Read what could not be read until these Megolm sessions came."""
        ...

    async def run(self) -> None:
        """Do the bot's own standing work (upload, answer, retry) until cancelled."""
        ...


@dataclass(frozen=True)
class Services:
    """What a bot is given; nothing else is global."""

    config: Config
    clock: Clock
    database: Database
    inbox: StoredInbox
    client: MatrixClient
    crypto: CryptoMachine
    messenger: Messenger
    admin: AdminClient
    keeper: Keeper
    metrics: Metrics = field(default_factory=Metrics)


CreateBot = Callable[[Services], Bot]


def installed_bots() -> dict[str, CreateBot]:
    """Return the bots that packaging entry points name, e.g. ``{"adminbot": create_bot}``."""
    return {point.name: cast(CreateBot, point.load()) for point in entry_points(group=GROUP)}
