"""The page of promises names tests that there are, for each of the ten."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.MULTILINE)


def test_each_promise_names_tests_that_there_are() -> None:
    page = (ROOT / "docs/compliance-guide.md").read_text("utf-8")
    rows = ROW.findall(page.partition("## What is promised")[2])

    assert [int(number) for number, _, _ in rows] == list(range(1, 11))
    for number, promise, tests in rows:
        named = re.findall(r"`(tests/\S+\.py)`", tests)
        assert named, number
        assert promise.endswith(".")
        for name in named:
            assert re.search(
                r"^(async )?def test_", (ROOT / name).read_text("utf-8"), re.MULTILINE
            ), name
