"""Steps of the schema: databases out there have taken the first ones, in their order."""

from typing import Any, cast

from common.database.migrations import upgrade_table

TAKEN = {39: "120_bridge_metrics.sql", 43: "140_session_keys.sql"}
"""By how many steps a database has taken, the last of them."""


def test_no_step_is_put_before_one_that_databases_have_taken() -> None:
    upgrades = cast(Any, upgrade_table().upgrades)
    steps = [step.__mau_db_upgrade_description__ for step in upgrades]

    assert {count: steps[count - 1] for count in TAKEN} == TAKEN
