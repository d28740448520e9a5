"""Where a store lets objects be overwritten, a lease sees to it that only one Steward writes."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import cast

import pytest

from auditbot.lease import LEASE_SECONDS, RENEW_SECONDS, WATCH_SECONDS, HeldElsewhereError
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.s3_place import S3Place
from common.alarms import untold
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS
from tests.support.archive_check import Checked, check_archive
from tests.support.careless import careless_proxy
from tests.support.databases import open_database, sqlite_url
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.s3 import s3_objects
from tests.unit.auditbot.builders import NOON, StoppedClock, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

LEASE = "v1/example.org/state/lease.json"


class Place:
    """One place in a real store, and the Stewards that write there."""

    def __init__(self, server: SeaweedFS, proxy: FaultProxy, folder: Path) -> None:
        self.server, self.proxy, self.folder = server, proxy, folder
        self.opened = AsyncExitStack()

    @property
    def settings(self) -> S3:
        return S3(
            endpoint_url=self.proxy.url,
            access_key_id=Secret(self.server.access_key_id),
            secret_access_key=self.server.secret_access_key,
            path_style=True,
        )

    async def steward(self, name: str, *, ahead_ms: int = 0, copy_of: str = "") -> "Writer":
        """Return a Steward of this name, with its own database and its own clock."""
        folder = self.folder / name
        folder.mkdir()
        if copy_of:
            with (
                closing(sqlite3.connect(self.folder / copy_of / "steward.db")) as source,
                closing(sqlite3.connect(folder / "steward.db")) as target,
            ):
                source.backup(target)
        database = await self.opened.enter_async_context(open_database(sqlite_url(folder)))
        writer = Writer(database, folder, self, name)
        writer.at(NOON + ahead_ms)
        return writer

    async def objects(self) -> dict[str, bytes]:
        found = await s3_objects(self.server, self.proxy.name)
        return {key.removeprefix(f"{self.proxy.name}/"): body for key, body in found.items()}

    async def check(self) -> Checked:
        """Return what is archived; all of it is right."""
        place = S3Place(self.server.bucket, self.proxy.name, self.settings)
        (result,) = await verify(place, Options(now_ms=NOON, destination="s3://a"))
        await place.close()
        assert not result.findings.of(Severity.WRONG)
        return check_archive(await self.objects())

    async def events(self) -> set[str]:
        return {str(one["event_id"]) for one in (await self.check()).of_kind("event")}


class Writer(Office):
    """A Steward that writes to the place."""

    def __init__(self, database: Database, folder: Path, place: Place, name: str) -> None:
        self.place, self.name = place, name
        super().__init__(database, folder)

    def start(self) -> None:
        self.world.s3 = self.place.settings
        self.world.destination = f"s3://{self.place.server.bucket}/{self.place.proxy.name}"
        super().start()
        leases = self.bot.archive.leases
        assert leases is not None
        leases.settle_seconds, leases.host = 0.0, self.name

    def later(self, seconds: float) -> None:
        clock = cast(StoppedClock, self.world.clock)
        self.at(clock.moment_ms + int(seconds * 1000))

    async def is_stopped(self) -> bool:
        """Record and sign all there is, try to store it, and return whether that has to wait."""
        await self.bot.exporting.settle()
        await self.bot.archive.seal(flush=True)
        await self.bot.archive.sign()
        for destination in self.bot.archive._destinations.values():
            destination.not_before = 0.0
        return await self.bot.archive.upload() is not None

    async def close(self) -> None:
        for destination in self.bot.archive._destinations.values():
            await destination.store.close()
        for store in self.media._stores.values():
            await store.close()

    async def told(self) -> list[str]:
        sentences = [alarm.sentence for alarm in await untold(self.world.database)]
        return [sentence for sentence in sentences if "Its fingerprint" not in sentence]


@pytest.fixture
async def place(seaweedfs: SeaweedFS, tmp_path: Path) -> AsyncIterator[Place]:
    """A place whose store writes over what is there."""
    async with careless_proxy(seaweedfs) as proxy:
        place = Place(seaweedfs, proxy, tmp_path)
        async with place.opened:
            yield place


async def first_writer(place: Place) -> Writer:
    first = await place.steward("first")
    await first.say(*new_room("@bob:example.org"), message("$1"))
    await first.store()
    return first


async def test_one_writer_holds_the_lease_and_the_manifest_says_that_the_fence_is_weak(
    place: Place,
) -> None:
    first = await first_writer(place)

    lease = json.loads((await place.objects())[LEASE])
    assert (lease["type"], lease["host"], lease["server_name"]) == (
        "steward.lease",
        "first",
        "example.org",
    )
    assert lease["until_ms"] - lease["renewed_ms"] == LEASE_SECONDS * 1000
    (manifests,) = (await place.check()).manifests.values()
    assert {one["storage"]["fencing"] for one in manifests} == {"weak"}
    assert {one["storage"]["conditional_create"] for one in manifests} == {False}
    await first.close()


async def test_of_two_with_their_own_databases_one_goes_on_and_the_other_says_why_it_does_not(
    place: Place,
) -> None:
    first = await first_writer(place)
    # By its clock all leases of now ended an hour ago.
    second = await place.steward("second", ahead_ms=3_600_000)
    await second.say(*new_room("@bob:example.org"), message("$of the second"))
    before = await place.objects()

    assert await second.is_stopped()

    assert await place.objects() == before, "it has stored nothing at all"
    (told,) = await second.told()
    assert "another Steward writes to this archive" in told
    assert "on first" in told
    assert "Stop one of them" in told
    assert "Nothing is lost" in told
    await second.say(message("$another of the second"))
    recorded = await second.world.records()
    assert "$another of the second" in {record["event_id"] for record in recorded}
    assert await second.is_stopped()
    await first.say(message("$2"))
    await first.store()
    assert await first.told() == []
    assert await place.events() >= {"$1", "$2"}
    assert "$of the second" not in await place.events()
    for writer in (first, second):
        await writer.close()


async def test_as_long_as_the_first_one_renews_its_lease_nobody_takes_it_over(
    place: Place,
) -> None:
    first = await first_writer(place)
    second = await place.steward("second")
    await second.say(message("$of the second"))
    for _ in range(12):
        assert await second.is_stopped()
        for writer in (first, second):
            writer.later(RENEW_SECONDS)
        # It has nothing to store, and renews all the same.
        await first.bot.archive.stay()

    assert len(await second.told()) == 1, "once"
    assert "$1" in await place.events()
    for writer in (first, second):
        await writer.close()


async def test_who_waits_goes_on_once_the_lease_was_not_renewed_for_long_enough(
    place: Place,
) -> None:
    first = await first_writer(place)
    second = await place.steward("second")
    await second.say(*new_room("@bob:example.org"), message("$of the second"))
    assert await second.is_stopped()
    second.later(WATCH_SECONDS - 1)
    assert await second.is_stopped(), "the other one may be alive"

    second.later(2)
    assert not await second.is_stopped()

    _, again = await second.told()
    assert "can be stored" in again
    objects = await place.objects()
    assert json.loads(objects[LEASE])["host"] == "second"
    # The first one was only asleep: it wakes up, looks, and writes nothing.
    await first.say(message("$late"))
    first.later(WATCH_SECONDS + 1)
    assert await first.is_stopped()
    assert await place.objects() == objects
    (told,) = await first.told()
    assert "on second" in told
    for writer in (first, second):
        await writer.close()


async def test_a_restart_takes_its_own_lease_back_at_once(place: Place) -> None:
    first = await first_writer(place)
    await first.close()
    since = json.loads((await place.objects())[LEASE])["since_ms"]

    first.start()
    first.later(1)
    await first.say(message("$2"))
    await first.store()

    assert await first.told() == []
    assert "$2" in await place.events()
    assert json.loads((await place.objects())[LEASE])["since_ms"] == since
    await first.close()


async def test_a_restart_after_a_renewal_whose_answer_was_lost_takes_it_back_too(
    place: Place,
) -> None:
    first = await first_writer(place)
    first.later(RENEW_SECONDS)
    for fault in (Fault(drop_request=True), Fault(drop_request=True), Fault(drop_answer=True)):
        place.proxy.fail_next(1, fault, part="/lease.json")
        await first.bot.archive.stay()
    await first.close()

    first.start()
    await first.say(message("$2"))
    await first.store()

    assert "$2" in await place.events()
    await first.close()


async def test_a_copy_of_the_database_waits_too_and_never_writes_over_what_is_there(
    place: Place,
) -> None:
    first = await first_writer(place)
    copy = await place.steward("copy", copy_of="first")
    await first.say(message("$2", "the first one's"))
    first.later(RENEW_SECONDS)
    await first.store()
    await copy.say(message("$2", "the copy's"))
    assert await copy.is_stopped()
    before = await place.objects()

    # The first one is gone, and the copy would store its next segment under the same key.
    copy.later(WATCH_SECONDS + 1)
    assert await copy.is_stopped()

    after = await place.objects()
    assert {key for key in after if after[key] != before.get(key)} == {LEASE}
    assert "holds other bytes than were to be written there" in (await copy.told())[-1]
    assert "$2" in await place.events()
    for writer in (first, copy):
        await writer.close()


async def test_an_attachment_is_not_stored_either(place: Place) -> None:
    first = await first_writer(place)
    second = await place.steward("second")
    second.files.held["mxc://example.org/a"] = PNG
    await second.say(image("$image"))

    await second.bot.exporting.settle()
    with pytest.raises(HeldElsewhereError):
        await second.media.step()

    assert not any("/media/" in key for key in await place.objects())
    for writer in (first, second):
        await writer.close()


async def test_who_waits_states_no_day(place: Place) -> None:
    first = await first_writer(place)
    second = await place.steward("second")
    await second.say(message("$of the second"))
    assert await second.is_stopped()
    for writer in (first, second):
        writer.later(86_400)
    await first.bot.archive.stay()

    with pytest.raises(HeldElsewhereError):
        await second.bot.daily.look()
    assert not any("/reports/" in key for key in await place.objects())
    await first.bot.daily.look()
    assert any("/reports/" in key for key in await place.objects())
    for writer in (first, second):
        await writer.close()


async def test_a_store_that_refuses_to_overwrite_needs_no_lease(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        place = Place(seaweedfs, proxy, tmp_path)
        async with place.opened:
            first = await first_writer(place)
            assert LEASE not in await place.objects()
            (manifests,) = (await place.check()).manifests.values()
            assert {one["storage"]["fencing"] for one in manifests} == {"strong"}
            await first.close()
