"""Who has read a message, as far as a receipt that was recorded names it; pure.

A receipt says of one event that somebody's client reported it as read. That what came before was read
too is likely, and nothing that was recorded: only the event that is named is marked.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditbot.reader.conversation import Message, Receipt

READ = "m.read"
"""The one type that others are told of; a private receipt reaches nobody else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """That somebody read a message, or what was made of it, and when first."""

    user_id: str
    time_ms: int | None
    of: str
    """Empty for the message itself, else what the receipt names: an edit, a reaction, a deletion."""
    event_id: str | None


def readings(message: Message) -> list[Reading]:
    """Return who read what of a message, earliest first, everybody once for each event."""
    found: dict[tuple[str, str | None], Reading] = {}
    for one in sorted(map(_reading, _shown(message)), key=lambda one: one.time_ms or 0):
        found.setdefault((one.user_id, one.event_id), one)
    return list(found.values())


def _shown(message: Message) -> Iterator[Receipt]:
    return (one for one in message.receipts if one.type == READ)


def _reading(receipt: Receipt) -> Reading:
    record = receipt.stored.record
    when = record.get("ts_origin")
    if not isinstance(when, int):
        when = record.get("ts_received")
    event_id = record.get("event_id")
    return Reading(
        str(record.get("sender") or "?"),
        when if isinstance(when, int) else None,
        _OF[receipt.of],
        event_id if isinstance(event_id, str) else None,
    )


_OF = {"": "", "edit": "the edit", "reaction": "a reaction", "deletion": "the deletion"}
