"""Whose devices we know, when to ask again, and how far a device can be trusted.

Source: Matrix specification v1.18, client-server API, "Tracking the device list for a user".
The promise: a device's keys never change. A device that shows other keys than before is refused.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from common.clock import Clock
from common.crypto.canonical import Json, object_of
from common.crypto.devices import (
    Device,
    PublicIdentity,
    parse_devices,
    parse_identity,
    signer_of,
)
from common.crypto.port import DeviceAddress, Trust
from common.crypto.rows import in_lists
from common.crypto.wire import Wire, batches
from common.database.pool import Connection, Database, Row
from common.errors import TransientError
from common.ids import DeviceId, UserId, server_of
from common.telemetry.log import Log

_RETRY_MS, _LONGEST_RETRY_MS = 60_000, 3_600_000
_SERVERS_REMEMBERED = 1000
_USERS_A_ROUND = 1000
_USERS_A_TRANSACTION = 50

_log = Log("crypto.tracking")


@dataclass(frozen=True, slots=True)
class _Away:
    """A homeserver that did not answer: until when it is not asked, and the wait after that."""

    until_ms: int
    next_wait_ms: int


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A stored device and what its owner's identity says of it."""

    device: Device
    trust: Trust


class DeviceTracker:
    """The devices of the users that one bot follows."""

    def __init__(self, bot: UserId, database: Database, wire: Wire, clock: Clock) -> None:
        self._bot = bot
        self._database = database
        self._wire = wire
        self._clock = clock
        self._away: dict[str, _Away] = {}

    async def note_changes(
        self, conn: Connection, *, changed: Iterable[str], left: Iterable[str]
    ) -> None:
        """Remember what the homeserver reports of device lists; only followed users matter."""
        await conn.executemany(
            "UPDATE crypto_user SET changes = changes + 1, retry_ms = 0"
            " WHERE bot_id = $1 AND user_id = $2",
            [(self._bot, user) for user in changed],
        )
        # Without a shared room no change is reported any more, so what is known goes stale.
        await conn.executemany(
            "UPDATE crypto_user SET changes = changes + 1, followed = 0"
            " WHERE bot_id = $1 AND user_id = $2",
            [(self._bot, user) for user in left],
        )

    async def distrust_all(self, conn: Connection) -> None:
        """Consider everybody's devices out of date: a new device has missed the reports."""
        await conn.execute(
            "UPDATE crypto_user SET changes = changes + 1 WHERE bot_id = $1", self._bot
        )

    async def note_sender(self, conn: Connection, user: UserId) -> None:
        """Have the devices fetched of a sender of whom we do not know the one that sent."""
        # At most one query a minute for the same user: anybody can send under unknown keys.
        await conn.execute(
            "INSERT INTO crypto_user (bot_id, user_id) VALUES ($1, $2)"
            " ON CONFLICT (bot_id, user_id) DO UPDATE SET followed = 1,"
            " changes = crypto_user.changes"
            " + CASE WHEN crypto_user.queried_ms < $3 THEN 1 ELSE 0 END",
            self._bot,
            user,
            self._clock.now_ms() - _RETRY_MS,
        )

    async def note_device(self, conn: Connection, device: Device, value: Json) -> None:
        """Keep a device that described itself in ``value``; it never replaces known keys."""
        user = device.address.user_id
        row = await conn.fetchrow(
            "SELECT master_key, self_signing_key FROM crypto_user"
            " WHERE bot_id = $1 AND user_id = $2",
            self._bot,
            user,
        )
        identity = (
            PublicIdentity(row["master_key"], row["self_signing_key"]) if row else PublicIdentity()
        )
        await conn.execute(
            "INSERT INTO crypto_device"
            " (bot_id, user_id, device_id, ed25519, curve25519, signed_by)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (bot_id, user_id, device_id) DO NOTHING",
            self._bot,
            *device.address,
            device.ed25519,
            device.curve25519,
            signer_of(device, value, identity),
        )

    async def learn(self, users: Collection[UserId]) -> None:
        """Follow these users and fetch those of their device lists that are out of date."""
        if not users:
            return
        unknown = set(users)
        for places, some in in_lists(sorted(users), first=2):
            rows = await self._database.fetch(
                "SELECT user_id FROM crypto_user"  # noqa: S608  # placeholders only
                f" WHERE bot_id = $1 AND followed = 1 AND user_id IN {places}",
                self._bot,
                *some,
            )
            unknown.difference_update(row["user_id"] for row in rows)
        if unknown:
            async with self._database.transaction() as conn:
                await conn.executemany(
                    "INSERT INTO crypto_user (bot_id, user_id) VALUES ($1, $2)"
                    " ON CONFLICT (bot_id, user_id) DO UPDATE SET followed = 1",
                    [(self._bot, user) for user in sorted(unknown)],
                )
        for places, some in in_lists(sorted(users), first=3):
            await self._query(
                await self._database.fetch(
                    "SELECT user_id, changes FROM crypto_user"  # noqa: S608  # placeholders only
                    " WHERE bot_id = $1 AND queried < changes AND retry_ms <= $2"
                    f" AND user_id IN {places}",
                    self._bot,
                    self._clock.now_ms(),
                    *some,
                )
            )

    async def refresh(self) -> None:
        """Fetch the device lists of followed users that are out of date."""
        await self._query(
            await self._database.fetch(
                "SELECT user_id, changes FROM crypto_user WHERE bot_id = $1 AND followed = 1"
                " AND queried < changes AND retry_ms <= $2 LIMIT $3",
                self._bot,
                self._clock.now_ms(),
                _USERS_A_ROUND,
            )
        )

    async def devices_of(self, users: Collection[UserId]) -> list[KnownDevice]:
        """Return the present devices of these users, without those whose keys were replaced."""
        found: list[KnownDevice] = []
        for places, some in in_lists(sorted(users), first=2):
            rows = await self._database.fetch(
                "SELECT d.user_id, d.device_id, d.ed25519, d.curve25519, d.signed_by,"  # noqa: S608  # placeholders and constants only
                " u.first_master_key FROM crypto_device d LEFT JOIN crypto_user u"
                " ON u.bot_id = d.bot_id AND u.user_id = d.user_id"
                " WHERE d.bot_id = $1 AND d.present = 1 AND d.refused = 0"
                f" AND d.user_id IN {places}",  # placeholders only
                self._bot,
                *some,
            )
            found.extend(KnownDevice(_device(row), _trust(row)) for row in rows)
        return found

    async def by_identity_key(
        self, conn: Connection, curve25519: Collection[str]
    ) -> Mapping[tuple[str, str], KnownDevice]:
        """Return devices, deleted ones too, by owner and Curve25519 identity key."""
        found: dict[tuple[str, str], KnownDevice] = {}
        for places, some in in_lists(sorted(curve25519), first=2):
            rows = await conn.fetch(
                "SELECT d.user_id, d.device_id, d.ed25519, d.curve25519, d.signed_by,"  # noqa: S608  # placeholders and constants only
                " u.first_master_key FROM crypto_device d LEFT JOIN crypto_user u"
                " ON u.bot_id = d.bot_id AND u.user_id = d.user_id"
                f" WHERE d.bot_id = $1 AND d.curve25519 IN {places}",  # placeholders only
                self._bot,
                *some,
            )
            for row in rows:
                device = _device(row)
                found[row["user_id"], row["curve25519"]] = KnownDevice(device, _trust(row))
        return found

    async def _query(self, outdated: Iterable[Row]) -> None:
        changes = {UserId(row["user_id"]): int(row["changes"]) for row in outdated}
        # A server that hangs keeps whoever asks waiting, and the messages behind them: its next
        # users are not asked for.
        silent = {user for user in changes if self._is_away(server_of(user))}
        if silent:
            await self._postpone(silent)
        changes = {user: known for user, known in changes.items() if user not in silent}
        if not changes:
            return
        try:
            answer = await self._wire.query_keys(changes)
        except TransientError:
            await self._postpone(changes)
            raise
        self._note_away({server_of(user) for user in changes}, object_of(answer, "failures"))
        late = {
            user
            for user in changes
            if server_of(user) in self._away and user not in object_of(answer, "device_keys")
        }
        if late:
            await self._postpone(late)
        for some in batches(sorted(changes.keys() - late), _USERS_A_TRANSACTION):
            async with self._database.transaction() as conn:
                for user in some:
                    await self._store(conn, user, answer, changes[user])

    def _is_away(self, server: str) -> bool:
        away = self._away.get(server)
        return away is not None and self._clock.now_ms() < away.until_ms

    def _note_away(self, asked: Iterable[str], failures: Collection[str]) -> None:
        """Remember which of the servers did not answer, each time for longer."""
        for server in asked:
            away = self._away.pop(server, None)
            if server in failures:
                wait_ms = away.next_wait_ms if away else _RETRY_MS
                self._away[server] = _Away(
                    self._clock.now_ms() + wait_ms, min(2 * wait_ms, _LONGEST_RETRY_MS)
                )
        while len(self._away) > _SERVERS_REMEMBERED:
            del self._away[next(iter(self._away))]

    async def _postpone(self, users: Iterable[UserId]) -> None:
        retry_ms = self._clock.now_ms() + _RETRY_MS
        async with self._database.transaction() as conn:
            await conn.executemany(
                "UPDATE crypto_user SET retry_ms = $3 WHERE bot_id = $1 AND user_id = $2",
                [(self._bot, user, retry_ms) for user in users],
            )

    async def _store(self, conn: Connection, user: UserId, answer: Json, changes: int) -> None:
        """Write what the homeserver says of a user; ``changes`` is from before it was asked."""
        identity = parse_identity(user, answer)
        devices = parse_devices(user, answer)
        rows = await conn.fetch(
            "SELECT user_id, device_id, ed25519, curve25519 FROM crypto_device"
            " WHERE bot_id = $1 AND user_id = $2",
            self._bot,
            user,
        )
        before = {DeviceId(row["device_id"]): _device(row) for row in rows}
        replaced = {
            device_id
            for device_id, device in before.items()
            if device_id in devices and devices[device_id][0] != device
        }
        for device_id in sorted(replaced):
            _log.warning("a device's keys were replaced: refused", user=user, device=device_id)
        await conn.executemany(
            "UPDATE crypto_device SET present = $4, refused = CASE WHEN $5 = 1 THEN 1"
            " ELSE refused END WHERE bot_id = $1 AND user_id = $2 AND device_id = $3",
            [
                (self._bot, user, device_id, int(device_id in devices), int(device_id in replaced))
                for device_id in before
            ],
        )
        await conn.executemany(
            "INSERT INTO crypto_device"
            " (bot_id, user_id, device_id, ed25519, curve25519, signed_by)"
            " VALUES ($1, $2, $3, $4, $5, $6)"
            " ON CONFLICT (bot_id, user_id, device_id)"
            " DO UPDATE SET signed_by = excluded.signed_by",
            [
                (
                    self._bot,
                    user,
                    device_id,
                    device.ed25519,
                    device.curve25519,
                    signer_of(device, value, identity),
                )
                for device_id, (device, value) in devices.items()
                if device_id not in replaced
            ],
        )
        await conn.execute(
            "UPDATE crypto_user SET queried = $3, queried_ms = $4, retry_ms = 0,"
            " master_key = $5, self_signing_key = $6, first_master_key ="
            " CASE WHEN first_master_key = '' THEN $5 ELSE first_master_key END"
            " WHERE bot_id = $1 AND user_id = $2",
            self._bot,
            user,
            changes,
            self._clock.now_ms(),
            identity.master,
            identity.self_signing,
        )


def _device(row: Row) -> Device:
    address = DeviceAddress(UserId(row["user_id"]), DeviceId(row["device_id"]))
    return Device(address, row["ed25519"], row["curve25519"])


def _trust(row: Row) -> Trust:
    if not row["signed_by"]:
        return Trust.UNVERIFIED_DEVICE
    if row["signed_by"] != row["first_master_key"]:
        return Trust.IDENTITY_CHANGED
    return Trust.CROSS_SIGNED
