"""Commands about other servers: who may have which one checked, and how it is told."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from adminbot.commands.federation import contact, fed_check, fed_list, fed_retry, told
from adminbot.engine.actor import Actor, Caller, Place, PlaceKind
from adminbot.engine.answer import Answer
from adminbot.engine.command import Command
from adminbot.engine.plan import Plan
from adminbot.engine.render import render
from adminbot.engine.supply import Checks, Settings
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Danger
from common.homeserver.synapse.federation import (
    Destination,
    Destinations,
    GetDestination,
    ListDestinations,
    ResetConnection,
)
from common.i18n import t
from common.servercheck.findings import Contact, Finding, Level, Report, Support
from common.servercheck.names import ServerName
from tests.unit.adminbot.world import ADMIN, ALICE, DIRECT, NOW, SETTINGS, SHARED


@dataclass
class FakeChecks:
    """Remembers what was checked."""

    support_file: Support | None = None
    checked: list[str] = field(default_factory=list)

    async def check(self, name: ServerName) -> Report:
        self.checked.append(str(name))
        return Report(str(name), (Finding(Level.GOOD, t("Keys"), t("They are valid.")),))

    async def support(self, name: ServerName) -> Support | None:
        return self.support_file


def caller(*, admin: bool = False, private: bool = True) -> Caller:
    kind, room = (PlaceKind.DIRECT, DIRECT) if private else (PlaceKind.SHARED, SHARED)
    return Caller(
        actor=Actor(user=ADMIN if admin else ALICE, server_admin=admin),
        place=Place(room=room, kind=kind),
        target=None,
        trust=None,
        now=NOW,
    )


async def run(one: Command, supplies: dict[type, object], **arguments: object) -> Any:
    given = {each.name: each.default for each in one.parameters} | arguments
    return await one.run(supplies, given)


def text(said: Answer) -> str:
    return render(said).body


async def check(checks: FakeChecks, who: Caller, server: str | None) -> str:
    supplies: dict[type, object] = {Checks: checks, Caller: who, Settings: SETTINGS}
    return text(await run(fed_check, supplies, server=server))


async def test_anybody_may_have_this_server_checked_and_admins_any() -> None:
    checks = FakeChecks()

    await check(checks, caller(), None)
    await check(checks, caller(), "Example.org")
    await check(checks, caller(admin=True), "other.org:8448")

    assert checks.checked == ["example.org", "example.org", "other.org:8448"]


@pytest.mark.parametrize(
    ("who", "server"),
    [
        (caller(), "other.org"),
        (caller(), "example.org:22"),
        (caller(admin=True, private=False), "other.org"),
        (caller(admin=True), "https://other.org"),
        (caller(admin=True), "other.org/x"),
    ],
)
async def test_nobody_else_sends_us_anywhere(who: Caller, server: str) -> None:
    checks = FakeChecks()

    with pytest.raises(UserError):
        await check(checks, who, server)

    assert checks.checked == []


def test_a_report_begins_with_what_is_wrong() -> None:
    good = Finding(Level.GOOD, t("Keys"), t("They are valid."))
    note = Finding(Level.NOTE, t("Calls"), t("There are none."), t("Add them."))
    problem = Finding(Level.PROBLEM, t("Client file"), t("<b>It is gone.</b>"), t("Serve it."))

    said = render(told(Report("example.org", (good, note, problem))))

    lines = said.body.splitlines()
    assert "1 thing keeps people" in lines[0]
    order = [said.body.index(each) for each in ("Client file", "Calls", "Keys")]
    assert order == sorted(order)
    assert "❌ Client file: <b>It is gone.</b> Serve it." in said.body
    assert "&lt;b&gt;It is gone." in said.html
    assert "found by clients" in text(told(Report("example.org", (good, note))))
    late = replace(note, level=Level.WARNING)
    assert "not for everybody" in text(told(Report("example.org", (good, late))))


async def test_whom_to_write_to() -> None:
    contacts = (
        Contact("m.role.admin", "@root:example.org", "root@example.org"),
        Contact("org.example.else", None, "else@example.org"),
    )
    checks = FakeChecks(Support(contacts, "https://example.org/help"))
    supplies: dict[type, object] = {Checks: checks, Settings: SETTINGS}

    said = text(await run(contact, supplies))

    for part in ("Admin", "@root:example.org, root@example.org", "Other", "https://example.org/h"):
        assert part in said
    checks.support_file = None
    with pytest.raises(UserError, match="well-known/matrix/support"):
        await run(contact, supplies)


@dataclass
class FakeServers:
    """Servers that this one has had to do with."""

    servers: tuple[Destination, ...]

    async def read(self, request: object) -> Any:
        match request:
            case ListDestinations():
                return Destinations(self.servers, len(self.servers))
            case GetDestination(destination=name):
                for one in self.servers:
                    if one.destination == name:
                        return one
            case _:
                pass
        raise NotFoundError(404, "M_NOT_FOUND", "unknown")


SERVERS = FakeServers(
    (
        Destination("good.org"),
        Destination("late.org", 5, 10, 2000),
        Destination("later.org", 5, 10, 1000),
    )
)


async def test_those_that_fail_are_listed_the_oldest_first() -> None:
    supplies: dict[type, object] = {AdminReader: SERVERS, Caller: caller(admin=True)}

    said = await run(fed_list, supplies, failing=True)
    with_file = await run(fed_list, supplies, csv=1)

    body = text(said)
    assert body.index("later.org") < body.index("late.org")
    assert "good.org" not in body
    assert b"good.org" in with_file.files[0].data


async def test_servers_are_tried_again() -> None:
    supplies: dict[type, object] = {AdminReader: SERVERS}

    one = await run(fed_retry, supplies, servers=("late.org", "LATE.org"))
    every = await run(fed_retry, supplies, servers=(), failing=True)

    assert isinstance(one, Plan)
    assert one.steps == (ResetConnection("late.org"),)
    assert (one.danger, one.ask) == (Danger.NONE, False)
    assert len(every.steps) == 2
    assert every.ask
    many = FakeServers(tuple(Destination(f"{one}.org", 5, 10, 1000) for one in range(1500)))
    all_of_them = await run(fed_retry, {AdminReader: many}, servers=(), failing=True)
    assert len(all_of_them.steps) == 1500
    for servers, failing, said in (
        ((), False, "Name the servers"),
        (("late.org",), True, "Name the servers"),
        (("good.org",), False, "not waited for"),
        (("no.org",), False, "never had to do"),
        (("a/b",), False, "not the name"),
    ):
        with pytest.raises(UserError, match=said):
            await run(fed_retry, supplies, servers=servers, failing=failing)
    with pytest.raises(UserError, match="No server fails"):
        await run(fed_retry, {AdminReader: FakeServers(())}, servers=(), failing=True)
