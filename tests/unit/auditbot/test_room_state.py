"""A room's context follows its state events, whatever is in them."""

import hashlib
from collections.abc import Iterable

from auditbot.pipeline.hostile import read_envelope
from auditbot.pipeline.room_state import RoomContext, completed, fold
from tests.unit.auditbot.builders import ALICE, NOON, ROOM, message, new_room, state

BOB = "@bob:example.org"


def room(*bodies: bytes) -> RoomContext:
    return fold(RoomContext(ROOM), map(read_envelope, bodies))


def member(
    user: str, membership: str, *, origin_server_ts: int = NOON, **content: object
) -> bytes:
    return state(
        "m.room.member",
        {"membership": membership, **content},
        key=user,
        sender=ALICE if membership == "invite" else user,
        origin_server_ts=origin_server_ts,
    )


def late(context: RoomContext, bodies: Iterable[bytes]) -> RoomContext:
    return fold(context, map(read_envelope, bodies), late=True)


def test_a_room_is_what_its_state_says() -> None:
    found = room(
        state("m.room.create", {"room_version": "11", "type": "m.space", "m.federate": False}),
        state("m.room.name", {"name": "Board"}),
        state("m.room.canonical_alias", {"alias": "#board:example.org"}),
        state("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}),
        state("m.room.join_rules", {"join_rule": "knock"}),
        state("m.room.history_visibility", {"history_visibility": "joined"}),
        member(BOB, "join", displayname="Bob"),
    )

    assert (found.version, found.type, found.name) == ("11", "m.space", "Board")
    assert (found.alias, found.encrypted, found.federated) == ("#board:example.org", True, False)
    assert (found.join_rule, found.history_visibility) == ("knock", "joined")
    assert found.name_of(BOB) == "Bob"
    assert found.joined == (BOB,)


def test_defaults_hold_only_where_the_whole_state_is_known() -> None:
    unknown = room(member(BOB, "join"))
    known = completed(unknown)

    assert (unknown.encrypted, unknown.history_visibility, unknown.federated) == (None, None, None)
    assert (known.encrypted, known.history_visibility, known.federated) == (False, "shared", True)


def test_the_audience_is_the_hash_of_the_sorted_joined_members() -> None:
    found = room(member(BOB, "join"), member(ALICE, "join"), member("@eve:x", "invite"))

    assert found.joined == (ALICE, BOB)
    assert found.audience_id == hashlib.sha256(f"{ALICE}\n{BOB}".encode()).hexdigest()


def test_who_left_is_no_audience_but_keeps_their_name() -> None:
    found = room(member(BOB, "join", displayname="Bob"), member(BOB, "leave"))

    assert found.joined == ()
    assert found.name_of(BOB) == "Bob"


def test_a_direct_chat_stays_one_after_the_invited_person_joined() -> None:
    found = room(member(BOB, "invite", is_direct=True), member(BOB, "join"))

    assert found.is_direct is True


def test_nobody_makes_a_room_direct_by_their_own_event() -> None:
    own = room(member(BOB, "join", is_direct=True))
    again = room(
        state(
            "m.room.member",
            {"membership": "join"},
            key=BOB,
            sender=BOB,
            unsigned={"prev_content": {"membership": "join", "is_direct": True}},
        )
    )
    themselves = room(
        state("m.room.member", {"membership": "invite", "is_direct": True}, key=BOB, sender=BOB)
    )

    assert own.is_direct is again.is_direct is themselves.is_direct is None


def test_a_room_whose_invitation_was_taken_is_direct_by_what_came_before() -> None:
    taken = room(
        state(
            "m.room.member",
            {"membership": "join"},
            key=BOB,
            sender=BOB,
            unsigned={
                "prev_content": {"membership": "invite", "is_direct": True},
                "prev_sender": ALICE,
            },
        )
    )

    assert taken.is_direct is True


def test_a_time_in_the_future_does_not_keep_later_events_out() -> None:
    def found(context: RoomContext, name: str, origin: int, received_ms: int) -> RoomContext:
        events = [
            state("m.room.name", {"name": name}, origin_server_ts=origin),
            member(BOB, "join" if name == "new" else "leave", origin_server_ts=origin),
        ]
        return fold(context, map(read_envelope, events), late=True, received_ms=received_ms)

    far = found(RoomContext(ROOM), "far", 2**60, NOON)

    later = found(far, "new", NOON + 500, NOON + 1000)

    assert (later.name, later.joined) == ("new", (BOB,))


def test_a_message_changes_nothing() -> None:
    before = room(*new_room())

    assert fold(before, [read_envelope(message("$1"))]) is before


def test_folding_leaves_the_earlier_room_as_it_was() -> None:
    before = room(*new_room())

    after = fold(before, [read_envelope(member(BOB, "join"))])

    assert before.joined == (ALICE,)
    assert after.joined == (ALICE, BOB)


def test_older_state_that_is_found_late_does_not_replace_newer() -> None:
    newer = room(
        state("m.room.name", {"name": "new"}, origin_server_ts=NOON + 2),
        state("m.room.member", {"membership": "leave"}, key=BOB, origin_server_ts=NOON + 2),
    )
    older = [
        state("m.room.name", {"name": "old"}, origin_server_ts=NOON),
        state("m.room.member", {"membership": "join"}, key=BOB, origin_server_ts=NOON),
        state("m.room.join_rules", {"join_rule": "public"}, origin_server_ts=NOON),
    ]

    found = late(newer, older)

    assert (found.name, found.joined, found.join_rule) == ("new", (), "public")


def test_state_with_another_key_is_not_the_rooms() -> None:
    assert room(state("m.room.name", {"name": "x"}, key="other")).name is None
