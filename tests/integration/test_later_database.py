"""What is promised, and who made which token, on PostgreSQL too."""

from adminbot.own.later import DueLater, ForgetLater
from adminbot.own.tokens import ForgetToken, RememberToken, TokenChanged, TokenNotes, digest_of
from adminbot.own_records import OwnRecords
from common.config.secret import Secret
from common.homeserver.synapse.account_state import SuspendUser
from tests.support.databases import open_database
from tests.support.postgres import Postgres
from tests.unit.adminbot.test_later import build, promise
from tests.unit.adminbot.world import ADMIN, ALICE, BOB


async def test_promises(postgres: Postgres) -> None:
    target = await postgres.create_database()
    async with open_database(target.url) as database:
        world, records = build(database), OwnRecords(database)
        undo = promise(SuspendUser(ALICE, suspended=False), seconds=-1)
        await world.later.write_down(promise(SuspendUser(ALICE), seconds=-2), "steward-step-0-$a")
        await world.later.write_down(undo, "steward-step-0-$b")
        await world.later.write_down(promise(SuspendUser(BOB), slot="x", seconds=600), "c")
        assert set(await records.read(DueLater(("lock", "x", "y")))) == {"lock", "x"}
        async with database.transaction() as connection:
            await records.apply(connection, ForgetLater("x"))

        await world.until_over()

        assert await world.statuses() == ["cancelled", "cancelled", "done"]
        assert [call.body for call in world.admin.changes] == [{"suspend": False}]


async def test_tokens(postgres: Postgres) -> None:
    target = await postgres.create_database()
    async with open_database(target.url) as database:
        records, token = OwnRecords(database), Secret("a-token")
        async with database.transaction() as connection:
            made = RememberToken(token=token, creator=ADMIN, note="x", made_ms=1)
            await records.apply(connection, made)
            await records.apply(connection, made)
            changed = TokenChanged(token=token, creator=ALICE, uses=5, at_ms=2)
            await records.apply(connection, changed)

        note = (await records.read(TokenNotes()))[digest_of("a-token")]
        assert (note.creator, note.note, note.uses, note.told_used) == (ADMIN, "x", 5, False)
        async with database.transaction() as connection:
            await records.apply(connection, ForgetToken(token))
        assert await records.read(TokenNotes()) == {}
