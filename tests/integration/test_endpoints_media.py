"""Endpoints about files, each against the real Synapse, read back by downloading them."""

import secrets
from collections.abc import AsyncIterator

import aiohttp
import pytest

from common.homeserver.client import AdminClient
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.synapse.media import (
    GetMedia,
    ListMediaByUser,
    ListQuarantineChanges,
    ListRoomMedia,
    ListUserMedia,
    all_media_by_user,
    all_quarantine_changes,
    all_user_media,
)
from common.homeserver.synapse.media_changes import (
    DeleteMedia,
    DeleteOldMedia,
    DeleteUserMedia,
    ProtectMedia,
    PurgeRemoteMedia,
    QuarantineMedia,
    QuarantineRoomMedia,
    QuarantineUserMedia,
    UnquarantineMedia,
)
from common.ids import EventId, RoomId
from tests.support.admin_api import adminbot_api
from tests.support.clients import RawClient
from tests.support.world import World

LONG_AGO = 1_000_000_000_000
FAR_AHEAD = 4_000_000_000_000


@pytest.fixture
async def admin(world: World) -> AsyncIterator[AdminClient]:
    """The administration API as adminbot."""
    async with adminbot_api(world) as api:
        yield api


@pytest.fixture
async def person(world: World) -> AsyncIterator[RawClient]:
    """Somebody of this server."""
    async with await world.person() as client:
        yield client


async def upload(person: RawClient, content: bytes, name: str = "file.txt") -> tuple[str, str]:
    """Return server and media ID of a new file."""
    token = {"Authorization": f"Bearer {person.account.access_token}"}
    async with (
        aiohttp.ClientSession(headers=token) as session,
        session.post(
            f"{person.url}/_matrix/media/v3/upload",
            params={"filename": name},
            data=content,
            headers={"Content-Type": "text/plain"},
        ) as response,
    ):
        uri = str((await response.json())["content_uri"])
    server, _, media_id = uri.removeprefix("mxc://").partition("/")
    return server, media_id


async def downloads(person: RawClient, where: tuple[str, str]) -> bool:
    token = {"Authorization": f"Bearer {person.account.access_token}"}
    url = f"{person.url}/_matrix/client/v1/media/download/{where[0]}/{where[1]}"
    async with aiohttp.ClientSession(headers=token) as session, session.get(url) as response:
        return response.status == 200


async def share(person: RawClient, room: RoomId, where: tuple[str, str]) -> EventId:
    content = {"msgtype": "m.file", "body": "file", "url": f"mxc://{where[0]}/{where[1]}"}
    return await person.send(room, "m.room.message", content)


async def test_a_file_is_shown_quarantined_protected_and_deleted(
    admin: AdminClient, person: RawClient
) -> None:
    file = await upload(person, secrets.token_bytes(100), "secret <plan>.txt")
    start = (await admin.read(ListQuarantineChanges())).next_batch
    while (page := await admin.read(ListQuarantineChanges(start))).changes:
        start = page.next_batch

    found = await admin.read(GetMedia(*file))
    assert (found.upload_name, found.media_length) == ("secret <plan>.txt", 100)
    assert (found.user_id, found.quarantined_by) == (person.user_id, None)
    assert await downloads(person, file)

    await admin.change(QuarantineMedia(*file))
    assert not await downloads(person, file)
    assert (await admin.read(GetMedia(*file))).quarantined_by is not None
    await admin.change(UnquarantineMedia(*file))
    assert await downloads(person, file)
    changes = [one async for one in all_quarantine_changes(admin, start)]
    assert [(one.media_id, one.quarantined) for one in changes] == [
        (file[1], True),
        (file[1], False),
    ]

    await admin.change(ProtectMedia(file[1]))
    await admin.change(QuarantineMedia(*file))
    assert (await admin.read(GetMedia(*file))).safe_from_quarantine
    assert await downloads(person, file)
    await admin.change(ProtectMedia(file[1], protected=False))
    assert not (await admin.read(GetMedia(*file))).safe_from_quarantine

    assert (await admin.change(DeleteMedia(*file))).deleted_media == (file[1],)
    assert not await downloads(person, file)
    with pytest.raises(NotFoundError):
        await admin.change(DeleteMedia(*file))
    with pytest.raises(NotFoundError):
        await admin.read(GetMedia(*file))
    with pytest.raises(RefusedError, match="only delete local"):
        await admin.change(DeleteMedia("elsewhere.org", "abc"))


async def test_files_of_a_room_and_of_a_person_are_quarantined(
    admin: AdminClient, person: RawClient
) -> None:
    shared = await upload(person, secrets.token_bytes(10))
    kept = await upload(person, secrets.token_bytes(10))
    room = await person.create_room()
    await share(person, room, shared)
    await share(person, room, ("elsewhere.org", "abc"))

    listed = await admin.read(ListRoomMedia(room))
    assert listed.local == (f"mxc://{shared[0]}/{shared[1]}",)
    assert listed.remote == ("mxc://elsewhere.org/abc",)
    assert await admin.change(QuarantineRoomMedia(room)) == 1
    assert [await downloads(person, file) for file in (shared, kept)] == [False, True]

    assert await admin.change(QuarantineUserMedia(person.user_id)) == 1
    assert not await downloads(person, kept)


async def test_files_of_a_person_are_listed_counted_and_deleted(
    admin: AdminClient, person: RawClient
) -> None:
    files = [await upload(person, secrets.token_bytes(10 + size)) for size in range(5)]
    user = person.user_id

    listed = [one async for one in all_user_media(admin, ListUserMedia(user=user, limit=2))]
    largest = await admin.read(ListUserMedia(user=user, order_by="media_length", limit=1))
    localpart = user[1:].partition(":")[0]
    request = ListMediaByUser(search=localpart, since_ms=LONG_AGO, until_ms=FAR_AHEAD)
    counted = [one async for one in all_media_by_user(admin, request)]

    assert {one.media_id for one in listed} == {media_id for _, media_id in files}
    assert [one.media_length for one in largest.media] == [14]
    assert largest.total == 5
    assert [(one.user_id, one.media_count, one.media_length) for one in counted] == [(user, 5, 60)]
    everybody = [one async for one in all_media_by_user(admin, ListMediaByUser(limit=1))]
    assert user in {one.user_id for one in everybody}

    change = DeleteUserMedia(user, limit=3)
    assert [(await admin.change(change)).total for _ in range(3)] == [3, 2, 0]
    assert (await admin.read(ListUserMedia(user=user))).total == 0


async def test_old_and_large_files_are_deleted(admin: AdminClient, person: RawClient) -> None:
    small, large = [await upload(person, secrets.token_bytes(size)) for size in (10, 50_000)]

    assert (await admin.change(DeleteOldMedia(unused_since_ms=LONG_AGO))).total == 0
    gone = await admin.change(DeleteOldMedia(unused_since_ms=FAR_AHEAD, larger_than=40_000))

    assert large[1] in gone.deleted_media
    assert small[1] not in gone.deleted_media
    assert [await downloads(person, file) for file in (small, large)] == [True, False]
    assert await admin.change(PurgeRemoteMedia(FAR_AHEAD)) == 0
    with pytest.raises(RefusedError, match="1970"):
        await admin.change(PurgeRemoteMedia(1))
