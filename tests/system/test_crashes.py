"""Killed at any moment, the archive is the one that an undisturbed Steward would have written."""

import os

import pytest

from common.demo.servers import SeaweedFS
from tests.support.crashes import Outcome, compare, kill_under_load
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish

MOST_SECONDS = float(os.environ.get("STEWARD_SOAK_SECONDS", "3600"))  # noqa: TID251  # a soak on a busy machine
"""After how long a soak is content with fewer kills: how many they were is printed."""

SETTINGS = {"auditbot": {"segment_max_age_seconds": 0.3, "manifest_interval_seconds": 2}}


def assert_whole(outcome: Outcome) -> None:
    assert outcome.lost == {}
    assert outcome.doubled == []
    assert outcome.foreign == []
    assert outcome.checked.unlisted == []


@pytest.mark.timeout(4500)
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.soak)])
async def test_nothing_is_lost_or_doubled_by_kills_at_random_moments(
    make_world: MakeWorld, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    # Started once in peace: before that there is no device that people could share keys with.
    world = await make_world(Wish(settings=SETTINGS))
    await world.steward.kill()

    load = await kill_under_load(world, kills, most_seconds=MOST_SECONDS)
    outcome = await compare(world)

    assert load.sent > load.kills
    with capsys.disabled():
        print(  # noqa: T201  # figures of a soak
            f"\n{load.kills} kills, {outcome.events} events of the homeserver: {len(outcome.lost)} "
            f"lost, {len(outcome.doubled)} doubled, {outcome.reordered} out of order, "
            f"{outcome.undecryptable} not readable"
        )
    assert_whole(outcome)
    assert outcome.undecryptable == 0


@pytest.mark.timeout(300)
async def test_the_same_holds_for_postgresql_and_s3(
    make_world: MakeWorld, postgres: Postgres, seaweedfs: SeaweedFS
) -> None:
    settings: dict[str, dict[str, object]] = {
        "auditbot": {**SETTINGS["auditbot"]},
        "encryption": {"helper_processes": 1},
    }
    wish = Wish(postgres=postgres, s3=seaweedfs, settings=settings)
    world = await make_world(wish)
    await world.steward.kill()

    await kill_under_load(world, 3, seed=2)
    outcome = await compare(world)

    assert_whole(outcome)
