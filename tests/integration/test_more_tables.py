"""What people choose, digests, storage, dismissals and ended jobs: on PostgreSQL as on SQLite."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from adminbot.choices import Choices
from adminbot.engine.codec import Codec
from adminbot.engine.held import Held
from adminbot.engine.intake import Pick, open_envelope
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnChange
from adminbot.jobs import Jobs, Status
from adminbot.known import known_types
from adminbot.own.jobs import ListJobs
from adminbot.own.people import (
    LanguageOf,
    SetFormatting,
    SetLanguage,
    SetReplies,
    Style,
    StyleOf,
)
from adminbot.own.schedules import AddSchedule, BeginDigest, DigestOf, EndDigest, Schedules
from adminbot.own.server_rooms import Dismissals
from adminbot.own.storage import HeldByDay
from adminbot.own.token_ends import End, EndOf, RememberEnd
from adminbot.own_records import OwnRecords
from adminbot.storage_watch import StorageWatch
from common.config.secret import Secret
from common.crypto.sealing import Sealer
from common.database.pool import Database
from common.homeserver.synapse.media import ListMediaByUser, UserMedia, UserMediaPage
from common.ids import EventId, UserId
from common.membership.dismissal import dismiss, readmit
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.unit.adminbot.world import (
    ADMIN,
    ALICE,
    BOB,
    DIRECT,
    NOW_MS,
    SHARED,
    FakeAdmin,
    FakeClock,
    message,
    request,
    surroundings,
)


@pytest.fixture(params=["postgres", "sqlite"])
async def database(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Database]:
    if request.param == "postgres":
        url = (await postgres.create_database()).url
    else:
        url = sqlite_url(tmp_path)
    async with open_database(url) as opened:
        yield opened


async def apply(database: Database, *changes: OwnChange) -> None:
    async with database.transaction() as connection:
        for change in changes:
            await OwnRecords(database).apply(connection, change)


def pick(number: int, sender: UserId) -> Pick:
    envelope = open_envelope(message(str(number), sender=sender), surroundings())
    assert not isinstance(envelope, str)
    return Pick(number, request(str(number), sender=sender), envelope)


async def test_a_choice_is_offered_taken_and_forgotten(database: Database) -> None:
    clock = FakeClock()
    choices = Choices(database, clock)
    await choices.offer(request("one"), ["one a", "one b"])
    await choices.offer(request("two"), ["two a", "two b"])

    async with database.transaction() as connection:
        assert await choices.take(connection, pick(1, BOB)) is None
        unknown = await choices.take(connection, pick(3, ADMIN))
        assert unknown is not None
        assert unknown.text == "3"
        taken = await choices.take(connection, pick(2, ADMIN))
        assert taken is not None
        assert taken.text == "two b"
        assert await choices.take(connection, pick(2, ADMIN)) is None
    await choices.offer(request("three"), ["three a"])
    clock.forward(61)
    waiting = await choices.waiting(DIRECT, ADMIN)
    assert waiting is not None
    assert waiting.over
    await choices.forget_old()
    clock.forward(601)
    await choices.forget_old()
    assert await choices.waiting(DIRECT, ADMIN) is None


async def test_what_people_choose_is_kept_one_by_one(database: Database) -> None:
    records = OwnRecords(database)
    assert await records.read(StyleOf(ALICE)) == Style()

    await apply(database, SetReplies(ALICE, "reply"))
    await apply(database, SetLanguage(ALICE, "de"), SetFormatting(ALICE, "plain"))

    assert await records.read(StyleOf(ALICE)) == Style(threads=False, plain=True)
    assert await records.read(LanguageOf(ALICE)) == "de"
    await apply(database, SetReplies(ALICE, "thread"), SetFormatting(ALICE, "full"))
    assert await records.read(StyleOf(ALICE)) == Style(threads=True)


def scheduled(event: str, owner: UserId, text: str) -> AddSchedule:
    return AddSchedule(
        event=EventId(event),
        owner=owner,
        room=DIRECT,
        text=text,
        formatted=None,
        rule="cron:0 8 * * *",
        zone="UTC",
        missed="once",
        begun_ms=NOW_MS,
        next_ms=NOW_MS + 1,
    )


async def test_there_is_one_digest_for_each(database: Database) -> None:
    records = OwnRecords(database)
    await apply(
        database,
        scheduled("$other", ADMIN, "version"),
        BeginDigest(scheduled("$bobs", BOB, "digest daily")),
        BeginDigest(scheduled("$one", ADMIN, "digest daily")),
        BeginDigest(scheduled("$two", ADMIN, "digest weekly")),
    )

    assert await records.read(DigestOf(ADMIN)) == ("weekly", NOW_MS + 1)
    assert await records.read(DigestOf(BOB)) == ("daily", NOW_MS + 1)
    assert await records.read(DigestOf(ALICE)) is None
    await apply(database, EndDigest(ADMIN))
    assert await records.read(DigestOf(ADMIN)) is None
    assert sorted(one.text for one in await records.read(Schedules())) == [
        "digest daily",
        "version",
    ]


class Server(FakeAdmin):
    """With files."""

    def _answer(self, request: object) -> object:
        if isinstance(request, ListMediaByUser):
            return UserMediaPage((UserMedia(media_count=3, media_length=2**40, user_id=ALICE),), 1)
        return super()._answer(request)


async def test_a_day_keeps_its_last_figures(database: Database) -> None:
    clock, records = FakeClock(), OwnRecords(database)
    admin = Server(members={SHARED: (ALICE,)})
    watch = StorageWatch(database, clock, admin)

    await watch.look()
    admin.members[DIRECT] = (ADMIN,)
    await watch.look()
    clock.moment += timedelta(days=1)
    await watch.look()

    held = await records.read(HeldByDay("2026-11-01"))
    assert list(held.values()) == [Held(3, 2**40, 2, 0)] * 2
    assert len(await records.read(HeldByDay("2026-11-24"))) == 1


async def test_dismissals_and_ends_of_tokens(database: Database) -> None:
    records, clock = OwnRecords(database), FakeClock()
    await dismiss(database, clock, SHARED, ALICE, BOB)
    await dismiss(database, clock, SHARED, ALICE, ADMIN)
    (found,) = await records.read(Dismissals())
    assert (found.room, found.by) == (SHARED, BOB)
    await readmit(database, SHARED)
    assert await records.read(Dismissals()) == ()

    assert await records.read(EndOf("abc")) is None
    await apply(database, RememberEnd("abc", None))
    assert await records.read(EndOf("abc")) == End(None)
    await apply(database, RememberEnd("abc", NOW_MS))
    assert await records.read(EndOf("abc")) == End(NOW_MS)


async def test_why_a_job_ended_early_is_kept(database: Database) -> None:
    jobs = Jobs(database, FakeClock(), Codec(known_types()), Sealer(Secret("pickle")))
    plan = Plan(summary="Speak", steps=(SetLanguage(ALICE, "de"),))
    async with database.transaction() as connection:
        await jobs.begin(connection, request("language de"), plan, "language de")

    await jobs.end(EventId("$command"), Status.CANCELLED, "not any more")

    (job,) = await OwnRecords(database).read(ListJobs(None))
    assert (job.status, job.reason) == ("cancelled", "not any more")
