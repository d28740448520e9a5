"""Bytes of a pushed transaction → inbox entries; pure.

Every event keeps the bytes it came as. Nothing here looks inside an event's content: an event
that a typed parser would refuse is kept like any other.

Source: Matrix specification v1.18, application service API, "Pushing events"
(``PUT /_matrix/app/v1/transactions/{txnId}``); MSC2409 and MSC4203 (to-device), MSC3202
(device lists and key counts), with the unstable names that Synapse 1.163 still uses.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping

import msgspec

from common.inbox.port import EntryKind, NewEntry, Source
from common.telemetry.log import Log
from common.untrusted import items_of, members_of

log = Log("appservice.transaction")


class MalformedTransactionError(Exception):
    """The body is not a transaction: answer 400, keep nothing."""


ABSENT = msgspec.Raw()
"""A part that was not sent; a union of ``Raw`` with ``None`` would refuse everything but null."""


class _Body(msgspec.Struct):
    events: list[msgspec.Raw] = msgspec.field(default_factory=list)
    to_device: list[msgspec.Raw] = msgspec.field(default_factory=list)
    to_device_unstable: list[msgspec.Raw] = msgspec.field(
        name="de.sorunome.msc2409.to_device", default_factory=list
    )
    device_lists: msgspec.Raw = ABSENT
    device_lists_unstable: msgspec.Raw = msgspec.field(
        name="org.matrix.msc3202.device_lists", default=ABSENT
    )
    key_counts: msgspec.Raw = msgspec.field(name="device_one_time_keys_count", default=ABSENT)
    key_counts_unstable: msgspec.Raw = msgspec.field(
        name="org.matrix.msc3202.device_one_time_keys_count", default=ABSENT
    )
    fallback: msgspec.Raw = msgspec.field(name="device_unused_fallback_key_types", default=ABSENT)
    fallback_unstable: msgspec.Raw = msgspec.field(
        name="org.matrix.msc3202.device_unused_fallback_key_types", default=ABSENT
    )


class _EventEnvelope(msgspec.Struct):
    event_id: str | None = None


class _ToDeviceEnvelope(msgspec.Struct):
    type: str | None = None
    to_user_id: str | None = None
    to_device_id: str | None = None


_body = msgspec.json.Decoder(_Body)
_event = msgspec.json.Decoder(_EventEnvelope)
_to_device = msgspec.json.Decoder(_ToDeviceEnvelope)
_by_user = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])


def parse_transaction(txn_id: str, body: bytes) -> list[NewEntry]:
    """Return what a transaction holds: to-device first, because room keys precede messages.

    Raises:
        MalformedTransactionError: not JSON, or not of a transaction's shape.
    """
    try:
        parsed = _body.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        parsed = _decode_leniently(body)
    position = printable(txn_id)
    return [
        *_to_device_entries(parsed, position),
        *_device_entries(parsed, position),
        *(event_entry(bytes(raw), Source.TRANSACTION, position) for raw in parsed.events),
    ]


def _decode_leniently(body: bytes) -> _Body:
    """Decode what only the standard library reads: lone surrogates, NaN, numbers of any size.

    A homeserver repeats a refused transaction for ever, so one odd event that got past it must
    not be able to stop the feed.
    """
    try:
        whole = json.loads(body)
    except ValueError as error:
        raise MalformedTransactionError("The body is not JSON.") from error
    except RecursionError:
        return _decode_in_pieces(body)
    if not isinstance(whole, dict):
        raise MalformedTransactionError("The body is not a transaction.")
    parts: dict[str, object] = {}
    for field in msgspec.structs.fields(_Body):
        value = whole.get(field.encode_name)
        if value is None:
            continue
        if field.type == list[msgspec.Raw]:
            if not isinstance(value, list):
                raise MalformedTransactionError(f"“{field.encode_name}” is not a list.")
            parts[field.name] = [msgspec.Raw(json.dumps(item).encode()) for item in value]
        else:
            parts[field.name] = msgspec.Raw(json.dumps(value).encode())
    return _Body(**parts)  # type: ignore[arg-type]  # built from the structure's own fields


def _decode_in_pieces(body: bytes) -> _Body:
    """Take apart what is nested too deep to be read; every part is as it came, and unread.

    Anybody may send something that a newer Python of the homeserver reads and ours does not.
    """
    found = members_of(body)
    if found is None:
        raise MalformedTransactionError("The body is not a transaction.")
    whole = dict(found)
    parts: dict[str, object] = {}
    for field in msgspec.structs.fields(_Body):
        value = whole.get(field.encode_name, b"null").strip()
        if value == b"null":
            continue
        if field.type == list[msgspec.Raw]:
            items = items_of(value)
            if items is None:
                raise MalformedTransactionError(f"“{field.encode_name}” is not a list.")
            parts[field.name] = [msgspec.Raw(item) for item in items]
        else:
            parts[field.name] = msgspec.Raw(value)
    return _Body(**parts)  # type: ignore[arg-type]  # built from the structure's own fields


def readable(raw: bytes) -> bytes | None:
    """Return JSON that was not read yet so that it can be, ``None`` where nobody here can."""
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    else:
        return raw
    try:
        return json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None


def device_lists_of(raw: bytes) -> dict[str, list[str]]:
    """Return the users of device lists that cannot be read as a whole; junk among them is left out."""
    lists = dict(members_of(raw) or ())
    return {
        name: [user for item in items_of(lists.get(name, b"")) or () if (user := _string(item))]
        for name in ("changed", "left")
    }


def _string(raw: bytes) -> str | None:
    """Return a string that can be written as UTF-8, ``None`` for anything else."""
    if not raw.startswith(b'"'):
        return None
    try:
        return str(json.loads(raw)).encode("utf-8", "replace").decode()
    except ValueError:
        return None


def event_entry(raw: bytes, source: Source, source_pos: str) -> NewEntry:
    """Return the entry of one room event; the same event has the same key in every feed."""
    event_id = _event_id(raw)
    # Something that is no event has no name; its bytes are its name, so a repeat is one.
    key = f"event:{printable(event_id)}" if event_id else f"bytes:{_digest(raw)}"
    return NewEntry(kind=EntryKind.EVENT, body=raw, source=source, source_pos=source_pos, key=key)


def _event_id(raw: bytes) -> str | None:
    try:
        return _event.decode(raw).event_id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        event = json.loads(raw)
    except ValueError:
        return None
    except RecursionError:
        return _string(dict(members_of(raw) or ()).get("event_id", b"").strip())
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return event_id if isinstance(event_id, str) else None


def to_device_entry(raw: bytes, recipient: str, source: Source, source_pos: str) -> NewEntry:
    """Return the entry of one to-device event for one of our accounts.

    The two feeds wrap the same message differently (the push adds the recipient), so it is
    named by what only it can hold: Olm ciphertext never repeats. Other to-device events are
    not named; they may lawfully repeat and are harmless when they do.
    """
    return NewEntry(
        kind=EntryKind.TO_DEVICE,
        body=raw,
        source=source,
        source_pos=source_pos,
        key=_olm_name(raw, recipient),
        recipient=recipient,
    )


class _OlmEvent(msgspec.Struct):
    type: str
    sender: str
    content: "_OlmContent"


class _OlmContent(msgspec.Struct):
    ciphertext: dict[str, msgspec.Raw]


_olm = msgspec.json.Decoder(_OlmEvent)


def _olm_name(raw: bytes, recipient: str) -> str | None:
    try:
        event = _olm.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if event.type != "m.room.encrypted":
        return None
    named = hashlib.sha256(f"{recipient}\0{event.sender}".encode("utf-8", "replace"))
    for device_key, message in sorted(event.content.ciphertext.items()):
        named.update(device_key.encode("utf-8", "replace"))
        try:
            # Decoded and encoded again: the two feeds differ in white space and key order.
            named.update(msgspec.json.encode(msgspec.json.decode(message), order="sorted"))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            named.update(bytes(message))
    return f"olm:{named.hexdigest()}"


def _to_device_entries(parsed: _Body, position: str) -> Iterator[NewEntry]:
    for raw in (*parsed.to_device, *parsed.to_device_unstable):
        try:
            envelope = _to_device.decode(raw)
        except RecursionError:
            log.warning("a to-device message that is nested too deep was left out", size=len(raw))
            continue
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # without a recipient there is nobody whom it could be for
        if envelope.to_user_id:
            yield to_device_entry(
                bytes(raw), printable(envelope.to_user_id), Source.TRANSACTION, position
            )


def _device_entries(parsed: _Body, position: str) -> Iterator[NewEntry]:
    lists = _sent(parsed.device_lists, parsed.device_lists_unstable)
    if lists is not ABSENT:
        yield NewEntry(
            kind=EntryKind.DEVICE_LIST,
            body=readable(bytes(lists)) or msgspec.json.encode(device_lists_of(bytes(lists))),
            source=Source.TRANSACTION,
            source_pos=position,
        )
    counts = _users(_sent(parsed.key_counts, parsed.key_counts_unstable))
    fallback = _users(_sent(parsed.fallback, parsed.fallback_unstable))
    for user, devices in counts.items():
        for device, one_time in devices.items():
            unused = fallback.get(user, {}).get(device, ABSENT)
            yield key_counts_entry(
                recipient=printable(user),
                device_id=device,
                one_time=one_time,
                unused_fallback=unused,
                source=Source.TRANSACTION,
                source_pos=position,
            )


def key_counts_entry(
    *,
    recipient: str,
    device_id: str,
    one_time: msgspec.Raw,
    unused_fallback: msgspec.Raw,
    source: Source,
    source_pos: str,
) -> NewEntry:
    """Return the entry that says how many keys of a device are left on the homeserver."""
    body: dict[str, object] = {"device_id": device_id, "one_time": one_time}
    if bytes(unused_fallback):
        body["unused_fallback"] = unused_fallback
    return NewEntry(
        kind=EntryKind.KEY_COUNTS,
        body=msgspec.json.encode(body),
        source=source,
        source_pos=source_pos,
        recipient=recipient,
    )


def _sent(stable: msgspec.Raw, unstable: msgspec.Raw) -> msgspec.Raw:
    return next((part for part in (stable, unstable) if bytes(part)), ABSENT)


def _users(raw: msgspec.Raw) -> Mapping[str, Mapping[str, msgspec.Raw]]:
    if raw is ABSENT:
        return {}
    try:
        return _by_user.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}


_LONGEST_NAME = 255


def printable(name: str) -> str:
    """Return a name that every database stores, the same one for the same input."""
    if name.isprintable() and len(name) <= _LONGEST_NAME:
        return name
    return f"sha256:{_digest(name.encode('utf-8', 'surrogatepass'))}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
