"""One writer at a time where the store lets objects be overwritten: a lease, kept among the objects.

A store that refuses to write over an object (``If-None-Match: *``) needs none of this. Where it does
not, a second Steward could replace what the first one stored, and nobody would see it before the
next verification. So each writer holds ``state/lease.json`` before it writes anything else, renews it,
and reads it again before each object. It is a weak fence: between that look and a write that is on
its way another one may have taken the lease.

No clock of another machine is believed. Whoever waits watches the lease by its own clock that is
never set, and takes it over once it has not changed for longer than its holder may go without
renewing it; each renewal gives it another word. A restart knows its own word from the database. A copy of
the database that is put to work beside it does not know the words that came afterwards, so it
waits like any other.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass, field

import msgspec

from auditbot.pipeline.line import rfc3339
from auditbot.pipeline.seal import root_of
from auditbot.storage.port import ArchiveStore
from common.clock import Clock
from common.database.pool import Database
from common.errors import PermanentError
from common.telemetry.log import Log

KEY = "state/lease.json"
RENEW_SECONDS = 120.0
LEASE_SECONDS = 600.0
"""Without a renewal for so long a holder counts as gone."""
WATCH_SECONDS = 660.0
"""How long it must be seen unchanged by who takes it over: longer, as no two clocks run alike."""
SETTLE_SECONDS = 5.0
"""How long a new holder waits before it looks whether somebody else wrote at the same moment."""
_WRITER = re.compile(r"[0-9a-f]{16}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

log = Log("audit.lease")


class HeldElsewhereError(PermanentError):
    """Another writer holds the lease of this place."""


class _Lease(msgspec.Struct, frozen=True):
    """What the object says; the times are for people, by the store's clock as far as it is known."""

    server_name: str
    writer: str
    token: str
    host: str
    since_ms: int
    renewed_ms: int
    until_ms: int
    type: str = "steward.lease"
    v: int = 1


@dataclass(frozen=True, slots=True)
class _Own:
    """What this database knows of its own lease of a place."""

    writer: str
    token: str | None = None
    before: str | None = None

    def wrote(self, lease: _Lease | None) -> bool:
        """Return whether this is a lease that was written from this database."""
        return lease is not None and lease.token in {self.token, self.before}


@dataclass
class _Standing:
    """How this process stands at a place; moments are of the clock that is never set."""

    renewed: float | None = None
    """When the lease was written last while it was held; ``None``: it is not held."""
    since_ms: int = 0
    watched: bytes = b""
    """The lease of somebody else, as it was seen last."""
    watched_since: float = 0.0


@dataclass
class Leases:
    """The leases of all places that this process writes to."""

    database: Database
    server_name: str
    clock: Clock
    host: str
    """This machine's name, to be told to whoever looks for the other writer."""
    settle_seconds: float = SETTLE_SECONDS
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> str:
        """Return where the lease is."""
        return root_of(self.server_name) + KEY

    async def hold(self, place: str, store: ArchiveStore) -> None:
        """See that this writer is the one that may write to a place, and renew its lease in time.

        Args:
            place: the place's one name
            store: its store

        Raises:
            HeldElsewhereError: another one is; the sentence says which and what to do.
            TransientError: the store is away.
        """
        async with self._one:
            await self._hold(self._standings.setdefault(place, _Standing()), place, store)

    async def _hold(self, standing: _Standing, place: str, store: ArchiveStore) -> None:
        own = await self._own(place)
        body = await self._read(store)
        lease = None if body is None else _parsed(body)
        is_own = own.wrote(lease)
        now = self.clock.monotonic()
        age = None if standing.renewed is None else now - standing.renewed
        if body is not None and not is_own:
            standing.renewed = None
            self._watch(standing, body, lease, now)
        elif is_own and age is not None and age < RENEW_SECONDS:
            return
        if age is None:
            standing.since_ms = lease.since_ms if lease and is_own else self._store_ms(store)
        # After its own end somebody else may be about to take it.
        is_sure = is_own and (age is None or age < LEASE_SECONDS)
        seen = lease.token if lease and is_own else None
        await self._write(standing, place, own, store, seen, is_sure=is_sure)

    def _watch(self, standing: _Standing, body: bytes, lease: _Lease | None, now: float) -> None:
        """Return once somebody else's lease has been seen unchanged for long enough."""
        if body != standing.watched:
            standing.watched, standing.watched_since = body, now
        if now - standing.watched_since < WATCH_SECONDS:
            raise HeldElsewhereError(self._sentence(lease))
        log.warning("the lease of another writer has ended", writer=_writer_of(lease))

    async def _write(
        self,
        standing: _Standing,
        place: str,
        own: _Own,
        store: ArchiveStore,
        seen: str | None,
        *,
        is_sure: bool,
    ) -> None:
        now_ms = self._store_ms(store)
        lease = _Lease(
            server_name=self.server_name,
            writer=own.writer,
            token=secrets.token_hex(16),
            host=self.host,
            since_ms=standing.since_ms,
            renewed_ms=now_ms,
            until_ms=now_ms + int(LEASE_SECONDS * 1000),
        )
        async with self.database.transaction() as connection:
            # Before it is there: a process that is killed in between knows both.
            await connection.execute(
                "UPDATE audit_lease SET token = $2, before = $3 WHERE place = $1",
                place,
                lease.token,
                seen,
            )
        begun = self.clock.monotonic()
        standing.renewed = None
        body = msgspec.json.encode(lease) + b"\n"
        await store.replace(self.key, body)
        if not is_sure:
            await asyncio.sleep(self.settle_seconds)
        found = await self._read(store)
        if found != body:
            other = None if found is None else _parsed(found)
            standing.watched, standing.watched_since = found or b"", self.clock.monotonic()
            raise HeldElsewhereError(self._sentence(other))
        # From before it was sent, as others may have seen it since then.
        standing.renewed = begun

    async def _read(self, store: ArchiveStore) -> bytes | None:
        try:
            return await store.get(self.key)
        except PermanentError:
            # It may be missing, or it may not be read.
            if self.key in [key async for key in store.list(self.key)]:
                raise
        return None

    async def _own(self, place: str) -> _Own:
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_lease (place, writer) VALUES ($1, $2)"
                " ON CONFLICT (place) DO NOTHING",
                place,
                secrets.token_hex(8),
            )
            row = await connection.fetchrow(
                "SELECT writer, token, before FROM audit_lease WHERE place = $1", place
            )
        if row is None:
            raise AssertionError
        return _Own(row["writer"], row["token"], row["before"])

    def _store_ms(self, store: ArchiveStore) -> int:
        return self.clock.now_ms() - (store.clock_offset_ms or 0)

    def _sentence(self, lease: _Lease | None) -> str:
        minutes = int(WATCH_SECONDS) // 60
        renewed = None if lease is None else rfc3339(lease.renewed_ms)
        when = "" if renewed is None else f", renewed at {renewed} by the storage's clock"
        return (
            f"another Steward writes to this archive ({_writer_of(lease)} holds its lease “{self.key}”"
            f"{when}), and this storage would let one overwrite what the other has stored, because "
            "it ignores If-None-Match. So this one stores nothing. Stop one of them, or give it "
            "another auditbot.destination. If the other one is gone for good, wait: this one goes on "
            f"by itself when it has not seen the lease renewed for {minutes} minutes."
        )


def _parsed(body: bytes) -> _Lease | None:
    try:
        return msgspec.json.decode(body, type=_Lease)
    except (ValueError, RecursionError):
        return None


def _writer_of(lease: _Lease | None) -> str:
    """Return who holds a lease; whoever may write to the bucket may have written anything."""
    if lease is None or not _WRITER.fullmatch(lease.writer):
        return "an unknown writer"
    on = f" on {lease.host}" if _HOST.fullmatch(lease.host) else ""
    return f"the writer {lease.writer}{on}"
