"""Whether this writer may store at a place now: asked before each object."""

from dataclasses import dataclass

from auditbot.lease import Leases
from auditbot.manifests import Probed
from auditbot.probing import probe_stream
from auditbot.segments import StreamPlace
from auditbot.storage.addressing import place_name
from auditbot.storage.port import ArchiveStore
from common.clock import Clock


@dataclass
class Fencing:
    """Tries each stream's store out once, and holds a lease where that lets itself be overwritten."""

    probed: dict[str, Probed]
    """What is known of each stream's destination."""
    clock: Clock
    leases: Leases | None = None
    """``None``: nothing keeps a second writer out of such a store."""

    async def probe(self, place: StreamPlace, store: ArchiveStore) -> None:
        """Find out what a stream's store does."""
        probed = await probe_stream(store, now_ms=self.clock.now_ms())
        self.probed[place.stream] = probed

    async def enter(self, place: StreamPlace, store: ArchiveStore) -> None:
        """Return if this writer may store something of a stream now.

        Raises:
            HeldElsewhereError: another one is at work there.
            TransientError: the store is away.
            PermanentError: it is not usable; the sentence says what to mend.
        """
        if place.stream not in self.probed:
            await self.probe(place, store)
        if self.probed[place.stream].conditional_create or self.leases is None:
            return
        store.look_first(on=True)
        await self.leases.hold(place_name(place.destination, place.endpoint_url), store)
