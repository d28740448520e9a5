"""Whoever governs any room must not reach the bridges' connections of other rooms."""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from adminbot.bridges.namespaces import Owners, namespaces
from adminbot.bridging.ears import Ears
from adminbot.bridging.registry import Registry, Sighting
from adminbot.bridging.watch import Watch
from adminbot.bridging.work import _is_of_service
from adminbot.commands.bridging import bridge_connect, bridge_disconnect
from adminbot.commands.feeds import feed_add, github_connect, webhook_add
from adminbot.engine.actor import Actor, Caller, Place, PlaceKind, Target
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.bridges import BridgedRoom, BridgeRow, BridgesOfRoom, ListBridges
from common.config.schema import Bridges
from common.errors import UserError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import GetRoomState, StateEvent
from common.homeserver.synapse.users import UserDetails
from common.ids import EventId, UserId
from common.inbox.port import Entry, EntryKind, Source
from common.inbox.signal import Signal
from common.matrix.power import Power
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ALICE,
    NOW,
    NOW_MS,
    SERVER,
    SETTINGS,
    SHARED,
    FakeAdmin,
    FakeClock,
)

BOT = UserId(f"@heisenbridge:{SERVER}")
HOOKSHOT = UserId(f"@hookshot:{SERVER}")
TELEGRAM = UserId(f"@telegrambot:{SERVER}")


CONNECTING = {"name": "irc", "remote": "#x", "room": SHARED, "network": "n", "guild": None}
FOLLOWING = {"url": "https://x.example/f", "room": SHARED, "title": None, "template": None}


def row(name: str, kind: str, bot: UserId) -> BridgeRow:
    nothing = dict.fromkeys(BridgeRow.__dataclass_fields__, None)
    given = {**nothing, "name": name, "kind": kind, "bot": bot, "expressions": (), "means": ()}
    return BridgeRow(**cast(dict[str, Any], given))


class Own:
    """The tables; the room is connected with #here."""

    async def read(self, query: object) -> object:
        if isinstance(query, ListBridges):
            return (
                row("irc", "heisenbridge", BOT),
                row("hookshot", "matrix-hookshot", HOOKSHOT),
                row("telegram", "mautrix-telegram", TELEGRAM),
            )
        assert isinstance(query, BridgesOfRoom)
        return (BridgedRoom("irc", SHARED, "libera", "#here", None, None, None, None),)


@dataclass
class Rooms:
    """The administration API, which knows one room."""

    encrypted: bool = False

    async def read(self, request: object) -> tuple[StateEvent, ...]:
        assert isinstance(request, GetRoomState)
        event = StateEvent("m.room.encryption", ALICE, EventId("$e"), content={"algorithm": "x"})
        return (event,) if self.encrypted else ()


def caller(level: int = 100, *, needed: int = 100) -> Caller:
    levels = {"users": {ALICE: level}, "events": {"m.room.power_levels": needed}}
    target = Target(SHARED, Power(level, creator=False, levels=levels))
    return Caller(Actor(ALICE), Place(SHARED, PlaceKind.SHARED), target, None, NOW)


SUPPLIES: dict[type, object] = {OwnReader: Own(), Settings: SETTINGS, AdminReader: Rooms()}


async def ending(who: Caller, **options: str | None) -> Plan:
    arguments = {"name": "irc", "room": SHARED, "remote": None, "network": None, **options}
    supplies = {**SUPPLIES, Caller: who}
    plan = await bridge_disconnect.run(supplies, arguments)
    assert isinstance(plan, Plan)
    return plan


async def test_a_room_ends_its_own_connection() -> None:
    for options in ({}, {"remote": "#here", "network": "libera"}):
        (step,) = (await ending(caller(), **options)).steps
        assert dict(cast(Any, step).arguments) == {"remote": "#here", "network": "libera"}


@pytest.mark.parametrize("options", [{"remote": "#other"}, {"network": "oftc"}])
async def test_no_other_rooms_connection_is_ended(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="server admin"):
        await ending(caller(), **options)

    admin = replace(
        caller(), actor=Actor(ALICE, server_admin=True), place=Place(SHARED, PlaceKind.DIRECT)
    )
    assert (await ending(admin, **options)).steps


@pytest.mark.parametrize("by_bot", [True, False])
async def test_only_a_bridge_itself_says_what_a_room_is_connected_with(by_bot: bool) -> None:
    owners = Owners({"irc": namespaces(SERVER, ["@irc_.*"], [BOT])})
    registry = cast(Any, type("Registry", (), {"owners": owners, "server": SERVER}))
    watch = Watch(registry, Ears(FakeClock()), FakeClock(), frozenset(), Signal(), Signal())
    event = {
        "type": "uk.half-shot.bridge",
        "sender": BOT if by_bot else ALICE,
        "room_id": SHARED,
        "state_key": "x",
        "origin_server_ts": NOW_MS,
        "content": {"bridgebot": BOT, "channel": {"id": "#other"}, "network": {"id": "libera"}},
    }
    entry = Entry(
        1, EntryKind.EVENT, json.dumps(event).encode(), Source.TRANSACTION, "1", "", NOW_MS
    )

    traffic = watch.look([entry])

    assert bool(traffic.described) is by_bot
    assert bool(watch.rooms) is by_bot


async def test_who_calls_themselves_a_bridge_is_none(tmp_path: Path) -> None:
    service = UserId(f"@whatsappbot:{SERVER}")
    known = {ALICE: UserDetails(ALICE), service: UserDetails(service, appservice_id="whatsapp")}
    of_service = partial(_is_of_service, FakeAdmin(users=known))
    async with open_database(sqlite_url(tmp_path)) as database:
        registry = Registry(Bridges(), SERVER, database, FakeClock(), of_service)
        registry.read_configuration()
        await registry.load()

        assert not await registry.sight([Sighting(ALICE, ("whatsapp",), "state")])
        assert await registry.sight([Sighting(service, ("whatsapp",), "state")])

        assert [bridge.bot for bridge in registry.bridges.values()] == [service]


async def test_a_bridge_gets_no_power_that_who_asks_could_not_give() -> None:
    for command, arguments in ((bridge_connect, CONNECTING), (feed_add, FOLLOWING)):
        assert isinstance(await command.run({**SUPPLIES, Caller: caller()}, arguments), Plan)
        with pytest.raises(UserError, match="power level 150"):
            await command.run({**SUPPLIES, Caller: caller(needed=150)}, arguments)


async def test_nothing_is_typed_into_an_encrypted_room() -> None:
    """What is typed elsewhere, or is a state event, is warned of first."""
    rooms = Rooms(encrypted=True)
    supplies = {**SUPPLIES, AdminReader: rooms, Caller: caller()}
    telegram = {**CONNECTING, "name": "telegram", "remote": "-100123"}
    github = {"repo": "org/repo", "room": SHARED}
    for command, arguments, words in (
        (bridge_connect, telegram, "!tg bridge -100123"),
        (github_connect, github, "!hookshot github repo https://github.com/org/repo"),
        (webhook_add, {"name": "deploys", "room": SHARED}, "!hookshot webhook deploys"),
    ):
        with pytest.raises(UserError, match=f"type it there yourself: {re.escape(words)}"):
            await command.run(supplies, arguments)

    for command, arguments in ((bridge_connect, CONNECTING), (feed_add, FOLLOWING)):
        plan = await command.run(supplies, arguments)
        assert isinstance(plan, Plan)
        assert plan.ask
        assert "is encrypted" in str(plan.details)
    assert not (await ending(caller())).details
    rooms.encrypted = False
    plan = await feed_add.run(supplies, FOLLOWING)
    assert isinstance(plan, Plan)
    assert not plan.ask
