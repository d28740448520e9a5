"""One verification by emoji, with the bot as the responder: messages in, messages out.

Source: Matrix specification v1.18, client-server API, "Key verification framework" and "Short
Authentication String (SAS) verification". Pure: time, keys and the ephemeral key pair come as
arguments. Nothing that anybody sends raises; what does not fit ends the verification.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import vodozemac

from common.crypto.canonical import Json, NotCanonicalError, object_of, text_of
from common.crypto.port import DeviceAddress
from common.crypto.verification_mail import VerificationMessage
from common.crypto.verification_sas import (
    HASH,
    KEY_AGREEMENT,
    MAC,
    METHOD,
    SHOWN_AS,
    Exchange,
    ShortString,
    commitment,
)
from common.ids import DeviceId, UserId

LASTS_MS = 600_000
"""The specification's ten minutes, from the request on."""
_EARLIEST_MS, _LATEST_MS = 600_000, 300_000
_MOST_KEYS = 100


class Code(StrEnum):
    """Why a verification was cancelled (``m.key.verification.cancel``)."""

    USER = "m.user"
    TIMEOUT = "m.timeout"
    UNKNOWN_TRANSACTION = "m.unknown_transaction"
    UNKNOWN_METHOD = "m.unknown_method"
    UNEXPECTED_MESSAGE = "m.unexpected_message"
    KEY_MISMATCH = "m.key_mismatch"
    INVALID_MESSAGE = "m.invalid_message"


@dataclass(frozen=True, slots=True)
class Send:
    """A step of ours; ``content`` still lacks the transaction's name."""

    kind: str
    content: Json


@dataclass(frozen=True, slots=True)
class Show:
    """What a person at our side has to see."""

    short_string: ShortString


@dataclass(frozen=True, slots=True)
class Ended:
    """The verification is over; ``code`` is empty if it succeeded."""

    code: str = ""
    reason: str = ""


Out = Send | Show | Ended


class Phase(StrEnum):
    """What we wait for."""

    START = "start"
    KEY = "key"
    MAC = "mac"


@dataclass(frozen=True, slots=True)
class Keys:
    """A device's fingerprint key and its owner's master key; ``""`` where there is none."""

    device: DeviceAddress
    ed25519: str
    master: str

    def by_id(self) -> dict[str, str]:
        """Return the keys under the names that a MAC is made for."""
        named = {f"ed25519:{self.device.device_id}": self.ed25519}
        return {**named, **({f"ed25519:{self.master}": self.master} if self.master else {})}


@dataclass(frozen=True)
class Verification:
    """Where one verification stands."""

    flow: str
    ours: Keys
    theirs: Keys
    sas: vodozemac.Sas
    ends_ms: int
    phase: Phase = Phase.START
    exchange: Exchange | None = None
    heard: Mapping[str, bytes] | None = None


def requested_by(message: VerificationMessage, me: UserId) -> DeviceId | Ended | None:
    """Return which device asks to verify us; why it cannot be; ``None`` if it is not for us."""
    content, methods = message.content, message.content.get("methods")
    device_id = text_of(content, "from_device")
    if message.sender == me or (message.room_id is not None and content.get("to") != me):
        return None
    if device_id is None or not isinstance(methods, list):
        return None
    if METHOD not in methods:
        return Ended(Code.UNKNOWN_METHOD, "only verification by emoji is offered")
    return DeviceId(device_id)


def is_recent(sent_ms: object, now_ms: int) -> bool:
    """Whether a request of that moment is to be answered at all."""
    if not isinstance(sent_ms, int) or isinstance(sent_ms, bool):
        return False
    return now_ms - _EARLIEST_MS <= sent_ms <= now_ms + _LATEST_MS


def begin(
    flow: str, *, ours: Keys, theirs: Keys, sas: vodozemac.Sas, now_ms: int
) -> tuple[Verification, list[Out]]:
    """Agree to a request."""
    ready = Send("ready", {"from_device": ours.device.device_id, "methods": [METHOD]})
    return Verification(flow, ours, theirs, sas, now_ms + LASTS_MS), [ready]


def step(
    state: Verification, message: VerificationMessage, now_ms: int
) -> tuple[Verification | None, list[Out]]:
    """Take the other side's next message; the state is ``None`` once it is over.

    A message that comes again, as it was, changes nothing.
    """
    if message.sender != state.theirs.device.user_id:
        return state, []
    kind, content = message.kind, message.content
    if kind == "cancel":
        code, reason = text_of(content, "code"), text_of(content, "reason", longest=500)
        return None, [Ended(code or Code.USER, reason or "")]
    if now_ms >= state.ends_ms:
        return cancel(Code.TIMEOUT, "it took too long")
    digest, heard = _digest(content), state.heard or {}
    if heard.get(kind) == digest:
        return state, []
    if kind != state.phase:
        return cancel(Code.UNEXPECTED_MESSAGE, f"{state.phase.value} was expected")
    return _STEPS[state.phase](replace(state, heard={**heard, kind: digest}), content)


def cancel(code: Code, reason: str) -> tuple[None, list[Out]]:
    """End a verification, and say why."""
    return None, [Send("cancel", {"code": code.value, "reason": reason}), Ended(code, reason)]


def _started(state: Verification, start: Json) -> tuple[Verification | None, list[Out]]:
    if start.get("from_device") != state.theirs.device.device_id:
        return cancel(Code.UNEXPECTED_MESSAGE, "another device than asked")
    shown_as = start.get("short_authentication_string")
    offered = (
        start.get("key_agreement_protocols"),
        start.get("hashes"),
        start.get("message_authentication_codes"),
        shown_as,
    )
    if start.get("method") != METHOD:
        return cancel(Code.UNKNOWN_METHOD, "only verification by emoji is offered")
    if not isinstance(shown_as, list) or not all(isinstance(each, list) for each in offered):
        return cancel(Code.INVALID_MESSAGE, "a malformed start")
    wanted = (KEY_AGREEMENT, HASH, MAC, "decimal")
    if not all(_contains(some, one) for some, one in zip(offered, wanted, strict=True)):
        return cancel(Code.UNKNOWN_METHOD, "no algorithms in common")
    try:
        committed = commitment(state.sas.public_key.to_base64(), start)
    except NotCanonicalError:
        return cancel(Code.INVALID_MESSAGE, "a malformed start")
    accept = {
        "method": METHOD,
        "key_agreement_protocol": KEY_AGREEMENT,
        "hash": HASH,
        "message_authentication_code": MAC,
        "short_authentication_string": [one for one in SHOWN_AS if one in shown_as],
        "commitment": committed,
    }
    return replace(state, phase=Phase.KEY), [Send("accept", accept)]


def _keyed(state: Verification, content: Json) -> tuple[Verification | None, list[Out]]:
    key = text_of(content, "key")
    ours = state.sas.public_key.to_base64()
    try:
        theirs = vodozemac.Curve25519PublicKey.from_base64(key or "")
        established = state.sas.diffie_hellman(theirs)
    except ValueError:
        return cancel(Code.INVALID_MESSAGE, "a malformed key")
    exchange = Exchange(
        starter=state.theirs.device,
        starter_key=key or "",
        accepter=state.ours.device,
        accepter_key=ours,
        transaction_id=state.flow,
        established=established,
    )
    shown = Show(exchange.short_string())
    return replace(state, phase=Phase.MAC, exchange=exchange), [Send("key", {"key": ours}), shown]


def _authenticated(state: Verification, content: Json) -> tuple[Verification | None, list[Out]]:
    exchange, macs = state.exchange, object_of(content, "mac")
    sender, known = state.theirs.device, state.theirs.by_id()
    if exchange is None or not 0 < len(macs) <= _MOST_KEYS:
        return cancel(Code.INVALID_MESSAGE, "a malformed MAC")
    listed = exchange.is_mac(sender, "KEY_IDS", ",".join(sorted(macs)), content.get("keys"))
    # Keys that we do not know are passed over, as specified; the device's own must be there.
    right = all(
        exchange.is_mac(sender, key_id, known[key_id], tag)
        for key_id, tag in macs.items()
        if key_id in known
    )
    if not (listed and right and f"ed25519:{sender.device_id}" in macs):
        return cancel(Code.KEY_MISMATCH, "the keys do not match")
    # Only now, so that our keys are never vouched for to somebody who saw other emoji.
    ours = exchange.mac_content(state.ours.device, state.ours.by_id())
    return None, [Send("mac", ours), Send("done", {}), Ended()]


_Step = Callable[[Verification, Json], tuple[Verification | None, list[Out]]]
_STEPS: Mapping[Phase, _Step] = {
    Phase.START: _started,
    Phase.KEY: _keyed,
    Phase.MAC: _authenticated,
}


def _contains(some: object, one: str) -> bool:
    return isinstance(some, Sequence) and one in some


def _digest(content: Json) -> bytes:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
