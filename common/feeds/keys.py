"""Room keys through ``/sync`` of a bot's own device.

Synapse drops to-device messages from transactions once the application service was away (its
issue 14710), but keeps them for ``/sync`` until the next token acknowledges them. So the token
is committed together with the messages, and never before.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.crypto.port import DeviceGoneError
from common.database.pool import Database
from common.errors import TransientError
from common.feeds.sync_response import KeySync, parse_key_sync
from common.feeds.tokens import store_token, stored_token
from common.ids import DeviceId
from common.inbox.port import NewEntry
from common.inbox.signal import Signal
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, MatrixError
from common.telemetry.log import Log

log = Log("feeds.keys")

LONG_POLL_SECONDS = 30
LONGEST_WAIT_SECONDS = 10.0

# No rooms: this /sync costs the homeserver a few milliseconds whatever the number of rooms.
_FILTER = json.dumps(
    {"room": {"rooms": []}, "presence": {"types": []}, "account_data": {"types": []}}
)


@dataclass
class KeyFeed:
    """The to-device feed of one device; ``reconnected`` tells that the homeserver was away."""

    client: MatrixClient
    device_id: DeviceId
    inbox: StoredInbox
    database: Database
    settle: Callable[[], Awaitable[None]]
    reconnected: Signal
    _last_counts: bytes = b""
    _round: "itertools.count[int]" = field(default_factory=itertools.count)

    async def run(self) -> None:
        """Wait for to-device messages and keep each, until cancelled."""
        wait_seconds, away = 0.25, False
        while True:
            try:
                await self._poll(timeout_ms=0 if away else LONG_POLL_SECONDS * 1000)
            except TransientError as error:
                # Said once when it begins and once when it ends.
                say = log.debug if away else log.warning
                say("the homeserver is away", account=self.client.user_id, reason=error)
                away = True
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
                continue
            if away:
                log.info("the homeserver is back", account=self.client.user_id)
                self.reconnected.notify()
            wait_seconds, away = 0.25, False

    async def catch_up(self) -> None:
        """Fetch what waits right now, beside the long poll, and deal with it.

        The token is left alone: the long poll brings the same messages again and acknowledges
        them; the inbox keeps each once.
        """
        # A varying time-out of a few milliseconds: Synapse answers a repeated identical
        # request from a cache for two minutes.
        sync = await self._fetch(timeout_ms=1 + next(self._round) % 50)
        if sync.entries:
            await self.inbox.append(sync.entries)
        await self.settle()

    async def _poll(self, *, timeout_ms: int) -> None:
        sync = await self._fetch(timeout_ms=timeout_ms)
        entries = [*sync.entries, *self._changed_counts(sync.counts)]
        if entries:
            await self.inbox.append(entries)
        async with self.database.transaction() as connection:
            await store_token(connection, self._name, sync.next_batch)
        self._last_counts = sync.counts.body
        if entries:
            await self.settle()

    def _changed_counts(self, counts: NewEntry) -> list[NewEntry]:
        """Return the key counts if they are news: every response repeats them."""
        return [] if counts.body == self._last_counts else [counts]

    async def _fetch(self, *, timeout_ms: int) -> KeySync:
        query = {
            "filter": _FILTER,
            "timeout": str(timeout_ms),
            "set_presence": "offline",
        }
        since = await stored_token(self.database, self._name)
        if since is not None:
            query["since"] = since
        try:
            body = await self.client.get_bytes(
                "/_matrix/client/v3/sync", query=query, timeout_seconds=timeout_ms / 1000 + 30
            )
        except MatrixError as error:
            if error.errcode == "M_UNKNOWN_DEVICE":
                raise DeviceGoneError(f"The device {self.device_id} is gone.") from error
            raise TransientError(f"The homeserver refused /sync: {error}") from error
        return parse_key_sync(body, self.client.user_id, self.device_id)

    @property
    def _name(self) -> str:
        # A new device starts from the beginning: its inbox is its own.
        return f"keys:{self.client.user_id}:{self.device_id}"
