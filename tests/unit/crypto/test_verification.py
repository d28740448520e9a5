"""Verification by emoji: what the responder says to whom, and to whom it says nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import vodozemac
from hypothesis import given
from hypothesis import strategies as st
from nio.crypto.sas import Sas as NioSas

from common.crypto.canonical import Json
from common.crypto.port import DeviceAddress
from common.crypto.verification import (
    LASTS_MS,
    Code,
    Ended,
    Keys,
    Out,
    Phase,
    Send,
    Show,
    Verification,
    begin,
    is_recent,
    requested_by,
    step,
)
from common.crypto.verification_board import Shown, VerificationBoard
from common.crypto.verification_mail import VerificationMail, VerificationMessage, in_room
from common.crypto.verification_sas import _EMOJI, Exchange, ShortString, commitment
from common.crypto.verifier import Verifier
from common.crypto.wire import Wire
from common.errors import TransientError
from common.ids import DeviceId, EventId, RoomId, UserId
from common.verify_cli import _begun
from tests.unit.crypto.peers import BOT, Bot, FakeClock, FakeRequester, KeyServer, Peer

NOW = 1_700_000_000_000
ALICE = DeviceAddress(UserId("@alice:example.org"), DeviceId("PHONE"))
OURS = Keys(BOT, "our fingerprint", "our master key")
THEIRS = Keys(ALICE, "her fingerprint", "her master key")
START = {
    "method": "m.sas.v1",
    "from_device": ALICE.device_id,
    "key_agreement_protocols": ["curve25519-hkdf-sha256", "curve25519"],
    "hashes": ["sha256"],
    "message_authentication_codes": ["hkdf-hmac-sha256.v2", "hkdf-hmac-sha256"],
    "short_authentication_string": ["emoji", "decimal"],
    "transaction_id": "flow",
}


def message(kind: str, content: Json, sender: UserId = ALICE.user_id) -> VerificationMessage:
    return VerificationMessage(kind, sender, "flow", content)


@dataclass
class Person:
    """The side that starts, and what it hears."""

    sas: vodozemac.Sas = field(default_factory=vodozemac.Sas)
    state: Verification | None = None
    outs: list[Out] = field(default_factory=list)
    exchange: Exchange | None = None

    def say(self, kind: str, content: Json, now_ms: int = NOW) -> list[Out]:
        assert self.state is not None
        self.state, self.outs = step(self.state, message(kind, content), now_ms)
        return self.outs

    def heard(self, kind: str) -> Json:
        [content] = [
            out.content for out in self.outs if isinstance(out, Send) and out.kind == kind
        ]
        return content

    def to_key_exchange(self) -> "Person":
        self.state, self.outs = begin(
            "flow", ours=OURS, theirs=THEIRS, sas=vodozemac.Sas(), now_ms=NOW
        )
        self.say("start", START)
        return self

    def to_emoji(self) -> ShortString:
        self.to_key_exchange()
        accepted = self.heard("accept")
        self.say("key", {"key": self.sas.public_key.to_base64()})
        key = self.heard("key")["key"]
        assert accepted["commitment"] == commitment(key, START)
        self.exchange = Exchange(
            ALICE,
            self.sas.public_key.to_base64(),
            BOT,
            key,
            "flow",
            self.sas.diffie_hellman(vodozemac.Curve25519PublicKey.from_base64(key)),
        )
        return self.exchange.short_string()

    def mac(self, keys: Mapping[str, str]) -> Json:
        assert self.exchange is not None
        return self.exchange.mac_content(ALICE, keys)


def cancelled(outs: list[Out]) -> str:
    [send, ended] = outs
    assert isinstance(send, Send)
    assert isinstance(ended, Ended)
    assert send.kind == "cancel"
    assert send.content["code"] == ended.code
    return ended.code


def test_the_emoji_are_those_of_the_specification() -> None:
    assert [sign for sign, _ in _EMOJI] == [sign for sign, _ in NioSas.emoji]


def test_both_sides_see_the_same_and_vouch_for_their_keys() -> None:
    alice = Person()

    expected = alice.to_emoji()

    assert [out.short_string for out in alice.outs if isinstance(out, Show)] == [expected]
    assert len(expected.emoji) == 7
    alice.say("mac", alice.mac(THEIRS.by_id()))
    assert alice.state is None
    assert alice.outs[-1] == Ended()
    said = alice.heard("mac")
    assert alice.exchange is not None
    for key_id, key in OURS.by_id().items():
        assert alice.exchange.is_mac(BOT, key_id, key, said["mac"][key_id])
    listed = ",".join(sorted(said["mac"]))
    assert alice.exchange.is_mac(BOT, "KEY_IDS", listed, said["keys"])


def test_nothing_is_vouched_for_before_the_other_side_confirmed() -> None:
    alice = Person()
    alice.to_emoji()

    assert not any(isinstance(out, Send) and out.kind == "mac" for out in alice.outs)


def test_a_repeated_message_changes_nothing_and_a_changed_one_ends_it() -> None:
    alice = Person().to_key_exchange()

    assert alice.say("start", START) == []
    assert cancelled(alice.say("start", {**START, "hashes": ["sha256", "md5"]})) == (
        Code.UNEXPECTED_MESSAGE
    )
    assert alice.state is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "m.reciprocate.v1"}, Code.UNKNOWN_METHOD),
        ({"from_device": "OTHER"}, Code.UNEXPECTED_MESSAGE),
        ({"key_agreement_protocols": ["curve25519"]}, Code.UNKNOWN_METHOD),
        ({"hashes": []}, Code.UNKNOWN_METHOD),
        ({"message_authentication_codes": ["hkdf-hmac-sha256"]}, Code.UNKNOWN_METHOD),
        ({"short_authentication_string": ["emoji"]}, Code.UNKNOWN_METHOD),
        ({"hashes": "sha256"}, Code.INVALID_MESSAGE),
        ({"odd": 1.5}, Code.INVALID_MESSAGE),
    ],
)
def test_a_start_that_does_not_fit_is_refused(change: Json, code: Code) -> None:
    state, _ = begin("flow", ours=OURS, theirs=THEIRS, sas=vodozemac.Sas(), now_ms=NOW)

    _, outs = step(state, message("start", {**START, **change}), NOW)

    assert cancelled(outs) == code


@pytest.mark.parametrize("key", ["", "AAAA", "not base64!", "A" * 43, 3, None])
def test_a_key_that_is_none_is_refused(key: object) -> None:
    alice = Person().to_key_exchange()

    assert cancelled(alice.say("key", {"key": key})) == Code.INVALID_MESSAGE


def test_a_mac_of_other_keys_is_refused() -> None:
    for keys in (
        {**THEIRS.by_id(), "ed25519:PHONE": "another fingerprint"},
        {**THEIRS.by_id(), "ed25519:her master key": "another master key"},
        {"ed25519:her master key": "her master key"},
        {"ed25519:LAPTOP": "her fingerprint"},
    ):
        alice = Person()
        alice.to_emoji()

        assert cancelled(alice.say("mac", alice.mac(keys))) == Code.KEY_MISMATCH
    alice = Person()
    alice.to_emoji()
    content = alice.mac(THEIRS.by_id())
    content["mac"].popitem()
    assert cancelled(alice.say("mac", content)) == Code.KEY_MISMATCH


def test_keys_that_are_not_known_are_passed_over() -> None:
    alice = Person()
    alice.to_emoji()

    alice.say("mac", alice.mac({**THEIRS.by_id(), "ed25519:unknown": "a key"}))

    assert alice.outs[-1] == Ended()


def test_it_ends_after_ten_minutes_and_by_the_other_sides_word() -> None:
    alice = Person().to_key_exchange()
    assert cancelled(alice.say("key", {"key": "x"}, NOW + LASTS_MS)) == Code.TIMEOUT

    alice = Person().to_key_exchange()
    assert alice.say("cancel", {"code": "m.mismatched_sas", "reason": "other"}) == [
        Ended("m.mismatched_sas", "other")
    ]


def test_somebody_elses_message_changes_nothing() -> None:
    alice = Person().to_key_exchange()
    assert alice.state is not None

    mallory = message("cancel", {"code": "m.user"}, UserId("@mallory:example.org"))

    assert step(alice.state, mallory, NOW) == (alice.state, [])


def test_which_requests_are_for_us() -> None:
    content: Json = {"from_device": "PHONE", "methods": ["m.sas.v1"], "to": BOT.user_id}
    room = RoomId("!room:example.org")
    direct = VerificationMessage("request", ALICE.user_id, "$e", content, room, "$e")
    other = VerificationMessage("request", ALICE.user_id, "$e", {**content, "to": "@b:c"}, room)

    assert requested_by(direct, BOT.user_id) == "PHONE"
    assert requested_by(message("request", content), BOT.user_id) == "PHONE"
    assert requested_by(other, BOT.user_id) is None
    assert requested_by(message("request", content, BOT.user_id), BOT.user_id) is None
    assert isinstance(
        requested_by(message("request", {**content, "methods": ["m.qr"]}), BOT.user_id), Ended
    )
    assert requested_by(message("request", {**content, "methods": 3}), BOT.user_id) is None
    assert is_recent(NOW - 599_000, NOW)
    assert not any(is_recent(odd, NOW) for odd in (NOW - 601_000, NOW + 301_000, None, True, "1"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [*START, "key", "mac", "keys", "code", "reason", "m.relates_to", "to", "methods", "timestamp"]
)


@given(
    phase=st.sampled_from(list(Phase)),
    kind=st.sampled_from([*Phase, "cancel", "done", "ready", "accept", "odd"]),
    content=st.dictionaries(FIELDS, json_values),
)
def test_nothing_that_is_sent_raises(phase: Phase, kind: str, content: Json) -> None:
    alice = Person()
    if phase is Phase.MAC:
        alice.to_emoji()
    else:
        alice.to_key_exchange()
    alice.say(kind, content)
    requested_by(message("request", content), BOT.user_id)
    in_room(
        {"type": kind, "content": content, "sender": "@a:b", "room_id": "!r", "event_id": "$e"}
    )


@dataclass
class FakeRoom:
    """A direct chat: who is in it, what was said, and whether the homeserver is there."""

    members: set[UserId]
    sent: dict[str, tuple[str, Json]] = field(default_factory=dict)
    away: int = 0

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        return {"sender": ALICE.user_id, "origin_server_ts": NOW}

    async def joined_members(self, room_id: RoomId) -> Mapping[UserId, Json]:
        self._lose()
        return {user: {} for user in self.members}

    async def send(
        self,
        room_id: RoomId,
        content: dict[str, Any],
        *,
        txn_id: str,
        event_type: str = "m.room.message",
    ) -> EventId:
        self._lose()
        self.sent[txn_id] = (event_type, content)
        return EventId("$sent")

    def _lose(self) -> None:
        if self.away:
            self.away -= 1
            raise TransientError("away")


@dataclass
class Answering:
    """The verifier between a fake room and the key server."""

    bot: Bot
    server: KeyServer
    room: FakeRoom
    verifier: Verifier = field(init=False)

    def __post_init__(self) -> None:
        self.verifier = Verifier(
            BOT.user_id,
            mail=self.bot.machine.verification_mail,
            own_keys=self.bot.machine.own_keys,
            wire=Wire(FakeRequester(self.server, BOT)),
            rooms=self.room,
            messenger=self.room,
            bots=[BOT.user_id],
            board=VerificationBoard(BOT.user_id, self.bot.database, self.bot.clock),
            clock=self.bot.clock,
        )

    async def hear(self, event_id: str, kind: str, content: Json) -> list[str]:
        event = {
            "type": kind,
            "event_id": event_id,
            "room_id": "!direct:example.org",
            "sender": ALICE.user_id,
            "content": content,
        }
        self.bot.machine.verification_mail.put_event(json.dumps(event).encode())
        for _ in range(3):
            try:
                await self.verifier.work()
            except TransientError:
                continue
        kinds = [kind.removeprefix("m.key.verification.") for kind, _ in self.room.sent.values()]
        self.room.sent.clear()
        return kinds

    async def request(self, event_id: str) -> list[str]:
        content = {
            "msgtype": "m.key.verification.request",
            "to": BOT.user_id,
            "from_device": ALICE.device_id,
            "methods": ["m.sas.v1"],
        }
        return await self.hear(event_id, "m.room.message", content)


@pytest.fixture
def answering(bot: Bot, server: KeyServer, clock: FakeClock) -> Answering:
    clock.ms = NOW
    Peer(server, ALICE.user_id, ALICE.device_id)
    return Answering(bot, server, FakeRoom({ALICE.user_id, BOT.user_id}))


async def test_a_request_is_answered_once_though_the_homeserver_is_away_in_between(
    answering: Answering,
) -> None:
    answering.room.away = 2

    assert await answering.request("$1") == ["ready"]
    assert await answering.request("$1") == []


async def test_a_newer_request_takes_the_place_of_the_older(answering: Answering) -> None:
    await answering.request("$1")

    assert await answering.request("$2") == ["cancel", "ready"]


async def test_what_takes_too_long_is_cancelled(answering: Answering) -> None:
    await answering.request("$1")
    answering.bot.clock.ms += LASTS_MS

    assert await answering.hear("$x", "m.room.message", {}) == ["cancel"]


async def test_in_a_shared_room_nobody_is_verified(answering: Answering) -> None:
    answering.room.members.add(UserId("@bob:example.org"))

    assert await answering.request("$1") == ["cancel"]


async def test_a_device_that_is_not_known_is_refused(answering: Answering) -> None:
    answering.server.devices.pop(ALICE.user_id)

    assert await answering.request("$1") == ["cancel"]


async def test_a_to_device_request_is_answered_to_its_device(answering: Answering) -> None:
    content = {
        "from_device": ALICE.device_id,
        "methods": ["m.sas.v1"],
        "timestamp": NOW,
        "transaction_id": "flow",
    }
    event = {"type": "m.key.verification.request", "sender": ALICE.user_id, "content": content}
    await answering.bot.receive(event, event)

    await answering.verifier.work()

    assert [(to, sent) for _, to, sent in answering.server.sent] == [
        (
            ALICE,
            {"transaction_id": "flow", "from_device": BOT.device_id, "methods": ["m.sas.v1"]},
        )
    ]


async def test_the_terminal_is_told_what_goes_on_and_what_a_restart_ended(
    answering: Answering, server: KeyServer
) -> None:
    board = VerificationBoard(BOT.user_id, answering.bot.database, answering.bot.clock)
    await answering.request("$1")
    relation = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$1"}}
    await answering.hear("$2", "m.key.verification.start", {**START, **relation})
    assert await board.shown() == []
    key = {"key": vodozemac.Sas().public_key.to_base64(), **relation}
    answering.room.away = 1
    await answering.hear("$3", "m.key.verification.key", key)

    [one] = await board.shown()
    assert (one.peer, one.outcome) == (ALICE, "")
    assert len(one.emoji.split(",")) == 7
    assert len(one.numbers.split()) == 3
    again = Answering(answering.bot, server, answering.room)
    await again.verifier.work()
    assert "restart" in (await board.shown())[0].outcome
    answering.bot.clock.ms += 3 * LASTS_MS
    assert await board.shown() == []


def test_a_device_s_name_commands_no_terminal() -> None:
    peer = DeviceAddress(ALICE.user_id, DeviceId("\x1b[2J\r\n\u202eX"))

    shown = _begun(Shown(peer, "flow", "🐶 Dog, 🐱 Cat", "1 2 3", NOW, ""))

    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert "    🐶 Dog\n    🐱 Cat\n" in shown


def test_the_mail_is_bounded() -> None:
    mail = VerificationMail()
    mail.put_all(message("start", {"n": n}) for n in range(10_000))

    count = 0
    while mail.take():
        count += 1
    assert count < 1000
