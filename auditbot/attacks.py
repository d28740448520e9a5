"""Encrypted messages that no honest client sends: the admins are told, once a day for each kind.

Whoever is in a room can send any number of them, so the first one of a UTC day is told when it is
recorded and the others are only counted, in what is stated of the day (EXPORT_FORMAT, section 7).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from auditbot.pipeline.hostile import Envelope
from auditbot.pipeline.segment import DAY_MS
from common.alarms import raise_alarm
from common.crypto.port import Reading, Undecryptable, Why
from common.database.pool import Connection

_LONGEST_NAME = 255
"""Matrix specification, appendices, "Common Identifier Format"; what is longer names nothing."""

_KINDS: Mapping[Why, str] = MappingProxyType(
    {
        Why.REPLAY: "repeats the ciphertext of another message, so that it could be read as new",
        Why.BAD_MAC: "was changed after it was encrypted, or is signed by somebody else",
        Why.ROOM_MISMATCH: "was encrypted for another room than the one it was sent to",
        Why.MALFORMED: "has a form that no client gives to an encrypted message",
    }
)


@dataclass(frozen=True, slots=True)
class Attack:
    """A message and what is wrong with it."""

    event: Envelope
    why: Why

    @property
    def sentence(self) -> str:
        """Return what the admins are told."""
        event = self.event
        return (
            f"A message {_KINDS[self.why]} ({self.why.value}). It is event {_name(event.event_id)} in "
            f"room {_name(event.room_id)}, sent by {_name(event.sender)}. This is an attack, or a "
            "client with a fault: ask whoever sent it which client they use, and if nobody knows of "
            "it, have them log out their other sessions. The archive keeps it as it came, marked as "
            "unreadable. More of the same kind are not told today: “steward audit report” counts them."
        )


def attacks_in(pairs: Iterable[tuple[Envelope, Reading | None]]) -> dict[Why, Attack]:
    """Return the first message of each kind among events and what they say."""
    found: dict[Why, Attack] = {}
    for event, reading in pairs:
        if isinstance(reading, Undecryptable) and reading.why in _KINDS:
            found.setdefault(reading.why, Attack(event, reading.why))
    return found


async def tell(connection: Connection, attacks: Iterable[Attack], *, now_ms: int) -> None:
    """Have the admins told of those whose kind they were not told of this day."""
    for attack in attacks:
        is_first = await connection.fetchval(
            "INSERT INTO audit_daily (task, day) VALUES ($1, $2)"
            " ON CONFLICT (task) DO UPDATE SET day = excluded.day"
            " WHERE audit_daily.day <> excluded.day RETURNING 1",
            f"told of {attack.why.value}",
            now_ms // DAY_MS,
        )
        if is_first:
            await raise_alarm(connection, attack.sentence, now_ms=now_ms)


def _name(name: str | None) -> str:
    if name and name.isprintable() and len(name) <= _LONGEST_NAME:
        return name
    return "(a name that cannot be shown)"
