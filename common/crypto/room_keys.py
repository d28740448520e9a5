"""Received room keys, and the news that one is withheld.

Source: Matrix specification v1.18, client-server API, "m.room_key", "m.room_key.withheld". A
session's row is named by bot, room, session and the Curve25519 key of the device that sent it:
so no later key, whoever sends it, can change the room or the owner of an earlier one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import vodozemac

from common.clock import Clock
from common.crypto.account import MEGOLM
from common.crypto.canonical import Json, text_of
from common.crypto.port import KeySource, SessionRef, Why
from common.crypto.rows import in_lists
from common.crypto.sealing import Sealer, WrongPickleKeyError
from common.database.pool import Connection, Row
from common.ids import RoomId, UserId

_LONGEST_KEY = 1000

_WITHHELD = {
    "m.unverified": Why.WITHHELD_UNVERIFIED,
    "m.blacklisted": Why.WITHHELD_BLACKLISTED,
    "m.unauthorised": Why.WITHHELD_UNAUTHORISED,
    "m.history_not_shared": Why.WITHHELD_UNAUTHORISED,
    "m.unavailable": Why.WITHHELD_UNAVAILABLE,
    "m.no_olm": Why.NO_OLM,
}


@dataclass(frozen=True, slots=True)
class RoomKey:
    """A Megolm session as it was received: from whom, and with which keys they sent it."""

    ref: SessionRef
    sender: str
    sender_key: str
    signing_key: str
    source: KeySource
    session: vodozemac.InboundGroupSession

    @property
    def name(self) -> tuple[str, str, str]:
        """What the row is named by."""
        return (*self.ref, self.sender_key)

    @property
    def first_index(self) -> int:
        """The first message that it opens."""
        return self.session.first_known_index

    def export_at(self, index: int) -> str | None:
        """Return the session from a message on, ``None`` if it is not known so early."""
        exported = self.session.export_at(index)
        return None if exported is None else exported.to_base64()

    def improves(self, other: "RoomKey") -> bool:
        """Whether this is the same session, known from an earlier index on."""
        return self.sender == other.sender and self.reaches_further(other)

    def bettered_by(self, other: "RoomKey") -> "RoomKey | None":
        """Return what to keep instead of this copy now that another came, ``None`` for nothing.

        A copy from the backup or from another device of ours does not prove who made the key.
        One that came from its owner takes its place, and it only lends its earlier indexes to
        that one.
        """
        match self.source is KeySource.DIRECT, other.source is KeySource.DIRECT:
            case False, True:
                earlier = self.reaches_further(other)
                return replace(other, session=self.session) if earlier else other
            case True, False:
                earlier = other.reaches_further(self)
                return replace(self, session=other.session) if earlier else None
            case _:
                better = other.improves(self)
                return replace(other, signing_key=self.signing_key) if better else None

    def reaches_further(self, other: "RoomKey") -> bool:
        """Whether this is the same session from an earlier index on, whoever it came from."""
        ours, theirs = self.session.first_known_index, other.session.first_known_index
        if ours >= theirs:
            return False
        here, there = self.session.export_at(theirs), other.session.export_at(theirs)
        return here is not None and there is not None and here.to_base64() == there.to_base64()


@dataclass(frozen=True)
class Withheld:
    """A sender's word that a room key will not come."""

    room_id: str
    session_id: str
    sender: str
    code: str


def parse_room_key(
    content: Json, *, sender: str, sender_key: str, signing_key: str
) -> RoomKey | None:
    """Return the room key of an untrusted ``m.room_key``, or ``None`` if it is none."""
    room_id, session_id = text_of(content, "room_id"), text_of(content, "session_id")
    session_key = text_of(content, "session_key", longest=_LONGEST_KEY)
    if content.get("algorithm") != MEGOLM or not (room_id and session_id and session_key):
        return None
    try:
        session = vodozemac.InboundGroupSession(vodozemac.SessionKey(session_key))
    except ValueError:
        return None
    if session.session_id != session_id:
        return None
    return RoomKey(
        SessionRef(room_id, session_id), sender, sender_key, signing_key, KeySource.DIRECT, session
    )


def parse_withheld(content: Json, *, sender: str) -> Withheld | None:
    """Return the news of an untrusted ``m.room_key.withheld``, or ``None`` if it is none."""
    code = text_of(content, "code")
    if code == "m.no_olm":
        return Withheld("", "", sender, code)
    room_id, session_id = text_of(content, "room_id"), text_of(content, "session_id")
    if content.get("algorithm") != MEGOLM or code not in _WITHHELD:
        return None
    if not (room_id and session_id):
        return None
    return Withheld(room_id, session_id, sender, code)


class RoomKeyStore:
    """The room keys of one bot."""

    def __init__(self, bot: UserId, sealer: Sealer, clock: Clock) -> None:
        self._bot = bot
        self._key = sealer.pickle_key
        self._clock = clock

    async def find(
        self, conn: Connection, session_ids: Collection[str]
    ) -> dict[SessionRef, list[RoomKey]]:
        """Return all that is stored under these session IDs, in whatever room."""
        found: dict[SessionRef, list[RoomKey]] = {}
        for places, some in in_lists(sorted(session_ids), first=2):
            rows = await conn.fetch(
                "SELECT room_id, session_id, sender_key, sender, signing_key,"  # noqa: S608  # placeholders and constants only
                " source, pickle FROM crypto_inbound_session"
                f" WHERE bot_id = $1 AND session_id IN {places}",  # placeholders only
                self._bot,
                *some,
            )
            for row in rows:
                ref = SessionRef(row["room_id"], row["session_id"])
                key = RoomKey(
                    ref,
                    row["sender"],
                    row["sender_key"],
                    row["signing_key"],
                    KeySource(row["source"]),
                    self._unpickle(row["pickle"]),
                )
                found.setdefault(ref, []).append(key)
        return found

    async def known(self, conn: Connection, session_ids: Collection[str]) -> set[SessionRef]:
        """Return which sessions of these IDs are stored, without opening them."""
        found: set[SessionRef] = set()
        for places, some in in_lists(sorted(set(session_ids)), first=2):
            rows = await conn.fetch(
                "SELECT room_id, session_id FROM crypto_inbound_session"  # noqa: S608  # placeholders and constants only
                f" WHERE bot_id = $1 AND session_id IN {places}",  # placeholders only
                self._bot,
                *some,
            )
            found |= {SessionRef(RoomId(row["room_id"]), row["session_id"]) for row in rows}
        return found

    async def add(self, conn: Connection, keys: Sequence[RoomKey]) -> frozenset[SessionRef]:
        """Store what is new or better; return the sessions that can read more than before."""
        if not keys:
            return frozenset()
        stored = await self.find(conn, {key.ref.session_id for key in keys})
        before = {key.name: key for known in stored.values() for key in known}
        better: dict[tuple[str, str, str], RoomKey] = {}
        for key in keys:
            known_key = better.get(key.name) or before.get(key.name)
            kept = key if known_key is None else known_key.bettered_by(key)
            if kept is not None:
                better[key.name] = kept
        now_ms = self._clock.now_ms()
        await conn.executemany(
            "INSERT INTO crypto_inbound_session (bot_id, room_id, session_id, sender_key, sender,"
            " signing_key, source, first_index, pickle, received_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
            " ON CONFLICT (bot_id, session_id, room_id, sender_key) DO UPDATE SET"
            " sender = excluded.sender, signing_key = excluded.signing_key,"
            " first_index = excluded.first_index, pickle = excluded.pickle,"
            " source = excluded.source, received_ms = excluded.received_ms, backup_due = 1",
            [
                (
                    self._bot,
                    *key.name,
                    key.sender,
                    key.signing_key,
                    key.source.value,
                    key.session.first_known_index,
                    key.session.pickle(self._key),
                    now_ms,
                )
                for key in better.values()
            ],
        )
        return frozenset(key.ref for key in better.values())

    async def add_withheld(self, conn: Connection, news: Sequence[Withheld]) -> None:
        """Remember why room keys will not come."""
        now_ms = self._clock.now_ms()
        await conn.executemany(
            "INSERT INTO crypto_withheld (bot_id, room_id, session_id, sender, code, received_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6)"
            " ON CONFLICT (bot_id, session_id, room_id, sender) DO UPDATE SET"
            " code = excluded.code, received_ms = excluded.received_ms",
            [
                (self._bot, item.room_id, item.session_id, item.sender, item.code, now_ms)
                for item in news
            ],
        )

    async def forget_no_olm(self, conn: Connection, senders: Collection[str]) -> None:
        """Forget that no Olm session could be made with these users: now there is one."""
        await conn.executemany(
            "DELETE FROM crypto_withheld"
            " WHERE bot_id = $1 AND session_id = '' AND room_id = '' AND sender = $2",
            [(self._bot, sender) for sender in sorted(senders)],
        )

    async def withheld(
        self, conn: Connection, session_ids: Collection[str], senders: Collection[str]
    ) -> Mapping[tuple[str, str, str], Why]:
        """Return the reasons by room, session and sender; ``m.no_olm`` under empty names."""
        rows: list[Row] = []
        columns = "SELECT room_id, session_id, sender, code FROM crypto_withheld WHERE bot_id = $1"
        for places, some in in_lists(sorted(session_ids), first=2):
            query = f"{columns} AND session_id IN {places}"
            rows.extend(await conn.fetch(query, self._bot, *some))
        for places, some in in_lists(sorted(senders), first=2):
            query = f"{columns} AND session_id = '' AND room_id = '' AND sender IN {places}"
            rows.extend(await conn.fetch(query, self._bot, *some))
        return {
            (row["room_id"], row["session_id"], row["sender"]): _WITHHELD.get(
                row["code"], Why.NO_SESSION
            )
            for row in rows
        }

    def _unpickle(self, pickle: str) -> vodozemac.InboundGroupSession:
        try:
            return vodozemac.InboundGroupSession.from_pickle(pickle, self._key)
        except ValueError as error:
            raise WrongPickleKeyError from error
