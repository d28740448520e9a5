"""What commands about accounts say, to the letter."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adminbot.commands import catalogue
from common.homeserver.synapse.rooms import Event
from common.homeserver.synapse.users import ExternalId, GetUser, ThirdPartyId, UserDetails
from common.ids import EventId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.test_dispatch import the_server
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    PUPPET,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    parts,
    request,
)

SHOWN = """\
User:           @alice:example.org
Name:           Alice
State:          locked
Server admin:   no
Created:        2026-11-20 12:00 UTC (2 days ago)
Last seen:      never
Addresses:      alice@example.org
Signs in with:  oidc: 4711
Devices:        1
Files:          0
Rate limit:     everybody's
Rooms:          2

• !shared:example.org
• !alices-own"""

LOCK = """\
Lock @bob:example.org?

• On 2026-11-30 11:59 UTC: Unlock the account of @bob:example.org
• On 2026-11-30 11:59 UTC: Tell @bob:example.org so
• Lock the account of @bob:example.org
• Tell @bob:example.org so

React with ✅ or write “confirm {code}” within 60 seconds to go on."""

SHOWN_IN_GERMAN = """\
Konto:              @alice:example.org
Name:               Alice
Zustand:            gesperrt
Server-Admin:       nein
Erstellt:           2026-11-20 12:00 UTC (vor 2 Tagen)
Zuletzt gesehen:    nie
Adressen:           alice@example.org
Meldet sich an mit: oidc: 4711
Geräte:             1
Dateien:            0
Ratenbegrenzung:    die allgemeine
Räume:              2

• !shared:example.org
• !alices-own"""

LOCK_IN_GERMAN = """\
@bob:example.org sperren?

• Am 2026-11-30 11:59 UTC: Das Konto von @bob:example.org entsperren
• Am 2026-11-30 11:59 UTC: @bob:example.org darüber informieren
• Das Konto von @bob:example.org sperren
• @bob:example.org darüber informieren

Reagieren Sie mit ✅ oder schreiben Sie innerhalb von 60 Sekunden „confirm {code}“, um fortzufahren."""

CLOSE = """\
Close the account of @alice:example.org?

This cannot be undone.

• Close the account of @alice:example.org

To go on, write within 60 seconds:

confirm @alice:example.org"""


@dataclass
class World:
    made: Parts
    admin: FakeAdmin
    messenger: FakeMessenger

    async def ask(self, text: str) -> str:
        given = request(text)
        self.admin.events[EventId("$command")] = Event("m.room.message", given.sender)
        async with self.made.store.database.transaction() as connection:
            await self.made.store.take_in(connection, given, None)
        for job in await self.made.store.jobs(1):
            await self.made.dispatcher.obey(job)
        return self.messenger.bodies[-1] if self.messenger.bodies else ""

    async def again(self, text: str) -> str:
        """Ask another thing, as if it were the first."""
        async with self.made.store.database.transaction() as connection:
            for table in ("admin_plan", "admin_command"):
                await connection.execute(f"DELETE FROM {table}")
        self.messenger.said.clear()
        return await self.ask(text)


@pytest.fixture
def language() -> str:
    return "en"


@pytest.fixture
async def world(tmp_path: Path, language: str) -> AsyncIterator[World]:
    async with open_database(sqlite_url(tmp_path)) as database:
        admin, messenger = the_server(), FakeMessenger()
        admin.users[ALICE] = UserDetails(
            ALICE,
            displayname="Alice",
            locked=True,
            creation_ts=1_795_176_000,
            threepids=(ThirdPartyId("email", "alice@example.org"),),
            external_ids=(ExternalId("oidc", "4711"),),
        )
        made = parts(
            database, FakeClock(), admin, messenger, FakeSender(), catalogue(), language=language
        )
        yield World(made, admin, messenger)


def squeezed(text: str) -> list[str]:
    """Return the lines, each with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize(("language", "shown"), [("en", SHOWN), ("de", SHOWN_IN_GERMAN)])
async def test_one_account(world: World, shown: str) -> None:
    assert squeezed(await world.ask("user show alice")) == squeezed(shown)


@pytest.mark.parametrize(("language", "asked"), [("en", LOCK), ("de", LOCK_IN_GERMAN)])
async def test_a_lock_with_a_time(world: World, asked: str) -> None:
    said = await world.ask("user lock bob --for 7d")

    code = said.rpartition("confirm ")[2][:4]
    assert said == asked.format(code=code)


async def test_closing_an_account(world: World) -> None:
    assert (await world.ask("user deactivate alice")).startswith(CLOSE.partition("To go on")[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user unlock bob", "@bob:example.org is not locked."),
        ("user lock root", "That is your own account; have another server admin do it."),
        (
            "user lock auditbot",
            "@auditbot:example.org is one of Steward's own accounts; it is left alone.",
        ),
        ("user lock", "Name somebody, or send the command with a file of user IDs."),
        ("user import", "Send the file with “user import” as its caption, or reply to it."),
        ("user lock bob --for 0s", "That is too short: at least 1 second."),
        ("user email add alice nonsense", "nonsense is no e-mail address."),
        ("user sso remove alice oidc 42", "@alice:example.org does not sign in with it."),
        ("user set bob avatar nonsense", "nonsense is no mxc:// address."),
        ("user token root", "That is your own account; have another server admin do it."),
        ("user token bob --for 40h", "It can be valid from one minute to 1 day."),
        ("user leave bob", "Say which room, or --all."),
        ("user ratelimit set bob -- -1", "A rate limit cannot be negative."),
        (
            "token create --uses 0",
            "A token has to allow one account at least; --unlimited is any number.",
        ),
        ("token create --token “a b”", "A token is 1 to 64 letters, digits or any of . _ ~ -"),
        ("token batch 0", "From 1 to 500 can be made at once."),
        (
            f"user password {ADMIN} nobody",
            "There is no account @nobody:example.org on this server.",
        ),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence(
    world: World, text: str, said: str
) -> None:
    assert await world.ask(text) == said


@pytest.mark.parametrize("language", ["de"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user unlock bob", "@bob:example.org ist nicht gesperrt."),
        (
            "user lock root",
            "Das ist Ihr eigenes Konto; lassen Sie das einen anderen Server-Admin tun.",
        ),
        (
            "user lock auditbot",
            "@auditbot:example.org ist eines der Konten von Steward; es bleibt unangetastet.",
        ),
        (
            "user lock",
            "Nennen Sie jemanden, oder senden Sie den Befehl mit einer Datei mit Benutzer-IDs.",
        ),
        ("user lock bob --for 0s", "Das ist zu kurz: mindestens 1 Sekunde."),
        ("user token bob --for 40h", "Es kann von einer Minute bis 1 Tag gelten."),
        ("user leave bob", "Geben Sie an, welchen Raum, oder --all."),
        ("token batch 0", "1 bis 500 lassen sich auf einmal erstellen."),
        (
            f"user password {ADMIN} nobody",
            "Auf diesem Server gibt es kein Konto @nobody:example.org.",
        ),
    ],
)
async def test_it_is_said_in_german_too(world: World, text: str, said: str) -> None:
    assert await world.ask(text) == said


async def test_a_password_is_in_neither_answer_nor_trail(world: World) -> None:
    asked = await world.ask("user create carol")
    for one in await world.made.store.executing():
        await world.made.dispatcher.carry_on(one)

    private, public = world.messenger.bodies[-2:]
    password = private.rstrip().splitlines()[-1]
    assert len(password) == 23
    assert "The account @carol:example.org is made." in public
    rows = [
        str(dict(row))
        for table in ("admin_action", "admin_command", "admin_job", "admin_job_step", "admin_plan")
        for row in await world.made.store.database.fetch(f"SELECT * FROM {table}")
    ]
    assert password not in public + asked + "".join(rows)


async def known(world: World, user: UserId, kind: str) -> None:
    async with world.made.store.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
            " VALUES ($1, 1, $2, 'old')",
            user,
            kind,
        )


def asked_about(world: World) -> set[UserId]:
    return {one.user for one in world.admin.reads if isinstance(one, GetUser)}


async def test_a_list_asks_nothing_of_accounts_that_are_known_to_be_bridged(world: World) -> None:
    world.admin.users[PUPPET] = UserDetails(PUPPET, appservice_id="irc")
    await known(world, PUPPET, "bridged")

    said = await world.ask("user list")

    assert "1 bridged account left out; --bridged shows them." in said
    assert PUPPET not in said
    assert PUPPET not in asked_about(world)
    assert PUPPET in await world.again("user list --bridged")


async def test_a_list_is_given_to_programs_as_json(world: World) -> None:
    await world.ask("user list --json")

    ((_, name, data),) = world.messenger.files.values()
    assert name == "users.json"
    people = {one["user"]: one for one in json.loads(data)}
    # As it is: no guard against a spreadsheet's formulas, and no words where there is a value.
    assert people[ALICE]["admin"] is False
    assert people[ALICE]["created_ms"] is None


async def test_a_file_of_very_many_asks_of_none_by_itself_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adminbot.commands.user_list.MOST_ASKED_ABOUT", 1)
    await known(world, PUPPET, "bridged")
    world.admin.users[PUPPET] = UserDetails(PUPPET, appservice_id="irc")

    said = await world.ask("user list --csv")

    assert "Of more than 1 accounts the file does not say who is suspended" in said
    ((_, name, data),) = world.messenger.files.values()
    assert name == "users.csv"
    assert ALICE.encode() in data
    assert PUPPET.encode() not in data
    assert asked_about(world) <= {ADMIN}
    assert "Narrow it with --name" in await world.again("user list --suspended")
    assert asked_about(world) <= {ADMIN}
