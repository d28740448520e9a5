"""Which attachments of a time are not in the archive, and what became of them."""

from collections import Counter
from dataclasses import dataclass, field

from auditbot.reader.index.library import Library
from auditbot.reader.index.schema import KINDS, MEDIA_STATES
from auditbot.reader.read import Period
from auditbot.reader.render.words import one_line

_STORED = {MEDIA_STATES.index("stored"), MEDIA_STATES.index("duplicate")}
_CARRIERS = (KINDS.index("event"), KINDS.index("decryption"))

_QUERY = """
SELECT carrier.id, coalesce((
    SELECT media FROM record AS found WHERE found.first = carrier.id AND found.kind = ?
    ORDER BY found.id DESC LIMIT 1
), carrier.media)
FROM record AS carrier WHERE carrier.media IS NOT NULL AND carrier.kind IN (?, ?)
    AND carrier.received_ms >= ? AND carrier.received_ms < ?
ORDER BY carrier.id
"""


@dataclass
class Lost:
    """Attachments without their bytes, by the records that carry them."""

    states: Counter[str] = field(default_factory=Counter)
    carriers: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.carriers)

    def names(self, library: Library, most: int) -> list[str]:
        """Return room, event and name of the first of them."""
        return [
            " ".join(
                one_line(stored.record.get(name) or otherwise)
                for name, otherwise in (
                    ("room_id", "(no room)"),
                    ("event_id", "(no event)"),
                    ("media_name", "(no name)"),
                )
            )
            for stored in library.stored(self.carriers[:most])
        ]


def count_lost(library: Library, period: Period) -> Lost:
    """Return which attachments of what was received in a period are not there by now."""
    lost = Lost()
    for carrier, state in library.connection.execute(
        _QUERY, (KINDS.index("media"), *_CARRIERS, *period.bounds)
    ):
        if state in _STORED:
            continue
        lost.carriers.append(carrier)
        lost.states[MEDIA_STATES[state] if state < len(MEDIA_STATES) else "other"] += 1
    return lost
