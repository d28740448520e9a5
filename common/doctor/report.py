"""Run every check and print one line for each; the exit status says whether to mend anything."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from common.checks import Check, Finding, broken, installed_checks, noted
from common.clock import Clock, SystemClock
from common.config.schema import Config
from common.doctor.api import HomeserverApi
from common.doctor.homeserver import HomeserverCheck
from common.doctor.local import database_findings, file_findings
from common.errors import StewardError
from common.i18n import t

CHECK_SECONDS = 20.0
"""For a whole check of a package, which may make several requests."""


def main(config: Config, config_file: Path | None) -> int:
    """Print the report; return 0 if nothing must be mended, 1 otherwise."""
    findings = asyncio.run(examine(config, config_file, SystemClock()))
    sys.stdout.write(render(findings, sys.stdout.encoding or "ascii"))
    return 1 if any(finding.ok is False for finding in findings) else 0


async def examine(config: Config, config_file: Path | None, clock: Clock) -> list[Finding]:
    """Run all checks at the same time; the order of the findings is always the same."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        homeserver = HomeserverCheck(config, clock, HomeserverApi(config, session))
        parts = [
            group.create_task(homeserver.findings()),
            group.create_task(database_findings(config)),
            group.create_task(_package_findings(config)),
        ]
    of_homeserver, *others = [await part for part in parts]
    rest = [finding for part in others for finding in part]
    return [*of_homeserver, _MODULE, *rest, *file_findings(config, config_file)]


_MODULE = noted(
    t(
        "Whether Synapse has loaded Steward's module cannot be seen from here; without it the "
        "first messages of a new encrypted room can stay unreadable."
    ),
    t(
        "see that homeserver.yaml has “common.synapse_module.StewardModule” under modules, with "
        "both bots' user IDs"
    ),
)


async def _package_findings(config: Config) -> list[Finding]:
    enabled = {"adminbot": config.adminbot.enabled, "auditbot": config.auditbot.enabled}
    try:
        checks = installed_checks()
    except (ImportError, AttributeError) as error:
        return [
            broken(
                t("A part of Steward cannot be loaded: {reason}.", reason=error),
                mend=t("install Steward again"),
            )
        ]
    found: list[Finding] = []
    for name, check in sorted(checks.items()):
        if enabled.get(name, True):
            found += await _bounded(name, check, config)
    return found


async def _bounded(name: str, check: Check, config: Config) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check(config)
    except TimeoutError:
        seconds = f"{CHECK_SECONDS:g}"
        what: str = t(
            "The checks of {name} did not end within {seconds} s.", name=name, seconds=seconds
        )
    except StewardError as error:
        what = str(error)
    return [broken(what)]


_PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "…": "...", "→": "->"})


def render(findings: Sequence[Finding], encoding: str) -> str:
    """Return the report; plain ASCII where the terminal can show nothing else."""
    lines = [_line(finding) for finding in findings]
    to_mend = sum(finding.ok is False for finding in findings)
    lines += ["", f"{to_mend} to mend." if to_mend else "Nothing has to be mended."]
    text = "\n".join(lines) + "\n"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        plain = text.replace("✔ ", "ok   ").replace("✘ ", "MEND ").replace("! ", "note ")
        return plain.translate(_PLAIN).encode("ascii", "replace").decode()
    return text


def _line(finding: Finding) -> str:
    mark = {True: "✔", False: "✘", None: "!"}[finding.ok]
    # Words of a homeserver or a library may hold line breaks; a finding is one line.
    text = f"{finding.what} → {finding.mend}" if finding.mend else finding.what
    return f"{mark} {' '.join(text.split())}"
