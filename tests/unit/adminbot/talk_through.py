"""One day of adminbot in a small world, and everything that was said: for tests of the words.

The same commands are given in whatever language; what is told apart is who says what where.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adminbot.commands import catalogue
from adminbot.engine.confirm import Spoken
from adminbot.engine.intake import Confirmation
from adminbot.own.memory import GAPS
from common.crypto.port import Trust
from common.database.pool import Database
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import ChangeRequest, HttpChange, Json, T
from common.homeserver.synapse.registration_tokens import (
    GetRegistrationToken,
    ListRegistrationTokens,
)
from common.homeserver.synapse.registrations import IsTokenValid
from common.homeserver.synapse.room_content import FetchEvent
from common.homeserver.synapse.rooms import Event, StateEvent
from common.homeserver.synapse.user_lookup import GetExperimentalFeatures
from common.homeserver.synapse.users import ExternalId, ThirdPartyId, UserDetails
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    AUDITBOT,
    BOB,
    CONTROL,
    DIRECT,
    ME,
    NOW_MS,
    PUPPET,
    SHARED,
    FakeAdmin,
    FakeClock,
    FakeMessenger,
    FakeSender,
    Parts,
    parts,
    request,
)

_WORD = re.compile(r"confirm (?:»?([A-Z2-7]{4})\b|(\S.*)$)")
"""The code of a question, or what has to be typed; in whatever language it is asked."""

OTHER = UserId("@other:example.org")
CAROL = UserId("@carol:example.org")
REFUSAL = "M_XYZZY"
"""Why the homeserver refuses something: its own words, which nobody translates."""
ALICES_CHAT = RoomId("!alices")
EMPTY = RoomId("!empty:example.org")
OPEN = RoomId("!open:example.org")


@dataclass(frozen=True)
class Given:
    """One command, by whom and where; ``trust``: how its message came."""

    text: str
    by: UserId = ADMIN
    room: RoomId = DIRECT
    trust: Trust | None = None


def _day() -> Iterator[Given]:
    yield from (Given(text) for text in _ADMINS)
    yield from (Given(text, by=ALICE, room=ALICES_CHAT) for text in _ORDINARY)
    yield from (Given(text, by=ALICE, room=SHARED) for text in _IN_A_ROOM)
    yield Given("user list", room=SHARED)
    yield Given("lock", by=BOB, room=SHARED)
    yield Given("user list", by=CAROL, room=ALICES_CHAT)
    yield from (Given("whoami", trust=trust) for trust in Trust)
    yield Given("whoami", by=ALICE, room=SHARED)
    yield Given("whoami", by=BOB, room=SHARED)
    yield from (Given(text) for text in _LAST)
    yield from (Given(text) for text in _SERVER_AND_SETTINGS)
    yield from (Given(text, by=ALICE, room=SHARED) for text in ("bot leave", "guest", "3"))
    yield from (Given(text) for text in _SEEN_FROM)
    yield from (Given(text, by=ALICE, room=ALICES_CHAT) for text in _REQUESTED)
    yield from (Given(text, by=ALICE, room=SHARED) for text in ("can-i lock", "can-i user list"))
    yield from (Given(text) for text in _GRANTED)


_REQUESTED = (
    "can-i user deactivate bob",
    "can-i lock",
    "lang",
    "about",
    f"request alias {SHARED}",
    f"request upgrade {SHARED} --address #choir",
    f"request join {SHARED} --bridge irc",
    f"request alias {SHARED} --address #choir:elsewhere.org",
    f"request alias {SHARED} --address #choir",
    f"request bridge {SHARED} For our friends.",
)
_GRANTED = (
    "can-i user list --page 2",
    f"request bridge {SHARED} --bridge irc --remote #choir",
    f"request-approve bridge alice {SHARED} --bridge irc --remote #choir",
    f"request-approve other alice {SHARED}",
    "reports list",
)
_SEEN_FROM = (
    "user find zebra --page 2",
    "user find zebra --device --provider oidc",
    "user find 192.0.2.300",
    "user find 192.0.2.7",
    "user find 192.0.2.0/24",
    "user find 192.0.2.0/24 --csv",
    "user find ABC --device",
    "user find 203.0.113.0/24",
)


_ADMINS = (
    "help lock",
    "help zebra",
    "whoami",
    "ping",
    "version",
    "status",
    "about",
    "can-i user list",
    "can-i zebra",
    "language",
    "language tlh",
    # Errors of reading a line.
    "zebra",
    "token",
    "token lst",
    "user show",
    "user show alice bob carol",
    'user show "alice',
    "user list --page zero",
    "user list --nam x",
    "user list --page 0",
    "user list --seen-within soon",
    "user list --sort colour",
    "room show nonsense",
    "room show #gone:example.org",
    "user show @x:elsewhere.org",
    "user show nobody",
    "log --since 30.2.2026",
    # Looking.
    "user list",
    "user list --csv",
    "user show alice",
    "user show bob",
    "user sessions alice",
    "user find zebra",
    "user admin list",
    "room list",
    "room list --csv",
    f"room show {SHARED}",
    f"room members {SHARED}",
    "room blocked",
    "jobs",
    "approvals",
    "schedule list",
    "default-rooms list",
    "motd",
    "notice status",
    "contact show",
    "bots status",
    "bots missing",
    "bridge list",
    # Plans: questions, what becomes of them, and what is seen of it afterwards.
    "user lock alice --for 7d --reason “spam”",
    "yes",
    "user suspend bob",
    "yes",
    "user unlock carol",
    "user deactivate bob",
    "yes",
    "user deactivate bob --dry-run",
    "user deactivate other root",
    "user password alice",
    "user admin grant alice",
    "user ratelimit set alice 2",
    "user ratelimit set alice -1",
    "user email add alice new@example.org",
    "user email list alice",
    f"room block {EMPTY} spam",
    "yes",
    f"room block {SHARED}",
    "yes",
    "room blocked",
    f"default-rooms add {SHARED}",
    "yes",
    "default-rooms list",
    "notice alice Hello --dry-run",
    "notice all --dry-run Hello",
    "motd set Welcome!",
    "motd",
    'schedule --at "2027-01-01 09:00" user list',
    "yes",
    "schedule --every 1d12h user list",
    "yes",
    'schedule --every "0 9 * * 1-5" --missed skip user list',
    "schedule user list",
    "schedule list",
    "schedule remove 9",
    "schedule remove 1",
    "contact set --email safety@example.org --user other",
    "yes",
    "contact show",
    "contact set --email nonsense",
    "cancel 99",
    "cancel 1",
    "approve ABCD",
    "bots leave-all",
    "user shadowban alice",
    "approvals",
    # New accounts, and how they come.
    "registrations",
    "registrations wach",
    "registrations list --waiting",
    "registrations watch off",
    "registrations watch on",
    "registrations watch on",
    "user approve alice",
    "user deny alice",
    "token grant alice lots",
    "token grant alice 3/month",
    "yes",
    "token grant list",
    "token grant revoke alice",
    "token grant revoke bob",
    "token stats",
    "user features alice",
    "user features alice msc3881",
    "user features alice msc3881 on",
    "user features alice msc1 on",
    "user export alice",
    "user export alice --recipient age1",
    "privacy",
)

_ORDINARY = (
    "whoami",
    "status",
    "help user list",
    "user list",
    "jobs",
    "jobs 1",
    f"request admin {SHARED} Nobody else is there.",
    "report It smells.",
    "me sessions",
    "me rooms",
    "me token-request",
    "me export",
    "me export --recipient age1",
)

_IN_A_ROOM = (
    "help lock",
    "me rooms",
    "user list",
    "bot why",
    "rules",
    "welcome show",
    "autoreply list",
    "slow 30s --for 2h",
    "slow 1s",
)

_LAST = (
    "jobs",
    "jobs 1",
    "jobs 3",
    "job list",
    "job show 3",
    "job cancel 3",
    "mau",
    "log --user @alice:example.org",
    "bridge restart irc",
    "bridge allow irc alice",
    "bridge deny irc alice",
    "appservice list",
    "appservice show steward",
    "appservice show nothing",
)
_SERVER_AND_SETTINGS = (
    # What is missing is asked for.
    "request",
    "9",
    "settings replies",
    "settings",
    "settings replies reply",
    "settings",
    "settings replies thread",
    "settings formatting full",
    "digest",
    "digest weekly",
    "digest subscribe daily --at 25:00",
    "digest unsubscribe",
    "digest subscribe weekly",
    "settings",
    "digest unsubscribe",
    "maintenance status",
    "maintenance stop",
    "maintenance start --dry-run Away at noon.",
    "storage growth --days 0",
    f"room export {SHARED} --reason x",
    f"room export {SHARED} --reason because --from today --to yesterday",
    f"room export {SHARED} --reason because --from 2026-11-01 --dry-run",
    "invite-block add evil.example",
    "invite-block list",
    "match *.example",
    "match @spam:evil.example",
)
_ONLY_MARKED = (
    "help",
    "user",
    "zebra --help",
    "log",
    "log --steps",
    "help user",
    # What is secret is another one each time.
    "token grant root 1/month",
    "yes",
    "me token-request my sister",
    "me token-request",
    f"token create --for choir --rooms {SHARED}",
    "user create newcomer --name New --invite-link",
    "user create newcomer --admin --invite-link",
    "user create new=comer --invite-link",
    "me export",
    "yes",
)


class SmallServer(FakeAdmin):
    """A server that also says what it sent, and lists what it has not."""

    async def change(self, request: ChangeRequest[T]) -> T:
        call = request.to_http()
        if self.refuse_change(call):
            raise RefusedError(400, "M_UNKNOWN", REFUSAL)
        self.changes.append(call)
        body = {
            "name": getattr(request, "user", ""),
            "event_id": f"$sent{len(self.changes)}",
            "access_token": "a token",
            "token": "a token",
            "messages_per_second": 2,
            "burst_count": 20,
        }
        return request.read_response(body)

    def _answer(self, request: object) -> object:
        match request:
            case FetchEvent():
                return {"room_id": "!notices"}
            case GetExperimentalFeatures():
                return {"msc3881": False, "msc4222": True}
            case ListRegistrationTokens():
                return ()
            case GetRegistrationToken():
                raise NotFoundError(404, "M_NOT_FOUND", REFUSAL)
            case IsTokenValid():
                return False
            case _:
                pass
        try:
            return super()._answer(request)
        except AssertionError:
            # Not in the script; what is said then is worth looking at, too.
            raise RefusedError(400, "M_UNRECOGNIZED", REFUSAL) from None


@dataclass
class Day:
    """Everything around the dispatcher; ``said`` is what was said since it was asked last."""

    made: Parts
    admin: FakeAdmin
    messenger: FakeMessenger
    clock: FakeClock
    database: Database
    given: int = 0
    seen: int = 0

    async def give(self, one: Given) -> list[tuple[RoomId, Json]]:
        """Obey a command, or confirm the latest question; return what was said, and where."""
        if one.text == "yes":
            await self._confirm()
        else:
            self.given += 1
            event = EventId(f"$given{self.given}")
            asked = replace(
                request(one.text, sender=one.by, room=one.room),
                event=event,
                origin_ms=self.clock.now_ms(),
            )
            self.admin.events[event] = Event("m.room.message", one.by)
            async with self.database.transaction() as connection:
                await self.made.store.take_in(connection, asked, one.trust)
        await self._work()
        self.clock.forward(60)
        every = list(self.messenger.said.values())
        new, self.seen = every[self.seen :], len(every)
        return new

    async def _confirm(self) -> None:
        body = str([c for _, c in self.messenger.said.values()][-1]["body"])
        found = _WORD.search(body)
        assert found is not None, body
        word = found[1] or found[2]
        self.clock.forward(-60)  # each command takes a minute, and this one hangs on the last
        async with self.database.transaction() as connection:
            reply = Confirmation(EventId(f"$yes{self.given}"), DIRECT, ADMIN, Spoken(word))
            assert await self.made.store.take_confirmation(connection, reply), body

    async def _work(self) -> None:
        for job in await self.made.store.jobs(10):
            await self.made.dispatcher.obey(job)
        for asked in await self.made.store.confirmed():
            await self.made.dispatcher.carry_out(asked)
        for asked in await self.made.store.executing():
            await self.made.dispatcher.carry_on(asked)


@asynccontextmanager
async def a_day(folder: Path, language: str) -> AsyncIterator[Day]:
    """Return a world in which adminbot speaks a language."""
    async with open_database(sqlite_url(folder)) as database:
        clock, messenger = FakeClock(), FakeMessenger()
        admin = _the_server()
        made = parts(
            database,
            clock,
            admin,
            messenger,
            FakeSender(),
            catalogue(),
            language=language,
        )
        await _seen(database)
        two = replace(made.dispatcher, two_person=("user shadowban",))
        yield Day(replace(made, dispatcher=two), admin, messenger, clock, database)


def day() -> tuple[Given, ...]:
    """Return everything that is asked, in this order; “yes” confirms the question before it."""
    return tuple(_day())


def much_more() -> tuple[Given, ...]:
    """Return what is asked once more: what changes with every new command, or is long."""
    helps = (Given(f"help {command.name}") for command in catalogue())
    return (*helps, *(Given(text) for text in _ONLY_MARKED))


def _the_server() -> FakeAdmin:
    people = (
        UserDetails(ADMIN, admin=True, displayname="Root"),
        UserDetails(OTHER, admin=True),
        UserDetails(
            ALICE,
            displayname="Alice",
            creation_ts=NOW_MS // 1000 - 3 * 86_400,
            last_seen_ts=NOW_MS - 7_200_000,
            threepids=(ThirdPartyId("email", "alice@example.org"),),
            external_ids=(ExternalId("oidc", "4711"),),
        ),
        UserDetails(BOB, locked=True, shadow_banned=True),
        UserDetails(CAROL, suspended=True),
        UserDetails(ME, admin=True, user_type="bot"),
        UserDetails(AUDITBOT, user_type="bot"),
        UserDetails(PUPPET, appservice_id="irc"),
    )
    return SmallServer(
        users={one.name: one for one in people},
        members={
            DIRECT: (ADMIN, ME, AUDITBOT),
            ALICES_CHAT: (ALICE, ME),
            CONTROL: (ADMIN, OTHER, ME),
            SHARED: (ALICE, BOB, ME),
            EMPTY: (),
        },
        state={SHARED: [_created(), _powers()]},
        refuse_change=_refused,
    )


async def _seen(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO admin_seen_from (user_id, address, device_id, place, device_name,"
            " user_agent, last_ms) VALUES ($1, $2, $3, $4, '', '', $5)",
            [
                (ALICE, "192.0.2.7", "ABC", "4c0000207", NOW_MS - 7_200_000),
                (BOB, "192.0.2.9", "", "4c0000209", NOW_MS - 86_400_000),
            ],
        )
        await connection.execute(
            "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
            " VALUES ($1, 0, 'person', '')",
            BOB,
        )
        await connection.execute(
            "INSERT INTO admin_seen (month, user_id, days) VALUES ($1, $2, 7)",
            f"{datetime.fromtimestamp(NOW_MS / 1000, tz=UTC):%Y-%m}",
            BOB,
        )
        await connection.execute(
            "INSERT INTO bridge_login (bridge, user_id, remote, state, at_ms)"
            " VALUES ('telegram', $1, NULL, 'in', 0)",
            BOB,
        )
        await connection.execute(
            "INSERT INTO admin_memory (name, value) VALUES ($1, $2)",
            GAPS,
            f"[[{NOW_MS - 2 * 86_400_000}, {NOW_MS - 86_400_000}]]",
        )
        await connection.execute(
            "INSERT INTO admin_seen_from_watch (id, since_ms, visits_ms) VALUES (1, $1, 0)",
            NOW_MS - 3 * 86_400_000,
        )


def _created() -> StateEvent:
    return StateEvent("m.room.create", BOB, EventId("$c"), "", NOW_MS, {"room_version": "12"})


def _powers() -> StateEvent:
    content: dict[str, Any] = {"users": {ME: 100, ALICE: 100}}
    return StateEvent("m.room.power_levels", ALICE, EventId("$p"), "", NOW_MS, content)


def _refused(call: HttpChange) -> bool:
    return (
        str(SHARED).replace("!", "%21").replace(":", "%3A") in call.path and "block" in call.path
    )
