"""A notice arrives once, whoever is killed at whichever moment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from adminbot.own.notices import CopyFor, KeepNotice
from adminbot.own_records import OwnRecords
from adminbot.server_acts import ServerActs
from common.errors import TransientError, UserError
from common.homeserver.errors import NotAllowedError, RefusedError
from common.homeserver.port import ChangeRequest, ReadRequest, T
from common.homeserver.synapse.room_content import Messages, ReadMessages, TimelineEvent
from common.homeserver.synapse.rooms import GetRoom, RoomDetails
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.users import JoinUser
from common.ids import EventId, RoomId, UserId
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import ADMIN, ALICE, BOB, NOW_MS

SERVER_USER = UserId("@server:example.org")
NOTICES = RoomId("!notices")
BIG = RoomId("!big")


@dataclass
class FakeHomeserver:
    """Sends notices into one room; ``forgetful``: it was killed and knows no transactions."""

    sent: list[tuple[UserId, dict[str, Any]]] = field(default_factory=list)
    known: dict[str, EventId] = field(default_factory=dict)
    fail_after_sending: bool = False
    refuse: bool = False
    why: str = "no"
    memberships: dict[RoomId, str] = field(
        default_factory=lambda: {NOTICES: "invite", BIG: "join"}
    )
    joined: list[tuple[UserId, RoomId]] = field(default_factory=list)

    async def read(self, request: ReadRequest[T]) -> T:
        return cast(T, self._answer(request))

    def _answer(self, request: object) -> object:
        match request:
            case GetMemberships():
                return self.memberships
            case GetRoom(room=room):
                return RoomDetails(room_id=room, joined_members=900 if room == BIG else 3)
            case ReadMessages(room=room):
                assert room == NOTICES, "a big room is not read"
                events = [
                    TimelineEvent(
                        "m.room.message", SERVER_USER, EventId(f"${number}"), content=each
                    )
                    for number, (_, each) in enumerate(self.sent)
                ]
                return Messages(tuple(reversed(events)), "start")
            case _:
                raise AssertionError(request)

    async def change(self, request: ChangeRequest[T]) -> T:
        return cast(T, self._changed(request))

    def _changed(self, request: object) -> object:
        if isinstance(request, JoinUser):
            self.joined.append((request.user, request.room))
            if self.refuse:
                raise NotAllowedError(403, "M_FORBIDDEN", "no")
            return request.room
        assert isinstance(request, SendServerNotice)
        if self.refuse:
            raise RefusedError(400, "M_UNKNOWN", self.why)
        if request.txn_id not in self.known:
            self.known[request.txn_id] = EventId(f"${len(self.sent)}")
            self.sent.append((request.user, dict(request.content)))
        if self.fail_after_sending:
            raise TransientError("The connection broke.")
        return self.known[request.txn_id]


@dataclass
class Scene:
    server: FakeHomeserver
    records: OwnRecords
    acts: ServerActs

    async def keep(self) -> None:
        async with self.records.database.transaction() as connection:
            kept = KeepNotice("$n", ADMIN, "all", {"msgtype": "m.text", "body": "hi"}, NOW_MS)
            await self.records.apply(connection, kept)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_database(sqlite_url(tmp_path)) as database:
        server, records = FakeHomeserver(), OwnRecords(database)
        yield Scene(server, records, ServerActs(server, records))


async def test_a_notice_waits_until_it_is_kept(scene: Scene) -> None:
    with pytest.raises(TransientError):
        await scene.acts.send_notice("$n", ALICE)
    assert scene.server.sent == []

    await scene.keep()
    await scene.acts.send_notice("$n", ALICE)
    await scene.acts.send_notice("$n", ALICE)

    ((user, content),) = scene.server.sent
    assert (user, content["body"]) == (ALICE, "hi")


@pytest.mark.parametrize("forgetful", [False, True], ids=["up", "killed too"])
async def test_what_was_cut_short_after_it_was_sent_is_not_sent_again(
    scene: Scene, forgetful: bool
) -> None:
    await scene.keep()
    scene.server.fail_after_sending = True
    with pytest.raises(TransientError):
        await scene.acts.send_notice("$n", ALICE)
    scene.server.fail_after_sending = False
    if forgetful:
        scene.server.known.clear()

    await scene.acts.send_notice("$n", ALICE)

    assert len(scene.server.sent) == 1
    copy = await scene.records.read(CopyFor("$n", ALICE))
    assert copy is not None
    assert (copy.status, copy.event) == ("sent", "$0")


async def test_somebody_else_s_copy_in_the_same_room_is_not_taken_for_theirs(scene: Scene) -> None:
    await scene.keep()
    await scene.acts.send_notice("$n", BOB)
    scene.server.fail_after_sending = True
    scene.server.sent, kept = [], scene.server.sent
    with pytest.raises(TransientError):
        await scene.acts.send_notice("$n", ALICE)
    scene.server.sent = kept  # it never arrived
    scene.server.known.clear()
    scene.server.fail_after_sending = False

    await scene.acts.send_notice("$n", ALICE)

    assert [user for user, _ in scene.server.sent] == [BOB, ALICE]


async def test_what_is_refused_can_be_tried_again(scene: Scene) -> None:
    await scene.keep()
    scene.server.refuse = True
    with pytest.raises(RefusedError):
        await scene.acts.send_notice("$n", ALICE)
    assert await scene.records.read(CopyFor("$n", ALICE)) is None
    scene.server.refuse = False

    await scene.acts.send_notice("$n", ALICE)

    assert len(scene.server.sent) == 1


async def test_who_is_inside_is_not_joined_and_who_is_banned_stays_out(scene: Scene) -> None:
    await scene.acts.ensure_joined(ALICE, BIG)
    assert scene.server.joined == []

    scene.server.memberships = {BIG: "ban"}
    with pytest.raises(UserError, match="banned"):
        await scene.acts.ensure_joined(ALICE, BIG)
    scene.server.memberships = {}
    await scene.acts.ensure_joined(ALICE, BIG)
    assert scene.server.joined == [(ALICE, BIG)]
    scene.server.refuse = True
    with pytest.raises(NotAllowedError):
        await scene.acts.ensure_joined(ALICE, BIG)
