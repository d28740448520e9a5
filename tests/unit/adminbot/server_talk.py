"""What adminbot says to a server admin about a server that has something of everything.

What the homeserver tells is written here as it comes over the wire, by the path of the request.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adminbot.commands import catalogue
from adminbot.engine.supply import Checks, Dice, Doctor
from common.checks import Finding, broken, fine, noted
from common.config.secret import Secret
from common.database.pool import Database
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import ChangeRequest, T
from common.homeserver.synapse.rooms import (
    ListRooms,
    ResolveAlias,
    RoomDetails,
    RoomPage,
    StateEvent,
)
from common.homeserver.synapse.user_lookup import IsUsernameAvailable
from common.homeserver.synapse.users import (
    ExternalId,
    ThirdPartyId,
    UserDetails,
    UserPage,
    UserSummary,
)
from common.i18n import t
from common.ids import EventId, RoomId, UserId
from common.servercheck import findings
from common.servercheck.findings import Contact, Level, Report, Support
from common.servercheck.names import ServerName
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.talk_through import CAROL, OTHER, Day, Given
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
    parts,
)

SPACE = RoomId("!space:example.org")
HALL = RoomId("!hall:example.org")
DAVE = UserId("@dave:example.org")
FILE = "mxc://example.org/AbCdEfGhIjKlMnOpQrStUvWx"
HELD = "mxc://example.org/QuarantinedQuarantined"
SAFE = "mxc://example.org/ProtectedProtected"
REMOTE = "mxc://evil.example/CopyOfSomethingElse"
DAY_MS = 86_400_000

_FILE = {
    "media_id": "AbCdEfGhIjKlMnOpQrStUvWx",
    "media_type": "image/png",
    "media_length": 204_800,
    "upload_name": "holiday.png",
    "created_ts": NOW_MS - 3 * DAY_MS,
    "last_access_ts": NOW_MS - DAY_MS,
    "quarantined_by": None,
    "safe_from_quarantine": False,
    "user_id": ALICE,
}
_HELD = {**_FILE, "media_id": "QuarantinedQuarantined", "quarantined_by": ADMIN}
_SAFE = {**_FILE, "media_id": "ProtectedProtected", "safe_from_quarantine": True}
_REMOTE = {
    "media_id": "CopyOfSomethingElse",
    "media_origin": "evil.example",
    "media_type": "video/mp4",
    "media_length": 5 * 2**20,
    "created_ts": NOW_MS - DAY_MS,
}
_UP = {"destination": "friendly.example", "last_successful_stream_ordering": 9}
_DOWN = {
    "destination": "gone.example",
    "failure_ts": NOW_MS - 9 * DAY_MS,
    "retry_last_ts": NOW_MS - DAY_MS,
    "retry_interval": 2 * DAY_MS,
}

# By the beginning of the path, without /_synapse/admin: the first that fits. ``None``: 404.
_ANSWERS: Sequence[tuple[str, Mapping[str, Any] | None]] = (
    ("v1/federation/destinations/gone.example/rooms", {"rooms": [], "total": 0}),
    (
        "v1/federation/destinations/friendly.example/rooms",
        {"rooms": [{"room_id": SHARED, "stream_ordering": 3}], "total": 1},
    ),
    ("v1/federation/destinations/gone.example", _DOWN),
    ("v1/federation/destinations/friendly.example", _UP),
    ("v1/federation/destinations/", None),
    ("v1/federation/destinations", {"destinations": [_UP, _DOWN], "total": 2}),
    ("v1/media/quarantine_changes", {
        "changes": [
            {"origin": "example.org", "media_id": "QuarantinedQuarantined", "quarantined": True},
            {"origin": "evil.example", "media_id": "CopyOfSomethingElse", "quarantined": False},
        ],
        "next_batch": 0,
    }),
    ("v1/media/example.org/AbCdEfGhIjKlMnOpQrStUvWx", {"media_info": _FILE}),
    ("v1/media/example.org/QuarantinedQuarantined", {"media_info": _HELD}),
    ("v1/media/example.org/ProtectedProtected", {"media_info": _SAFE}),
    ("v1/media/evil.example/CopyOfSomethingElse", {"media_info": _REMOTE}),
    ("v1/media/", None),
    ("v1/users/@alice:example.org/media", {"media": [_FILE, _HELD], "total": 2}),
    ("v1/users/@dave:example.org/media", {"media": [], "total": 0}),
    ("v1/room/!shared:example.org/media", {"local": [FILE], "remote": [REMOTE]}),
    ("v1/room/!hall:example.org/media", {"local": [], "remote": []}),
    ("v1/statistics/users/media", {
        "users": [
            {"user_id": ALICE, "displayname": "Alice", "media_count": 2, "media_length": 409_600},
            {"user_id": BOB, "displayname": None, "media_count": 1, "media_length": 1024},
        ],
        "total": 2,
    }),
    ("v1/statistics/database/rooms", {
        "rooms": [
            {"room_id": SHARED, "estimated_size": 3_000_000},
            {"room_id": HALL, "estimated_size": 1000},
        ]
    }),
    ("v1/background_updates/status", {
        "enabled": True,
        "current_updates": {
            "main": {
                "name": "event_search",
                "total_item_count": 1200,
                "total_duration_ms": 4000.0,
                "average_items_per_ms": 0.3,
            }
        },
    }),
    ("v1/scheduled_tasks", {
        "scheduled_tasks": [
            {
                "id": "1",
                "action": "shutdown_and_purge_room",
                "status": "active",
                "timestamp_ms": NOW_MS - 60_000,
                "resource_id": HALL,
            },
            {
                "id": "2",
                "action": "purge_history",
                "status": "failed",
                "timestamp_ms": NOW_MS - DAY_MS,
                "resource_id": SHARED,
                "error": "Timed out",
            },
        ]
    }),
    ("/_matrix/client/versions", {
        "versions": ["v1.11", "v1.12", "v1.13", "v1.14", "v1.15"],
        "unstable_features": {"org.matrix.simplified_msc3575": True, "org.matrix.msc4140": False},
    }),
    ("/_matrix/client/v3/capabilities", {
        "capabilities": {
            "m.change_password": {"enabled": True},
            "m.set_displayname": {"enabled": False},
            "m.room_versions": {"default": "11", "available": {"11": "stable", "12": "stable"}},
        }
    }),
    ("/.well-known/matrix/client", None),
    ("/_matrix/client/unstable/org.matrix.msc1763/retention/configuration", None),
    ("/_matrix/client/v3/directory/list/room/", {"visibility": "private"}),
    ("/_matrix/client/v3/rooms/!shared:example.org/aliases", {"aliases": ["#lobby:example.org"]}),
    ("/_matrix/client/v3/rooms/!shared:example.org/members", {
        "chunk": [
            {
                "state_key": DAVE,
                "sender": DAVE,
                "content": {"membership": "knock", "reason": "Lobby"},
                "origin_server_ts": NOW_MS - DAY_MS,
            }
        ]
    }),
    ("v1/users/@alice:example.org/memberships", {
        "memberships": {SHARED: "join", HALL: "invite", SPACE: "leave", "!old:example.org": "ban"}
    }),
    ("v1/users/@mallory:evil.example/memberships", {"memberships": {SHARED: "join", HALL: "ban"}}),
    ("v1/users/@bob:example.org/memberships", {"memberships": {SHARED: "join"}}),
    ("v1/users/@dave:example.org/memberships", {"memberships": {}}),
    ("v1/users/", None),
    ("v1/threepid/email/users/alice@example.org", {"user_id": ALICE}),
    ("v1/threepid/", None),
    ("v1/auth_providers/oidc/users/4711", {"user_id": ALICE}),
    ("v1/auth_providers/", None),
    ("v1/rooms/!space:example.org$", {
        "room_id": SPACE,
        "name": "Company",
        "joined_members": 4,
        "joined_local_members": 4,
        "version": "12",
        "room_type": "m.space",
    }),
    ("v1/rooms/!hall:example.org$", {
        "room_id": HALL,
        "name": "Hall",
        "canonical_alias": "#hall:example.org",
        "joined_members": 2,
        "joined_local_members": 2,
        "version": "11",
        "encryption": "m.megolm.v1.aes-sha2",
    }),
    ("v1/rooms/!space:example.org/hierarchy", {
        "rooms": [
            {
                "room_id": SPACE,
                "name": "Company",
                "room_type": "m.space",
                "num_joined_members": 4,
                "children_state": [
                    {"state_key": SHARED, "content": {"via": ["example.org"]}},
                    {"state_key": HALL, "content": {"via": ["example.org"]}},
                ],
            },
            {"room_id": SHARED, "name": "Lobby", "num_joined_members": 4},
            {"room_id": HALL, "name": "Hall", "num_joined_members": 2},
        ]
    }),
    ("v1/rooms/!shared:example.org/forward_extremities", {
        "count": 1,
        "results": [
            {"event_id": "$e", "state_group": 7, "depth": 42, "received_ts": NOW_MS - 60_000}
        ],
    }),
    ("v1/rooms/!shared:example.org/messages", {
        "chunk": [
            {
                "type": "m.room.message",
                "event_id": "$m",
                "sender": BOB,
                "origin_server_ts": NOW_MS - 60_000,
                "content": {"msgtype": "m.text", "body": "Good morning"},
            }
        ],
        "start": "s",
        "end": None,
    }),
    ("v1/rooms/!hall:example.org/block", {"block": True, "user_id": ADMIN}),
    ("v1/rooms/!shared:example.org/block", {"block": False}),
)  # fmt: skip

# Of accounts, by the end of the path: what FakeAdmin answers for everybody in the same way.
_OF_ALICE: Mapping[str, Mapping[str, Any]] = {
    "pushers": {
        "pushers": [
            {
                "app_id": "im.vector.app",
                "app_display_name": "Element",
                "device_display_name": "Telephone",
                "kind": "http",
                "pushkey": "abc",
                "data": {"url": "https://push.example.org/_matrix/push/v1/notify"},
                "lang": "de",
                "profile_tag": "",
                "enabled": True,
            }
        ],
        "total": 1,
    },
    "accountdata": {
        "account_data": {
            "global": {"m.direct": {BOB: ["!chat:example.org"]}},
            "rooms": {SHARED: {"m.tag": {"tags": {}}}},
        }
    },
    "override_ratelimit": {"messages_per_second": 2, "burst_count": 20},
}


class WholeServer(FakeAdmin):
    """A server that tells what stands above, and takes every change."""

    async def change(self, request: ChangeRequest[T]) -> T:
        call = request.to_http()
        if self.refuse_change(call):
            raise RefusedError(400, "M_UNKNOWN", "M_XYZZY")
        self.changes.append(call)
        body = {
            "name": getattr(request, "user", ""),
            "user_id": getattr(request, "user", ""),
            "event_id": f"$sent{len(self.changes)}",
            "room_id": "!made:example.org",
            "enabled": call.body.get("enabled"),
            "deleted_media": ["a", "b"],
            "deleted": 3,
            "total": 2,
            "num_quarantined": 2,
            "redact_id": "task",
            "delete_id": "task",
            "messages_per_second": 2,
            "burst_count": 20,
            "expiration_ts": NOW_MS + 30 * DAY_MS,
            "updatable_without_uia_before_ms": NOW_MS + 600_000,
        }
        return request.read_response(body)

    def _page(self) -> UserPage:
        people = tuple(
            UserSummary(
                name=one.name,
                displayname=one.displayname,
                admin=one.admin,
                deactivated=one.deactivated,
                user_type=one.user_type,
                last_seen_ts=one.last_seen_ts,
                creation_ts=NOW_MS - 3 * DAY_MS,
            )
            for one in self.users.values()
        )
        return UserPage(users=people, total=len(people))

    def _answer(self, request: object) -> object:
        match request:
            case IsUsernameAvailable(localpart="alice"):
                raise RefusedError(400, "M_USER_IN_USE", "User ID already taken.")
            case IsUsernameAvailable(localpart="Erin"):
                raise RefusedError(400, "M_INVALID_USERNAME", "User ID can only contain …")
            case IsUsernameAvailable(localpart="_irc_erin"):
                raise RefusedError(400, "M_EXCLUSIVE", "This user ID is reserved …")
            case ResolveAlias(alias="#lobby:example.org"):
                return SHARED
            case ResolveAlias(alias="#hall:example.org"):
                return HALL
            case ListRooms():
                return RoomPage(
                    rooms=tuple(self._room(room) for room in self.members),
                    total_rooms=len(self.members),
                )
            case _:
                return self._told(request)

    def _room(self, room: RoomId) -> RoomDetails:
        known = {HALL: "Hall", SPACE: "Company", SHARED: "Lobby"}
        number = len(self.members[room])
        return RoomDetails(
            room_id=room,
            name=known.get(room),
            joined_members=number,
            joined_local_members=number,
            version="12",
        )

    def _told(self, request: object) -> object:
        call = request.to_http()  # type: ignore[attr-defined]  # every request has it
        where = _plain(call.path)
        if "/users/@alice:example.org/" in where:
            known = _OF_ALICE.get(where.rpartition("/")[2])
            if known is not None:
                return request.read_response(known)  # type: ignore[attr-defined]  # its static type is a wider one
        for begin, body in _ANSWERS:
            if _fits(where, begin) and not _of_fakes(where):
                if body is None:
                    raise NotFoundError(404, "M_NOT_FOUND", "not found")
                return request.read_response(body)  # type: ignore[attr-defined]  # its static type is a wider one
        try:
            return super()._answer(request)
        except AssertionError:
            raise RefusedError(400, "M_UNRECOGNIZED", where) from None


def _plain(path: str) -> str:
    for quoted, sign in (("%40", "@"), ("%3A", ":"), ("%21", "!"), ("%2E", ".")):
        path = path.replace(quoted, sign)
    return path.removeprefix("/_synapse/admin/")


def _fits(where: str, begin: str) -> bool:
    return where == begin[:-1] if begin.endswith("$") else where.startswith(begin)


def _of_fakes(where: str) -> bool:
    return (
        re.fullmatch(r"v1/users/[^/]+/(?:joined_rooms|pushers|override_ratelimit)", where)
        is not None
    )


class FixedDice:
    """Chance that is the same each time."""

    def password(self) -> Secret:
        return Secret("aaaaa-bbbbb-ccccc-ddddd")

    def token(self, length: int = 16) -> str:
        return "abcdefghijklmnopqrstuvwxyz"[:length]


class FixedDoctor:
    """Finds one thing of each kind, in words that there are."""

    async def findings(self) -> Sequence[Finding]:
        return (
            fine(t("The homeserver answers at {url}.", url="http://localhost:8008")),
            broken(
                t("The homeserver's connection to Steward gets no answer."),
                t("look for a firewall between the homeserver and {url}", url="http://localhost"),
            ),
            noted(
                t("Not registered yet: {users}.", users=ME),
                t("“steward run” registers them at its start"),
            ),
        )


class FixedChecks:
    """Looks at no server, and says something of each level, in words that there are."""

    async def check(self, name: ServerName) -> Report:
        said = (
            findings.Finding(
                Level.GOOD, t("Client file"), t("It leads to {url}.", url="https://m")
            ),
            findings.Finding(
                Level.NOTE,
                t("Support file"),
                t("It does not say whom to write to."),
                t("Serve {url} with whom to write to.", url="https://example.org/support"),
            ),
            findings.Finding(
                Level.PROBLEM,
                t("Keys"),
                t("They are no longer valid."),
                t("Look if the proxy passes /_matrix/key on to the homeserver of this name."),
            ),
        )
        return Report(str(name), said if str(name) == "gone.example" else said[:2])

    async def support(self, name: ServerName) -> Support | None:
        del name
        return Support((Contact("m.role.admin", "@root:example.org", "it@example.org"),))


_SERVER = (
    "server status",
    "server capabilities",
    "tasks",
    "updates status",
    "updates pause",
    "yes",
    "updates resume",
    "updates run regenerate_directory",
    "updates resign",
    "doctor",
    "fed check",
    "fed check gone.example",
    "wellknown check",
    "contact",
    "contact clear",
    "bots status",
    "bots missing",
    "bots sweep",
    "bots rejoin",
)
_FEDERATION = (
    "fed list",
    "fed list --failing",
    "fed list --csv",
    "fed show friendly.example",
    "fed show gone.example",
    "fed show never.example",
    "fed show “not a name”",
    "fed rooms friendly.example",
    "fed rooms gone.example",
    "fed retry",
    "fed retry friendly.example",
    "fed retry gone.example",
    "fed retry --failing",
    "yes",
    "fed user @mallory:evil.example",
    "fed user @nobody:evil.example",
)
_MEDIA = (
    f"media show {FILE}",
    f"media show {REMOTE}",
    "media show mxc://example.org/none",
    "media show",
    "media show nonsense",
    f"media room {SHARED}",
    f"media room {HALL}",
    "media user alice",
    "media user dave",
    "media user alice --csv",
    "media top",
    "media top --csv",
    f"media delete {FILE}",
    "yes",
    f"media delete {REMOTE}",
    f"media delete {FILE} --older-than 90d",
    "media delete --larger-than 10M",
    "media delete --older-than 90d --larger-than 10M",
    "yes",
    "media delete --older-than 1h",
    "media purge-remote --older-than 90d",
    "yes",
    "storage report",
    "largest-rooms",
    "storage growth --days 3",
    f"quarantine {FILE}",
    "yes",
    f"quarantine {HELD}",
    f"quarantine {SAFE}",
    "quarantine user alice",
    "quarantine user dave",
    f"quarantine room {SHARED}",
    "quarantine changes",
    f"unquarantine {HELD}",
    "yes",
    f"unquarantine {FILE}",
    f"protect {FILE}",
    f"protect {HELD}",
    f"protect {REMOTE}",
    f"unprotect {SAFE}",
    "user media list alice",
    "user media list dave",
    "user media delete alice",
    f"user media delete alice {FILE}",
    "user media delete alice mxc://example.org/none",
    "user media delete dave",
    "user media quarantine alice",
)
_ACTIVITY = (
    "mau",
    "mau --list",
    "mau 2026-10",
    "mau October",
    "mau --trend",
    "mau --csv",
    "users count",
    "stats daily --days 3",
    "stats daily --days 3 --csv",
    "stats daily --days 0",
    "stats weekly --weeks 2",
    "stats weekly --weeks 99",
)
_USERS = (
    "user create erin --name Erin --email erin@example.org",
    "user create alice",
    "user create Erin",
    "user create _irc_erin",
    "user create dave --email alice@example.org",
    "user create x --email nonsense",
    "user create @x:elsewhere.org",
    "user create boss --admin",
    "user set alice displayname Alice Adams",
    "user set alice avatar",
    "user set alice avatar nonsense",
    "user set alice type robot",
    "user email remove alice alice@example.org",
    "yes",
    "user email remove alice other@example.org",
    "user email list bob",
    "user sso list alice",
    "user sso list bob",
    "user sso add bob oidc 4711",
    "user sso add bob oidc 42",
    "user sso add alice oidc 4711",
    "user sso remove alice oidc 4711",
    "user sso remove alice oidc 42",
    "user external-id list alice",
    "user external-id add bob oidc 42",
    "user external-id remove alice oidc 4711",
    "user password dave",
    "user password alice bob",
    "yes",
    "user reactivate dave",
    "yes",
    "user reactivate alice",
    "user unsuspend carol",
    "user unsuspend alice",
    "user unshadowban bob",
    "user unshadowban alice",
    "user admin revoke other",
    "user admin revoke alice",
    "user admin revoke root",
    "user ratelimit show alice",
    "user ratelimit show bob",
    "user ratelimit clear alice",
    "user token alice",
    "user token other",
    "user crypto-reset alice",
    "yes",
    "user validity renew alice",
    "user validity set alice 2026-12-31",
    "user validity set alice 2020-01-01",
    "user rooms alice",
    "user rooms alice --left",
    "user rooms dave",
    "user rooms @mallory:evil.example",
    "user rooms @nobody:evil.example",
    f"user join alice {HALL}",
    f"user join alice {SPACE} --with-rooms",
    f"user join alice {SHARED}",
    f"user leave alice {SHARED} --reason moved",
    f"user leave alice {SPACE}",
    "user leave alice --all",
    "user invites list alice",
    "user invites list bob",
    "user invites reject alice",
    "user invites reject bob",
    "user redact alice",
    "user redact @mallory:evil.example --reason spam",
    "user redact alice --limit 0",
    "user sessions bob",
    "user logout alice --device NONE",
    "user logout alice bob",
    "yes",
    "user logout alice --keep -1",
    "user pushers alice",
    "user pushers bob",
    "user accountdata alice",
    "user accountdata alice --kind m.direct",
    "user accountdata alice --kind m.nothing",
    "user find alice@example.org",
    "user find nobody@example.org",
    "user find 4711 --provider oidc",
    "user find 42 --provider oidc",
    "user import",
)
_ROOMS = (
    f"room tree {SPACE}",
    f"room tree {SHARED}",
    f"room state {SHARED}",
    f"room state {SHARED} m.room.create",
    f"room extremities {SHARED}",
    f"room read {SHARED} --reason “a complaint”",
    f"room read {SHARED} --reason x",
    f"room media {SHARED}",
    f"announce room {SHARED} We move on Saturday.",
    f"announce space {SPACE} We move on Saturday.",
    "announce all We move on Saturday.",
    f"default-rooms add {SHARED}",
    "yes",
    f"default-rooms remove {HALL}",
    f"default-rooms backfill {SHARED} --dry-run",
    f"default-rooms backfill {HALL}",
    f"default-rooms remove {SHARED}",
    "notice active 30d --dry-run Hello",
    "notice admins --dry-run Hello",
    f"notice room {SHARED} --dry-run Hello",
    f"notice space {SPACE} --dry-run Hello",
    "notice file Hello",
    "notice alice",
    "notice edit 1 Hello again",
    "notice recall 1",
    "motd clear",
)
_IN_A_SPACE = (
    f"space list {SPACE}",
    f"space add {SPACE} {CONTROL} --suggested --order 010",
    f"space add {SPACE} {HALL}",
    f"space remove {SPACE} {HALL}",
    f"space remove {SPACE} {CONTROL}",
    f"space order {SPACE} {HALL} 020",
    f"space suggest {SPACE} {HALL}",
    f"space sync-members {HALL} {SPACE}",
    f"space list {SHARED}",
)
_IN_A_ROOM = (
    "welcome set Lobby!",
    "welcome show",
    "welcome clear",
    "rules set Lobby!",
    "rules",
    "rules clear",
    "autoreply add hours Lobby!",
    "autoreply list",
    "autoreply add hm What?",
    "autoreply remove nothing",
    "autoreply remove hours",
    "bot ignore",
    "bot ignore --off",
    "federation info",
    "directory publish",
    "directory unpublish",
    "retention show",
    "retention clear",
    "alias list",
    "alias add tea",
    "alias remove lobby",
    "alias remove nowhere",
    "alias move hall",
    "knocks list",
    "powerlevel show",
    "unpin",
    "unlock",
    "unmute bob",
    "invite-list",
    "widget list",
    "widget remove Board",
    "feed list",
    "feed add https://example.org/feed.xml",
    "feed add nonsense",
    "feed remove https://example.org/feed.xml",
    "github list",
    "github connect nonsense",
    "github connect example/project",
    "webhook list",
    "webhook add alerts",
    "bridge status",
    "bridge connect irc #lobby",
    "deny ABCD",
    "request-decline 1",
)


def day() -> tuple[Given, ...]:
    """Return everything that is asked, in this order; “yes” confirms the question before it."""
    said = (*_SERVER, *_FEDERATION, *_MEDIA, *_ACTIVITY, *_USERS, *_ROOMS, *_IN_A_SPACE)
    in_a_room = (Given(text, by=ALICE, room=SHARED) for text in _IN_A_ROOM)
    return (*(Given(text) for text in said), *in_a_room)


@asynccontextmanager
async def a_day(folder: Path, language: str) -> AsyncIterator[Day]:
    """Return the world in which adminbot speaks a language."""
    async with open_database(sqlite_url(folder)) as database:
        clock, messenger, admin = FakeClock(), FakeMessenger(), _the_server()
        made = parts(
            database, clock, admin, messenger, FakeSender(), catalogue(), language=language
        )
        supplies = {
            **made.dispatcher.supplies,
            Checks: FixedChecks(),
            Doctor: FixedDoctor(),
            Dice: FixedDice(),
        }
        await _remembered(database)
        made = replace(made, dispatcher=replace(made.dispatcher, supplies=supplies))
        yield Day(made, admin, messenger, clock, database)


def _the_server() -> FakeAdmin:
    people = (
        UserDetails(ADMIN, admin=True, displayname="Root"),
        UserDetails(OTHER, admin=True),
        UserDetails(
            ALICE,
            displayname="Alice",
            last_seen_ts=NOW_MS - 7_200_000,
            threepids=(ThirdPartyId("email", "alice@example.org"),),
            external_ids=(ExternalId("oidc", "4711"),),
        ),
        UserDetails(BOB, shadow_banned=True),
        UserDetails(CAROL, suspended=True),
        UserDetails(DAVE, deactivated=True),
        UserDetails(ME, admin=True, user_type="bot"),
        UserDetails(AUDITBOT, user_type="bot"),
        UserDetails(PUPPET, appservice_id="irc"),
    )
    return WholeServer(
        users={one.name: one for one in people},
        members={
            DIRECT: (ADMIN, ME, AUDITBOT),
            CONTROL: (ADMIN, OTHER, ME),
            SHARED: (ALICE, BOB, CAROL, ME),
            HALL: (ALICE, ME),
            SPACE: (ALICE, BOB, ADMIN, ME),
        },
        state={
            SHARED: [_created(), _powers()],
            HALL: [_created(), _powers()],
            CONTROL: [_created(), _powers()],
            SPACE: [_created(m="m.space"), _powers(), _child(SHARED, "010"), _child(HALL)],
        },
    )


async def _remembered(database: Database) -> None:
    days = 0b111_1000_0000_0000_0000_0000
    kinds = {ADMIN: "person", ALICE: "person", BOB: "person", PUPPET: "bridged", ME: "bot"}
    async with database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
            " VALUES ($1, $2, $3, 'old')",
            [(user, NOW_MS - 3 * DAY_MS, kind) for user, kind in kinds.items()],
        )
        await connection.execute(
            "INSERT INTO admin_watch (id, since_ms, complete, visits_ms) VALUES (1, $1, 1, $1)",
            NOW_MS - 40 * DAY_MS,
        )
        await connection.executemany(
            "INSERT INTO admin_seen (month, user_id, days) VALUES ($1, $2, $3)",
            [("2026-11", ALICE, days), ("2026-11", BOB, 3), ("2026-11", PUPPET, days),
             ("2026-10", ALICE, 7)],
        )  # fmt: skip
        await connection.executemany(
            "INSERT INTO admin_day (day, messages) VALUES ($1, $2)",
            [("2026-11-22", 30), ("2026-11-23", 12)],
        )
        await connection.execute(
            "INSERT INTO admin_storage_day (day, files, bytes, rooms, accounts)"
            " VALUES ('2026-11-21', 2, 300000, 4, 8)"
        )
        await connection.execute(
            "INSERT INTO membership_problem (room_id, problem, since_ms) VALUES ($1, $2, $3)",
            HALL,
            "No local admin user in room",
            NOW_MS - DAY_MS,
        )


def _state(type_: str, sender: UserId, content: Mapping[str, Any], key: str = "") -> StateEvent:
    return StateEvent(type_, sender, EventId("$s"), key, NOW_MS - DAY_MS, content)


def _created(m: str | None = None) -> StateEvent:
    kind = {"type": m} if m else {}
    return _state("m.room.create", ALICE, {"room_version": "12", **kind})


def _powers() -> StateEvent:
    return _state("m.room.power_levels", ALICE, {"users": {ME: 100, BOB: 50}})


def _child(room: RoomId, order: str | None = None) -> StateEvent:
    content: dict[str, Any] = {"via": ["example.org"]}
    return _state("m.space.child", ALICE, {**content, **({"order": order} if order else {})}, room)
