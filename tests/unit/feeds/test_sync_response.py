"""Sync responses become the same entries that the push makes of the same events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditbot.pipeline.hostile import read_envelope
from common.appservice.transaction import parse_transaction
from common.errors import TransientError
from common.feeds.sync_response import (
    event_field,
    parse_key_sync,
    parse_messages,
    parse_timeline_sync,
    receipt_entries,
    timeline_entries,
)
from common.ids import DeviceId, RoomId, UserId
from common.inbox.port import EntryKind, Source

BOT = UserId("@auditbot:x")


def test_an_event_of_a_timeline_has_the_name_and_content_that_the_push_gives_it() -> None:
    event = {"event_id": "$a", "type": "m.room.message", "content": {"body": "é\u0000"}}
    body = json.dumps(
        {"next_batch": "s2", "rooms": {"join": {"!r": {"timeline": {"events": [event]}}}}}
    ).encode()
    pushed = parse_transaction("1", json.dumps({"events": [event]}).encode())

    room = parse_timeline_sync(body).rooms[0]
    synced = list(timeline_entries(room.room_id, room.events, Source.SYNC, "s1"))

    assert [entry.key for entry in synced] == [entry.key for entry in pushed]
    assert json.loads(synced[0].body) == {**event, "room_id": "!r"}


def test_gaps_left_rooms_and_invitations_are_told() -> None:
    body = json.dumps(
        {
            "next_batch": "s2",
            "rooms": {
                "join": {"!a": {"timeline": {"events": [], "limited": True, "prev_batch": "p"}}},
                "leave": {"!b": {"timeline": {"events": []}}},
                "invite": {"!c": {"invite_state": {"events": [1, 2]}}},
            },
        }
    ).encode()

    sync = parse_timeline_sync(body)

    assert [(room.room_id, room.gap_from) for room in sync.rooms] == [("!a", "p"), ("!b", None)]
    assert sync.invited == [RoomId("!c")]


def test_a_key_sync_has_messages_before_device_lists_and_the_counts_apart() -> None:
    body = json.dumps(
        {
            "next_batch": "s2",
            "to_device": {"events": [{"type": "m.dummy", "sender": "@a:x", "content": {}}]},
            "device_lists": {"changed": ["@a:x"]},
            "device_one_time_keys_count": {"signed_curve25519": 3},
            "device_unused_fallback_key_types": [],
        }
    ).encode()

    sync = parse_key_sync(body, BOT, DeviceId("DEV"))

    assert [entry.kind for entry in sync.entries] == [EntryKind.TO_DEVICE, EntryKind.DEVICE_LIST]
    assert {entry.recipient for entry in sync.entries} == {BOT}
    assert json.loads(sync.counts.body) == {
        "device_id": "DEV",
        "one_time": {"signed_curve25519": 3},
        "unused_fallback": [],
    }


@given(body=st.binary(max_size=300))
def test_what_is_no_response_is_tried_again_later(body: bytes) -> None:
    with pytest.raises(TransientError):
        parse_timeline_sync(body)
    with pytest.raises(TransientError):
        parse_key_sync(body, BOT, DeviceId("DEV"))


def test_a_lone_surrogate_does_not_stop_the_feed() -> None:
    body = b'{"next_batch":"s","rooms":{"join":{"!r":{"timeline":{"events":[{"event_id":"$a","content":{"body":"\\ud800"}}]}}}}}'

    room = parse_timeline_sync(body).rooms[0]

    assert [
        entry.key for entry in timeline_entries(room.room_id, room.events, Source.SYNC, "s")
    ] == ["event:$a"]


def test_a_page_of_messages_has_a_next_position_until_the_end() -> None:
    assert parse_messages(b'{"chunk":[{"event_id":"$a"}],"end":"t"}')[1] == "t"
    assert parse_messages(b'{"chunk":[]}') == ([], None)


def _nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"1" + b"]}" * (levels // 2)


@pytest.mark.parametrize("levels", [1_000, 2_000, 9_000])
@pytest.mark.parametrize("where", ["message", "lists", "counts", "elsewhere"])
def test_what_is_nested_too_deep_takes_no_key_away(levels: int, where: str) -> None:
    deep = _nested(levels)
    message = b'{"type":"m.dummy","sender":"@b:x","content":%s}' % deep
    body = b"""{"next_batch":"s2","to_device":{"events":[
        {"type":"m.dummy","sender":"@a:x","content":{"text":"\\ud800 ] } ,"}},%s
        {"type":"m.dummy","sender":"@c:x","content":{"a":[]}}]},
        "device_lists":{"changed":["@a:x"%s,"@b:x"],"left":["@c:x"]},
        "device_one_time_keys_count":{"signed_curve25519":3%s},"other":%s}""" % (
        message + b"," if where == "message" else b"",
        b"," + deep if where == "lists" else b"",
        b',"b":' + deep if where == "counts" else b"",
        deep if where == "elsewhere" else b"[]",
    )

    sync = parse_key_sync(body, BOT, DeviceId("DEV"))

    assert sync.next_batch == "s2"
    *messages, lists = [json.loads(entry.body) for entry in sync.entries]
    assert [message["sender"] for message in messages] == ["@a:x", "@c:x"]
    assert lists == {"changed": ["@a:x", "@b:x"], "left": ["@c:x"]}
    counts = {} if where == "counts" else {"signed_curve25519": 3}
    assert json.loads(sync.counts.body)["one_time"] == counts


@pytest.mark.parametrize("levels", [1_000, 2_000, 9_000])
@pytest.mark.parametrize("where", ["content", "unsigned", "state", "receipt", "other_room"])
def test_an_event_that_is_nested_too_deep_is_kept_with_all_others(levels: int, where: str) -> None:
    deep = _nested(levels)
    event = b'{"event_id":"$deep","type":"m.room.message"%s,"content":%s,"unsigned":%s}' % (
        b',"state_key":""' if where == "state" else b"",
        deep if where in {"content", "state"} else b"{}",
        deep if where == "unsigned" else b"{}",
    )
    receipt = b'{"type":"m.receipt","content":{"$x":{}}}'
    deep_receipt = b'{"type":"m.receipt","content":%s},' % deep
    body = b"""{"next_batch":"s2","rooms":{"join":{
        "!r":{"timeline":{"events":[{"event_id":"$a","content":{}},%s,{"event_id":"$b"}],
            "limited":true,"prev_batch":"p"},"ephemeral":{"events":[%s%s]},"state":%s},
        "!q":{"timeline":{"events":[]}}},
        "leave":{"!s":{"timeline":{"events":[{"event_id":"$c"}]},"x":%s}},
        "invite":{"!i":{"invite_state":{"events":[]}}}}}""" % (
        event,
        deep_receipt if where == "receipt" else b"",
        receipt,
        deep if where == "state" else b"{}",
        deep if where == "other_room" else b"{}",
    )

    sync = parse_timeline_sync(body)

    assert (sync.next_batch, sync.invited) == ("s2", ["!i"])
    joined, empty, left = sync.rooms
    assert (joined.room_id, joined.gap_from, empty.events) == ("!r", "p", [])
    entries = list(timeline_entries(joined.room_id, joined.events, Source.SYNC, "s"))
    assert [entry.key for entry in entries] == ["event:$a", "event:$deep", "event:$b"]
    assert (deep in entries[1].body) == (where in {"content", "unsigned", "state"})
    assert read_envelope(entries[1].body).room_id == "!r"
    assert len(list(receipt_entries(joined, "s"))) == 1
    assert [event_field(one, "event_id") for one in left.events] == ["$c"]


@pytest.mark.parametrize("levels", [1_000, 2_000, 9_000])
def test_a_page_with_an_event_that_is_nested_too_deep_is_read(levels: int) -> None:
    body = b'{"chunk":[{"event_id":"$a","content":%s},{"event_id":"$b"}],"end":"t"}'

    events, end = parse_messages(body % _nested(levels))

    assert [event_field(one, "event_id") for one in events] == ["$a", "$b"]
    assert end == "t"
