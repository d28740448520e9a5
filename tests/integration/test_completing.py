"""What never reached the archive is noticed with a real homeserver, fetched, and said to be a gap."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from auditbot.bot import Auditbot, create_bot
from auditbot.completing import AGAIN_MS, SETTLE_MS
from auditbot.lines import opened
from auditbot.operations.completeness import state_day
from auditbot.operations.desk import Desk
from auditbot.pipeline.segment import DAY_MS
from common.alarms import untold
from common.bots import Services
from common.clock import SystemClock
from common.config.schema import Appservice, Config, Encryption, Homeserver
from common.config.schema import Auditbot as Settings
from common.config.secret import Secret
from common.database.pool import Database
from common.errors import TransientError
from common.feeds.timeline import TimelineFeed
from common.identity import ensure_registered
from common.ids import EventId, RoomId, UserId
from common.inbox.consumer import Consumer
from common.inbox.port import EntryKind
from common.inbox.signal import Signal
from common.inbox.store import StoredInbox
from common.matrix.client import MatrixClient, connect, open_session
from tests.support.clients import RawClient
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish, World
from tests.unit.auditbot.builders import ScriptedDecryption
from tests.unit.auditbot.world import NothingKept

KINDS = (EntryKind.EVENT, EntryKind.GRAPH)


@dataclass
class LaterClock(SystemClock):
    """The real time, and some more that has passed already."""

    more_ms: int = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.more_ms


@dataclass
class Archivist:
    """auditbot, its second feed and its inbox, on a database of their own; nothing is pushed."""

    world: World
    client: MatrixClient
    database: Database
    config: Config
    clock: LaterClock

    def __post_init__(self) -> None:
        self.inbox = StoredInbox(self.database, self.clock)
        services = Services(
            config=self.config,
            clock=self.clock,
            database=self.database,
            inbox=self.inbox,
            client=self.client,
            crypto=cast(Any, ScriptedDecryption()),
            messenger=cast(Any, None),
            admin=cast(Any, NothingKept()),
            keeper=cast(Any, None),
        )
        self.bot = cast(Auditbot, create_bot(services))
        self.bot.completing.sampling.pick = lambda _: 0

    async def feed(self) -> None:
        async def nobody(_: object) -> None:
            return None

        feed = TimelineFeed(
            client=self.client,
            inbox=self.inbox,
            database=self.database,
            interval_seconds=1,
            reconnected=Signal(),
            push_behind=Signal(),
            on_invited=nobody,
            graph=True,
        )
        await feed.reconcile()

    async def record(self) -> None:
        consumer = Consumer(
            reader="auditbot",
            kinds=KINDS,
            handle=self.bot.handle,
            inbox=self.inbox,
            database=self.database,
            clock=self.clock,
            recipient=self.client.user_id,
        )
        while await consumer.step():
            pass
        await self.bot.exporting.look()

    async def lose(self, event_id: EventId, *, name_too: bool = False) -> None:
        """Take an event out of the inbox before it is recorded."""
        async with self.database.transaction() as connection:
            for row in await connection.fetch("SELECT position, kind, body FROM inbox_entry"):
                body = bytes(row["body"])
                if row["kind"] == "event" and json.loads(body)["event_id"] == event_id:
                    await connection.execute(
                        "DELETE FROM inbox_entry WHERE position = $1", row["position"]
                    )
            if name_too:
                await connection.execute(
                    "DELETE FROM inbox_seen WHERE key = $1", f"event:{event_id}"
                )

    async def records(self, kind: str, room: RoomId | None) -> list[dict[str, Any]]:
        rows = await self.database.fetch("SELECT * FROM audit_lines ORDER BY stream, last_seq")
        found = [json.loads(line) for row in rows for line in opened(row, None)]
        return [one for one in found if (one["kind"], one.get("room_id")) == (kind, room)]

    async def begin(self, person: RawClient) -> RoomId:
        """Return a room in which everything so far is recorded."""
        await self.feed()
        await self.bot.exporting.settle()
        room = await person.create_room(invite=[self.client.user_id])
        await self.client.join(room)
        await self.feed()
        await self.record()
        return room

    async def graph_is_lost_too(self) -> None:
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM inbox_entry WHERE kind = 'graph'")


@asynccontextmanager
async def archivist_of(world: World, directory: Path, url: str) -> AsyncIterator[Archivist]:
    """Give auditbot on a database of its own, beside the Steward of a world."""
    server_name = world.synapse.server_name
    async with (
        open_session() as session,
        open_database(url) as database,
    ):
        api = connect(
            homeserver_url=world.synapse.url,
            as_token=Secret(world.steward.as_token),
            sender=UserId(f"@_steward:{server_name}"),
            session=session,
        )
        client = MatrixClient(api, world.steward.auditbot)
        await ensure_registered(client)
        config = Config(
            homeserver=Homeserver(url=world.synapse.url, server_name=server_name),
            appservice=Appservice(as_token=Secret("a"), hs_token=Secret("b")),
            encryption=Encryption(pickle_key=Secret("c")),
            auditbot=Settings(destination=f"file:{directory / 'archive'}"),
        )
        yield Archivist(world, client, database, config, LaterClock())


@pytest.fixture
async def archivist(
    make_world: MakeWorld, tmp_path: Path, request: pytest.FixtureRequest, postgres: Postgres
) -> AsyncIterator[Archivist]:
    world = await make_world(Wish(module=False), start=False)
    await world.synapse.start()
    (tmp_path / "feed").mkdir()
    url = sqlite_url(tmp_path / "feed")
    if getattr(request, "param", None) == "postgres":
        url = (await postgres.create_database()).url
    async with archivist_of(world, tmp_path, url) as one:
        yield one


async def test_what_the_graph_names_and_nobody_brought_is_fetched(archivist: Archivist) -> None:
    async with await archivist.world.person() as alice:
        room = await archivist.begin(alice)
        lost = await alice.send_text(room, "lost")
        await alice.send_text(room, "kept")
        await archivist.feed()
        await archivist.lose(lost)
        await archivist.record()
        completing = archivist.bot.completing

        assert await completing.fetch() == 0, "it may still be on its way"
        assert await archivist.records("gap", room) == []
        archivist.clock.more_ms = SETTLE_MS + 60_000
        assert await completing.fetch() == 1
        (gap,) = await archivist.records("gap", room)
        assert await completing.fetch() == 0
        await archivist.record()
        (closed,) = await archivist.records("gap_closed", room)
        events = await archivist.records("event", room)

        assert gap["action"] == "event_missing"
        assert json.loads(gap["detail_json"]) == {"event_id": lost, "found_by": "graph"}
        assert (closed["action"], closed["of_seq"]) == ("event_missing", gap["seq"])
        assert json.loads(closed["detail_json"]) == {"event_id": lost}
        (found,) = [event for event in events if event["event_id"] == lost]
        assert (found["body"], found["source"]) == ("lost", "messages")
        assert len({event["event_id"] for event in events}) == len(events)
        (alarm,) = await untold(archivist.database)
        assert "1, in 1 rooms" in alarm.sentence
        assert "lost" not in alarm.sentence


async def test_a_crash_before_what_was_given_is_kept_does_not_forget_it(
    archivist: Archivist, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await archivist.world.person() as alice:
        room = await archivist.begin(alice)
        lost = await alice.send_text(room, "lost")
        await alice.send_text(room, "kept")
        await archivist.feed()
        await archivist.lose(lost)
        await archivist.record()
        archivist.clock.more_ms = SETTLE_MS + 60_000

        async def crash(_: object) -> int:
            raise TransientError("power cut")

        with monkeypatch.context() as patch:
            patch.setattr(archivist.inbox, "append", crash)
            with pytest.raises(TransientError):
                await archivist.bot.completing.fetch()
        assert await archivist.bot.completing.fetch() == 1
        await archivist.record()
        assert await archivist.bot.completing.fetch() == 0

        events = await archivist.records("event", room)
        assert [event["body"] for event in events if event["event_id"] == lost] == ["lost"]
        assert len(await archivist.records("gap", room)) == 1
        assert len(await archivist.records("gap_closed", room)) == 1


@pytest.mark.parametrize(
    ("archivist", "name_too"),
    [("sqlite", False), ("sqlite", True), ("postgres", False)],
    indirect=["archivist"],
)
async def test_what_the_feeds_never_told_is_found_by_asking(
    archivist: Archivist, *, name_too: bool
) -> None:
    async with await archivist.world.person() as alice:
        room = await archivist.begin(alice)
        quiet = await archivist.begin(alice)
        await alice.send_text(room, "first")
        lost = await alice.send_text(room, "the last, so nothing names it as its parent")
        await archivist.feed()
        await archivist.lose(lost, name_too=name_too)
        await archivist.graph_is_lost_too()
        await archivist.record()
        archivist.clock.more_ms = SETTLE_MS + 60_000

        assert await archivist.bot.completing.look() == 0, "only noticed"
        archivist.clock.more_ms += SETTLE_MS + 60_000
        assert await archivist.bot.completing.look() == 1
        await archivist.record()
        assert await archivist.bot.completing.look() == 0

        (gap,) = await archivist.records("gap", room)
        assert json.loads(gap["detail_json"]) == {"event_id": lost, "found_by": "sample"}
        assert len(await archivist.records("gap_closed", room)) == 1
        events = await archivist.records("event", room)
        assert [event["source"] for event in events if event["event_id"] == lost] == ["messages"]
        assert await archivist.records("gap", quiet) == []
        rows = await archivist.database.fetch("SELECT * FROM audit_sample")
        assert {(row["room_id"], row["missing"], row["trouble"]) for row in rows} == {
            (room, 1, None),
            (quiet, 0, None),
        }
        assert all(row["events"] > 0 for row in rows)
        await archivist.bot.archive.seal(flush=True)
        day = archivist.clock.now_ms() // DAY_MS
        archivist.clock.more_ms += DAY_MS
        await state_day(Desk(archivist.config, archivist.database, archivist.clock), day)
        said = await _stated(archivist)
        assert said["sampled"]["missing"] == 1
        assert said["sampled"]["rooms"] == len(rows)
        assert (said["awaited"], said["gaps"]) == ({}, {})


async def test_what_the_homeserver_does_not_give_stays_a_gap(archivist: Archivist) -> None:
    async with await archivist.world.person() as alice:
        room = await archivist.begin(alice)
        unknown = "$nobody-ever-sent-this"
        async with archivist.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_missing (event_id, room_id, found_by, noticed_ms)"
                " VALUES ($1, $2, 'graph', 0)",
                unknown,
                room,
            )

        assert await archivist.bot.completing.fetch() == 1
        await archivist.record()

        (gap,) = await archivist.records("gap", room)
        assert json.loads(gap["detail_json"]) == {
            "event_id": unknown,
            "found_by": "graph",
            "refused": "M_NOT_FOUND",
        }
        assert await archivist.records("gap_closed", room) == []
        assert await untold(archivist.database) == []


async def test_what_was_not_given_is_asked_for_again_for_some_days(archivist: Archivist) -> None:
    async with await archivist.world.person() as alice:
        await archivist.begin(alice)
        room = await alice.create_room()
        lost = await alice.send_text(room, "held back")
        completing, clock = archivist.bot.completing, archivist.clock
        async with archivist.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO audit_missing (event_id, room_id, found_by, noticed_ms)"
                " VALUES ($1, $2, 'graph', 0)",
                [(lost, room), ("$nobody-ever-sent-this", room)],
            )
        # Only members are given what was said, and auditbot is none yet.
        assert await completing.fetch() == 2
        assert len(await archivist.records("gap", room)) == 2
        assert await completing.fetch() == 0  # not at once
        await alice.invite(room, archivist.client.user_id)
        await archivist.client.join(room)
        clock.more_ms += AGAIN_MS[0] - 60_000
        assert await completing.fetch() == 0
        clock.more_ms += 120_000

        assert await completing.fetch() == 2
        await archivist.record()

        events = await archivist.records("event", room)
        assert [event["body"] for event in events if event["event_id"] == lost] == ["held back"]
        (closed,) = await archivist.records("gap_closed", room)
        assert json.loads(closed["detail_json"])["event_id"] == lost
        assert len(await archivist.records("gap", room)) == 2
        for wait_ms in AGAIN_MS[1:]:
            clock.more_ms += wait_ms
            assert await completing.fetch() == 1  # what nobody ever sent
        clock.more_ms += 10 * AGAIN_MS[-1]
        assert await completing.fetch() == 0
        assert len(await archivist.records("gap", room)) == 2


async def test_a_room_that_cannot_be_gone_back_through_is_asked_all_the_same(
    archivist: Archivist,
) -> None:
    async with await archivist.world.person() as alice:
        room = await archivist.begin(alice)
        lost = await alice.send_text(room, "lost")
        await archivist.feed()
        await archivist.lose(lost)
        await archivist.record()
        async with archivist.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO audit_missing (event_id, room_id, child, found_by, noticed_ms)"
                " VALUES ($1, $2, $3, 'graph', 0)",
                lost,
                room,
                "$nobody-ever-sent-this",
            )
        await archivist.world.synapse.stop()
        with pytest.raises(TransientError):
            await archivist.bot.completing.fetch()
        assert await archivist.records("gap", room) == []
        await archivist.world.synapse.start()

        assert await archivist.bot.completing.fetch() == 1
        await archivist.record()

        events = await archivist.records("event", room)
        assert [event["body"] for event in events if event["event_id"] == lost] == ["lost"]


async def test_what_was_there_before_the_record_is_no_hole(archivist: Archivist) -> None:
    async with await archivist.world.person() as alice:
        room = await alice.create_room(invite=[archivist.client.user_id])
        await alice.send_text(room, "before the record began")
        await archivist.feed()
        await archivist.bot.exporting.settle()
        await archivist.client.join(room)
        await alice.send_text(room, "after")
        await archivist.feed()
        await archivist.record()
        archivist.clock.more_ms = SETTLE_MS + 60_000

        await archivist.bot.completing.look()

        assert await archivist.database.fetch("SELECT * FROM audit_missing") == []
        said = [event["body"] for event in await archivist.records("event", room)]
        assert "after" in said
        assert "before the record began" not in said


async def _stated(archivist: Archivist) -> dict[str, Any]:
    row = await archivist.database.fetchrow("SELECT body FROM audit_statement")
    assert row is not None
    found: dict[str, Any] = json.loads(bytes(row["body"]))
    return found
