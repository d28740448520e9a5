"""Whatever of a record a lying writer made up, decrypting again names it."""

import argparse
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vodozemac
from msgspec import structs

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.line import Arrival, Place, to_line
from auditbot.pipeline.record import Setting, event_record
from auditbot.pipeline.room_state import RoomContext
from auditbot.reader.cli import _parser, main
from auditbot.reader.commands.rechecking import UNREADABLE
from auditbot.reader.recheck.comparing import Compared, State, compare, kept_wire
from auditbot.reader.recheck.opening import Session, UnopenedError, message_index, opened
from common.crypto.port import Decrypted, EncryptedEvent
from tests.unit.auditbot.builders import NOON, ROOM
from tests.unit.auditbot.megolm import Device

Json = dict[str, Any]
OTHER = "!other:example.org"


def read(device: Device, body: bytes) -> Json:
    """Return the record that the writer makes of an event."""
    envelope = read_envelope(body)
    assert envelope.content is not None
    event = EncryptedEvent(
        envelope.event_id or "", envelope.room_id or "", envelope.sender or "", envelope.content
    )
    reading = device._read(event)  # our own double
    assert isinstance(reading, Decrypted)
    room = RoomContext(ROOM)
    place = Place("s", 0, b"0" * 16, "example.org")
    arrival = Arrival(NOON, "transaction", "")
    record = event_record(envelope, reading, place, arrival, Setting(room, room))
    found: Json = json.loads(to_line(record))
    return found


def session_of(device: Device, index: int = 0) -> Session:
    (copy,) = device.copies.values()
    key = copy.export_at(index)
    assert key is not None
    return Session(
        algorithm="m.megolm.v1.aes-sha2",
        room_id=ROOM,
        session_id=copy.ref.session_id,
        sender=copy.sender,
        sender_key=copy.sender_key,
        sender_claimed_keys={"ed25519": copy.signing_key},
        source=copy.source.value,
        first_known_index=0,
        first_index=index,
        session_key=key,
        stream="s",
        seq=0,
    )


@pytest.fixture
def device() -> Device:
    device = Device()
    device.give()
    return device


@pytest.fixture
def record(device: Device) -> Json:
    device.say("$before", "before")
    return read(device, device.say("$1", "what was said"))


def rechecked(record: Json, *sessions: Session) -> Compared:
    wire = kept_wire(record)
    return wire if isinstance(wire, Compared) else compare(record, wire, sessions)


def named(found: Compared) -> set[str]:
    return {name for name, _ in found.differences}


def test_what_was_archived_truly_agrees(device: Device, record: Json) -> None:
    found = rechecked(record, session_of(device))

    assert (found.state, found.differences) == (State.AGREES, ())
    assert found.session == session_of(device)


def other_text(record: Json) -> Json:
    said = json.loads(record["event_json"])
    said["content"]["body"] = "what was never said"
    return {"event_json": json.dumps(said)}


def other_wire(**changes: object) -> Callable[[Json], Json]:
    def change(record: Json) -> Json:
        return {"wire_json": json.dumps(json.loads(record["wire_json"]) | changes)}

    return change


def flipped(record: Json) -> Json:
    wire = json.loads(record["wire_json"])
    body = bytearray(base64.b64decode(wire["content"]["ciphertext"] + "=="))
    body[len(body) // 2] ^= 1
    wire["content"]["ciphertext"] = base64.b64encode(bytes(body)).decode().rstrip("=")
    return {"wire_json": json.dumps(wire)}


LIES: list[tuple[Callable[[Json], Json], set[str]]] = [
    (other_text, {"payload"}),
    (lambda _: {"payload_sha256": "0" * 64}, {"hash"}),
    (lambda one: {"event_json": None, "raw_b64": one["payload_sha256"]}, {"payload"}),
    (lambda _: {"enc_index": 0}, {"index"}),
    (lambda _: {"enc_sender_key": "another"}, {"device"}),
    (lambda _: {"enc_key_source": "backup"}, {"source"}),
    (lambda _: {"enc_session_id": "another"}, {"session"}),
    (lambda _: {"event_id": "$2"}, {"ciphertext"}),
    (lambda _: {"sender": "@mallory:example.org"}, {"ciphertext", "sender"}),
    (other_wire(event_id="$2"), {"ciphertext"}),
    (other_wire(content={"algorithm": "m.megolm.v1.aes-sha2"}), {"session", "ciphertext"}),
    (lambda _: {"wire_json": "not even JSON"}, {"session", "ciphertext"}),
    (flipped, {"key"}),
]


@pytest.mark.parametrize(("lie", "names"), LIES)
def test_each_lie_is_named(
    device: Device, record: Json, lie: Callable[[Json], Json], names: set[str]
) -> None:
    found = rechecked(record | lie(record), session_of(device))

    assert found.state is State.DIFFERS
    assert named(found) == names


def test_a_message_of_another_room_is_named(device: Device) -> None:
    """The homeserver, or the writer, put a message into a room that it was not written for."""
    body = json.loads(device.say("$1", "for one room"))
    moved = read(device, json.dumps(body).encode()) | {
        "room_id": OTHER,
        "wire_json": json.dumps(body | {"room_id": OTHER}),
    }
    key = structs.replace(session_of(device), room_id=OTHER)

    assert named(rechecked(moved, key)) == {"room"}
    assert rechecked(moved, session_of(device)).state is State.NO_KEY


def test_another_session_s_message_is_no_proof(device: Device, record: Json) -> None:
    """A key that the writer made up opens what it made up, and never the ciphertext."""
    forger = Device()
    forger.give()
    forged = structs.replace(session_of(forger), session_id=session_of(device).session_id)

    found = rechecked(record, forged)

    assert (found.state, named(found)) == (State.DIFFERS, {"key"})
    assert "another session" in found.differences[0][1]


def test_a_key_that_begins_too_late_is_none(device: Device, record: Json) -> None:
    device.say("$2", "later")
    late = structs.replace(session_of(device, 2), first_index=2)

    assert rechecked(record, late).state is State.NO_KEY
    assert rechecked(record, structs.replace(late, first_index=0)).state is State.DIFFERS
    assert rechecked(record, late, session_of(device)).state is State.AGREES
    assert rechecked(record).state is State.NO_KEY


def test_the_copy_that_was_read_with_is_taken(device: Device, record: Json) -> None:
    mine = session_of(device)
    others = [
        structs.replace(mine, sender="@mallory:example.org", sender_key="another"),
        structs.replace(mine, source="backup"),
    ]

    for keys in ([*others, mine], [mine, *others]):
        assert rechecked(record, *keys).session == mine
    assert named(rechecked(record, others[0])) == {"device", "sender"}


def test_what_was_not_kept_is_no_difference(device: Device, record: Json) -> None:
    for detail in (None, "{}"):
        bare = record | {"wire_json": None, "detail_json": detail}

        assert rechecked(bare, session_of(device)).state is State.NOT_KEPT


@pytest.mark.parametrize(
    "damage",
    [
        {"detail_json": '{"wire_b64":"e30"}'},
        {"detail_json": '{"wire_b64":"e30=\n"}'},
        {"detail_json": '{"wire_b64":7}'},
        {"detail_json": '{"wire_b64":"e30='},
        {"detail_json": 7},
        {"wire_json": 7},
        {"enc_status": "undecryptable", "raw_b64": "e3"},
        {"enc_status": "undecryptable", "raw_b64": 7},
        {"enc_status": "undecryptable", "raw_b64": "e30="},
    ],
)
def test_what_is_damaged_does_not_pass_for_not_kept(
    device: Device, record: Json, damage: Json
) -> None:
    damaged = record | {"wire_json": None, "detail_json": None} | damage

    found = rechecked(damaged, session_of(device))

    assert found.state is State.DIFFERS
    assert "ciphertext" in named(found)


def test_each_copy_of_a_key_is_tried_before_it_is_said_that_none_opens(
    device: Device, record: Json
) -> None:
    good = session_of(device)
    damaged = [
        structs.replace(good, session_key="A" * len(good.session_key)),
        structs.replace(good, session_key=session_of(device, 2).session_key),
        structs.replace(good, session_key=""),
    ]
    from_later = structs.replace(session_of(device, 1), first_index=1)

    for sessions in ([*damaged, from_later], [from_later, *damaged], [*damaged, good]):
        found = rechecked(record, *sessions)
        assert (found.state, found.differences) == (State.AGREES, ()), sessions
        assert found.session in (from_later, good)

    found = rechecked(record, *damaged)
    assert (found.state, named(found)) == (State.DIFFERS, {"key"})
    assert found.differences[0][1] == "none of 3 copies of the key opens it: the key is none"


def test_junk_beside_a_ciphertext_hides_nothing(device: Device) -> None:
    body = device.say("$1", "said", unsigned={"junk": 1})[:-1] + b',"lone":"\\ud800"}'
    record = read(device, body)

    assert record["wire_json"] is None
    assert rechecked(record, session_of(device)).state is State.AGREES


@pytest.mark.parametrize("text", ["", "!", "AAAA", "\0", "é", "A" * 100_000])
def test_what_is_no_ciphertext_or_key_says_so(device: Device, text: str) -> None:
    with pytest.raises(UnopenedError):
        message_index(text)
    good = device.outbound.encrypt(b"{}").to_base64()
    with pytest.raises(UnopenedError):
        opened(structs.replace(session_of(device), session_key=text), good)


def test_what_a_ratchet_opens_is_what_the_library_of_the_clients_opens(device: Device) -> None:
    """The archive's form of a key is that of key exports: any client imports it."""
    (copy,) = device.copies.values()
    message = device.outbound.encrypt(b"{}")
    exported = vodozemac.ExportedSessionKey(session_of(device).session_key)

    inbound = vodozemac.InboundGroupSession.import_session(exported)

    assert inbound.session_id == copy.ref.session_id
    assert inbound.decrypt(message).plaintext == b"{}"
    assert opened(session_of(device), message.to_base64()).payload == b"{}"


def test_it_is_typed_like_the_other_commands() -> None:
    arguments: argparse.Namespace = _parser().parse_args(
        ["recheck", "$1", "--room", ROOM, "--from", "2026-03-01", "--identity", "x"]
    )
    assert (arguments.event_ids, arguments.room) == (["$1"], ROOM)


def test_an_archive_out_of_reach_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    status = main(["recheck", "--destination=s3://nobody/knows", f"--home={tmp_path}"])

    assert status == UNREADABLE
    assert "Nothing could be decrypted again: The bucket" in capsys.readouterr().err
