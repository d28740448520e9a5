"""Sync responses become the same entries that the push makes of the same events."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.appservice.transaction import parse_transaction
from common.errors import TransientError
from common.feeds.sync_response import (
    parse_key_sync,
    parse_messages,
    parse_timeline_sync,
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
