"""What follows from an event in a room whose admins gave standing orders."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.standing_orders import (
    AUTOREPLY,
    SLOW,
    WELCOME,
    Orders,
    Writers,
    on_event,
    on_words,
    read_orders,
)
from common.ids import EventId
from tests.unit.adminbot.world import ALICE, BOB, SHARED

ORDERS = read_orders(
    {
        WELCOME: json.dumps({"text": "hello", "whispered": False}),
        SLOW: "30000",
        f"{AUTOREPLY}opening hours": "nine",
        "rules": "be kind",
        "mute @bob:example.org": "10",
    }
)


def member(membership: str, before: str | None = None) -> dict[str, Any]:
    event = {
        "type": "m.room.member",
        "sender": BOB,
        "state_key": BOB,
        "event_id": "$m",
        "origin_server_ts": 0,
        "content": {"membership": membership},
    }
    return (
        event
        if before is None
        else {**event, "unsigned": {"prev_content": {"membership": before}}}
    )


def message(event: str, at_ms: int, sender: str = BOB) -> dict[str, Any]:
    return {
        "type": "m.room.encrypted",
        "sender": sender,
        "event_id": event,
        "origin_server_ts": at_ms,
        "content": {},
    }


def follows(event: dict[str, Any], orders: Orders = ORDERS) -> list[tuple[str, str]]:
    found = on_event(event, SHARED, orders, Writers())
    return [(one.kind, one.user) for one in found]


def test_who_comes_is_greeted_and_nobody_who_was_there() -> None:
    assert follows(member("join")) == [("greet", BOB)]
    assert follows(member("join", "invite")) == [("greet", BOB)]
    assert follows(member("join", "join")) == []
    assert follows(member("leave", "join")) == []
    assert follows(member("join"), Orders()) == []
    no_state = {name: value for name, value in member("join").items() if name != "state_key"}
    assert follows(no_state) == []


def test_what_one_person_writes_too_soon_is_taken_back() -> None:
    writers = Writers()

    def taken(event: str, at_ms: int, sender: str = BOB) -> bool:
        return bool(list(on_event(message(event, at_ms, sender), SHARED, ORDERS, writers)))

    assert [taken("$1", 0), taken("$2", 29_999), taken("$3", 30_000)] == [False, True, False]
    assert not taken("$4", 30_001, ALICE)


@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_what_stays_is_never_closer_than_the_pause(moments: list[int]) -> None:
    writers = Writers()
    kept = [one for one in sorted(moments) if not writers.too_soon(SHARED, BOB, one, 30_000)]

    assert all(later - earlier >= 30_000 for earlier, later in itertools.pairwise(kept))


def test_words_are_answered_once_in_a_while() -> None:
    def answered(words: str, at_ms: int) -> str | None:
        found = on_words(words, SHARED, ORDERS, sender=BOB, event=EventId("$e"), at_ms=at_ms)
        return None if found is None else found.key

    assert answered("What are your OPENING HOURS?", 0) == answered("opening hours", 9_999)
    assert answered("opening hours", 10_000) != answered("opening hours", 0)
    assert answered("open", 0) is None


@given(
    st.dictionaries(
        st.sampled_from(["type", "sender", "event_id", "content", "unsigned", "origin_server_ts"]),
        st.none()
        | st.integers()
        | st.text(max_size=5)
        | st.lists(st.none())
        | st.dictionaries(st.text(), st.none()),
    )
)
def test_no_event_is_too_strange(event: dict[str, Any]) -> None:
    for type_ in ("m.room.member", "m.room.message"):
        named = {"sender": BOB, "event_id": "$e", **event, "type": type_}
        list(on_event(named, SHARED, ORDERS, Writers()))
        sound = {"sender": BOB, "event_id": "$e", "origin_server_ts": 0, "type": type_}
        list(on_event({**event, **sound}, SHARED, ORDERS, Writers()))
