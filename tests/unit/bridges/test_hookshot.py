"""Feeds, repositories and what the old bots followed, from hostile input too."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.bridges.hookshot import (
    FEED,
    GITHUB,
    WEBHOOK,
    feed,
    feeds,
    repositories,
    repository,
    webhooks,
)
from adminbot.bridges.neb import OldRoom, is_old_bot, migration, read_export
from common.errors import UserError
from common.homeserver.synapse.rooms import StateEvent
from common.ids import EventId, RoomId, UserId

ROOM = RoomId("!a:example.org")
URL = "https://example.org/feed.xml"
RSS, GIT = UserId("@_neb_rssbot_x:y"), UserId("@_neb_github_x:y")


def state(type_: str, key: str, content: dict[str, Any]) -> StateEvent:
    return StateEvent(type_, UserId("@h:x"), EventId("$e"), key, content=content)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "example.org/feed",
        "javascript:alert(1)",
        "https://",
        "https://user:password@example.org/feed",
        "https://example.org/a b",
        "https://example.org/\nx",
        "https://[example.org/x",
        "https://example.org/" + "a" * 300,
        "",
    ],
)
def test_what_is_no_feed_is_refused(url: str) -> None:
    with pytest.raises(UserError):
        feed(url)


def test_title_and_template_have_limits() -> None:
    assert dict(feed(URL, "News", "$TITLE").content()) == {
        "url": URL,
        "label": "News",
        "template": "$TITLE",
    }
    with pytest.raises(UserError, match="template"):
        feed(URL, template="x" * 1025)
    with pytest.raises(UserError, match="title"):
        feed(URL, "x" * 256)


def test_connections_are_read_off_hostile_state() -> None:
    events = [
        state(FEED, URL, {"url": URL, "label": 5}),
        state(FEED, "gone", {}),
        state(FEED, "x", {"url": ["a"]}),
        state(GITHUB, "a/b", {"org": "a", "repo": "b"}),
        state(GITHUB, "c/d", {"org": "c", "repo": "d", "disabled": True}),
        state(GITHUB, "e", {"org": None, "repo": "d"}),
        state(WEBHOOK, "w", {"name": "deploys"}),
    ]
    assert [(one.url, one.label) for one in feeds(events)] == [(URL, None)]
    assert [one.name for one in repositories(events)] == ["a/b"]
    assert [one.name for one in webhooks(events)] == ["deploys"]


@pytest.mark.parametrize(
    "text",
    ["https://github.com/Matrix-org/Synapse", "matrix-org/synapse", "matrix-org/synapse.git"],
)
def test_a_repository_however_it_is_given(text: str) -> None:
    assert repository(text) == ("matrix-org", "synapse")


@pytest.mark.parametrize("text", ["synapse", "a/b/c", "https://evil.example/a/b", "-a/b", "a b/c"])
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        repository(text)


def test_old_bots_are_known_by_their_names() -> None:
    assert is_old_bot("@_neb_rssbot_=40alice=3aexample.org:matrix.org")
    assert is_old_bot("@_neb_github_=40alice=3aexample.org:matrix.org")
    assert not is_old_bot("@_neb_giphy:matrix.org")
    assert not is_old_bot("@alice:matrix.org")


def test_what_the_old_bots_followed_becomes_a_plan() -> None:
    export = read_export(
        json.dumps(
            [
                {
                    "Type": "rssbot",
                    "Config": {"feeds": {URL: {"rooms": [ROOM]}, "ftp://x": {"rooms": [ROOM]}}},
                },
                {
                    "Type": "github-webhook",
                    "Config": {
                        "Rooms": {ROOM: {"Repos": {"Org/Repo": {"Events": ["push", "watch"]}}}}
                    },
                },
                {"Type": "giphy", "Config": {}},
                5,
            ]
        ).encode()
    )
    bot = UserId("@_neb_rssbot_x:matrix.org")
    options = {"github": {"default_repo": "other/one"}}
    rooms = [
        OldRoom(ROOM, (bot,), (options,)),
        OldRoom(RoomId("!b"), (bot,)),
        OldRoom(RoomId("!c"), (bot,), feeds_here=frozenset({URL})),
    ]

    found = migration(rooms, export)

    assert [move.what for move in found.feeds] == [URL]
    (refused,) = [move for move in found.moves if move.trouble]
    assert refused.what == "ftp://x"
    assert {move.what for move in found.repositories} == {"org/repo", "other/one"}
    assert found.repositories[0].lost_events == ("watch",)
    assert {room.room for room in found.unknown} == {"!b", "!c"}
    assert not found.replaced(rooms[0], bot)


def test_what_stands_already_is_not_moved_and_its_bot_may_go() -> None:
    export = read_export(
        json.dumps({"type": "rssbot", "config": {"feeds": {URL: {"rooms": [ROOM]}}}}).encode()
    )
    room = OldRoom(ROOM, (RSS,), feeds_here=frozenset({URL}))

    found = migration([room], export)

    assert not found.feeds
    assert found.replaced(room, RSS)


def test_without_an_export_no_rss_bot_is_replaced() -> None:
    """A repository that is connected says nothing of the feeds in the same room."""
    room = OldRoom(
        ROOM,
        (RSS, GIT),
        ({"github": {"default_repo": "org/repo"}},),
        repositories_here=frozenset({"org/repo"}),
    )

    found = migration([room], None)

    assert not found.replaced(room, RSS)
    assert found.replaced(room, GIT)
    assert found.unknown == (room,)


def test_an_export_of_one_service_replaces_no_other_services_bot() -> None:
    feeds_alone = {"Type": "rssbot", "Config": {"feeds": {URL: {"rooms": [ROOM]}}}}
    room = OldRoom(ROOM, (RSS, GIT), feeds_here=frozenset({URL}))
    found = migration([room], read_export(json.dumps(feeds_alone).encode()))
    assert [bot for bot in room.bots if found.replaced(room, bot)] == [RSS]

    # Two of a sort: it has to say whose it is.
    other = UserId("@_neb_rssbot_z:y")
    both = OldRoom(ROOM, (RSS, other), feeds_here=frozenset({URL}))
    found = migration([both], read_export(json.dumps(feeds_alone).encode()))
    assert not [bot for bot in both.bots if found.replaced(both, bot)]
    named = json.dumps({**feeds_alone, "UserID": other}).encode()
    found = migration([both], read_export(named))
    assert [bot for bot in both.bots if found.replaced(both, bot)] == [other]
    assert not migration([room], read_export(named)).replaced(room, RSS)


def test_where_nothing_can_be_set_up_it_is_said_and_left_out() -> None:
    export = {"Type": "rssbot", "Config": {"feeds": {URL: {"rooms": [ROOM]}}}}
    room = OldRoom(ROOM, (RSS,), trouble="no power", remark="encrypted")

    found = migration([room], read_export(json.dumps(export).encode()))

    assert not found.feeds
    assert [(move.trouble, move.remark) for move in found.moves] == [("no power", "encrypted")]
    assert not found.replaced(room, RSS)


@given(st.binary(max_size=200))
def test_any_file_is_an_export_or_refused(data: bytes) -> None:
    with pytest.raises(UserError):
        read_export(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json_values, st.sampled_from(["rssbot", "github-webhook"]))
def test_hostile_exports_do_no_harm(config: object, kind: str) -> None:
    wrapped = {"Type": kind, "Config": {"feeds": config, "Rooms": config}}
    try:
        export = read_export(json.dumps(wrapped).encode())
    except UserError:
        return
    migration([OldRoom(ROOM, ())], export)
