"""Steward killed again and again under load, then its archive beside the homeserver's database."""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psycopg2

from common.demo.process import ServerError
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId
from tests.support.archive_check import Checked, Json, check_archive, read_directory
from tests.support.clients import NioClient, RawClient, RequestFailedError
from tests.support.s3 import s3_objects
from tests.support.world import World

PAUSE_SECONDS = 0.05
CAUGHT_UP_SECONDS = 180.0


@dataclass
class Load:
    """People who write, react, edit, delete, rename, come and go, until told to stop."""

    world: World
    sent: int = 0
    kills: int = 0
    rooms: list[RoomId] = field(default_factory=list)
    _stopped: bool = False

    async def run(self) -> None:
        """Make rooms and fill them."""
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(self._person(number))
            group.create_task(self._encrypted())

    def stop(self) -> None:
        """Let everybody finish what they are doing."""
        self._stopped = True

    async def _person(self, number: int) -> None:
        async with await self.world.person() as writer, await self.world.person() as guest:
            room = await writer.create_room(name=f"Load {number}")
            self.rooms.append(room)
            last: list[EventId] = []
            turn = 0
            while not self._stopped:
                turn += 1
                with contextlib.suppress(RequestFailedError, aiohttp.ClientError):
                    last.append(await self._act(writer, guest, room, turn, last))
                    self.sent += 1
                await asyncio.sleep(PAUSE_SECONDS)

    async def _act(
        self, writer: RawClient, guest: RawClient, room: RoomId, turn: int, last: list[EventId]
    ) -> EventId:
        target = random.choice(last) if last else None  # no secret
        match turn % 10:
            case 3 if target is not None:
                return await writer.redact(room, target, "load")
            case 5 if target is not None:
                relation = {"rel_type": "m.replace", "event_id": target}
                content = {"msgtype": "m.text", "body": "* new", "m.relates_to": relation}
                return await writer.send(room, "m.room.message", content)
            case 7:
                return await writer.send_state(room, "m.room.name", {"name": f"Load {turn}"})
            case 9:
                await (guest.leave(room) if turn % 20 > 10 else self._enter(writer, guest, room))
            case _:
                pass
        return await writer.send_text(room, f"number {turn} \N{SNOWMAN}")

    async def _enter(self, writer: RawClient, guest: RawClient, room: RoomId) -> None:
        await writer.invite(room, guest.user_id)
        await guest.join(room)

    async def _encrypted(self) -> None:
        account = await self.world.synapse.register("encrypts")
        directory = self.world.directory / "nio"
        async with NioClient(self.world.synapse.url, account, directory) as client:
            room = await client.create_room("Secrets", encrypted=True)
            self.rooms.append(room)
            turn = 0
            while not self._stopped:
                turn += 1
                with contextlib.suppress(ServerError, aiohttp.ClientError, TimeoutError):
                    await client.send_text(room, f"secret {turn}")
                    self.sent += 1
                await asyncio.sleep(PAUSE_SECONDS * 5)


@dataclass(frozen=True)
class Outcome:
    """What was found; the first three have to be empty."""

    lost: Mapping[str, str]
    """Event ID → type, of what the homeserver has and the archive has not."""
    doubled: list[str]
    foreign: list[str]
    reordered: int
    undecryptable: int
    events: int
    checked: Checked


async def kill_under_load(
    world: World, kills: int, *, seed: int = 1, most_seconds: float = 3600
) -> Load:
    """Start and kill Steward that many times; return the load that went on meanwhile.

    A busy machine does not get through all of them in ``most_seconds``; ``Load.kills`` tells.
    """
    until = asyncio.get_running_loop().time() + most_seconds
    dice = random.Random(seed)  # which moment, not a secret
    load = Load(world)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        for number in range(kills):
            await world.steward.launch()
            if number % 3:
                # Into the work itself; otherwise anywhere in the start.
                await world.steward.wait_until_ready()
                await asyncio.sleep(dice.uniform(0, 1))
            else:
                await asyncio.sleep(dice.uniform(0, 2.5))
            await world.steward.kill()
            load.kills += 1
            if asyncio.get_running_loop().time() > until:
                break
        load.stop()
    return load


async def compare(world: World) -> Outcome:
    """Let Steward catch up and stop in order; then compare event by event."""
    await world.steward.start()

    async def caught_up() -> bool:
        archived = {record["event_id"] for record in await _all_records(world)}
        return set(homeserver_events(world)) <= archived

    with contextlib.suppress(TimeoutError):
        await wait_for(caught_up, CAUGHT_UP_SECONDS, "every event in the archive")
    await world.steward.stop()
    checked = check_archive(await _objects(world))
    theirs = homeserver_events(world)
    records = checked.of_kind("event")
    ours = Counter(record["event_id"] for record in records)
    late = {record["event_id"] for record in checked.of_kind("decryption")}
    return Outcome(
        lost={event: kind for event, (_, kind, _) in theirs.items() if event not in ours},
        doubled=[event for event, count in ours.items() if count > 1],
        foreign=[event for event in ours if event not in theirs],
        reordered=_reordered(records, theirs),
        undecryptable=sum(
            record["enc_status"] == "undecryptable" and record["event_id"] not in late
            for record in records
        ),
        events=len(theirs),
        checked=checked,
    )


def homeserver_events(world: World) -> dict[str, tuple[str, str, int]]:
    """Return what the homeserver holds: event ID → room, type, place in its stream."""
    query = (
        "SELECT e.event_id, e.room_id, e.type, e.stream_ordering FROM events e"
        " LEFT JOIN rejections r ON r.event_id = e.event_id"
        " WHERE r.event_id IS NULL AND NOT e.outlier"
    )
    postgres = world.synapse.spec.postgres
    if postgres is not None:
        with contextlib.closing(psycopg2.connect(**postgres)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            rows = cursor.fetchall()
    else:
        path: Path = world.synapse.directory / "homeserver.db"
        address = f"file:{path}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as file:
            rows = file.execute(query).fetchall()
    return {event: (room, kind, place) for event, room, kind, place in rows}


def _reordered(records: list[Json], theirs: Mapping[str, tuple[str, str, int]]) -> int:
    """Return how many events came after a younger one of their room."""
    highest: dict[str, int] = {}
    count = 0
    for record in records:
        room, _, place = theirs.get(record["event_id"], ("", "", 0))
        count += place < highest.get(room, 0)
        highest[room] = max(place, highest.get(room, 0))
    return count


async def _objects(world: World) -> dict[str, bytes]:
    if world.s3 is None:
        return await asyncio.to_thread(read_directory, world.steward.archive)
    found = await s3_objects(world.s3, world.prefix)
    return {key.removeprefix(f"{world.prefix}/"): body for key, body in found.items()}


async def _all_records(world: World) -> list[Json]:
    return await world.records()
