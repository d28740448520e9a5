"""Exports in parts, and lines that hold whatever people wrote."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.commands import catalogue
from adminbot.engine.exported import Wanted, line_of
from adminbot.engine.server_steps import ExportRoom
from adminbot.room_export import RoomExport
from common.errors import UserError
from common.homeserver.synapse.room_content import Messages, ReadMessages, TimelineEvent
from common.ids import EventId, RoomId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    DIRECT,
    ME,
    SHARED,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    parts,
)

PAGES = 4
WANTED = Wanted(room=SHARED, by=ADMIN, reason="because", from_ms=10, until_ms=20)


def event(number: int, **content: Any) -> TimelineEvent:
    return TimelineEvent("m.room.message", ALICE, EventId(f"$e{number}"), number, None, content)


@dataclass
class Long(FakeAdmin):
    """A server with a room of several pages."""

    asked: list[str | None] = field(default_factory=list)

    def _answer(self, request: object) -> object:
        if not isinstance(request, ReadMessages):
            return super()._answer(request)
        self.asked.append(request.start)
        page = int(request.start or 0)
        chunk = tuple(event(page * 10 + number, body="x" * 50) for number in range(10))
        end = str(page + 1) if page + 1 < PAGES else None
        return Messages(chunk, request.start or "0", end)


async def test_what_is_too_long_for_one_file_comes_in_several_each_once(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin, messenger = Long(members={DIRECT: (ADMIN, ME)}), FakeMessenger()
        made = parts(database, FakeClock(), admin, messenger, FakeSender(), catalogue())
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_direct_chat (user_id, room_id) VALUES ($1, $2)", ADMIN, DIRECT
            )
        export = RoomExport(admin, made.telling, part_bytes=2_000)
        step = ExportRoom(room=SHARED, by=ADMIN, reason="because")

        told = await export.export(step, "key")
        again = await export.export(step, "key")

        assert told == again
        events, _, files = told.partition(" ")
        assert int(events) == PAGES * 10
        assert int(files) == len(messenger.files) > 1
        lines = [
            json.loads(line)
            for _, _, data in messenger.files.values()
            for line in data.splitlines()
        ]
        assert [line["event_id"] for line in lines if "event_id" in line] == [
            f"$e{number}" for number in range(PAGES * 10)
        ]
        assert all(len(data) <= 2_000 for _, _, data in messenger.files.values())
        assert {room for room, _, _ in messenger.files.values()} == {DIRECT}

        few = RoomExport(admin, made.telling, part_bytes=2_000, most_parts=2)
        with pytest.raises(UserError, match="more than fits into 2 files"):
            await few.export(step, "other")


async def test_the_rest_goes_where_who_asked_is_alone(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin, messenger = Long(members={DIRECT: (ADMIN, ME)}), FakeMessenger()
        other = RoomId("!other")
        made = parts(database, FakeClock(), admin, messenger, FakeSender(), catalogue())
        export = RoomExport(admin, made.telling, part_bytes=2_000)

        def somebody_comes(request: object) -> None:
            if isinstance(request, ReadMessages) and request.start == "2":
                admin.members |= {DIRECT: (ADMIN, ALICE, ME), other: (ADMIN, ME)}
                admin.names[other] = ""

        admin.refuse_read = somebody_comes
        await export.export(ExportRoom(room=SHARED, by=ADMIN, reason="because"), "key")

        rooms = [room for room, _, _ in messenger.files.values()]
        assert rooms[0] == DIRECT
        assert rooms[-1] == other
        assert rooms == sorted(rooms, key=[DIRECT, other].index)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_every_event_is_one_line_and_comes_back_as_it_was(content: dict[str, Any]) -> None:
    line = line_of(event(1, **content))

    assert line.count(b"\n") == 1
    assert len(line.decode("ascii").splitlines()) == 1
    assert json.loads(line)["content"] == content


@given(st.integers(0, 30))
def test_from_is_included_and_to_is_not(moment: int) -> None:
    assert WANTED.holds(event(moment)) == (10 <= moment < 20)
