"""Devices whose messages can never be read: the admins are told once of each, and when it is over.

Such a device is most likely old, or set to give its keys to verified devices only. What a message
says of its device proves nothing, so nobody can be accused by this but the message's own sender; and
who makes devices up by the thousand gets a line in a sum.
"""

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from auditbot.pipeline.hostile import key, mapping
from auditbot.pipeline.segment import DAY_MS
from auditbot.unread import KEEP_DAYS, Unread
from common.alarms import raise_alarm
from common.clock import Clock
from common.crypto.port import Decrypted, EncryptedEvent, Why
from common.database.pool import Connection, Database, Row
from common.errors import TransientError
from common.telemetry.log import Log

LOOK_SECONDS = 300.0
LEAST = 5
"""So many messages in a row that cannot be read are no accident."""
PATIENCE_MS = 3_600_000
"""How long each of them has waited for its key by then."""
MOST_A_DAY = 10
"""Devices that are told of one by one on a UTC day; the others are counted in one sentence."""
MOST_OF_ONE = 20
"""Devices of one person that are watched: nobody has more who does not make them up."""
MOST = 10_000
"""Devices that are watched altogether."""
KEEP_TOLD_DAYS = 90
"""How long a device that says nothing any more is remembered as told of."""

_TASK = "silent devices"
_SUMMED = MOST_A_DAY + 1
_SHOWN = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
"""Matrix specification, appendices, "User Identifiers"; what has spaces could be a sentence."""

_VERIFIED_ONLY = (
    "in their client, verify {account} (in the list of a room's members), or switch off “Only send "
    "messages to verified users”, in older clients “Never send encrypted messages to unverified "
    "sessions”, under Settings, Security & Privacy, Encryption"
)
_ANEW = (
    "update their client, then sign this device out and in again; it then has new keys, and gives "
    "them to the archive's device as well"
)
_ADVICE: Mapping[Why, tuple[str, str]] = MappingProxyType(
    {
        Why.WITHHELD_UNVERIFIED: ("it gives keys to verified devices only", _VERIFIED_ONLY),
        Why.WITHHELD_BLACKLISTED: (
            "the archive's device is blocked there",
            "unblock the device of {account} in their client",
        ),
        Why.WITHHELD_UNAUTHORISED: (
            "it says that the archive may not read its messages",
            "let {account} read the room in the settings of their client, which may be a bot or a bridge",
        ),
        Why.WITHHELD_UNAVAILABLE: ("it has lost the keys of its own messages", _ANEW),
        Why.NO_OLM: ("it could make no secure channel to the archive's device", _ANEW),
        Why.NO_SESSION: (
            "it sent no keys: most likely it is old, or set to leave out devices that it does not trust",
            f"{_VERIFIED_ONLY}; and if that does not help, {_ANEW}",
        ),
    }
)
"""What each cause means of a device, and what its owner can do; other causes say nothing of it."""
_CAUSES = ", ".join(f"'{why.value}'" for why in sorted(_ADVICE))
_WAITING = (
    "SELECT count(*) FROM audit_unread WHERE audit_unread.sender = device.sender"  # noqa: S608  # values of our enum
    " AND audit_unread.device_id = device.device_id AND received_ms >= since_ms"
    f" AND received_ms <= $1 AND read_ms IS NULL AND why IN ({_CAUSES})"
)
_DUE = (
    "SELECT sender, device_id, since_ms, messages FROM (SELECT sender, device_id, since_ms,"  # noqa: S608  # our own words
    f" ({_WAITING}) AS messages FROM audit_silent_device AS device"
    " WHERE told = 0 AND since_ms <= $1) AS due WHERE messages >= $2"
    " ORDER BY messages DESC, sender, device_id"
)
_LAST = (
    "coalesce((SELECT max(received_ms) FROM audit_unread"
    " WHERE audit_unread.sender = audit_silent_device.sender"
    " AND audit_unread.device_id = audit_silent_device.device_id), since_ms)"
)

log = Log("audit.silent_devices")


class Device(NamedTuple):
    """A device, as its messages name it; ``""`` for those that name none."""

    sender: str
    device_id: str


@dataclass
class SilentDevices:
    """Watches for them. ``account`` is whose device gets no keys."""

    database: Database
    clock: Clock
    account: str
    _stored: set[Device] | None = None
    """The devices that were in the database when it was looked into last."""
    _added: set[Device] = field(default_factory=set)
    """Those added since, whose transactions may not be committed, or never will be."""

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            try:
                await self.look()
            except TransientError as error:
                log.warning("will try again", wait=LOOK_SECONDS, reason=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def ready(self, connection: Connection) -> None:
        """Read from the database which devices there are, once after a start."""
        if self._stored is None:
            self._stored = await _all(connection)

    def suspect(self, event: Unread) -> bool:
        """Return whether the device of an event is to be watched from now on."""
        device = Device(event.sender, event.device_id)
        stored = self._stored or set()
        if event.why not in _ADVICE or device in stored:
            return False
        if len(stored) + len(self._added) >= MOST:
            return False
        self._added.add(device)
        return True

    def heard(self, event: EncryptedEvent, reading: Decrypted) -> Iterator[Device]:
        """Yield the watched devices of which a message that can be read shows that they are not silent."""
        if not self._stored and not self._added:
            return
        sender = key(event.sender)
        for name in {_claimed(event), key(reading.device_id or "")}:
            device = Device(sender, name)
            if device in self._added or device in (self._stored or ()):
                yield device

    async def note(
        self,
        connection: Connection,
        unread: Sequence[Unread],
        heard: Collection[Device],
        *,
        now_ms: int,
    ) -> None:
        """Remember which devices could not be read, and forget those that could.

        Args:
            connection: the database
            unread: events whose devices are to be watched from now on
            heard: devices of which something could be read
            now_ms: the present moment
        """
        await self._watch(connection, unread)
        for device in heard:
            told = await connection.fetchval(
                "DELETE FROM audit_silent_device WHERE sender = $1 AND device_id = $2"
                " RETURNING told",
                *device,
            )
            if told == 1:
                await raise_alarm(
                    connection,
                    f"Messages of {_device(device)} can be read again: nothing more is to be done. What "
                    "came before stays in the archive as it was, and is read if its keys come.",
                    now_ms=now_ms,
                )

    async def _watch(self, connection: Connection, unread: Sequence[Unread]) -> None:
        since: dict[Device, int] = {}
        for one in unread:
            device = Device(one.sender, one.device_id)
            since[device] = min(one.received_ms, since.get(device, one.received_ms))
        for device, since_ms in since.items():
            await connection.execute(
                "INSERT INTO audit_silent_device (sender, device_id, since_ms) SELECT $1, $2, $3"
                " WHERE (SELECT count(*) FROM audit_silent_device WHERE sender = $1) < $4"
                " ON CONFLICT (sender, device_id) DO NOTHING",
                device.sender,
                device.device_id,
                since_ms,
                MOST_OF_ONE,
            )

    async def look(self) -> int:
        """Tell the admins of the devices that are due; return how many there were."""
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            await _forget(connection, now_ms)
            due = await connection.fetch(_DUE, now_ms - PATIENCE_MS, LEAST)
            told = await self._tell(connection, due, now_ms) if due else 0
            stored = await _all(connection)
            # What is being added meanwhile is added again by the device's next message.
            self._stored, self._added = stored, set()
        return told

    async def _tell(self, connection: Connection, due: Sequence[Row], now_ms: int) -> int:
        today = now_ms // DAY_MS
        row = await connection.fetchrow(
            "SELECT day, trouble FROM audit_daily WHERE task = $1", _TASK
        )
        count = int(row["trouble"] or 0) if row is not None and row["day"] == today else 0
        named = due[: max(0, MOST_A_DAY - count)]
        rest = due[len(named) :] if count < _SUMMED else []
        for one in named:
            cause = await _cause(connection, one)
            await raise_alarm(connection, self._sentence(one, cause), now_ms=now_ms)
            await _mark(connection, one, 1)
        if rest:
            sentence = (
                f"Of {len(rest):,} more devices no message can be read; they are not named one by one, "
                f"as {MOST_A_DAY} of a day were. “steward audit report” names them. If they are of "
                "people who do not exist here, somebody may want to hide something among them."
            )
            await raise_alarm(connection, sentence, now_ms=now_ms)
            for one in rest:
                await _mark(connection, one, 2)
        count = _SUMMED if rest else count + len(named)
        await connection.execute(
            "INSERT INTO audit_daily (task, day, trouble) VALUES ($1, $2, $3)"
            " ON CONFLICT (task) DO UPDATE SET day = excluded.day, trouble = excluded.trouble",
            _TASK,
            today,
            str(count),
        )
        return len(named) + len(rest)

    def _sentence(self, row: Row, why: Why) -> str:
        cause, advice = _ADVICE[why]
        since = datetime.fromtimestamp(row["since_ms"] / 1000, UTC)
        return (
            f"No message of {_device(Device(row['sender'], row['device_id']))} can be read, none of the "
            f"{row['messages']:,} since {since:%Y-%m-%d %H:%M} UTC: {cause} ({why.value}). The archive "
            "keeps them encrypted. Ask whoever uses that device to do this: "
            f"{advice.format(account=self.account)}. You are told once when a message of it can be "
            "read, and not again before; “steward audit report” counts on."
        )


def _claimed(event: EncryptedEvent) -> str:
    found = mapping(event.content).get("device_id")
    return key(found) if isinstance(found, str) else ""


def _device(device: Device) -> str:
    if not device.device_id:
        return f"a device of {_shown(device.sender)} that does not say its name"
    return f"device “{_shown(device.device_id)}” of {_shown(device.sender)}"


def _shown(name: str) -> str:
    return name if _SHOWN.fullmatch(name) else "(a name that cannot be shown)"


async def _all(connection: Connection) -> set[Device]:
    rows = await connection.fetch("SELECT sender, device_id FROM audit_silent_device")
    return {Device(str(row["sender"]), str(row["device_id"])) for row in rows}


async def _cause(connection: Connection, row: Row) -> Why:
    """Return why most of a device's messages could not be read."""
    found = await connection.fetchval(
        "SELECT why FROM audit_unread WHERE sender = $1 AND device_id = $2 AND received_ms >= $3"  # noqa: S608  # values of our enum
        f" AND read_ms IS NULL AND why IN ({_CAUSES}) GROUP BY why ORDER BY count(*) DESC, why"
        " LIMIT 1",
        row["sender"],
        row["device_id"],
        row["since_ms"],
    )
    return Why(found)


async def _mark(connection: Connection, row: Row, told: int) -> None:
    await connection.execute(
        "UPDATE audit_silent_device SET told = $3 WHERE sender = $1 AND device_id = $2",
        row["sender"],
        row["device_id"],
        told,
    )


async def _forget(connection: Connection, now_ms: int) -> None:
    """Forget devices that say nothing any more, so that they take nobody's place."""
    await connection.execute(
        f"DELETE FROM audit_silent_device WHERE told = 0 AND {_LAST} < $1"  # noqa: S608  # our own words
        f" OR told <> 0 AND {_LAST} < $2",
        now_ms - KEEP_DAYS * DAY_MS,
        now_ms - KEEP_TOLD_DAYS * DAY_MS,
    )
