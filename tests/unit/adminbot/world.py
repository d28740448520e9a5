"""Fakes of our own ports for adminbot's tests: one that answers and remembers what was changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, cast

from adminbot.acting import Acting
from adminbot.attached import AttachedTo
from adminbot.audit_trail import AuditTrail
from adminbot.chance import SystemDice
from adminbot.commands import all_reports
from adminbot.dispatch import Dispatcher
from adminbot.engine.actor import Actor, Place, PlaceKind, Role
from adminbot.engine.answer import answer
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.codec import Codec, registered
from adminbot.engine.command import Command, command
from adminbot.engine.intake import Request, Surroundings
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Dice, Health, HealthReport, Settings
from adminbot.engine.values import Setting
from adminbot.execution import Execution
from adminbot.exporting import Exporting
from adminbot.facts import Facts
from adminbot.granting import Granting
from adminbot.jobs import Jobs
from adminbot.known import known_types
from adminbot.later import Later
from adminbot.messages import Messages
from adminbot.own.later import DoLater
from adminbot.own_records import OwnRecords
from adminbot.perform import performers
from adminbot.progress import Showing
from adminbot.replies import Replies
from adminbot.store import Store
from adminbot.telling import Telling
from common.config.schema import Appservice, Config, Encryption, Homeserver
from common.config.secret import Secret
from common.crypto.port import EncryptedEvent, Reading
from common.crypto.sealing import Sealer
from common.database.pool import Connection, Database
from common.errors import StewardError, TransientError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import (
    AdminReader,
    AdminWriter,
    ChangeRequest,
    Danger,
    Grant,
    HttpChange,
    Json,
    Permission,
    ReadRequest,
    T,
    path,
)
from common.homeserver.synapse.media import ListUserMedia, MediaPage
from common.homeserver.synapse.reports import (
    EventReports,
    ListEventReports,
    ListUserReports,
    UserReports,
)
from common.homeserver.synapse.room_reports import ListRoomReports
from common.homeserver.synapse.rooms import (
    Event,
    GetEvent,
    GetRoom,
    GetRoomState,
    GetStateEvent,
    ListRoomMembers,
    ListRooms,
    ResolveAlias,
    RoomDetails,
    RoomPage,
    StateEvent,
)
from common.homeserver.synapse.server import GetServerVersion, ServerVersion
from common.homeserver.synapse.user_lookup import IsUsernameAvailable, ListPushers
from common.homeserver.synapse.user_rights import GetRateLimit
from common.homeserver.synapse.users import (
    Device,
    GetUser,
    ListUserDevices,
    ListUserRooms,
    ListUsers,
    UserDetails,
    UserPage,
    UserSummary,
)
from common.ids import EventId, RoomId, UserId
from common.matrix.messenger import OutgoingFile

SERVER = "example.org"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)

ALICE = UserId("@alice:example.org")
BOB = UserId("@bob:example.org")
ADMIN = UserId("@root:example.org")
ME = UserId("@adminbot:example.org")
AUDITBOT = UserId("@auditbot:example.org")
PUPPET = UserId("@_irc_mallory:example.org")

SETTINGS = Settings(
    Config(
        homeserver=Homeserver(url="http://localhost", server_name=SERVER),
        appservice=Appservice(as_token=Secret("as"), hs_token=Secret("hs")),
        encryption=Encryption(pickle_key=Secret("pickle")),
    )
)

DIRECT = RoomId("!direct")
SHARED = RoomId("!shared:example.org")
CONTROL = RoomId("!control")


class FakeClock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def now_ms(self) -> int:
        return int(self.moment.timestamp() * 1000)

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class FakeAdmin:
    """The administration API as a script; ``changes`` is what was done."""

    users: dict[UserId, UserDetails] = field(default_factory=dict)
    members: dict[RoomId, tuple[UserId, ...]] = field(default_factory=dict)
    others: dict[RoomId, dict[UserId, object]] = field(default_factory=dict)
    names: dict[RoomId, str] = field(default_factory=dict)
    state: dict[RoomId, list[StateEvent]] = field(default_factory=dict)
    aliases: dict[str, RoomId] = field(default_factory=dict)
    events: dict[EventId, Event] = field(default_factory=dict)
    changes: list[HttpChange] = field(default_factory=list)
    reads: list[object] = field(default_factory=list)
    refuse_change: Callable[[HttpChange], bool] = lambda call: False
    refuse_read: Callable[[object], StewardError | None] = lambda request: None
    away: int = 0

    async def read(self, request: ReadRequest[T]) -> T:
        self.reads.append(request)
        if self.away:
            self.away -= 1
            raise TransientError("The homeserver is away.")
        if refusal := self.refuse_read(request):
            raise refusal
        return cast(T, self._answer(request))

    async def change(self, request: ChangeRequest[T]) -> T:
        call = request.to_http()
        if self.refuse_change(call):
            raise RefusedError(400, "M_UNKNOWN", "not today")
        self.changes.append(call)
        # An account as it is after a change, where that is what is answered.
        return request.read_response(
            {"name": getattr(request, "user", ""), "deleted_media": [], "total": 0}
        )

    def on_behalf_of(self, grant: Grant) -> AdminReader:
        return FakeReader(self, grant)

    def executing_for(self, grant: Grant) -> AdminWriter:
        return self

    def _answer(self, request: object) -> object:  # noqa: C901, PLR0911, PLR0912  # a script
        match request:
            case GetServerVersion():
                return ServerVersion("1.163.2")
            case GetUser(user=user):
                return self._known(self.users, user)
            case ListUsers():
                return self._page()
            case ListUserDevices():
                return (Device("ABC"),)
            case ListPushers():
                return ()
            case ListUserMedia():
                return MediaPage(media=(), total=0)
            case ListEventReports():
                return EventReports(event_reports=(), total=0)
            case ListUserReports():
                return UserReports(user_reports=(), total=0)
            case ListRoomReports():
                return ()
            case GetRateLimit():
                return None
            case IsUsernameAvailable():
                return True
            case ListUserRooms(user=user):
                return tuple(room for room, people in self.members.items() if user in people)
            case GetRoom(room=room):
                people = self._known(self.members, room)
                return RoomDetails(
                    room_id=room,
                    joined_members=len(people),
                    name=self.names.get(room, None if room == DIRECT else "<b>Lobby</b>"),
                    version="12",
                )
            case ListRooms():
                return RoomPage(
                    rooms=tuple(
                        RoomDetails(room_id=room, name=self.names.get(room))
                        for room in self.members
                    ),
                    total_rooms=len(self.members),
                )
            case ListRoomMembers(room=room):
                return self._known(self.members, room)
            case GetRoomState(room=room, type="m.room.member"):
                self._known(self.members, room)
                return self._memberships(room)
            case GetRoomState(room=room, type=type_):
                return tuple(one for one in self.state.get(room, []) if type_ in {None, one.type})
            case GetStateEvent(room=room):
                joined = {"membership": "join"}
                return StateEvent("m.room.member", ME, EventId("$j"), ME, NOW_MS - 10**6, joined)
            case GetEvent(event=event):
                return self._known(self.events, event)
            case ResolveAlias(alias=alias):
                return self._known(self.aliases, alias)
            case _:
                raise AssertionError(request)

    def _memberships(self, room: RoomId) -> tuple[StateEvent, ...]:
        members = dict.fromkeys(self.members[room], "join") | self.others.get(room, {})
        return tuple(
            StateEvent("m.room.member", ME, EventId("$m"), user, 0, {"membership": membership})
            for user, membership in members.items()
        )

    def _known(self, where: Mapping[Any, Any], key: object) -> Any:
        if key not in where:
            raise NotFoundError(404, "M_NOT_FOUND", "not found")
        return where[key]

    def _page(self) -> UserPage:
        people = tuple(
            UserSummary(name=one.name, displayname=one.displayname, admin=one.admin)
            for one in self.users.values()
        )
        return UserPage(users=people, total=len(people))


@dataclass
class FakeReader:
    """The reading half, within a grant."""

    admin: FakeAdmin
    grant: Grant

    async def read(self, request: ReadRequest[T]) -> T:
        assert self.grant.allows(request), f"{request} is beyond the grant"
        return await self.admin.read(request)


@dataclass
class FakeMessenger:
    """What was said; the same ``txn_id`` says it once."""

    said: dict[str, tuple[RoomId, Json]] = field(default_factory=dict)
    edits: list[tuple[EventId, Json]] = field(default_factory=list)
    files: dict[str, tuple[RoomId, str, bytes]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    away: int = 0
    refuse: Callable[[Json], StewardError | None] = lambda content: None
    spoke: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(
        self,
        room_id: RoomId,
        content: Json,
        *,
        txn_id: str,
        event_type: str = "m.room.message",
        also: Sequence[UserId] = (),
    ) -> EventId:
        if self.away:
            self.away -= 1
            raise TransientError("The homeserver is away.")
        if refusal := self.refuse(content):
            raise refusal
        if (uploaded := self.uploads.get(str(content.get("url")))) is not None:
            self.files.setdefault(txn_id, (room_id, *uploaded))
            return EventId(f"${txn_id}")
        async with self.spoke:
            self.said.setdefault(txn_id, (room_id, content))
            self.spoke.notify_all()
        return EventId(f"${txn_id}")

    async def edit(
        self, room_id: RoomId, event_id: EventId, content: Json, *, txn_id: str
    ) -> EventId:
        self.edits.append((event_id, content))
        return EventId(f"${txn_id}")

    async def upload_file(self, room_id: RoomId, file: OutgoingFile) -> dict[str, Any]:
        data = b"".join([portion async for portion in file.data])
        uri = f"mxc://{SERVER}/{len(self.uploads)}"
        self.uploads[uri] = (file.name, data)
        return {"msgtype": "m.file", "body": file.name, "url": uri}

    def question(self) -> EventId:
        """Return the latest question."""
        return EventId(f"${[name for name in self.said if '-question-' in name][-1]}")

    @property
    def bodies(self) -> list[str]:
        return [str(content["body"]) for _, content in self.said.values()]


@dataclass
class FakeSender:
    """What was sent in clear, and asked otherwise."""

    sent: list[tuple[RoomId, str, Json]] = field(default_factory=list)
    requests: list[tuple[str, str, Json | None]] = field(default_factory=list)
    offered: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, room_id: RoomId, event_type: str, content: Json, txn_id: str) -> EventId:
        self.sent.append((room_id, event_type, content))
        self.offered.set()
        return EventId(f"${txn_id}")

    async def request_as(
        self, token: Secret | None, method: str, path: str, body: Json | None = None
    ) -> Json:
        self.requests.append((method, path, body))
        return {}

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        self.requests.append((method, path, body))
        return {"room_id": "!made"}


@dataclass
class FakeCrypto:
    """Reads events by a script."""

    readings: dict[str, Reading] = field(default_factory=dict)

    async def decrypt(
        self, connection: Connection, events: Sequence[EncryptedEvent]
    ) -> Sequence[Reading]:
        return [self.readings[event.event_id] for event in events]


class FakeHealth:
    """All is well."""

    async def report(self) -> HealthReport:
        return HealthReport("0.1.0", 60.0, 0, 0, 0, "SQLite")

    def now_ms(self) -> int:
        return NOW_MS + 41

    def seconds(self) -> float:
        return 60.0


@dataclass(frozen=True)
class Close:
    """Close an account, as a later command will."""

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    reason: str = ""

    def to_http(self) -> HttpChange:
        return HttpChange(
            method="POST", path=path("/close/{}", self.user), body={"reason": self.reason}
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> str:
        return f"Close the account of {self.user}"


@dataclass(frozen=True)
class Rename:
    """A harmless change."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId

    def to_http(self) -> HttpChange:
        return HttpChange(method="PUT", path=path("/rename/{}", self.user))

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> str:
        return f"Rename {self.user}"


@command("test close", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def close(admin: AdminReader, user: UserId, *, by_name: bool = False) -> Plan:
    """Close an account and those of its shadows for good.

    Args:
        user: whose account
        by_name: have the name typed
    """
    page = await admin.read(ListUsers())
    shadows = [one.name for one in page.users if one.displayname == f"shadow of {user}"]
    return Plan(
        summary=f"Close {user} and {len(shadows)} shadows",
        steps=tuple(Close(one) for one in (user, *shadows)),
        typed=user if by_name else None,
    )


@command("test rename", who=Role.SERVER_ADMIN, needs=Permission.MANAGE)
async def rename(admin: AdminReader, user: UserId) -> Plan:
    """Rename somebody; no question asked.

    Args:
        user: whom
    """
    return Plan(
        summary=f"Rename {user}", steps=(Rename(user),), result=answer(f"{user} is renamed.")
    )


TEST_COMMANDS: tuple[Command, ...] = (close, rename)


class FakeFiles:
    """No message has a file."""

    async def read_file(self, content: Mapping[str, Any]) -> AsyncIterator[bytes]:
        for portion in (b"",):
            yield portion


@dataclass(frozen=True)
class Parts:
    """What carries commands out, with fakes of our own ports around it."""

    dispatcher: Dispatcher
    store: Store
    facts: Facts
    telling: Telling
    later: Later


async def _no_sleep(seconds: float) -> None:
    del seconds


def parts(  # noqa: PLR0917  # what a test has made, in the order it makes it
    database: Database,
    clock: FakeClock,
    admin: FakeAdmin,
    messenger: FakeMessenger,
    sender: FakeSender,
    commands: Catalogue,
    *,
    sleep: Callable[[float], Awaitable[None]] = _no_sleep,
    language: str = "en",
) -> Parts:
    """Put everything behind the intake together."""
    facts = Facts(admin, ME, frozenset({ME, AUDITBOT}), (), (CONTROL,))
    store, records = Store(database, clock), OwnRecords(database)
    telling = Telling(
        messenger, sender, facts, admin, records, database, clock, language, sleep=sleep
    )
    here = registered([import_module(Close.__module__)])
    codec, sealer = Codec({**known_types(), **here}), Sealer(Secret("pickle"))
    jobs = Jobs(database, clock, codec, sealer)
    trail, replies = AuditTrail(database, clock), Replies(telling)
    speaking = {
        **performers(telling),
        **Acting(telling, admin, sender, clock).performers(),
        **Granting(admin, records).performers(),
        **Exporting(admin, database, sealer, telling, clock).performers(),
    }
    later = Later(database, clock, codec, sealer, trail, admin, records, speaking, telling)
    execution = Execution(
        jobs,
        trail,
        admin,
        records,
        {**speaking, DoLater: later.write_down},
        all_reports(),
        clock,
        sleep=sleep,
    )
    dispatcher = Dispatcher(
        catalogue=commands,
        facts=facts,
        admin=admin,
        store=store,
        trail=trail,
        replies=replies,
        clock=clock,
        server_name=SERVER,
        execution=execution,
        showing=Showing(replies, jobs, clock),
        attach=partial(
            AttachedTo, messages=Messages(admin, FakeCrypto(), database), files=FakeFiles()
        ),
        reading=partial(Messages, crypto=FakeCrypto(), database=database),
        supplies={Health: FakeHealth(), Dice: SystemDice(), Settings: SETTINGS},
    )
    return Parts(dispatcher, store, facts, telling, later)


def setting(*, room: RoomId | None = None) -> Setting:
    return Setting(SERVER, NOW, room)


def surroundings(**changed: Any) -> Surroundings:
    given: dict[str, Any] = {
        "server_name": SERVER,
        "own": frozenset({ME, AUDITBOT}),
        "prefixes": ("!admin", "!"),
        "first_words": frozenset({"help", "user", "room", "test"}),
        "now_ms": NOW_MS,
        "max_age_ms": 300_000,
    }
    return Surroundings(**{**given, **changed})


def message(
    text: str,
    extra: Mapping[str, Any] | None = None,
    *,
    sender: str = ALICE,
    room: str = DIRECT,
) -> dict[str, Any]:
    """Return an ordinary text message, client format."""
    content = {"msgtype": "m.text", "body": text, **(extra or {})}
    return {
        "type": "m.room.message",
        "event_id": "$command",
        "room_id": room,
        "sender": sender,
        "origin_server_ts": NOW_MS - 1000,
        "content": content,
    }


def request(text: str, *, sender: UserId = ADMIN, room: RoomId = DIRECT) -> Request:
    return Request(
        event=EventId("$command"),
        room=room,
        sender=sender,
        origin_ms=NOW_MS - 1000,
        text=text,
        formatted=None,
        thread=None,
        addressed=True,
    )


def in_direct_chat() -> Place:
    return Place(DIRECT, PlaceKind.DIRECT)


def server_admin() -> Actor:
    return Actor(ADMIN, server_admin=True)
