"""One bot's device at work: room keys are dealt with before the messages they open."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from common.crypto.machine import CryptoMachine
from common.crypto.port import SessionRef
from common.database.pool import Connection
from common.errors import PermanentError, TransientError
from common.ids import RoomId, UserId
from common.inbox.consumer import Consumer, Effect, Retries
from common.inbox.port import Entry, EntryKind
from common.matrix.client import MatrixError
from common.telemetry.log import Log

log = Log("feeds.device")

KEY_KINDS = (EntryKind.TO_DEVICE, EntryKind.DEVICE_LIST, EntryKind.KEY_COUNTS)

OnSessions = Callable[[frozenset[SessionRef]], Awaitable[None]]

REMEMBERED = 10_000
LONGEST_NAME = 255


class _Content(msgspec.Struct):
    session_id: str


class _Encrypted(msgspec.Struct):
    type: str
    room_id: str
    sender: str
    content: _Content


_encrypted = msgspec.json.Decoder(_Encrypted)


@dataclass
class DeviceKeys:
    """Deals with the to-device part of the inbox for one bot.

    ``catch_up`` is set once the feed exists: it fetches what waits on the homeserver now.
    ``on_sessions`` is told which Megolm sessions are new, after they are committed.
    """

    crypto: CryptoMachine
    make_consumer: Callable[[Callable[[Sequence[Entry]], Awaitable[Effect]]], Consumer]
    on_sessions: OnSessions
    retries: Retries
    catch_up: Callable[[], Awaitable[None]] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _new: set[SessionRef] = field(default_factory=set)
    _asked_for: dict[SessionRef, None] = field(default_factory=dict)

    async def settle(self) -> None:
        """Deal with everything about keys that the inbox holds; tell of new sessions."""
        consumer = self.make_consumer(self._handle)
        async with self._lock:
            await self.retries.look(consumer)
            while await consumer.step():
                pass
        new = frozenset(self._new)
        if new:
            # Before the network work, which may fail; forgotten only when they were told of.
            try:
                await self.on_sessions(new)
            except PermanentError as error:
                log.error("messages with late keys could not be dealt with", reason=error)
            self._new -= new
        try:
            await self.crypto.maintain()
        except MatrixError as error:
            raise TransientError(f"Keys could not be kept up: {error}") from error

    async def before(self, entries: Sequence[Entry]) -> None:
        """Have every key that can be had before a batch of room events is read.

        A client sends the key first, so it waits on the homeserver when the event arrives.
        Each missing session is asked for once; what still lacks its key is recorded as such.
        """
        try:
            await self.settle()
            await self._fetch_missing(entries)
        except (TransientError, MatrixError, PermanentError) as error:
            # Nothing waits for a key: without it the event is recorded as unreadable for now.
            log.warning("room keys could not be fetched before a batch", reason=error)

    async def _fetch_missing(self, entries: Sequence[Entry]) -> None:
        wanted: dict[SessionRef, None] = {}
        senders: set[UserId] = set()
        for entry in entries:
            event = _megolm(entry)
            if event is not None:
                wanted[SessionRef(RoomId(event.room_id), event.content.session_id)] = None
                senders.add(UserId(event.sender))
        if not wanted:
            return
        missing = await self.crypto.missing(wanted)
        unasked = [session for session in missing if session not in self._asked_for]
        if unasked and self.catch_up is not None:
            await self.catch_up()
            self._remember(unasked)
        # If this fails only the mark of trust suffers; the message itself can be read.
        await self.crypto.learn(senders)

    def _remember(self, sessions: Sequence[SessionRef]) -> None:
        self._asked_for.update(dict.fromkeys(sessions))
        while len(self._asked_for) > REMEMBERED:
            del self._asked_for[next(iter(self._asked_for))]

    async def _handle(self, entries: Sequence[Entry]) -> Effect:
        async def effect(connection: Connection) -> None:
            self._new |= await self.crypto.receive(connection, entries)

        return effect


def _megolm(entry: Entry) -> _Encrypted | None:
    if b"m.room.encrypted" not in entry.body:
        return None
    try:
        event = _encrypted.decode(entry.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if event.type != "m.room.encrypted" or not _is_name(event.content.session_id):
        return None
    return event if _is_name(event.room_id) and _is_name(event.sender) else None


def _is_name(text: str) -> bool:
    """Say whether every database can be asked for this; names of real sessions are base64."""
    return text.isprintable() and len(text) <= LONGEST_NAME
