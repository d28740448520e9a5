"""Answers people who verify the bot: the verifications that go on, and their messages.

Source: Matrix specification v1.18, client-server API, "Key verification framework". State is in
memory: what a restart interrupts, the person begins again. The bot agrees by itself, because
what it vouches for are its own keys only; it is the person who compares.
"""

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import vodozemac

from common.clock import Clock
from common.crypto.canonical import Json
from common.crypto.devices import parse_devices, parse_identity
from common.crypto.port import DeviceAddress
from common.crypto.verification import (
    Code,
    Ended,
    Keys,
    Out,
    Send,
    Show,
    Verification,
    begin,
    cancel,
    is_recent,
    requested_by,
    step,
)
from common.crypto.verification_board import VERIFIED
from common.crypto.verification_mail import PREFIX, VerificationMail, VerificationMessage
from common.crypto.verification_sas import ShortString
from common.crypto.wire import Wire
from common.errors import TransientError
from common.ids import DeviceId, EventId, RoomId, UserId
from common.matrix.client import CLIENT, MatrixError, segment
from common.telemetry.log import Log

MOST_AT_ONCE = 200
_FLOWS_REMEMBERED = 2000
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0

_log = Log("crypto.verification")


class Rooms(Protocol):
    """What is needed of ``MatrixClient``."""

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Send one request."""
        ...

    async def joined_members(self, room_id: RoomId) -> Mapping[UserId, Json]:
        """Return who is in a room."""
        ...


class Messenger(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(
        self,
        room_id: RoomId,
        content: dict[str, Any],
        *,
        txn_id: str,
        event_type: str = "m.room.message",
    ) -> EventId:
        """Send, encrypted where the room is; once for each ``txn_id``."""
        ...


class Board(Protocol):
    """What is needed of ``VerificationBoard``."""

    async def show(
        self, peer: DeviceAddress, flow: str, short_string: ShortString, *, ends_ms: int
    ) -> None:
        """Show at our side what a person has to see."""
        ...

    async def end(self, peer: DeviceAddress, flow: str, outcome: str) -> None:
        """Show how it ended."""
        ...

    async def interrupt(self) -> None:
        """Show that a restart ended whatever went on."""
        ...


@dataclass(frozen=True)
class _Talk:
    """With whom, and where."""

    peer: DeviceAddress
    flow: str
    room_id: RoomId | None


@dataclass(frozen=True)
class _Parcel:
    """One thing to send."""

    talk: _Talk
    kind: str
    content: Json


@dataclass(frozen=True)
class _Shown:
    """Emoji for our side."""

    talk: _Talk
    short_string: ShortString
    ends_ms: int


@dataclass(frozen=True)
class _Over:
    """An end for our side."""

    talk: _Talk
    outcome: str


class Verifier:
    """The responder of one bot."""

    def __init__(
        self,
        me: UserId,
        *,
        mail: VerificationMail,
        own_keys: Callable[[], Awaitable[Keys]],
        wire: Wire,
        rooms: Rooms,
        messenger: Messenger,
        bots: Collection[UserId],
        board: Board,
        clock: Clock,
    ) -> None:
        self._board = board
        self._began = False
        self._me = me
        self._mail = mail
        self._own_keys = own_keys
        self._wire = wire
        self._rooms = rooms
        self._messenger = messenger
        self._bots = frozenset(bots)
        self._clock = clock
        self._going_on: dict[UserId, tuple[_Talk, Verification]] = {}
        self._known_flows: OrderedDict[tuple[UserId, str], None] = OrderedDict()
        self._current: VerificationMessage | None = None
        self._outbox: deque[_Parcel | _Shown | _Over] = deque()

    async def run(self) -> None:
        """Answer until cancelled; a homeserver that is away is waited for."""
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            seen = self._mail.arrived.count
            try:
                await self.work()
            except TransientError as error:
                _log.warning("verification waits", wait=wait_seconds, reason=error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
                continue
            wait_seconds = _FIRST_WAIT_SECONDS
            await self._mail.arrived.changed(seen, timeout_seconds=self._until_next_end())

    async def work(self) -> None:
        """Answer what waits, and end what takes too long; repeat it after a ``TransientError``."""
        if not self._began:
            await self._board.interrupt()
            self._began = True
        await self._send_all()
        while message := self._current or self._mail.take():
            self._current = message
            try:
                await self._answer(message)
            except MatrixError as error:
                _log.info("a verification message was passed over", reason=error)
            self._current = None
            await self._send_all()
        for talk, state in list(self._going_on.values()):
            if self._clock.now_ms() >= state.ends_ms:
                self._apply(talk, *cancel(Code.TIMEOUT, "it took too long"))
        await self._send_all()

    def _until_next_end(self) -> float | None:
        ends = [state.ends_ms for _, state in self._going_on.values()]
        return max(0, min(ends) - self._clock.now_ms()) / 1000 + 0.01 if ends else None

    async def _answer(self, message: VerificationMessage) -> None:
        if message.kind == "request":
            await self._requested(message)
            return
        talk, state = self._going_on.get(message.sender, (None, None))
        if talk is None or state is None or talk.flow != message.flow:
            self._refuse_unknown(message)
        elif talk.room_id == message.room_id:
            self._apply(talk, *step(state, message, self._clock.now_ms()))

    def _refuse_unknown(self, message: VerificationMessage) -> None:
        """Say so where it can be told that we are meant: in a room, others verify each other."""
        device = message.content.get("from_device")
        known = (message.sender, message.flow) in self._known_flows
        if message.kind != "start" or message.room_id is not None or known:
            return
        if isinstance(device, str) and message.sender != self._me:
            talk = _Talk(DeviceAddress(message.sender, DeviceId(device)), message.flow, None)
            self._apply(talk, *cancel(Code.UNKNOWN_TRANSACTION, "begin with a request"))

    async def _requested(self, message: VerificationMessage) -> None:
        name = (message.sender, message.flow)
        device_id = requested_by(message, self._me)
        if device_id is None or name in self._known_flows:
            return
        sent_ms = message.content.get("timestamp")
        if message.room_id is not None:
            sent_ms = await self._sent_ms(message.room_id, message)
        if not is_recent(sent_ms, self._clock.now_ms()):
            return
        if isinstance(device_id, Ended):
            asker = DeviceId(str(message.content["from_device"]))
            talk = _Talk(DeviceAddress(message.sender, asker), message.flow, message.room_id)
            self._remember(name)
            self._apply(talk, *cancel(Code.UNKNOWN_METHOD, device_id.reason))
            return
        talk = _Talk(DeviceAddress(message.sender, device_id), message.flow, message.room_id)
        outcome = await self._consider(talk)
        self._remember(name)
        before = self._going_on.get(message.sender)
        if before is not None:
            self._apply(before[0], *cancel(Code.USER, "a newer request took its place"))
        self._apply(talk, *outcome)

    async def _consider(self, talk: _Talk) -> tuple[Verification | None, list[Out]]:
        """Agree to a request, or say why not."""
        person = talk.peer.user_id
        if talk.room_id is not None:
            members = await self._rooms.joined_members(talk.room_id)
            if set(members) - self._bots != {person} or self._me not in members:
                return cancel(Code.USER, "verify the bot in a direct chat with it")
        if len(self._going_on) >= MOST_AT_ONCE and person not in self._going_on:
            return cancel(Code.USER, "too many verifications at once; try again later")
        theirs = await self._keys_of(talk.peer)
        if theirs is None:
            return cancel(Code.KEY_MISMATCH, "the device that asked is not known")
        return begin(
            talk.flow,
            ours=await self._own_keys(),
            theirs=theirs,
            sas=vodozemac.Sas(),
            now_ms=self._clock.now_ms(),
        )

    async def _sent_ms(self, room_id: RoomId, message: VerificationMessage) -> object:
        """Return when the homeserver says that a request was sent, ``None`` if by somebody else."""
        event = await self._rooms.request(
            "GET", f"{CLIENT}/v3/rooms/{segment(room_id)}/event/{segment(message.event_id)}"
        )
        return event.get("origin_server_ts") if event.get("sender") == message.sender else None

    async def _keys_of(self, device: DeviceAddress) -> Keys | None:
        """Return what the homeserver says of a device now; the MAC is what proves it."""
        answer = await self._wire.query_keys([device.user_id])
        found = parse_devices(device.user_id, answer).get(device.device_id)
        if found is None:
            return None
        return Keys(device, found[0].ed25519, parse_identity(device.user_id, answer).master)

    def _remember(self, name: tuple[UserId, str]) -> None:
        self._known_flows[name] = None
        if len(self._known_flows) > _FLOWS_REMEMBERED:
            self._known_flows.popitem(last=False)

    def _apply(self, talk: _Talk, state: Verification | None, outs: Sequence[Out]) -> None:
        """Keep where it stands now, and have sent and shown what follows."""
        person = talk.peer.user_id
        if state is not None:
            self._going_on[person] = (talk, state)
        elif person in self._going_on and self._going_on[person][0] == talk:
            del self._going_on[person]
        for out in outs:
            match out:
                case Send():
                    self._outbox.append(_Parcel(talk, out.kind, out.content))
                case Show():
                    ends_ms = state.ends_ms if state else self._clock.now_ms()
                    self._show(talk, out.short_string, ends_ms)
                case Ended(code=""):
                    self._outbox.append(_Over(talk, VERIFIED))
                    _log.info("verified", bot=self._me, person=person)
                case Ended():
                    self._outbox.append(_Over(talk, f"cancelled, {out.reason or out.code}"))
                    _log.info(
                        "verification cancelled",
                        bot=self._me,
                        person=person,
                        code=out.code,
                        reason=out.reason,
                    )

    def _show(self, talk: _Talk, short_string: ShortString, ends_ms: int) -> None:
        """Show the emoji at our side: where ``steward verify`` looks, in the log, in the chat."""
        self._outbox.append(_Shown(talk, short_string, ends_ms))
        _log.info(
            "verification: the person has to see exactly this",
            bot=self._me,
            person=talk.peer.user_id,
            emoji=str(short_string),
            numbers=short_string.numbers,
        )
        if talk.room_id is not None:
            text = (
                f"I see: {short_string}.\nIn numbers: {short_string.numbers}.\nIf your app "
                "shows the same, confirm it there. If you want to be sure that it is me who wrote "
                "this, have an operator read it to you: “steward verify” shows it."
            )
            content = {"msgtype": "m.notice", "body": text}
            self._outbox.append(_Parcel(talk, "", content))

    async def _send_all(self) -> None:
        while self._outbox:
            match self._outbox[0]:
                case _Shown(talk, short_string, ends_ms):
                    await self._board.show(talk.peer, talk.flow, short_string, ends_ms=ends_ms)
                case _Over(talk, outcome):
                    await self._board.end(talk.peer, talk.flow, outcome)
                case parcel:
                    await self._send_or_drop(parcel)
            self._outbox.popleft()

    async def _send_or_drop(self, parcel: "_Parcel") -> None:
        try:
            await self._send(parcel)
        except MatrixError as error:
            # Nobody can be told: a room we were removed from, a device that is gone.
            _log.info("a verification message could not be sent", reason=error)

    async def _send(self, parcel: _Parcel) -> None:
        talk, event_type = parcel.talk, f"{PREFIX}{parcel.kind}"
        if talk.room_id is None:
            content = {**parcel.content, "transaction_id": talk.flow}
            await self._wire.send_to_device(event_type, {talk.peer: content})
            return
        flow = hashlib.sha256(talk.flow.encode()).hexdigest()[:32]
        txn_id = f"verification-{flow}-{parcel.kind or 'shown'}"
        if not parcel.kind:
            await self._messenger.send(talk.room_id, parcel.content, txn_id=txn_id)
            return
        relation = {"rel_type": "m.reference", "event_id": talk.flow}
        await self._messenger.send(
            talk.room_id,
            {**parcel.content, "m.relates_to": relation},
            txn_id=txn_id,
            event_type=event_type,
        )
