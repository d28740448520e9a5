"""The replay check: one message index of a Megolm session belongs to one event, for ever.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2".
"""

from collections.abc import Iterable
from hashlib import sha256

from common.crypto.port import SessionRef
from common.crypto.wire import batches
from common.database.pool import Connection
from common.ids import UserId

_ROWS_A_STATEMENT = 500
_DIGEST_BYTES = 16
_INDEX_BYTES = 4

Slot = bytes
"""The stored name of one message index of one session."""


class MessageIndexes:
    """The message indexes that one bot has seen, in the database only."""

    def __init__(self, bot: UserId) -> None:
        self._bot = bot

    def prefix(self, ref: SessionRef) -> bytes:
        """Return what the slots of a session begin with, so that they lie side by side."""
        # Of these names only the bot's is free of NUL by our own doing; lengths keep them apart.
        parts = (self._bot, ref.room_id, ref.session_id)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]

    async def bind(
        self, conn: Connection, claims: Iterable[tuple[Slot, str]]
    ) -> frozenset[tuple[Slot, str]]:
        """Bind slots to event IDs, first come first served; return the claims that hold."""
        wanted = [(slot, event_id, _digest(event_id)) for slot, event_id in claims]
        first: dict[Slot, bytes] = {}
        for slot, _, digest in wanted:
            first.setdefault(slot, digest)
        holders: dict[Slot, bytes] = {}
        for some in batches(list(first.items()), _ROWS_A_STATEMENT):
            values = ", ".join(f"(${2 * n + 1}, ${2 * n + 2})" for n in range(len(some)))
            # The update changes nothing: it makes RETURNING tell who holds a slot already, and
            # waits for a concurrent transaction that is about to take it.
            rows = await conn.fetch(
                f"INSERT INTO crypto_message_index (slot, event) VALUES {values}"  # noqa: S608
                " ON CONFLICT (slot) DO UPDATE SET event = crypto_message_index.event"
                " RETURNING slot, event",
                *(member for pair in some for member in pair),
            )
            holders.update((bytes(row["slot"]), bytes(row["event"])) for row in rows)
        return frozenset(
            (slot, event_id) for slot, event_id, digest in wanted if holders[slot] == digest
        )


def slot(prefix: bytes, index: int) -> Slot:
    """Return the name of a message index under its session's prefix."""
    return prefix + index.to_bytes(_INDEX_BYTES, "big")


def _digest(event_id: str) -> bytes:
    return sha256(event_id.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]
