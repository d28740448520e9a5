"""The compliance guide says of each code that a verification gives what it means and what to do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[4]
TO_KNOW = "to know: "


def given() -> Iterator[tuple[str, str]]:
    """Yield each code in the program that stands where it is told, with how it is told."""
    for path in sorted((ROOT / "auditbot/reader").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                told = ast.unparse(node.func).rpartition(".")[2]
                if told == "Finding" and "NOTICE" in ast.unparse(node):
                    told = "notice"
                if told in {"wrong", "notice", "tell", "Finding"}:
                    for code in texts(node.args[0]):
                        yield code, told


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def explained() -> tuple[set[str], set[str]]:
    """Return the codes in the table of what is wrong, and of what is to be known."""
    page = (ROOT / "docs/compliance-guide.md").read_text("utf-8")
    table = page.partition("| It says (`code`) |")[2].partition("\n\n")[0]
    wrong: set[str] = set()
    notices: set[str] = set()
    for row in table.splitlines()[2:]:
        first, *others = row.strip("| ").split(" | ")
        assert len(others) == 2, row
        assert all(cell.strip() for cell in others), row
        codes = re.findall(r"`(\w+)`", first)
        assert codes, row
        (notices if first.startswith(TO_KNOW) else wrong).update(codes)
    return wrong, notices


def test_each_code_is_explained_in_the_guide() -> None:
    wrong, notices = explained()
    codes = set(given())

    assert len(codes) > 50
    assert not {code for code, told in codes if told in {"wrong", "Finding"}} - wrong
    assert not {code for code, told in codes if told == "notice"} - notices
    assert not {code for code, _ in codes} - wrong - notices


def test_the_guide_explains_no_code_that_there_is_not() -> None:
    program = "".join(
        path.read_text("utf-8") for path in (ROOT / "auditbot/reader/verify").glob("*.py")
    )

    assert not [code for code in set.union(*explained()) if f'"{code}"' not in program]
