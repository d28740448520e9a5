"""The published one-time keys and the fallback key, kept filled up.

Source: Matrix specification v1.18, client-server API, "One-time and fallback keys". The order
is: private keys on disk, public keys uploaded, marked as published. A crash before the last
step repeats the upload of at most one portion, which the homeserver recognises by its key IDs.
"""

from common.clock import Clock
from common.crypto.account import LARGEST_POOL, AccountStore
from common.crypto.canonical import Json
from common.crypto.wire import Wire
from common.database.pool import Database
from common.telemetry.log import Log

_PORTION = 500
_LOW = 0.75

_log = Log("crypto.key_pool")


class KeyPool:
    """The pool of one device."""

    def __init__(
        self, accounts: AccountStore, database: Database, wire: Wire, clock: Clock, *, target: int
    ) -> None:
        self._accounts = accounts
        self._database = database
        self._wire = wire
        self._clock = clock
        self._target = min(target, LARGEST_POOL)

    def is_low(self, count: int) -> bool:
        """Whether so few one-time keys on the homeserver call for more."""
        return count < self._target * _LOW

    async def renew(self) -> None:
        """Upload what is due; safe to repeat after a crash at any line."""
        async with self._database.transaction() as conn:
            due = await self._accounts.due(conn)
        if not (due.one_time_keys or due.fallback_key):
            return
        # Ask again: what was reported may be from before the last upload.
        held = await self._wire.upload_keys({})
        target = self._target if self.is_low(held) else 0
        fallback_key_ms: int | None = None
        for _ in range(2 + self._target // _PORTION):
            body = await self._prepare(
                one_time_keys=target - held,
                fallback_key=due.fallback_key and fallback_key_ms is None,
            )
            if not body:
                break
            held = await self._wire.upload_keys(body)
            if body["fallback_keys"]:
                fallback_key_ms = self._clock.now_ms()
            await self._mark_published()
            _log.info("one-time keys published", held=held, fallback=bool(body["fallback_keys"]))
        async with self._database.transaction() as conn:
            await self._accounts.note_done(conn, fallback_key_ms=fallback_key_ms)

    async def _prepare(self, *, one_time_keys: int, fallback_key: bool) -> Json:
        """Make at most one portion of keys, durably, and return the upload of them, or nothing."""
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            more = min(one_time_keys, _PORTION) - len(account.olm.one_time_keys)
            new_fallback = fallback_key and not account.unpublished_fallback_keys()
            if more > 0 or new_fallback:
                self._accounts.forget()
                account.generate_one_time_keys(max(more, 0))
                if new_fallback:
                    account.generate_fallback_key()
                await self._accounts.save(conn, account)
            body = {
                "one_time_keys": account.unpublished_one_time_keys(),
                "fallback_keys": account.unpublished_fallback_keys(),
            }
        return body if any(body.values()) else {}

    async def _mark_published(self) -> None:
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            self._accounts.forget()
            account.olm.mark_keys_as_published()
            await self._accounts.save(conn, account)
