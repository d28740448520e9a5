from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.secret import Secret
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.homeserver.errors import (
    BeyondGrantError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    StrangeAnswerError,
    UnsupportedError,
)
from common.homeserver.port import EVERYTHING, Danger, Grant, HttpChange, Json, Permission, path
from common.homeserver.synapse.rooms import GetRoom, GetRoomState, ListRooms, all_rooms
from common.homeserver.synapse.users import (
    GetUser,
    ListUsers,
    SetUserAdmin,
    UserDetails,
    all_users,
)
from common.ids import RoomId, UserId
from common.matrix.client import MatrixError

ALICE = UserId("@alice:example.org")


@dataclass
class FakeRequests:
    """Answers from a script; an exception in it is raised."""

    script: list[Json | Exception]
    sent: list[tuple[str, str, Json | None, dict[str, str]]] = field(default_factory=list)

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        self.sent.append((method, path, body, dict(query or {})))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True)
class Append:
    """A change that must not be done twice."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False

    text: Secret

    def to_http(self) -> HttpChange:
        return HttpChange(method="POST", path="/append", body={"text": self.text})

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> str:
        return "Append"


def client(
    *script: Json | Exception, **options: Any
) -> tuple[AdminClient, FakeRequests, list[float]]:
    requests, slept = FakeRequests(list(script)), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return AdminClient(requests, sleep=sleep, **options), requests, slept


AWAY = TransientError("502")


async def test_a_read_is_typed_and_unknown_fields_do_not_matter() -> None:
    admin, requests, _ = client({"name": ALICE, "admin": 1, "new_in_2030": {}, "creation_ts": 5})

    found = await admin.read(GetUser(ALICE))

    assert found == UserDetails(ALICE, admin=True, creation_ts=5)
    assert found.created_ms == 5000
    assert requests.sent == [("GET", "/_synapse/admin/v2/users/%40alice%3Aexample.org", None, {})]


@pytest.mark.parametrize(
    ("errcode", "kind"),
    [
        ("M_NOT_FOUND", NotFoundError),
        ("M_FORBIDDEN", NotAllowedError),
        ("M_UNRECOGNIZED", UnsupportedError),
        ("M_INVALID_PARAM", RefusedError),
        ("", RefusedError),
    ],
)
async def test_refusals_have_names(errcode: str, kind: type[RefusedError]) -> None:
    admin, requests, _ = client(MatrixError(400, errcode, "no such thing"))

    with pytest.raises(kind, match="no such thing") as raised:
        await admin.read(GetUser(ALICE))

    assert type(raised.value) is kind
    assert len(requests.sent) == 1


async def test_reads_and_repeatable_changes_are_tried_again_a_few_times() -> None:
    admin, requests, slept = client(AWAY, AWAY, {"name": ALICE})
    await admin.read(GetUser(ALICE))
    assert len(requests.sent) == 3
    assert slept == [0.25, 0.5]

    admin, requests, _ = client(AWAY, {})
    await admin.change(SetUserAdmin(ALICE, admin=True))
    assert requests.sent[1] == (
        "PUT",
        "/_synapse/admin/v1/users/%40alice%3Aexample.org/admin",
        {"admin": True},
        {},
    )

    admin, requests, _ = client(*[AWAY] * 9)
    with pytest.raises(TransientError):
        await admin.read(GetUser(ALICE))
    assert len(requests.sent) == 4


async def test_a_change_that_adds_up_is_never_repeated() -> None:
    admin, requests, _ = client(AWAY, {})

    with pytest.raises(TransientError):
        await admin.change(Append(Secret("geheim")))

    assert requests.sent == [("POST", "/append", {"text": "geheim"}, {})]


async def test_the_wait_that_the_homeserver_asks_for_is_kept() -> None:
    busy = TransientError("429", retry_after_ms=1500)
    admin, _, slept = client(busy, AWAY, {"name": ALICE})

    await admin.read(GetUser(ALICE))

    assert slept == [1.5, 0.5]


async def test_nobody_is_kept_waiting_for_longer_than_a_person_waits() -> None:
    admin, requests, slept = client(TransientError("429", retry_after_ms=10**9))

    with pytest.raises(TransientError):
        await admin.read(GetUser(ALICE))

    assert (len(requests.sent), slept) == (1, [])


async def test_only_lists_with_a_filter_of_that_name_are_asked_for_by_the_sender() -> None:
    sender = FakeRequests([{"users": [], "total": 0}])
    admin, requests, _ = client({"name": ALICE}, sender=sender)

    await admin.on_behalf_of(EVERYTHING).read(ListUsers())
    await admin.read(GetUser(ALICE))

    assert [path for _, path, *_ in sender.sent] == ["/_synapse/admin/v3/users"]
    assert len(requests.sent) == 1


@pytest.mark.parametrize("body", [{}, {"name": 7}, {"name": ALICE, "threepids": 1}, []])
async def test_an_answer_of_another_shape_is_named_so(body: Any) -> None:
    admin, _, _ = client(body)

    with pytest.raises(StrangeAnswerError):
        await admin.read(GetUser(ALICE))


async def test_nothing_beyond_the_grant_is_even_sent() -> None:
    admin, requests, _ = client()
    here = Grant(
        frozenset({Permission.PUBLIC}), in_room=frozenset({Permission.VIEW}), room=RoomId("!a")
    )

    for beyond in (GetUser(ALICE), GetRoom(RoomId("!b")), ListRooms()):
        with pytest.raises(BeyondGrantError):
            await admin.on_behalf_of(here).read(beyond)
    with pytest.raises(BeyondGrantError):
        await admin.executing_for(here).change(SetUserAdmin(ALICE, admin=True))

    assert requests.sent == []


async def test_all_pages_are_read() -> None:
    admin, requests, _ = client(
        {"rooms": [{"room_id": "!a"}, {"room_id": "!b"}], "total_rooms": 3, "next_batch": 2},
        {"rooms": [{"room_id": "!c"}], "total_rooms": 3},
    )
    assert [room.room_id async for room in all_rooms(admin)] == ["!a", "!b", "!c"]
    assert [query["from"] for *_, query in requests.sent] == ["0", "2"]

    admin, requests, _ = client(
        {"users": [{"name": ALICE}], "total": 2, "next_token": "1"},
        {"users": [{"name": ALICE}], "total": 2},
    )
    assert len([one async for one in all_users(admin, ListUsers(limit=1))]) == 2


async def test_a_page_that_leads_nowhere_ends_the_list() -> None:
    admin, _, _ = client({"rooms": [], "total_rooms": 3, "next_batch": 2})

    assert [room async for room in all_rooms(admin)] == []


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_an_identifier_stays_one_segment_of_the_path(identifier: str) -> None:
    found = GetRoomState(RoomId(identifier)).to_http().path

    assert found.startswith("/_synapse/admin/v1/rooms/")
    assert found.endswith("/state")
    assert found.count("/") == 6
    assert not set(found) & set("?#\\ \r\n")
    assert path("/{}/x", "..") == "/%2E%2E/x"
