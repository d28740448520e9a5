"""How far long work is: what is shown when, by a clock that only moves when everybody waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adminbot.engine.actor import Role
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import command
from adminbot.engine.intake import Request
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.render import render
from adminbot.jobs import Running, Status
from adminbot.progress import Ticker, told
from common.database.pool import Database
from common.errors import StartOverError, TransientError
from common.homeserver.port import AdminReader, HttpChange, Json, Permission, Progress
from common.homeserver.synapse.rooms import Event
from common.homeserver.synapse.users import ListUsers, UserDetails
from common.i18n import t
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    AUDITBOT,
    DIRECT,
    ME,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    Rename,
    parts,
    request,
)

PEOPLE = 80
A_SECOND = 2
PROGRESS = EventId("$steward-progress-$command")


@command("test paced", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def paced(admin: AdminReader, number: int = PEOPLE) -> Plan:
    """Rename people, two a second.

    Args:
        number: how many
    """
    page = await admin.read(ListUsers())
    steps = tuple(Rename(one.name) for one in page.users[:number])
    return Plan(summary="Rename", steps=steps, bulk=Bulk(at_once=1, per_second=A_SECOND))


class Tide(FakeClock):
    """A clock that jumps to when the first sleeper wakes, once all of them sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep: list[tuple[float, asyncio.Future[None]]] = []
        self.changed = asyncio.Event()
        self.begun = self.monotonic()

    @property
    def passed(self) -> float:
        return self.monotonic() - self.begun

    async def sleep(self, seconds: float) -> None:
        mine = self.monotonic() + seconds, asyncio.get_running_loop().create_future()
        self.asleep.append(mine)
        self.changed.set()
        try:
            await mine[1]
        finally:
            self.asleep.remove(mine)

    async def run(self, work: Awaitable[None], *, sleepers: int) -> None:
        """Do the work, for which so many have to be asleep before time goes on."""
        raised: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            mover = group.create_task(self._move(sleepers))
            try:
                await work
            except BaseException as error:  # noqa: BLE001  # raised again below, as it is
                raised = error
            finally:
                mover.cancel()
        if raised is not None:
            raise raised

    async def _move(self, sleepers: int) -> None:
        while True:
            self.changed.clear()
            waking = [one for one in self.asleep if not one[1].done()]
            if len(waking) >= sleepers:
                at, sleeper = min(waking, key=lambda one: one[0])
                self.forward(max(0.0, at - self.monotonic()))
                sleeper.set_result(None)
            else:
                async with asyncio.timeout(20):
                    await self.changed.wait()


def lines_of(words: str) -> list[str]:
    """Return the lines with something on them."""
    return [line for line in words.splitlines() if line]


Shown = tuple[float, str, str]
"""After how many seconds, what happened, and the words of it."""


@dataclass
class Stamped(FakeMessenger):
    """Remembers when something was said or changed."""

    clock: Tide = field(default_factory=Tide)
    shown: list[Shown] = field(default_factory=list)

    async def send(
        self,
        room_id: RoomId,
        content: Json,
        *,
        txn_id: str,
        event_type: str = "m.room.message",
        also: Sequence[UserId] = (),
    ) -> EventId:
        event = await super().send(
            room_id, content, txn_id=txn_id, event_type=event_type, also=also
        )
        self.shown.append((self.clock.passed, "said", str(content["body"])))
        return event

    async def edit(
        self, room_id: RoomId, event_id: EventId, content: Json, *, txn_id: str
    ) -> EventId:
        assert event_id == PROGRESS
        self.shown.append((self.clock.passed, "edited", str(content["body"])))
        return await super().edit(room_id, event_id, content, txn_id=txn_id)


@dataclass
class StampedSender(FakeSender):
    """Remembers when it was shown that we type."""

    clock: Tide = field(default_factory=Tide)
    shown: list[Shown] = field(default_factory=list)
    over: bool = False

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        assert path.endswith("/typing/%40adminbot%3Aexample.org")
        if self.over:
            raise StartOverError("Another process is me.")
        typing = (body or {}).get("typing")
        self.shown.append((self.clock.passed, "types" if typing else "types no more", ""))
        return {}


@dataclass
class World:
    """Everything around the dispatcher."""

    made: Parts
    admin: FakeAdmin
    messenger: Stamped
    sender: StampedSender
    clock: Tide
    database: Database

    async def give(self, given: Request) -> None:
        self.admin.events[given.event] = Event("m.room.message", given.sender)
        async with self.database.transaction() as connection:
            await self.made.store.take_in(connection, given, None)
        for job in await self.made.store.jobs(10):
            await self.made.dispatcher.obey(job)
        await self.carry_on()

    async def carry_on(self) -> None:
        for asked in await self.made.store.executing():
            await self.made.dispatcher.carry_on(asked)

    async def all_of(self, text: str) -> list[Shown]:
        """Give a command, let time pass until it is over, and return what was shown."""
        await self.clock.run(self.give(request(text)), sleepers=2)
        return self.shown

    @property
    def shown(self) -> list[Shown]:
        return self.messenger.shown


Make = Callable[[str], World]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    async with open_database(sqlite_url(tmp_path)) as database:

        def made(language: str) -> World:
            clock = Tide()
            messenger = Stamped(clock=clock)
            sender = StampedSender(clock=clock, shown=messenger.shown)
            people = (UserId(f"@person{number}:example.org") for number in range(PEOPLE - 1))
            admin = FakeAdmin(
                users={
                    ADMIN: UserDetails(ADMIN, admin=True),
                    **{one: UserDetails(one) for one in people},
                },
                members={DIRECT: (ADMIN, ME, AUDITBOT)},
            )
            built = parts(
                database,
                clock,
                admin,
                messenger,
                sender,
                Catalogue((paced,)),
                sleep=clock.sleep,
                language=language,
            )
            showing = replace(built.dispatcher.showing, sleep=clock.sleep)
            built = replace(built, dispatcher=replace(built.dispatcher, showing=showing))
            return World(built, admin, messenger, sender, clock, database)

        yield made


@pytest.fixture
def world(make: Make) -> World:
    return make("en")


async def test_what_takes_a_moment_shows_nothing_but_its_outcome(world: World) -> None:
    shown = await world.all_of("test paced 2")

    assert [what for _, what, _ in shown] == ["said"]
    assert "Done: Rename" in shown[0][2]


async def test_after_a_second_we_type_until_it_is_over(world: World) -> None:
    shown = await world.all_of("test paced 7")

    assert [(round(at), what) for at, what, _ in shown] == [
        (1, "types"),
        (3, "types no more"),
        (3, "said"),
    ]


async def test_after_five_seconds_there_is_one_message_that_is_edited_in_place(
    world: World,
) -> None:
    shown = await world.all_of("test paced")

    first, *edits, last = [one for one in shown if "types" not in one[1]]
    assert first[:2] == (5, "said")
    assert [round(at) for at, _, _ in edits] == [9, 13, 17, 21, 25, 29, 33, 37, 40]
    assert {what for _, what, _ in edits} == {"edited"}
    assert "Done: Rename" in last[2]
    # Typing ends where the message begins.
    assert [(at, what) for at, what, _ in shown if "types" in what] == [
        (1, "types"),
        (5, "types no more"),
    ]


async def test_it_says_how_far_how_fast_and_how_long_yet(world: World) -> None:
    shown = await world.all_of("test paced")

    said = {round(at): lines_of(words) for at, what, words in shown if "types" not in what}
    assert said[5] == [
        "Rename: 10 of 80",
        "2.0 a second, about 35 seconds left",
        "To stop it: cancel 1",
    ]
    assert said[25][:2] == ["Rename: 50 of 80", "2.0 a second, about 15 seconds left"]


async def test_it_speaks_the_language_of_who_asked(make: Make) -> None:
    shown = await make("de").all_of("test paced")

    said = {what: lines_of(words) for _, what, words in shown}
    assert said["edited"] == ["Rename: 80 von 80", "Das hat 39 Sekunden gedauert."]
    first = next(words for _, what, words in shown if what == "said")
    assert lines_of(first) == [
        "Rename: 10 von 80",
        "2.0 pro Sekunde, noch etwa 35 Sekunden",
        "Zum Anhalten: cancel 1",
    ]


async def test_nothing_that_is_over_says_how_to_stop_it(world: World) -> None:
    shown = await world.all_of("test paced")

    last = [words for _, what, words in shown if what == "edited"][-1]
    assert lines_of(last) == ["Rename: 80 of 80", "It took 39 seconds."]


async def test_what_failed_is_over_too(world: World) -> None:
    world.admin.refuse_change = lambda call: call.path.endswith("5%3Aexample.org")

    shown = await world.all_of("test paced")

    last = [words for _, what, words in shown if what == "edited"][-1]
    assert last.startswith("Rename: 80 of 80\n")
    assert "Failed: 8" in world.messenger.bodies[-1]


class KilledError(BaseException):
    """Stands for the end of the process."""


async def killed_after(world: World, number: int) -> None:
    """Give the command, and end the process with so many steps done."""

    def die(call: HttpChange) -> bool:
        if len(world.admin.changes) >= number:
            raise KilledError
        return False

    world.admin.refuse_change = die
    with pytest.raises(KilledError):
        await world.all_of("test paced")
    world.admin.refuse_change = lambda call: False
    world.shown.clear()
    world.clock.forward(600)


async def test_after_a_restart_the_same_message_goes_on_and_the_rate_is_todays(
    world: World,
) -> None:
    await killed_after(world, 30)
    again = world.clock.passed

    await world.clock.run(world.carry_on(), sleepers=2)

    shown = [(round(at - again), what, words) for at, what, words in world.shown]
    assert [(at, what) for at, what, _ in shown if what != "edited"] == [
        (1, "types"),
        (5, "types no more"),
        (24, "said"),
    ]
    edits = {at: lines_of(words) for at, what, words in shown if what == "edited"}
    assert edits[5] == [
        "Rename: 40 of 80",
        "2.0 a second, about 20 seconds left",
        "To stop it: cancel 1",
    ]
    assert edits[24] == ["Rename: 80 of 80", "It took 10 minutes."]


async def test_a_rest_too_short_to_be_shown_still_ends_the_message_of_before(
    world: World,
) -> None:
    await killed_after(world, 78)

    await world.clock.run(world.carry_on(), sleepers=2)

    assert [what for _, what, _ in world.shown] == ["edited", "said"]
    assert world.shown[0][2].startswith("Rename: 80 of 80\n")


async def test_a_message_that_could_not_be_sent_is_tried_again_and_delays_nothing(
    world: World,
) -> None:
    def refuse(content: Json) -> TransientError | None:
        early = world.clock.passed < 8 and "To stop it" in str(content["body"])
        return TransientError("The homeserver is away.") if early else None

    world.messenger.refuse = refuse

    shown = await world.all_of("test paced")

    assert "Rename: 80 of 80" in [words for _, what, words in shown if what == "edited"][-1]
    assert len(world.admin.changes) == PEOPLE
    assert [words for _, what, words in shown if what == "said"][-1].startswith("Done: Rename")


async def test_reading_for_long_shows_that_we_type_all_the_time(world: World) -> None:
    async def read() -> None:
        async with world.made.dispatcher.showing.busy(request("anything")):
            await world.clock.sleep(70)

    await world.clock.run(read(), sleepers=2)

    assert world.shown == [
        (1, "types", ""),
        (21, "types", ""),
        (41, "types", ""),
        (61, "types", ""),
        (70, "types no more", ""),
    ]


async def test_the_end_of_this_life_is_not_wrapped_up(world: World) -> None:
    world.sender.over = True

    async def read() -> None:
        async with world.made.dispatcher.showing.busy(request("anything")):
            await world.clock.sleep(70)

    with pytest.raises(StartOverError):
        await world.clock.run(read(), sleepers=2)


RUNNING = Running(
    event=EventId("$command"),
    number=7,
    room=DIRECT,
    requester=ADMIN,
    command="room delete",
    summary="Delete the room",
    status=Status.RUNNING,
    total=1,
    bulk=None,
    report=None,
    progress=None,
    started_ms=0,
)


@pytest.mark.parametrize(
    ("ticker", "lines"),
    [
        (Ticker(1), []),
        (Ticker(1, within=Progress(finished=False)), []),
        (Ticker(1, within=Progress(finished=False, done=3)), ["The homeserver has done 3."]),
        (
            Ticker(1, within=Progress(finished=False, done=3, total=9)),
            ["The homeserver has done 3 of 9."],
        ),
        (Ticker(1, within=Progress(finished=False, said=t("Purging."))), ["Purging."]),
        (
            Ticker(1, waiting=True),
            ["The homeserver asks for patience or is away; I wait and go on."],
        ),
    ],
)
def test_what_is_known_of_the_work_is_said_and_nothing_is_guessed(
    ticker: Ticker, lines: list[str]
) -> None:
    said = lines_of(render(told(RUNNING, ticker, 60.0)).body)

    assert said == ["Delete the room: 0 of 1", *lines, "To stop it: cancel 7"]
