"""What was deleted before we saw it, asked of the homeserver's database before it is recorded.

Steward may have been down, or auditbot not yet in the room, when a message was sent and deleted. Synapse
hides what was deleted from its clients and keeps it for a while (``redaction_retention_period``, seven
days by default), and gives it to a server administrator who asks for the one event
(``GET /_synapse/admin/v1/fetch_event``, which reads with ``EventRedactBehaviour.as_is``; checked in
1.163). The client API of MSC2815 would give the same, but only where an experimental switch is on.

Asked is for the event that arrived, by its own name, and for nothing else; what comes back counts only if
the name and the hashes prove that it is the original. State keeps what the rules of redaction leave of it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from auditbot.pipeline.hostile import Envelope, read_envelope
from auditbot.pipeline.original import original, proof_of
from auditbot.writing import seen
from common.clock import Clock
from common.crypto.canonical import NotCanonicalError
from common.database.pool import Database
from common.errors import PermanentError, TransientError, UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.room_content import FetchEvent
from common.ids import EventId
from common.inbox.port import Entry
from common.telemetry.log import Log

ASK_SECONDS = 10.0
"""How long one event is asked for, repeats included."""
PATIENCE_SECONDS = 60.0
"""How long events wait to be recorded because the homeserver does not answer."""
AGAIN_SECONDS = 600.0
"""How long nothing waits any more after that."""
LONGEST_ID = 255

log = Log("audit.recovery")


class Recovered(msgspec.Struct, frozen=True):
    """An event as it was before it was deleted."""

    body: bytes
    """All of it, as servers exchange it, in canonical JSON, with its name."""
    proof: str
    """By what it is proved to be the original: see ``auditbot.pipeline.original``."""
    redacted_by: str | None
    """The name of the event that deleted it, as the homeserver tells."""


@dataclass
class Recovery:
    """Asks for the originals of events that arrive deleted."""

    admin: AdminReader
    database: Database
    clock: Clock
    ask_seconds: float = ASK_SECONDS
    _failing: dict[str, float] = field(default_factory=dict)
    """Since when each event waits for an answer, by its name."""
    _not_before: float | None = None
    """Until when nothing waits."""

    async def look(self, entries: Iterable[Entry]) -> dict[int, Recovered]:
        """Return what could be recovered of entries, by their positions.

        Raises:
            TransientError: the homeserver is away, and not for long yet: the entries may wait.
        """
        arrived = {
            entry.position: event
            for entry in entries
            # At a glance: only few are, and reading an event is most of the work.
            if b'"redacted_because"' in entry.body
            and is_wanted(event := read_envelope(entry.body))
        }
        if not arrived:
            return {}
        async with self.database.transaction() as connection:
            known = await seen(connection, "event", [event.name for event in arrived.values()])
        found: dict[int, Recovered] = {}
        for position, event in arrived.items():
            recovered = None if event.name in known else await self._recover(event)
            if recovered is not None:
                found[position] = recovered
        if found:
            log.info("what had been deleted before it arrived was recovered", count=len(found))
        return found

    async def _recover(self, event: Envelope) -> Recovered | None:
        try:
            pdu = await self._fetch(EventId(event.event_id or ""))
        except TransientError as error:
            self._wait(event.name, error)
            return None
        self._failing.pop(event.name, None)
        return None if pdu is None else recovered_from(pdu, event)

    async def _fetch(self, event_id: EventId) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(self.ask_seconds):
                return await self.admin.read(FetchEvent(event_id))
        except TimeoutError:
            raise TransientError("The homeserver does not answer.") from None
        except NotFoundError:
            return None
        except (UserError, PermanentError) as error:
            log.warning("a deleted event could not be recovered", event=event_id, reason=error)
            return None

    def _wait(self, name: str, error: TransientError) -> None:
        """Have an event wait, and all that comes after it, but not for long.

        The homeserver may fail on this one whenever it is asked, and answer for others in between.

        Raises:
            TransientError: they may.
        """
        now = self.clock.monotonic()
        if self._not_before is not None and now < self._not_before:
            log.warning("a deleted event was not recovered", event=name, reason=error)
            return
        if now - self._failing.setdefault(name, now) < PATIENCE_SECONDS:
            raise error
        log.warning("deleted events are not waited for now", event=name, reason=error)
        self._failing.clear()
        self._not_before = now + AGAIN_SECONDS


def is_wanted(event: Envelope) -> bool:
    """Return whether an event arrived deleted, is no state, and can be asked for."""
    return (
        event.unsigned.get("redacted_because") is not None
        and event.state_key is None
        and bool(event.room_id)
        and event.event_id is not None
        and 1 < len(event.event_id) <= LONGEST_ID
        and event.event_id.startswith("$")
    )


def recovered_from(pdu: Mapping[str, Any], arrived: Envelope) -> Recovered | None:
    """Return the original of an event that arrived deleted, if this is it."""
    event_id = arrived.event_id or ""
    is_of_it = (
        pdu.get("room_id") == arrived.room_id
        and pdu.get("sender") == arrived.sender
        and pdu.get("type") == arrived.type
        and pdu.get("event_id", event_id) == event_id
    )
    proof = proof_of(pdu, event_id) if is_of_it else None
    if proof is None:
        return None
    try:
        body = original(pdu, event_id)
    except NotCanonicalError:
        return None
    because = arrived.unsigned.get("redacted_because")
    by = because.get("event_id") if isinstance(because, dict) else None
    return Recovered(body, proof, by if isinstance(by, str) and len(by) <= LONGEST_ID else None)
