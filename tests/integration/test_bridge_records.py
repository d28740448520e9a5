"""What is kept of bridges, on both databases: counting, limits, and what was found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from adminbot.bridges.activity import day_of, first_day
from adminbot.bridges.instance import Bridge
from adminbot.bridges.limit import Means, Standing
from adminbot.bridging.at_work import AtWork
from adminbot.bridging.ears import Ears
from adminbot.bridging.limits import Limits
from adminbot.bridging.registry import Registry, Sighting
from adminbot.bridging.watch import Watch
from adminbot.own.bridges import (
    BridgeRow,
    BridgesOfRoom,
    FiguresOfBridges,
    GhostsOfBridge,
    ListBridges,
    LoginsOfBridge,
    PauseBridge,
    ResumeBridge,
    RoomsOfBridge,
    SetBridgeLimit,
    SetBridgeVocabulary,
)
from adminbot.own_records import OwnRecords
from common.config.schema import Bridges
from common.database.pool import Database
from common.errors import ConfigError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import ChangeRequest, ReadRequest, T
from common.homeserver.synapse.account_state import SuspendUser
from common.homeserver.synapse.rooms import GetRoomState, ListRoomMembers, StateEvent
from common.homeserver.synapse.users import GetUser, ListUsers, UserDetails, UserPage, UserSummary
from common.ids import EventId, RoomId, UserId
from common.inbox.port import Entry, EntryKind, Source
from common.inbox.signal import Signal
from tests.unit.adminbot.world import FakeClock

SERVER = "example.org"
ROOM = RoomId("!room:example.org")
BOT = UserId(f"@heisenbridge:{SERVER}")
DAY_MS = 86_400_000
REGISTRATION = {
    "id": "heisenbridge",
    "url": "http://127.0.0.1:9898",
    "as_token": "a-secret-token",
    "hs_token": "another",
    "sender_localpart": "heisenbridge",
    "namespaces": {"users": [{"regex": "@irc_.*", "exclusive": True}]},
}


@dataclass
class SomeAdmin:
    """Accounts of a homeserver that can be suspended."""

    users: dict[UserId, bool] = field(default_factory=dict)
    members: tuple[UserId, ...] = ()
    state: tuple[StateEvent, ...] = ()
    away: bool = False

    async def read(self, request: ReadRequest[T]) -> T:
        found: object
        asked: object = request
        match asked:
            case GetUser(user=user) if user in self.users:
                found = UserDetails(user, suspended=self.users[user])
            case GetUser():
                raise NotFoundError(404, "M_NOT_FOUND", "no such user")
            case ListUsers():
                found = UserPage(tuple(UserSummary(name) for name in self.users), len(self.users))
            case ListRoomMembers():
                found = self.members
            case GetRoomState(type=type_):
                found = tuple(each for each in self.state if each.type == type_)
            case _:
                raise AssertionError(asked)
        return cast(T, found)

    async def change(self, request: ChangeRequest[T]) -> T:
        asked: object = request
        assert isinstance(asked, SuspendUser)
        self.users[asked.user] = asked.suspended
        return cast(T, None)

    def suspended(self) -> set[str]:
        return {name for name, held in self.users.items() if held}


@dataclass
class Told:
    """What admins and rooms were told."""

    warnings: list[tuple[int, int]] = field(default_factory=list)
    changes: list[bool] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)

    async def warn(self, bridge: Bridge, active: int, limit: int, at_ms: int) -> None:
        self.warnings.append((active, limit))

    async def changed(
        self,
        bridge: Bridge,
        row: BridgeRow,
        standing: Standing,
        means: Sequence[Means],
        trouble: str | None,
    ) -> None:
        self.changes.append(standing.paused)
        self.troubles.append(trouble)

    async def hook(self, bridge: Bridge, trouble: str | None, at_ms: int, *, stop: bool) -> None:
        self.troubles.append(trouble)


@dataclass
class Bridging:
    database: Database
    clock: FakeClock
    registry: Registry
    watch: Watch
    admin: SomeAdmin
    told: Told
    limits: Limits
    records: OwnRecords

    @property
    def bridge(self) -> Bridge:
        return self.registry.bridges["heisenbridge"]

    async def see(self, *events: dict[str, Any]) -> None:
        entries = [
            Entry(n, EntryKind.EVENT, json.dumps(e).encode(), Source.TRANSACTION, "", "", 0)
            for n, e in enumerate(events)
        ]
        traffic = self.watch.look(entries)
        async with self.database.transaction() as connection:
            await self.watch.keep(connection, traffic)

    async def sends(self, nick: str, *, days_ago: int = 0) -> UserId:
        user = UserId(f"@irc_net_{nick}:{SERVER}")
        self.admin.users.setdefault(user, False)
        sent_ms = self.clock.now_ms() - days_ago * DAY_MS
        await self.see(event(user, at_ms=sent_ms))
        self.clock.forward(1)
        return user

    async def active(self, at_least: int = 1) -> int:
        today = day_of(self.clock.now_ms())
        figures = await self.records.read(FiguresOfBridges(first_day(today), at_least))
        return figures["heisenbridge"].active

    async def change(self, change: Any) -> None:
        async with self.database.transaction() as connection:
            await self.records.apply(connection, change)
        await self.registry.refresh()
        await self.limits.look(self.bridge)


def event(
    sender: str, *, type_: str = "m.room.message", at_ms: int = 0, **more: Any
) -> dict[str, Any]:
    return {
        "type": type_,
        "sender": sender,
        "room_id": ROOM,
        "event_id": f"${sender}{at_ms}",
        "origin_server_ts": at_ms,
        "content": {"msgtype": "m.text", "body": "x"},
        **more,
    }


@pytest.fixture
async def bridging(database: Database, tmp_path: Path) -> Bridging:
    path = tmp_path / "registration.yaml"
    path.write_text(json.dumps(REGISTRATION))
    section = Bridges(registrations=(str(path),))
    return await put_together(database, section, FakeClock())


async def _is_of_service(_user: UserId) -> bool:
    return True


async def put_together(database: Database, section: Bridges, clock: FakeClock) -> Bridging:
    registry = Registry(section, SERVER, database, clock, _is_of_service)
    registry.read_configuration()
    await registry.load()
    own = frozenset({UserId(f"@adminbot:{SERVER}")})
    watch = Watch(registry, Ears(clock), clock, own, Signal(), Signal())
    await watch.load()
    admin, told = SomeAdmin(), Told()
    limits = Limits(registry, admin, database, clock, told, at_least=1)
    return Bridging(database, clock, registry, watch, admin, told, limits, OwnRecords(database))


async def test_the_registration_says_everything(bridging: Bridging) -> None:
    (row,) = await bridging.records.read(ListBridges())
    assert (row.name, row.kind, row.bot) == ("heisenbridge", "heisenbridge", BOT)
    assert row.means == (Means.SUSPEND,)
    kept = [dict(one) for one in await bridging.database.fetch("SELECT * FROM bridge")]
    assert [one["bot"] for one in kept] == [BOT]
    assert "a-secret-token" not in str(kept)


async def test_each_day_counts_once_and_old_days_no_more(bridging: Bridging) -> None:
    for _ in range(3):
        await bridging.sends("carol")
    await bridging.sends("carol", days_ago=5)
    await bridging.sends("dave", days_ago=30)
    await bridging.sends("old", days_ago=31)

    assert await bridging.active() == 2
    assert await bridging.active(at_least=2) == 1
    since = first_day(day_of(bridging.clock.now_ms()))
    ghosts = await bridging.records.read(GhostsOfBridge("heisenbridge", since))
    assert [(one.user, one.days) for one in ghosts] == [
        (f"@irc_net_carol:{SERVER}", 2),
        (f"@irc_net_dave:{SERVER}", 1),
    ]


async def test_what_is_no_message_of_a_bridged_person_does_not_count(bridging: Bridging) -> None:
    ghost = f"@irc_net_x:{SERVER}"
    now_ms = bridging.clock.now_ms()
    await bridging.see(
        event(ghost, type_="m.room.member", at_ms=now_ms, state_key=ghost),
        event("@irc_net_x:elsewhere.example", at_ms=now_ms),
        event(f"@alice:{SERVER}", at_ms=now_ms),
        event(BOT, at_ms=now_ms),
        {"type": 5, "sender": ghost, "room_id": ROOM},
        event(ghost, at_ms="now"),  # type: ignore[arg-type]  # the wrong value that is tested
    )
    assert await bridging.active() == 0


async def test_rooms_are_known_by_their_traffic_and_forgotten_when_the_bot_leaves(
    bridging: Bridging,
) -> None:
    await bridging.sends("carol")
    now_ms = bridging.clock.now_ms()
    await bridging.see(event(f"@alice:{SERVER}", at_ms=now_ms))
    (room,) = await bridging.records.read(RoomsOfBridge("heisenbridge"))
    assert (room.room, room.out_ms) == (ROOM, now_ms)
    assert await bridging.records.read(BridgesOfRoom(ROOM))

    leaves = {"content": {"membership": "leave"}, "state_key": BOT}
    await bridging.see(event(BOT, type_="m.room.member", at_ms=now_ms, **leaves))
    assert not await bridging.records.read(BridgesOfRoom(ROOM))


async def test_a_room_is_forgotten_when_the_last_of_a_bridge_leaves(bridging: Bridging) -> None:
    carol, dave = [await bridging.sends(nick) for nick in ("carol", "dave")]
    at_work = AtWork(bridging.registry, bridging.watch, bridging.admin)

    async def leaves(ghost: UserId, *left: UserId, by: UserId) -> bool:
        bridging.admin.members = left
        gone: dict[str, Any] = {"content": {"membership": "leave"}, "state_key": ghost}
        await bridging.see(event(by, type_="m.room.member", **gone))
        assert bridging.watch.doubts.pop() == ("heisenbridge", ROOM)
        await at_work.settle("heisenbridge", ROOM)
        return not await bridging.records.read(BridgesOfRoom(ROOM))

    alice = UserId(f"@alice:{SERVER}")
    assert not await leaves(carol, dave, alice, by=carol)
    assert await leaves(dave, alice, by=alice), "removed is gone too"
    assert not bridging.watch.rooms[ROOM]
    await bridging.see(event(alice, at_ms=bridging.clock.now_ms()))
    assert not await bridging.records.read(BridgesOfRoom(ROOM)), "and it stays so"


async def test_a_room_is_forgotten_when_the_bridge_takes_its_word_back(
    bridging: Bridging,
) -> None:
    at_work = AtWork(bridging.registry, bridging.watch, bridging.admin)
    bridging.admin.members = (BOT,)
    said = {"protocol": {"id": "irc"}, "channel": {"id": "#chan"}}
    for contents, known in (((said,), True), (({}, said), True), (({}, {}), False)):
        bridging.admin.state = tuple(
            StateEvent("m.bridge", BOT, EventId("$e"), str(number), content=content)
            for number, content in enumerate(contents)
        )
        for number, content in enumerate(contents):
            await bridging.see(
                event(BOT, type_="m.bridge", state_key=str(number), content=content)
            )
        assert bool(bridging.watch.doubts) is ({} in contents)
        bridging.watch.doubts.clear()
        await at_work.settle_all()
        assert bool(await bridging.records.read(BridgesOfRoom(ROOM))) is known


async def test_a_bridge_event_names_room_and_bridge(bridging: Bridging) -> None:
    content = {
        "bridgebot": BOT,
        "protocol": {"id": "irc", "displayname": "IRC"},
        "network": {"id": "libera", "displayname": "Libera"},
        "channel": {"id": "#chan", "displayname": 5},
    }
    described = event(BOT, type_="m.bridge", state_key="x", content=content)
    await bridging.see(described)
    (room,) = await bridging.records.read(BridgesOfRoom(ROOM))
    assert (room.remote, room.network, room.remote_name) == ("#chan", "Libera", None)


async def test_a_bridge_is_found_by_its_own_event_and_not_by_anybody_elses(
    bridging: Bridging,
) -> None:
    bot, content = f"@whatsappbot:{SERVER}", {"protocol": {"id": "whatsapp"}}
    await bridging.see(
        event(bot, type_="m.bridge", state_key="", content={**content, "bridgebot": bot}),
        event(f"@mallory:{SERVER}", type_="m.bridge", state_key="", content={"bridgebot": bot}),
    )
    assert [one.bot for one in bridging.watch.sightings] == [bot]
    assert await bridging.registry.sight(bridging.watch.sightings)
    assert not await bridging.registry.sight(bridging.watch.sightings), "twice is once"
    rows = await bridging.records.read(ListBridges())
    assert {row.kind for row in rows} == {"heisenbridge", "mautrix-whatsapp"}

    again = await put_together(bridging.database, bridging.registry.section, bridging.clock)
    assert set(again.registry.bridges) == {"heisenbridge", "mautrix-whatsapp"}


async def test_an_unknown_bot_is_no_bridge(bridging: Bridging) -> None:
    assert not await bridging.registry.sight([Sighting(UserId(f"@x:{SERVER}"), ("x",), "state")])


async def test_warned_once_paused_and_let_go(bridging: Bridging) -> None:
    first = await bridging.sends("first")
    for nick in ("second", "third", "fourth"):
        await bridging.sends(nick)
    mine = UserId(f"@irc_net_admins_victim:{SERVER}")
    bridging.admin.users[mine] = True
    alice = UserId(f"@alice:{SERVER}")
    bridging.admin.users[alice] = False

    await bridging.change(SetBridgeLimit(bridge="heisenbridge", limit=5))
    await bridging.limits.look(bridging.bridge)
    assert bridging.told.warnings == [(4, 5)]
    assert bridging.admin.suspended() == {mine}

    await bridging.change(SetBridgeLimit(bridge="heisenbridge", limit=1))
    await bridging.limits.look(bridging.bridge)
    assert bridging.told.changes == [True]
    assert first not in bridging.admin.suspended()
    assert len(bridging.admin.suspended()) == 4
    newcomer = await bridging.sends("newcomer")
    await bridging.limits.look(bridging.bridge)
    assert newcomer in bridging.admin.suspended()
    assert alice not in bridging.admin.suspended()

    await bridging.change(SetBridgeLimit(bridge="heisenbridge", limit=None))
    assert bridging.told.changes == [True, False]
    assert bridging.admin.suspended() == {mine}, "whom an admin suspended stays so"


async def test_a_pause_ends_when_fewer_are_active(bridging: Bridging) -> None:
    await bridging.sends("one")
    await bridging.sends("two")
    await bridging.change(SetBridgeLimit(bridge="heisenbridge", limit=1))
    assert bridging.told.changes == [True]

    bridging.clock.forward(40 * 86_400)
    await bridging.limits.look(bridging.bridge)

    assert bridging.told.changes == [True, False]
    assert not bridging.admin.suspended()


async def test_a_pause_by_hand_and_a_restart_in_between(bridging: Bridging) -> None:
    carol = await bridging.sends("carol")
    by = UserId(f"@root:{SERVER}")
    await bridging.change(PauseBridge(bridge="heisenbridge", by=by))
    assert bridging.admin.suspended() == {carol}

    again = await put_together(bridging.database, bridging.registry.section, bridging.clock)
    again.admin.users = bridging.admin.users
    await again.limits.look(again.bridge)
    assert again.told.changes == [], "told once"
    await again.change(ResumeBridge(bridge="heisenbridge"))
    assert again.admin.suspended() == set()
    assert again.told.changes == [False]


async def test_words_of_another_version_hold(bridging: Bridging) -> None:
    bot = UserId(f"@whatsappbot:{SERVER}")
    await bridging.registry.sight([Sighting(bot, ("whatsapp",), "state")])
    name = "mautrix-whatsapp"
    async with bridging.database.transaction() as connection:
        change = SetBridgeVocabulary(bridge=name, vocabulary="legacy")
        await bridging.records.apply(connection, change)
    await bridging.registry.refresh()
    assert bridging.registry.bridges[name].vocabulary.name == "legacy"
    assert await bridging.records.read(LoginsOfBridge(name)) == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("irc: {kind: nothing, bot: '@x:example.org'}", "which there is not"),
        ("irc: {kind: heisenbridge}", "needs a registration, or a bot and a kind"),
        ("IRC: {kind: heisenbridge, bot: '@x:y'}", "a bridge's name is"),
        ("irc: {kind: heisenbridge, bot: '@x:y', limits: 3}", "unknown field"),
        ("irc: {kind: heisenbridge, bot: '@x:y', limit: -3}", "limit"),
        ("irc: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_settings_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bridges.yaml"
    path.write_text(text)
    registry = Registry(Bridges(settings=str(path)), SERVER, cast(Any, None), FakeClock())
    with pytest.raises(ConfigError, match=sentence):
        registry.read_configuration()


def test_a_broken_registration_tells_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "registration.yaml"
    path.write_text(json.dumps({**REGISTRATION, "sender_localpart": 5}))
    registry = Registry(Bridges(registrations=(str(path),)), SERVER, cast(Any, None), FakeClock())
    with pytest.raises(ConfigError) as caught:
        registry.read_configuration()
    assert "a-secret-token" not in str(caught.value)
