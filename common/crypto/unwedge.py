"""Broken Olm sessions, replaced: ``m.dummy`` over a new session makes the other side use it.

Source: Matrix specification v1.18, client-server API, "Recovering from undecryptable messages".
"""

from collections.abc import Iterable

from common.clock import Clock
from common.crypto.claims import claim
from common.crypto.olm import OlmPost
from common.crypto.port import DeviceAddress
from common.crypto.tracking import DeviceTracker
from common.crypto.wire import DEVICES_A_SEND, Wire
from common.database.pool import Connection, Database
from common.ids import UserId
from common.telemetry.log import Log

_AT_MOST_EVERY_MS = 3_600_000
"""The specification's rate: one new session an hour for each device."""

_log = Log("crypto.unwedge")


class Unwedger:
    """Remembers broken sessions and offers their devices new ones."""

    def __init__(
        self,
        me: DeviceAddress,
        *,
        database: Database,
        wire: Wire,
        tracker: DeviceTracker,
        post: OlmPost,
        clock: Clock,
    ) -> None:
        self._me = me
        self._database = database
        self._wire = wire
        self._tracker = tracker
        self._post = post
        self._clock = clock

    async def note(self, conn: Connection, broken: Iterable[tuple[UserId, str]]) -> None:
        """Remember users and identity keys whose Olm messages cannot be read."""
        await conn.executemany(
            "INSERT INTO crypto_wedged (bot_id, device_id, user_id, sender_key, due)"
            " VALUES ($1, $2, $3, $4, 1)"
            " ON CONFLICT (bot_id, device_id, user_id, sender_key) DO UPDATE SET due = 1",
            [(*self._me, user, sender_key) for user, sender_key in sorted(set(broken))],
        )

    async def mend(self) -> None:
        """Offer new sessions where it is due; safe to repeat after a crash at any line."""
        due = await self._database.fetch(
            "SELECT user_id, sender_key FROM crypto_wedged"
            " WHERE bot_id = $1 AND device_id = $2 AND due = 1 AND sent_ms <= $3 LIMIT $4",
            *self._me,
            self._clock.now_ms() - _AT_MOST_EVERY_MS,
            DEVICES_A_SEND,
        )
        if not due:
            return
        wanted = {(UserId(row["user_id"]), str(row["sender_key"])) for row in due}
        users = {user for user, _ in wanted}
        await self._tracker.learn(users)
        devices = [
            known.device
            for known in await self._tracker.devices_of(users)
            if (known.device.address.user_id, known.device.curve25519) in wanted
        ]
        keys = await claim(self._wire, devices)
        async with self._database.transaction() as conn:
            box = await self._post.open(conn)
            await box.load([device.curve25519 for device in keys])
            messages = {}
            for device, one_time_key in keys.items():
                box.establish(device, one_time_key)
                messages[device.address] = box.encrypt(device, "m.dummy", {})
            await box.save()
            await self._note_sent(conn, wanted)
        if messages:
            await self._wire.send_to_device("m.room.encrypted", messages)
        _log.info("broken Olm sessions replaced", wanted=len(wanted), replaced=len(messages))

    async def _note_sent(self, conn: Connection, wanted: Iterable[tuple[UserId, str]]) -> None:
        """Restart the hour, for devices that gave no key too: it bounds what strangers cause."""
        await conn.executemany(
            "UPDATE crypto_wedged SET due = 0, sent_ms = $5"
            " WHERE bot_id = $1 AND device_id = $2 AND user_id = $3 AND sender_key = $4",
            [(*self._me, *name, self._clock.now_ms()) for name in wanted],
        )
        # After the hour a row says nothing more, and anybody can make rows under made-up keys.
        await conn.execute(
            "DELETE FROM crypto_wedged"
            " WHERE bot_id = $1 AND device_id = $2 AND due = 0 AND sent_ms < $3",
            *self._me,
            self._clock.now_ms() - _AT_MOST_EVERY_MS,
        )
