"""How the server's space grows: written down by Steward, shown as figures and a picture."""

from datetime import UTC, datetime, timedelta

from common.demo.waiting import wait_for
from tests.support.databases import open_database
from tests.support.talk import talk_in
from tests.support.world import World

_MEBIBYTE = 1024 * 1024


async def test_growth_is_written_down_and_shown(world: World) -> None:
    url = f"sqlite:///{world.steward.directory / 'steward.db'}"
    async with talk_in(world) as talk, open_database(url) as database:
        today = datetime.now(UTC).date()  # noqa: TID251  # the servers' own day

        async def written_down() -> bool:
            rows = await database.fetch("SELECT day FROM admin_storage_day")
            return str(today) in {row["day"] for row in rows}

        await wait_for(written_down, 60, "today's figures")
        before = int((await talk.files("storage growth --csv", "storage.csv"))["info"]["size"])
        assert before > 0
        # As if it had run for ten days already.
        first = today - timedelta(days=10)
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_storage_day (day, files, bytes, rooms, accounts)"
                " VALUES ($1, 0, 0, 1, 1) ON CONFLICT (day) DO NOTHING",
                str(first),
            )
        await talk.admin.upload(b"x" * 3 * _MEBIBYTE, "large.bin")

        said = await talk.ask("storage growth --days 10")

        assert f"Written down since:   {first}" in said
        # Live, without waiting for the day's end; whatever others in this world uploaded.
        line = next(line for line in said.splitlines() if line.startswith("Grown by"))
        assert "MiB in 10 days" in line
        assert float(line.split("+")[1].split()[0]) >= 3
        assert str(today) in said
        assert "in 5 days" not in await talk.ask("storage growth --days 5")
        picture = await talk.files("storage growth --trend", "storage.png")
        assert picture["info"]["mimetype"] == "image/png"
        assert picture["info"]["w"] > 500
        assert "Between 1 and" in await talk.ask("storage growth --days 0")
