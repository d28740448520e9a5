"""The published one-time keys and the fallback key, kept filled up.

Source: Matrix specification v1.18, client-server API, "One-time and fallback keys". The order
is: private keys on disk, public keys uploaded, marked as published. A crash before the last
step repeats the upload of at most one portion, which the homeserver recognises by its key IDs.
"""

from collections.abc import Iterator

from common.alarms import raise_alarm
from common.clock import Clock
from common.crypto.account import LARGEST_POOL, AccountStore, PublishedKeysDue
from common.crypto.canonical import Json
from common.crypto.port import DeviceKeysDifferError
from common.crypto.wire import Wire
from common.database.pool import Database
from common.matrix.client import MatrixError
from common.telemetry.log import Log
from common.telemetry.metrics import Metric, Sample

_PORTION = 500
_SMALLEST_PORTION = 10
_LOW = 0.75
_ALARMING = 0.25

HELD = Metric(
    "steward_one_time_keys", "gauge", "One-time keys of the bot that the homeserver has left."
)
TARGET = Metric(
    "steward_one_time_keys_target", "gauge", "One-time keys that are to be kept published."
)
FALLBACK_USES = Metric(
    "steward_fallback_key_used_total",
    "counter",
    "Times since the start that all one-time keys were gone and the fallback key was used.",
)

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
        self._held = 0
        self._fallback_uses = 0

    def is_low(self, count: int) -> bool:
        """Whether so few one-time keys on the homeserver call for more."""
        self._held = count
        return count < self._target * _LOW

    def samples(self) -> Iterator[Sample]:
        """Yield the pool's figures: what the homeserver holds, as far as we know."""
        labels = {"account": self._accounts.me.user_id}
        yield Sample(HELD, self._held, labels)
        yield Sample(TARGET, self._target, labels)
        yield Sample(FALLBACK_USES, self._fallback_uses, labels)

    async def renew(self) -> None:
        """Upload what is due; safe to repeat after a crash at any line."""
        async with self._database.transaction() as conn:
            due = await self._accounts.due(conn)
        if not (due.one_time_keys or due.fallback_key):
            return
        # Ask again: what was reported may be from before the last upload.
        held = await self._wire.upload_keys({})
        await self._raise_alarm(held, due)
        target = self._target if self.is_low(held) else 0
        portion, fallback_key_ms = _PORTION, None
        while True:
            body = await self._prepare(
                one_time_keys=min(target - held, portion),
                fallback_key=due.fallback_key and fallback_key_ms is None,
            )
            if not body:
                break
            try:
                held = self._held = await self._upload(body)
            except MatrixError as error:
                if error.errcode != "M_TOO_LARGE" or not body["one_time_keys"]:
                    raise
                portion //= 2
                if portion < _SMALLEST_PORTION:
                    target = self._accept_limit(held)
                continue
            if body["fallback_keys"]:
                fallback_key_ms = self._clock.now_ms()
            await self._mark_published()
            _log.info("one-time keys published", held=held, fallback=bool(body["fallback_keys"]))
        async with self._database.transaction() as conn:
            await self._accounts.note_done(conn, fallback_key_ms=fallback_key_ms)

    async def _upload(self, body: Json) -> int:
        try:
            return await self._wire.upload_keys(body)
        except MatrixError as error:
            if "already exists" not in error.message:
                raise
            # Other keys under these IDs.
            raise DeviceKeysDifferError(
                f"The homeserver has other one-time keys of {self._accounts.me.user_id} than "
                "this database, which seems to be an older copy."
            ) from error

    def _accept_limit(self, held: int) -> int:
        """Aim no higher than what the homeserver takes (Synapse 1.163: 500)."""
        _log.info("the homeserver keeps fewer one-time keys", wanted=self._target, kept=held)
        self._target = held
        return held

    async def _raise_alarm(self, held: int, due: PublishedKeysDue) -> None:
        """Say when the pool was nearly or quite used up; at the very first start it is empty."""
        account = self._accounts.me.user_id
        if due.first or not (due.fallback_key or held < self._target * _ALARMING):
            return
        if not due.fallback_key:
            _log.warning(
                "one-time keys were running low", account=account, held=held, pool=self._target
            )
            return
        self._fallback_uses += 1
        _log.error(
            "all one-time keys were claimed and the fallback key was used: whose devices "
            "claim so many?",
            account=account,
            pool=self._target,
        )
        sentence = (
            f"All one-time keys of {account} were claimed, and its fallback key was used. Nothing "
            "is lost, and new keys are published. If many devices are new at once (a big import, "
            "everybody logs in again) this passes; otherwise somebody uses the keys up."
        )
        async with self._database.transaction() as conn:
            await raise_alarm(conn, sentence, now_ms=self._clock.now_ms())

    async def _prepare(self, *, one_time_keys: int, fallback_key: bool) -> Json:
        """Make keys, durably, and return the upload of them, or nothing."""
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            more = one_time_keys - len(account.olm.one_time_keys)
            new_fallback = fallback_key and not account.unpublished_fallback_keys()
            if more > 0 or new_fallback:
                self._accounts.forget()
                account.generate_one_time_keys(max(more, 0))
                if new_fallback:
                    account.generate_fallback_key()
                await self._accounts.save(conn, account)
            # Always the same ones: after a crash the homeserver recognises them.
            unpublished = sorted(account.unpublished_one_time_keys().items())
            body = {
                "one_time_keys": dict(unpublished[: max(one_time_keys, 0)]),
                "fallback_keys": account.unpublished_fallback_keys(),
            }
        return body if any(body.values()) else {}

    async def _mark_published(self) -> None:
        async with self._database.transaction() as conn:
            account = await self._accounts.load(conn)
            self._accounts.forget()
            account.olm.mark_keys_as_published()
            await self._accounts.save(conn, account)
