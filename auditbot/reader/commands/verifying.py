"""``steward audit verify``: is the archive complete and untouched?

Exit status: 0 it is; 1 something is wrong; 2 it could not be read.
"""

import argparse
import json
import sys
from pathlib import Path

from auditbot.reader.commands.approving import add_approval_options, wanted_approvals
from auditbot.reader.commands.cosignatures import add_place_option, officer_key, read_parties
from auditbot.reader.commands.library import access_log, foreseen
from auditbot.reader.commands.options import (
    Archive,
    add_archive_options,
    add_period_options,
    fingerprint,
    open_archive,
    period_of,
    quantity,
)
from auditbot.reader.show import visible
from auditbot.reader.signatures import Note, parse_note
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import as_json, as_text, overall, verdicts
from auditbot.reader.verify.run import verify
from auditbot.reader.verify.servers import gone_servers, server_gone
from auditbot.reader.verify.stamps import read_roots
from common.clock import SystemClock
from common.errors import ConfigError, StewardError

RIGHT, WRONG, UNREADABLE = 0, 1, 2


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "verify",
        help="prove that nothing was changed, added or removed",
        description="Check signatures, hashes, counts and the Merkle tree of an archive. Exit "
        "status: 0 all is right, 1 something is wrong, 2 it could not be read.",
    )
    command.set_defaults(act=_verify)
    add_archive_options(command)
    add_period_options(command)
    command.add_argument(
        "--sample",
        type=quantity,
        metavar="N",
        help="look into N segments taken by chance; all signatures are checked anyway",
    )
    command.add_argument(
        "--since",
        choices=["last"],
        help="look only into what came since the last verification on this machine",
    )
    command.add_argument(
        "--key",
        type=fingerprint,
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="the signing key's fingerprint that you wrote down",
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint that you kept: is this still the archive that was there then?",
    )
    command.add_argument(
        "--cosigned-by",
        type=officer_key,
        action="append",
        default=[],
        metavar="KEY",
        help="the verifier key of somebody who cosigns the archive (NAME+…+…); again for each: does "
        "it extend all that they cosigned?",
    )
    add_place_option(command, "the archive's own place")
    add_approval_options(command)
    command.add_argument(
        "--tsa-roots",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) of the authority whose time stamps of checkpoints are trusted",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


async def _verify(arguments: argparse.Namespace) -> int:
    try:
        async with open_archive(arguments) as archive:
            results = await run(archive, arguments)
            access_log(archive).write(
                "verified", archive=archive.destination, result=verdicts(results)
            )
    except ConfigError:
        raise
    except StewardError as error:
        sys.stderr.write(f"steward: The archive cannot be verified: {visible(error)}\n")
        return UNREADABLE
    except ExceptionGroup as group:
        sentence = foreseen(group)
        sys.stderr.write(f"steward: The archive cannot be verified: {visible(sentence)}\n")
        return UNREADABLE
    if not results:
        sys.stderr.write(f"There is no archive in {visible(archive.destination)}.\n")
        known = archive.memory.servers_at(archive.destination)
        for server, remembered in gone_servers((), known).items():
            sys.stderr.write(f"{visible(server_gone(server, remembered))}\n")
        return UNREADABLE
    if arguments.json:
        sys.stdout.write(json.dumps([as_json(result) for result in results]) + "\n")
    else:
        sys.stdout.write("\n".join(as_text(result, archive.destination) for result in results))
    sys.stdout.flush()
    if overall(results) == "wrong":
        return WRONG
    # Whoever named an identity wants to know of the contents, and they were not seen.
    return UNREADABLE if any(result.unfit for result in results) else RIGHT


async def run(archive: Archive, arguments: argparse.Namespace) -> list[Verified]:
    """Verify an archive as the options say."""
    options = Options(
        now_ms=SystemClock().now_ms(),
        destination=archive.destination,
        period=period_of(arguments),
        sample=arguments.sample,
        since_last=arguments.since == "last",
        fingerprints=tuple(arguments.key),
        notes=tuple(_note(path) for path in arguments.checkpoint),
        identities=archive.identities,
        tsa_roots=read_roots(arguments.tsa_roots) if arguments.tsa_roots else (),
        progress=_progress if sys.stderr.isatty() else _silent,
        cosigned=await read_parties(archive, arguments),
        approvals=wanted_approvals(arguments),
    )
    results = await verify(archive.place, options, archive.memory)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return results


def _note(path: Path) -> Note:
    try:
        return parse_note(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"“{path}” cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"“{path}” is no checkpoint: {error}.") from error


def _progress(objects: int, records: int) -> None:
    sys.stderr.write(f"\r{objects:,} segments, {records:,} records checked")


def _silent(objects: int, records: int) -> None:
    del objects, records
