"""What people who verify a bot have to see, where ``steward verify`` finds it: in the database.

Emoji in a chat show only that both sides see the same if they are compared over another way than
the one that is to be verified: by voice, with somebody who sits at Steward's terminal.
"""

from dataclasses import dataclass

from common.clock import Clock
from common.crypto.port import DeviceAddress
from common.crypto.verification_sas import ShortString
from common.database.pool import Database
from common.ids import DeviceId, UserId

_KEPT_MS = 600_000
"""How long after its end a verification is still there to be told of."""

VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Shown:
    """One verification; ``outcome`` is empty while it lasts."""

    peer: DeviceAddress
    flow: str
    emoji: str
    numbers: str
    shown_ms: int
    outcome: str


class VerificationBoard:
    """The verifications of one bot."""

    def __init__(self, bot: UserId, database: Database, clock: Clock) -> None:
        self._bot = bot
        self._database = database
        self._clock = clock

    async def show(
        self, peer: DeviceAddress, flow: str, short_string: ShortString, *, ends_ms: int
    ) -> None:
        """Write down what this person has to see; forget those whose time is over."""
        async with self._database.transaction() as conn:
            await conn.execute(
                "DELETE FROM crypto_verification WHERE bot_id = $1 AND ends_ms < $2",
                self._bot,
                self._clock.now_ms() - _KEPT_MS,
            )
            await conn.execute(
                "INSERT INTO crypto_verification"
                " (bot_id, user_id, flow, device_id, emoji, numbers, shown_ms, ends_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
                " ON CONFLICT (bot_id, user_id, flow) DO NOTHING",
                self._bot,
                peer.user_id,
                flow,
                peer.device_id,
                str(short_string),
                short_string.numbers,
                self._clock.now_ms(),
                ends_ms,
            )

    async def end(self, peer: DeviceAddress, flow: str, outcome: str) -> None:
        """Write down how a verification ended, if its emoji were shown."""
        async with self._database.transaction() as conn:
            await conn.execute(
                "UPDATE crypto_verification SET outcome = $4"
                " WHERE bot_id = $1 AND user_id = $2 AND flow = $3 AND outcome = ''",
                self._bot,
                peer.user_id,
                flow,
                outcome,
            )

    async def interrupt(self) -> None:
        """Write down that nothing goes on any more: a restart forgets verifications."""
        async with self._database.transaction() as conn:
            await conn.execute(
                "UPDATE crypto_verification SET outcome = $2 WHERE bot_id = $1 AND outcome = ''",
                self._bot,
                "interrupted by a restart of Steward; begin again",
            )

    async def shown(self) -> list[Shown]:
        """Return the verifications that go on, and those that ended a moment ago."""
        rows = await self._database.fetch(
            "SELECT user_id, device_id, flow, emoji, numbers, shown_ms, outcome"
            " FROM crypto_verification WHERE bot_id = $1"
            " AND (ends_ms >= $2 OR (outcome <> '' AND ends_ms >= $3))"
            " ORDER BY shown_ms, user_id, flow",
            self._bot,
            self._clock.now_ms(),
            self._clock.now_ms() - _KEPT_MS,
        )
        return [
            Shown(
                DeviceAddress(UserId(row["user_id"]), DeviceId(row["device_id"])),
                row["flow"],
                row["emoji"],
                row["numbers"],
                row["shown_ms"],
                row["outcome"],
            )
            for row in rows
        ]
