"""A pushed transaction becomes inbox entries, whatever is inside of it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.appservice.transaction import (
    MalformedTransactionError,
    parse_transaction,
    to_device_entry,
)
from common.inbox.port import EntryKind, Source

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


def _body(**parts: Any) -> bytes:
    return json.dumps(parts).encode()


@given(events=st.lists(json_values, max_size=8))
def test_every_event_is_kept_with_the_bytes_it_came_as(events: list[Any]) -> None:
    body = msgspec.json.encode({"events": events})

    entries = parse_transaction("1", body)

    assert [entry.body for entry in entries] == [msgspec.json.encode(event) for event in events]
    assert {entry.kind for entry in entries} <= {EntryKind.EVENT}


@given(body=st.binary(max_size=200))
def test_any_bytes_are_a_transaction_or_malformed(body: bytes) -> None:
    try:
        parse_transaction("1", body)
    except MalformedTransactionError:
        return


@given(body=json_values)
def test_any_json_is_a_transaction_or_malformed(body: Any) -> None:
    try:
        parse_transaction("1", msgspec.json.encode(body))
    except MalformedTransactionError:
        return


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"events": {}}',
        b'{"events": 1}',
        b'{"de.sorunome.msc2409.to_device": "x"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_transaction_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedTransactionError):
        parse_transaction("1", body)


def test_an_event_nested_100_deep_is_kept() -> None:
    deep = b'{"a":' * 100 + b"1" + b"}" * 100

    entries = parse_transaction("1", b'{"events":[{"event_id":"$deep","content":' + deep + b"}]}")

    assert [entry.key for entry in entries] == ["event:$deep"]


@pytest.mark.parametrize("levels", [1_000, 2_000, 9_000])
@pytest.mark.parametrize("where", ["content", "unsigned", "message", "lists", "counts"])
def test_what_is_nested_too_deep_does_not_stop_the_feed(levels: int, where: str) -> None:
    deep = b'{"a":[' * (levels // 2) + b"1" + b"]}" * (levels // 2)
    event = b'{"event_id":"$deep","content":%s,"unsigned":%s}' % (
        deep if where == "content" else b"{}",
        deep if where == "unsigned" else b"{}",
    )
    message = b'{"type":"m.dummy","to_user_id":"@bot:x","content":{}}'
    body = b"""{"events":[{"event_id":"$a"},%s,{"event_id":"$b"}],
        "de.sorunome.msc2409.to_device":[%s,%s],
        "org.matrix.msc3202.device_lists":{"changed":["@a:x"%s],"left":[]},
        "org.matrix.msc3202.device_one_time_keys_count":{"@bot:x":{"D":{"n":1}}%s}}""" % (
        event,
        message.replace(b"{}", deep) if where == "message" else message,
        message,
        b"," + deep if where == "lists" else b"",
        b',"@b:x":{"D":%s}' % deep if where == "counts" else b"",
    )

    entries = parse_transaction("1", body)

    by_kind = {kind: [entry for entry in entries if entry.kind is kind] for kind in EntryKind}
    assert [entry.key for entry in by_kind[EntryKind.EVENT]] == [
        "event:$a",
        "event:$deep",
        "event:$b",
    ]
    assert by_kind[EntryKind.EVENT][1].body == event
    assert len(by_kind[EntryKind.TO_DEVICE]) == (1 if where == "message" else 2)
    assert json.loads(by_kind[EntryKind.DEVICE_LIST][0].body)["changed"] == ["@a:x"]
    assert len(by_kind[EntryKind.KEY_COUNTS]) == (0 if where == "counts" else 1)


def test_an_event_with_a_lone_surrogate_does_not_stop_the_feed() -> None:
    body = (
        b'{"events":[{"event_id":"$odd","content":{"body":"\\ud800","n":NaN}},{"event_id":"$b"}]}'
    )

    entries = parse_transaction("1", body)

    assert [entry.key for entry in entries] == ["event:$odd", "event:$b"]


def test_room_keys_come_before_the_messages_they_open() -> None:
    message = {"type": "m.room.encrypted", "sender": "@a:x", "content": {"ciphertext": {}}}
    body = _body(
        events=[{"event_id": "$1"}],
        **{"de.sorunome.msc2409.to_device": [{**message, "to_user_id": "@auditbot:x"}]},
    )

    kinds = [entry.kind for entry in parse_transaction("1", body)]

    assert kinds == [EntryKind.TO_DEVICE, EntryKind.EVENT]


def test_the_same_olm_message_has_one_name_in_both_feeds() -> None:
    pushed = (
        b'{"type":"m.room.encrypted","sender":"@a:x","to_user_id":"@bot:x","to_device_id":"D",'
        b'"content":{"ciphertext":{"key":{"type":0,"body":"secret"}},"algorithm":"m.olm"}}'
    )
    synced = (
        b'{"content": {"algorithm": "m.olm", "ciphertext": {"key": {"body": "secret", "type": 0}}},'
        b' "sender": "@a:x", "type": "m.room.encrypted"}'
    )
    other = synced.replace(b"secret", b"public")

    by_push = parse_transaction("1", b'{"to_device":[' + pushed + b"]}")
    by_sync = to_device_entry(synced, "@bot:x", Source.SYNC, "s1")

    assert by_push[0].key == by_sync.key
    assert by_sync.key is not None
    assert to_device_entry(other, "@bot:x", Source.SYNC, "s1").key != by_sync.key
    assert to_device_entry(synced, "@other:x", Source.SYNC, "s1").key != by_sync.key


def test_key_counts_and_device_lists_are_entries_under_both_names() -> None:
    for prefix in ("", "org.matrix.msc3202."):
        body = _body(
            **{
                f"{prefix}device_lists": {"changed": ["@a:x"], "left": []},
                f"{prefix}device_one_time_keys_count": {
                    "@bot:x": {"DEV": {"signed_curve25519": 7}}
                },
                f"{prefix}device_unused_fallback_key_types": {
                    "@bot:x": {"DEV": ["signed_curve25519"]}
                },
            }
        )

        lists, counts = parse_transaction("1", body)

        assert json.loads(lists.body) == {"changed": ["@a:x"], "left": []}
        assert (counts.kind, counts.recipient) == (EntryKind.KEY_COUNTS, "@bot:x")
        assert json.loads(counts.body) == {
            "device_id": "DEV",
            "one_time": {"signed_curve25519": 7},
            "unused_fallback": ["signed_curve25519"],
        }


@given(name=st.text())
def test_every_key_can_be_stored_by_any_database(name: str) -> None:
    body = json.dumps({"events": [{"event_id": name}]}).encode()

    key = parse_transaction(name, body)[0].key

    assert key is not None
    assert key.isprintable()
    assert len(key) < 400
    key.encode()
