"""What is offered where an argument is missing: what there is, and no secret of it."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.commands import catalogue
from adminbot.commands.offered import Looking, beginning, offer_for
from adminbot.engine.actor import Caller
from adminbot.engine.choice import Choice
from adminbot.own_records import OwnRecords
from common.database.pool import Database
from common.homeserver.port import EVERYTHING
from common.homeserver.synapse.registration_tokens import (
    ListRegistrationTokens,
    RegistrationToken,
)
from common.homeserver.synapse.reports import (
    EventReport,
    EventReports,
    ListEventReports,
)
from common.ids import EventId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ALICE,
    BOB,
    NOW,
    NOW_MS,
    SHARED,
    FakeAdmin,
    in_direct_chat,
    server_admin,
)


@dataclass
class Server(FakeAdmin):
    """With tokens and reports."""

    tokens: tuple[str, ...] = ()
    reports: tuple[EventReport, ...] = field(default_factory=tuple)

    def _answer(self, request: object) -> object:
        match request:
            case ListRegistrationTokens():
                return tuple(RegistrationToken(token) for token in self.tokens)
            case ListEventReports():
                return EventReports(event_reports=self.reports, total=len(self.reports))
            case _:
                return super()._answer(request)


async def offered(name: str, argument: str, admin: FakeAdmin, database: Database) -> list[Choice]:
    command = catalogue().named(name)
    assert command is not None
    parameter = command.parameter(argument)
    assert parameter is not None
    offer = offer_for(command, parameter)
    assert offer is not None
    own = OwnRecords(database).on_behalf_of(EVERYTHING)
    caller = Caller(server_admin(), in_direct_chat(), None, None, NOW)
    return list(await offer(Looking(admin, own, caller, SHARED)))


@given(st.lists(st.text("abcdefgh0123", min_size=1, max_size=20), max_size=8, unique=True))
def test_a_tokens_beginning_names_it_alone_and_is_too_little_to_use_it(tokens: list[str]) -> None:
    for token in tokens:
        found = beginning(token, tokens)
        if found is None:
            continue
        assert [one for one in tokens if one.startswith(found)] == [token]
        assert len(found) * 2 <= len(token)


async def test_tokens_are_offered_by_their_beginnings(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin = Server(tokens=("choir-2026-abcdef", "band-2026-ghijkl"))

        found = await offered("token show", "token", admin, database)

    assert [one.word for one in found] == ["cho", "ban"]
    assert "abcdef" not in str(found)


async def test_reports_that_nobody_closed_are_offered(tmp_path: Path) -> None:
    reports = tuple(
        EventReport(number, NOW_MS, SHARED, EventId(f"$r{number}"), ALICE, sender=BOB)
        for number in (7, 8)
    )
    async with open_database(sqlite_url(tmp_path)) as database:
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_report (kind, report_id, claimed_by, closed_by, changed_ms)"
                " VALUES ('event', 7, NULL, $1, $2)",
                ALICE,
                NOW_MS,
            )

        found = await offered("reports show", "report", Server(reports=reports), database)

    assert [one.word for one in found] == ["e8"]


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("approve", "code"),
        ("deny", "code"),
        ("schedule remove", "number"),
        ("cancel", "number"),
        ("notice edit", "number"),
        ("notice recall", "number"),
        ("bridge show", "name"),
        ("bridge login", "name"),
    ],
)
async def test_where_there_is_nothing_nothing_is_offered(
    tmp_path: Path, name: str, argument: str
) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        assert await offered(name, argument, Server(), database) == []


def test_arguments_that_could_be_anything_are_not_guessed() -> None:
    command = catalogue().named("user show")
    assert command is not None
    parameter = command.parameter("user")
    assert parameter is not None

    assert offer_for(command, parameter) is None
