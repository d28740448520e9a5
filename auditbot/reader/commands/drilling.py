"""``steward audit drill``: show that the archive can be restored, with each key, and keep proof.

Exit status: 0 it can; 1 something failed; 2 the archive could not be read.
"""

import argparse
import hashlib
import platform
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from auditbot.reader.commands.library import access_log
from auditbot.reader.commands.options import (
    Archive,
    add_place_options,
    fingerprint,
    open_archive,
)
from auditbot.reader.commands.outputs import add_force_option, refuse_taken
from auditbot.reader.drill import Attempt, Drilled, Key, Picker, drill, read_keys, recipients
from auditbot.reader.memory import write_private
from auditbot.reader.render.words import one_line
from auditbot.reader.times import moment
from auditbot.reader.transcript.build import software
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import grouped, verdict
from auditbot.reader.verify.run import verify
from common.account import account_name
from common.clock import SystemClock
from common.errors import ConfigError, StewardError

PASSED, FAILED, UNREADABLE = 0, 1, 2
_DEFAULT = 3
_MOST = 1000


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "drill",
        help="show that the archive can be restored, with each key, and keep the proof",
        description="Verify all signatures, fetch objects by chance, open each with every key "
        "alone, compare them with what was signed, and write down what was done. Exit status: 0 "
        "all went well, 1 something failed, 2 the archive could not be read.",
    )
    command.set_defaults(act=_drill)
    add_place_options(command)
    command.add_argument(
        "--identity",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="age identity to be tried; again for each further one",
    )
    command.add_argument(
        "--objects",
        type=_number,
        default=_DEFAULT,
        metavar="N",
        help=f"how many segments, and how many attachments (default {_DEFAULT})",
    )
    command.add_argument("--seed", metavar="TEXT", help="take the objects of an earlier drill")
    command.add_argument("--output", type=Path, metavar="FILE", help="where to write the proof")
    add_force_option(command)
    command.add_argument(
        "--key",
        type=fingerprint,
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="the signing key's fingerprint that you wrote down",
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """All that a drill found."""

    archive: Archive
    seed: str
    started_ms: int
    ended_ms: int
    verified: list[Verified]
    keys: list[Key]
    recipients: list[str]
    drilled: list[Drilled]
    trouble: list[str]

    @property
    def failures(self) -> list[str]:
        """Return what failed; nothing means that the drill was passed."""
        wrong = [one for one in self.verified if one.findings.counted[Severity.WRONG]]
        found = [*self.trouble, *map(verdict, wrong)]
        for one in self.drilled:
            found += [f"{one.item.key}: {fault}" for fault in one.faults]
        if not self.drilled:
            found.append("There was nothing to restore.")
        return found

    @property
    def not_tried(self) -> list[str]:
        """Return the keys that the archive is encrypted to and that nobody brought."""
        brought = {key.public for key in self.keys}
        return [public for public in self.recipients if public not in brought]


async def _drill(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        refuse_taken(arguments.output, arguments)
    try:
        return await _carry_out(arguments)
    except ConfigError:
        raise
    except StewardError as error:
        sys.stderr.write(f"steward: The drill cannot be made: {one_line(error)}\n")
        return UNREADABLE
    except ExceptionGroup as group:
        foreseen, bugs = group.split(StewardError)
        if foreseen is None or bugs is not None:
            raise
        sys.stderr.write(f"steward: The drill cannot be made: {one_line(_first(foreseen))}\n")
        return UNREADABLE


async def _carry_out(arguments: argparse.Namespace) -> int:
    clock = SystemClock()
    keys = read_keys(arguments.identity)
    picker = Picker(arguments.seed or secrets.token_hex(8), arguments.objects)
    started_ms = clock.now_ms()
    async with open_archive(
        argparse.Namespace(**{**vars(arguments), "identity": None})
    ) as archive:
        options = Options(
            now_ms=started_ms,
            destination=archive.destination,
            sample=0,
            fingerprints=tuple(arguments.key),
            observe=picker.take,
        )
        verified = await verify(archive.place, options, archive.memory)
        if not verified:
            sys.stderr.write(f"There is no archive in {one_line(archive.destination)}.\n")
            return UNREADABLE
        if picker.recipients and not keys:
            raise ConfigError(
                "The archive is encrypted: name the identity of each officer with --identity."
            )
        listed, trouble = await _recipients(archive, picker)
        erased = frozenset[str]().union(*(result.erased for result in verified))
        drilled = await drill(archive.place, picker, keys, erased=erased)
        outcome = _Outcome(
            archive,
            picker.seed,
            started_ms,
            clock.now_ms(),
            verified,
            keys,
            listed,
            drilled,
            trouble,
        )
        return _keep(outcome, arguments.output)


async def _recipients(archive: Archive, picker: Picker) -> tuple[list[str], list[str]]:
    found: list[str] = []
    trouble: list[str] = []
    for key in picker.recipients.values():
        try:
            found += await recipients(archive.place, key)
        except DamagedArchiveError as error:
            trouble.append(f"Whom it is encrypted to cannot be told: {error}")
    return list(dict.fromkeys(found)), trouble


def _keep(outcome: _Outcome, output: Path | None) -> int:
    """Write the proof, and say how it went."""
    failures = outcome.failures
    text = "".join(f"{line}\n" for line in _evidence(outcome))
    when = datetime.fromtimestamp(outcome.started_ms / 1000, UTC)
    path = output or Path(f"drill-{when:%Y%m%dT%H%M%SZ}.txt")
    body = text.encode("utf-8", "replace")
    digest = hashlib.sha256(body).hexdigest()
    access_log(outcome.archive).write(
        "drill",
        archive=outcome.archive.destination,
        passed=not failures,
        seed=outcome.seed,
        proof=str(path),
        sha256=digest,
    )
    write_private(path, body)
    sys.stdout.write(_summary(outcome))
    sys.stdout.write(f"{path}: what was done, and the result.\n    SHA-256 {digest}\n")
    sys.stdout.flush()
    return FAILED if failures else PASSED


def _summary(outcome: _Outcome) -> str:
    failures = outcome.failures
    result = "FAILED" if failures else "PASSED"
    lines = [f"{result}: {len(outcome.drilled):,} objects, {len(outcome.keys):,} keys."]
    lines += [f"    {one_line(failure)}" for failure in failures[:20]]
    lines += [f"    not tried: {one_line(public)}" for public in outcome.not_tried]
    return "".join(f"{line}\n" for line in lines)


def _evidence(outcome: _Outcome) -> Iterator[str]:
    failures = outcome.failures
    yield "RESTORE DRILL AND KEY DRILL OF AN AUDIT ARCHIVE"
    yield ""
    yield f"Result           {'FAILED' if failures else 'PASSED'}"
    yield f"Begun            {moment(outcome.started_ms)} UTC"
    yield f"Ended            {moment(outcome.ended_ms)} UTC"
    yield f"By               {one_line(account_name())} on {one_line(platform.node())}"
    yield f"With             {one_line(software())}"
    yield f"Archive          {one_line(outcome.archive.destination)}"
    yield f"Seed             {one_line(outcome.seed)} (takes the same objects again: --seed)"
    for failure in failures:
        yield f"Failed           {one_line(failure)}"
    yield ""
    yield "1. ALL SIGNATURES WERE VERIFIED"
    for result in outcome.verified:
        yield f"   {one_line(result.server_name or result.server)}: {verdict(result)}"
        yield f"       {result.manifests:,} manifests, {result.listed:,} segments listed"
        for text in result.fingerprints:
            yield f"       signing key {grouped(text)}"
        if result.first_use:
            yield "       NOT COMPARED with a fingerprint that was written down"
    yield ""
    yield "2. THE KEYS"
    yield from _of_keys(outcome)
    yield ""
    yield "3. OBJECTS TAKEN BY CHANCE, FETCHED, OPENED AND COMPARED WITH WHAT WAS SIGNED"
    for one in outcome.drilled:
        yield from _of_object(one)


def _of_keys(outcome: _Outcome) -> Iterator[str]:
    if not outcome.recipients and not outcome.trouble:
        yield "   The archive is not encrypted by Steward: no key is needed to read it."
    for key in outcome.keys:
        opened = sum(
            attempt.fault is None
            for one in outcome.drilled
            for attempt in one.attempts
            if attempt.key == key
        )
        sealed = sum(one.is_sealed for one in outcome.drilled)
        known = "" if key.public in outcome.recipients else ", NOT one it is encrypted to now"
        yield f"   {one_line(key.public)}{known}"
        yield f"       from {one_line(key.file)}: opened {opened:,} of {sealed:,} objects alone"
    for public in outcome.not_tried:
        yield f"   {one_line(public)}"
        yield "       NOT TRIED: the archive is encrypted to it, and nobody brought it"


def _of_object(one: Drilled) -> Iterator[str]:
    item = one.item
    yield f"   {one_line(item.key)}"
    if item.version_id is not None:
        yield f"       version   {one_line(item.version_id)}"
    yield f"       signed    {item.size:,} bytes, SHA-256 {item.sha256}"
    yield f"       fetched   {one.found_size:,} bytes, SHA-256 {one.found_sha256}"
    for attempt in one.attempts:
        yield f"       {_of_attempt(attempt)}"


def _of_attempt(attempt: Attempt) -> str:
    how = "read" if attempt.key is None else f"opened with {one_line(attempt.key.public)}"
    if attempt.fault is not None:
        return f"FAILED    {how}: {one_line(attempt.fault)}"
    records = (
        f"its {attempt.records:,} records are those of the signed tree"
        if attempt.records is not None
        else "it is the signed file"
    )
    return f"right     {how}: {records}"


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {_MOST}")
    return int(text)
