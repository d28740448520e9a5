"""Migrations run in the order of their numbers, which is that of their names."""

import re
from importlib.resources import files


def test_each_has_a_number_of_three_digits_and_its_own() -> None:
    names = [entry.name for entry in files("common.database").joinpath("sql").iterdir()]
    found = [re.fullmatch(r"(\d{3})_[a-z_]+\.sql", name) for name in names]

    numbers = [int(each[1]) for each in found if each is not None]
    assert len(numbers) == len(names) > 1
    assert len(set(numbers)) == len(numbers)
    assert [int(name[:3]) for name in sorted(names)] == sorted(numbers)
