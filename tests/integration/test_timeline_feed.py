"""The second feed by itself: what it brings when the push brings nothing."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.config.secret import Secret
from common.database.pool import Database
from common.feeds.sync_response import parse_timeline_sync
from common.feeds.timeline import PAGE, TIMELINE, TimelineFeed
from common.identity import ensure_registered
from common.ids import RoomId, UserId
from common.inbox.port import EntryKind
from common.inbox.signal import Signal
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, connect, open_session
from tests.support.clients import RawClient
from tests.support.databases import open_database, sqlite_url
from tests.support.world import MakeWorld, Wish, World


@dataclass
class Reader:
    """auditbot's second feed on a database of its own; nothing is pushed anywhere."""

    world: World
    client: MatrixClient
    database: Database
    inbox: StoredInbox
    invited: list[RoomId] = field(default_factory=list)

    @property
    def feed(self) -> TimelineFeed:
        """A feed as after a restart: everything it knows is in the database."""

        async def note(rooms: Sequence[RoomId]) -> None:
            self.invited += rooms

        return TimelineFeed(
            client=self.client,
            inbox=self.inbox,
            database=self.database,
            interval_seconds=1,
            reconnected=Signal(),
            push_behind=Signal(),
            on_invited=note,
        )

    async def texts(self, room: RoomId) -> list[str]:
        entries = await self.inbox.read(0, (EntryKind.EVENT,), limit=10_000)
        events = [json.loads(entry.body) for entry in entries]
        return [
            event["content"]["body"]
            for event in events
            if event["room_id"] == room and event["type"] == "m.room.message"
        ]


@pytest.fixture
async def reader(make_world: MakeWorld, tmp_path: Path) -> AsyncIterator[Reader]:
    world = await make_world(Wish(module=False), start=False)
    await world.synapse.start()
    (tmp_path / "feed").mkdir()
    async with (
        open_session() as session,
        open_database(sqlite_url(tmp_path / "feed")) as database,
    ):
        api = connect(
            homeserver_url=world.synapse.url,
            as_token=Secret(world.steward.as_token),
            sender=UserId(f"@_steward:{world.synapse.server_name}"),
            session=session,
        )
        client = MatrixClient(api, world.steward.auditbot)
        await ensure_registered(client)
        yield Reader(world, client, database, StoredInbox(database, SystemClock()))


async def say(person: RawClient, room: RoomId, count: int, word: str) -> list[str]:
    texts = [f"{word} {number}" for number in range(count)]
    for text in texts:
        await person.send_text(room, text)
    return texts


async def room_with_auditbot(reader: Reader, person: RawClient) -> RoomId:
    room = await person.create_room(invite=[reader.client.user_id])
    await reader.client.join(room)
    return room


async def test_a_timeline_that_was_cut_is_read_whole_and_in_order(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        room = await room_with_auditbot(reader, alice)
        await say(alice, room, 3, "before the record began")
        await reader.feed.reconcile()

        said = await say(alice, room, PAGE + TIMELINE + 5, "said")
        found = await reader.feed.reconcile()

        assert await reader.texts(room) == said
        assert found == len(said)
        assert await reader.feed.reconcile() == 0


async def test_a_short_timeline_comes_at_once_and_once(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        room = await room_with_auditbot(reader, alice)
        await reader.feed.reconcile()

        said = await say(alice, room, 3, "said")
        await reader.feed.reconcile()
        await reader.feed.reconcile()

        assert await reader.texts(room) == said


async def test_what_was_said_before_the_bot_could_join_a_new_room_is_read(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        await reader.feed.reconcile()
        room = await alice.create_room(invite=[reader.client.user_id])
        early = await say(alice, room, 2, "early")
        await reader.feed.reconcile()
        assert reader.invited == [room]

        await reader.client.join(room)
        late = await say(alice, room, 2, "late")
        await reader.feed.reconcile()

        assert await reader.texts(room) == early + late


async def test_history_from_before_the_record_began_is_not_taken_in(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        room = await alice.create_room(invite=[reader.client.user_id])
        await say(alice, room, 5, "old")
        await reader.feed.reconcile()

        await reader.client.join(room)
        new = await say(alice, room, 2, "new")
        await reader.feed.reconcile()

        assert await reader.texts(room) == new


async def test_what_was_said_until_the_bot_was_thrown_out_is_read(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        room = await room_with_auditbot(reader, alice)
        await reader.feed.reconcile()
        said = await say(alice, room, 2, "said")

        await alice.kick(room, reader.client.user_id)
        await say(alice, room, 1, "without the bot")
        await reader.feed.reconcile()

        assert await reader.texts(room) == said


async def test_a_gap_is_finished_after_an_interruption(reader: Reader) -> None:
    async with await reader.world.person() as alice:
        room = await room_with_auditbot(reader, alice)
        await reader.feed.reconcile()
        said = await say(alice, room, PAGE + TIMELINE, "said")
        feed = reader.feed
        since = await reader.database.fetchval("SELECT token FROM feed_token")
        sync = await feed._sync(since, json.dumps({"room": {"timeline": {"limit": 1}}}))

        # The process ends right after the token and the gap were committed.
        await feed._keep(parse_timeline_sync(sync), since)
        assert await reader.texts(room) == []
        await reader.feed.reconcile()

        assert await reader.texts(room) == said
