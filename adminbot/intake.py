"""From inbox entries to rows: which events are commands or confirmations, and what they say.

What was recognised is written down in the transaction that moves the bot's cursor, so that it
is taken in once. An encrypted message whose key has not come waits for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec

from adminbot.choices import Choices
from adminbot.engine.intake import (
    Confirmation,
    Envelope,
    Ignored,
    Meaning,
    Pick,
    Press,
    Request,
    Surroundings,
    needs_direct,
    open_envelope,
    recognise,
)
from adminbot.engine.text import storable
from adminbot.engine.waiting import Unreadable
from adminbot.facts import Facts
from adminbot.store import Store
from common.clock import Clock
from common.crypto.port import (
    Decrypted,
    EncryptedEvent,
    Reading,
    SessionRef,
    Trust,
    Undecryptable,
    Why,
)
from common.database.pool import Connection
from common.errors import StartOverError, TransientError
from common.homeserver.errors import RefusedError
from common.ids import RoomId, UserId
from common.inbox.port import Entry, EntryKind
from common.telemetry.log import Log

DIRECT_CHATS_REMEMBERED = 20_000

_KEY_MAY_COME = {Why.NO_SESSION, Why.UNKNOWN_INDEX}

log = Log("adminbot")


class Crypto(Protocol):
    """What is needed of ``common.crypto.machine.CryptoMachine``."""

    async def decrypt(
        self, connection: Connection, events: Sequence[EncryptedEvent]
    ) -> Sequence[Reading]:
        """Read events, in order, inside a transaction."""
        ...


@dataclass
class DirectChats:
    """Who is alone with us in a room; asked once and forgotten when a member or name changes.

    Only for telling whether a message may be a command at all; whoever carries it out asks
    again.
    """

    facts: Facts
    known: OrderedDict[RoomId, UserId | None] = field(default_factory=OrderedDict)

    async def person_in(self, room: RoomId) -> UserId | None:
        """Return the one person in a direct chat, ``None`` for a shared room."""
        if room not in self.known:
            try:
                self.known[room] = await self.facts.speaks_to_us(room)
            except RefusedError:
                # We are no server admin yet, say: a moment later the answer may be another.
                return None
            if len(self.known) > DIRECT_CHATS_REMEMBERED:
                self.known.popitem(last=False)
        self.known.move_to_end(room)
        return self.known[room]

    def forget(self, room: object) -> None:
        """Ask again the next time."""
        if isinstance(room, str):
            self.known.pop(RoomId(room), None)


@dataclass(frozen=True)
class Encrypted:
    """An encrypted event that may hold a command."""

    envelope: Envelope
    direct: bool
    body: bytes

    @property
    def event(self) -> EncryptedEvent:
        """As the crypto machine wants it."""
        one = self.envelope
        return EncryptedEvent(one.event, one.room, one.sender, one.content)


class Overhearing(Protocol):
    """What is needed of ``adminbot.room_watch.RoomWatch``."""

    def ignores(self, room: RoomId) -> bool:
        """Say whether a room wants no answer to commands with the bare prefix."""
        ...

    async def heard(self, connection: Connection, envelope: Envelope) -> None:
        """Take in a readable message that is no command."""
        ...


@dataclass(frozen=True)
class Batch:
    """What a batch of entries holds for us; ``talk`` are messages that are no commands."""

    found: Sequence[Meaning]
    encrypted: Sequence[Encrypted]
    talk: Sequence[Envelope] = ()


@dataclass(frozen=True)
class Intake:
    """From entries to rows: which of them are ours, and what they say."""

    crypto: Crypto
    direct_chats: DirectChats
    store: Store
    clock: Clock
    around: Surroundings
    woken: asyncio.Event
    overhearing: "Overhearing | None" = None

    @property
    def choices(self) -> Choices:
        """The questions that a number may answer."""
        return Choices(self.store.database, self.clock)

    def now(self) -> Surroundings:
        """Return the surroundings of this moment."""
        return replace(self.around, now_ms=self.clock.now_ms())

    async def sort(self, entries: Sequence[Entry]) -> Batch:
        """Find what may be ours; asks the homeserver about rooms, changes nothing."""
        around = self.now()
        events = [(entry.body, _event(entry)) for entry in entries]
        for _, event in events:
            # In a tuple: the value of a hostile event need not be hashable.
            if event is not None and event.get("type") in ("m.room.member", "m.room.name"):
                self.direct_chats.forget(event.get("room_id"))
        found: list[Meaning] = []
        encrypted: list[Encrypted] = []
        talk: list[Envelope] = []
        for body, event in events:
            envelope = open_envelope(event, around)
            if isinstance(envelope, Ignored):
                continue
            direct = needs_direct(envelope, around) and await self._direct(envelope)
            if envelope.type == "m.room.encrypted":
                encrypted.append(Encrypted(envelope, direct, body))
                continue
            meaning = recognise(envelope, around, direct=direct)
            if isinstance(meaning, Ignored):
                talk.append(envelope)
            else:
                found.append(meaning)
        return Batch(found, encrypted, talk)

    async def keep(self, connection: Connection, batch: Batch) -> None:
        """Write a batch down; called inside the transaction that moves the cursor."""
        for meaning in batch.found:
            await self._keep_one(connection, meaning, None)
        for envelope in batch.talk:
            await self._overhear(connection, envelope)
        readings = (
            await self.crypto.decrypt(connection, [one.event for one in batch.encrypted])
            if batch.encrypted
            else []
        )
        for one, reading in zip(batch.encrypted, readings, strict=True):
            await self._keep_reading(connection, one, reading)

    async def read_again(self, sessions: Collection[SessionRef] | None) -> None:
        """Try what could not be read: all of it, or what waits for these sessions.

        Each in a transaction of its own, and dropped if it cannot be dealt with: whoever sends
        such a message must not keep others from being read, or end the process.

        Raises:
            TransientError: what was not tried yet stays.
            StartOverError: likewise.
        """
        if sessions is None:
            await self.store.forget_unreadable(self.clock.now_ms() - self.around.max_age_ms)
        async for one in self.store.unreadable(sessions):
            try:
                async with self.store.database.transaction() as connection:
                    await self._read_one(connection, one)
            except (TransientError, StartOverError):
                raise
            except Exception as error:  # noqa: BLE001  # the edge where hostile events meet our bugs
                # The message of such an error may quote what somebody wrote: only its kind.
                kind = type(error).__name__
                log.error("a late message was set aside", event=one.event, reason=kind)
                async with self.store.database.transaction() as connection:
                    await self.store.no_longer_unreadable(connection, one.event)

    async def _read_one(self, connection: Connection, one: Unreadable) -> None:
        encrypted = await self._again(connection, one)
        if encrypted is None:
            return
        (reading,) = await self.crypto.decrypt(connection, [encrypted.event])
        if not _key_may_come(reading):
            await self.store.no_longer_unreadable(connection, one.event)
            await self._keep_reading(connection, encrypted, reading)

    async def _direct(self, envelope: Envelope) -> bool:
        return await self.direct_chats.person_in(envelope.room) == envelope.sender

    async def _again(self, connection: Connection, one: Unreadable) -> Encrypted | None:
        envelope = open_envelope(_decoded(one.body), self.now())
        if isinstance(envelope, Ignored):
            # Too old by now: it would not be obeyed any more.
            await self.store.no_longer_unreadable(connection, one.event)
            return None
        return Encrypted(envelope, one.direct, one.body)

    async def _keep_reading(
        self, connection: Connection, one: Encrypted, reading: Reading
    ) -> None:
        match reading:
            case Undecryptable(session_id=str(session)) if _key_may_come(reading):
                ref = SessionRef(one.envelope.room, storable(session))
                waiting = Unreadable(one.envelope.event, ref, one.body, one.direct)
                await self.store.take_unreadable(connection, waiting)
            case Decrypted(trust=Trust.MISMATCH):
                log.warning(
                    "an encrypted message is not from whom it claims to be; ignored",
                    event=one.envelope.event,
                    sender=one.envelope.sender,
                )
            case Decrypted():
                envelope = _opened(one.envelope, reading.payload)
                meaning = recognise(envelope, self.now(), direct=one.direct) if envelope else None
                if envelope is not None and isinstance(meaning, Ignored):
                    await self._overhear(connection, envelope)
                elif meaning is not None and not isinstance(meaning, Ignored):
                    await self._keep_one(connection, meaning, reading.trust)
            case Undecryptable():
                pass

    def _ignores(self, room: RoomId) -> bool:
        return self.overhearing is not None and self.overhearing.ignores(room)

    async def _overhear(self, connection: Connection, envelope: Envelope) -> None:
        if self.overhearing is not None and envelope.type == "m.room.message":
            await self.overhearing.heard(connection, envelope)

    async def _keep_one(
        self, connection: Connection, meaning: Meaning, trust: Trust | None
    ) -> None:
        match meaning:
            case Request(addressed=False) if self._ignores(meaning.room):
                return
            case Request():
                # Who gives a command wants no choice any more that was asked for before.
                await self.choices.forget(connection, meaning.room, meaning.sender)
                await self.store.take_in(connection, meaning, trust)
            case Pick():
                await self._keep_pick(connection, meaning, trust)
            case Confirmation():
                answered = await self.store.take_confirmation(connection, meaning)
                if not answered and meaning.press is not None:
                    await self.store.take_press(connection, meaning.press)
            case Press():
                await self.store.take_press(connection, meaning)
        # Before the commit: the worker looks again and again for a while.
        self.woken.set()

    async def _keep_pick(self, connection: Connection, pick: Pick, trust: Trust | None) -> None:
        chosen = await self.choices.take(connection, pick)
        if chosen is not None:
            await self.store.take_in(connection, chosen, trust)
        elif pick.request.addressed:
            await self.store.take_in(connection, pick.request, trust)
        else:
            await self._overhear(connection, pick.envelope)


def _event(entry: Entry) -> Mapping[str, Any] | None:
    return _decoded(entry.body) if entry.kind is EntryKind.EVENT else None


def _decoded(body: bytes) -> Mapping[str, Any] | None:
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _key_may_come(reading: Reading) -> bool:
    return isinstance(reading, Undecryptable) and reading.why in _KEY_MAY_COME


def _opened(envelope: Envelope, payload: bytes) -> Envelope | None:
    """Return an encrypted event as if it had been sent in clear.

    Relations stand outside the encryption (specification, "Event relationships"); what is an
    edit by either is an edit.
    """
    inner = _decoded(payload)
    if inner is None:
        return None
    content, kind = inner.get("content"), inner.get("type")
    if not isinstance(content, dict) or not isinstance(kind, str):
        return None
    outer = envelope.content.get("m.relates_to")
    opened = dict(content)
    if outer is not None and not _is_edit(content.get("m.relates_to")):
        opened["m.relates_to"] = outer
    return replace(envelope, type=kind, content=opened)


def _is_edit(relation: object) -> bool:
    return isinstance(relation, dict) and relation.get("rel_type") == "m.replace"
