"""The replay check: one message index of a Megolm session belongs to one event, for ever.

Source: Matrix specification v1.18, client-server API, "m.megolm.v1.aes-sha2". Who sends an event
claims indexes under their own name only: somebody who sends another's ciphertext again, and whose
copy comes first because the original was late, must not be able to take the original's place.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

from common.crypto.port import SessionRef
from common.crypto.rows import in_lists
from common.crypto.wire import batches
from common.database.pool import Connection
from common.ids import UserId

_ROWS_A_STATEMENT = 500
_DIGEST_BYTES = 16
_INDEX_BYTES = 4

Slot = bytes
"""The stored name of one message index of one session, as one sender uses it."""


class MessageIndexes:
    """The message indexes that one bot has seen, in the database only."""

    def __init__(self, bot: UserId, *, is_postgres: bool) -> None:
        self._bot = bot
        self._is_postgres = is_postgres

    def prefix(self, ref: SessionRef, sender: str) -> bytes:
        """Return what a sender's slots of a session begin with, so that they lie side by side."""
        # Of these names only the bot's is free of NUL by our own doing; lengths keep them apart.
        parts = (self._bot, ref.room_id, ref.session_id, sender)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return sha256(text.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]

    async def bind(
        self, conn: Connection, claims: Sequence[tuple[Slot, bytes]]
    ) -> Mapping[Slot, bytes]:
        """Bind slots to events, first come first served; return which event holds each of them.

        Events are named by ``digest``.
        """
        first: dict[Slot, bytes] = {}
        for slot, event in claims:
            first.setdefault(slot, event)
        take = self._take if self._is_postgres else self._take_in_sqlite
        return await take(conn, first) if first else {}

    async def holders(self, conn: Connection, slots: Collection[Slot]) -> dict[Slot, bytes]:
        """Return which event holds each of these slots, as far as they are taken."""
        found: dict[Slot, bytes] = {}
        for places, some in in_lists(list(slots), first=1):
            rows = await conn.fetch(
                "SELECT slot, event FROM crypto_message_index"  # noqa: S608  # placeholders only
                f" WHERE slot IN {places}",
                *some,
            )
            found.update((bytes(row["slot"]), bytes(row["event"])) for row in rows)
        return found

    async def _take(self, conn: Connection, first: Mapping[Slot, bytes]) -> Mapping[Slot, bytes]:
        """Write what is free and return who holds each slot, concurrent transactions or not."""
        holders: dict[Slot, bytes] = {}
        for some in batches(list(first.items()), _ROWS_A_STATEMENT):
            values = ", ".join(f"(${2 * n + 1}, ${2 * n + 2})" for n in range(len(some)))
            # The update changes nothing: it makes RETURNING tell who holds a slot already, and
            # waits for a concurrent transaction that is about to take it.
            rows = await conn.fetch(
                f"INSERT INTO crypto_message_index (slot, event) VALUES {values}"  # noqa: S608  # placeholders and constants only
                " ON CONFLICT (slot) DO UPDATE SET event = crypto_message_index.event"
                " RETURNING slot, event",
                *(member for pair in some for member in pair),
            )
            holders.update((bytes(row["slot"]), bytes(row["event"])) for row in rows)
        return holders

    async def _take_in_sqlite(
        self, conn: Connection, first: Mapping[Slot, bytes]
    ) -> Mapping[Slot, bytes]:
        """Do the same where there is one writer: nearly always every slot is free."""
        cursor = await conn.executemany(
            "INSERT INTO crypto_message_index (slot, event) VALUES ($1, $2)"
            " ON CONFLICT (slot) DO NOTHING",
            first.items(),
        )
        # A cursor counts the rows that were written; anything else could not say so.
        if getattr(cursor, "rowcount", None) == len(first):
            return first
        return await self.holders(conn, first)


def slot(prefix: bytes, index: int) -> Slot:
    """Return the name of a message index under its session's prefix."""
    return prefix + index.to_bytes(_INDEX_BYTES, "big")


def digest(event_id: str) -> bytes:
    """Return what stands for an event ID in the table."""
    return sha256(event_id.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES]
