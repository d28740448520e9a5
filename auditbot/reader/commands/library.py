"""The local index of the archive that the options name, brought up to date first."""

import argparse
import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

from msgspec import structs

from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.options import (
    Archive,
    add_archive_options,
    fingerprint,
    open_archive,
)
from auditbot.reader.index.database import usable
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import drop_parts, has_parts, want_parts, wished_parts
from auditbot.reader.index.sync import Progress, Synced, complete_parts, sync
from auditbot.reader.index.turns import IN_USE, own_turn, turn_if_free
from auditbot.reader.memory import Remembered
from auditbot.reader.render.words import one_line
from auditbot.reader.times import moment
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.report import grouped
from auditbot.reader.verify.servers import choose_keys
from common.clock import SystemClock
from common.errors import StewardError, UserError

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Open:
    """An archive with its index and the log of what is done with them."""

    archive: Archive
    library: Library
    log: AccessLog
    synced: Synced | None
    fingerprints: tuple[str, ...] = ()
    """The keys that the officer named."""
    faults: tuple[str, ...] = ()
    """Why the index ends before the archive does, or lacks parts of words."""


@asynccontextmanager
async def open_library(arguments: argparse.Namespace) -> AsyncIterator[Open]:
    """Open the index; fetch what is new unless --no-sync was given.

    Whatever is refused while it is open is in the access log before the person is told.

    Raises:
        UnusableIndexError: the index is damaged or cannot be used, whenever that turns out.
    """
    async with open_archive(arguments) as archive:
        with (
            usable(archive.cache),
            closing(Library(archive.cache, archive.identities)) as library,
        ):
            synced, faults = None, []
            await choose_parts(arguments, library)
            if not arguments.no_sync:
                async with own_turn(library.folder, _tell_waiting):
                    synced = await bring_up_to_date(archive, library, tuple(arguments.key))
                faults = synced.faults
            else:
                with turn_if_free(library.folder) as is_free:
                    faults = await asyncio.to_thread(_complete, library) if is_free else [IN_USE]
                _tell_faults(faults)
            log = access_log(archive)
            try:
                yield Open(archive, library, log, synced, tuple(arguments.key), tuple(faults))
            except UserError:
                log.refused(*asked(arguments), archive=archive.destination)
                raise


def asked(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return which command was typed, and all of it."""
    typed: tuple[str, ...] = getattr(arguments, "typed", ())
    return next(iter(typed), "a command"), shlex.join(typed)


def _tell_waiting() -> None:
    sys.stderr.write(
        "Another “steward audit” is bringing this index up to date: waiting for it to end. With "
        "--no-sync the index is used as it is.\n"
    )


async def choose_parts(arguments: argparse.Namespace, library: Library) -> None:
    """Let the index know parts of words from now on, or no longer.

    Whoever searches for a part of a word wants it, too: they need not know of the option.
    """
    wanted: bool | None = getattr(arguments, "substrings", None)
    if wanted is None and getattr(arguments, "containing", None):
        wanted = True
    if wanted and not has_parts(library.connection):
        async with own_turn(library.folder, _tell_waiting_for_parts):
            sys.stderr.write(
                "Parts of words are being indexed, once: the index gets about twice as large "
                "(“steward audit sync --no-substrings” undoes it).\n"
            )
            want_parts(library.connection)
    elif wanted is False and wished_parts(library.connection):
        async with own_turn(library.folder, _tell_waiting_for_parts):
            drop_parts(library.connection)


def _tell_waiting_for_parts() -> None:
    sys.stderr.write(
        "Another “steward audit” is at work with this index, so that it cannot be told yet whether "
        "to know parts of words: waiting for it to end.\n"
    )


def _complete(library: Library) -> list[str]:
    """Add the words that could not be read before; return why some still cannot be."""
    return library.complete_words() + _add_missing_parts(library)


def _add_missing_parts(library: Library) -> list[str]:
    """Add the parts of words that an older index lacks; return why some cannot be added."""
    try:
        with _told("segments got parts of words") as tell:
            complete_parts(library, tell)
    except DamagedArchiveError as error:
        return [f"parts of words: {error}"]
    return []


@contextmanager
def _told(what: str) -> Iterator[Progress]:
    is_seen = sys.stderr.isatty()

    def tell(objects: int, records: int) -> None:
        if is_seen:
            sys.stderr.write(f"\r{objects:,} {what}, {records:,} records")

    yield tell
    if is_seen:
        sys.stderr.write("\r\x1b[K")


def access_log(archive: Archive) -> AccessLog:
    """Return the log of what is looked at."""
    return AccessLog(
        archive.home / "access.jsonl", SystemClock(), archive.remote_log, archive.destination
    )


async def bring_up_to_date(
    archive: Archive, library: Library, fingerprints: tuple[str, ...]
) -> Synced:
    """Index what is new, and tell what stands in the way."""

    def recall(server: str) -> Remembered:
        return archive.memory.recall(f"{archive.destination} {server}")

    faults = await asyncio.to_thread(_add_missing_parts, library)
    servers = tuple(archive.memory.servers_at(archive.destination))
    with _told("segments indexed") as tell:
        done = await sync(
            archive.place,
            library,
            recall,
            servers=servers,
            fingerprints=fingerprints,
            progress=tell,
        )
    _learn_keys(archive, done)
    done.faults.extend(faults)
    _tell_faults(done.faults)
    return done


def _tell_faults(faults: list[str]) -> None:
    for fault in faults:
        sys.stderr.write(f"{not_everything(fault)}\n")


def not_everything(fault: str) -> str:
    """Return that the index lacks something, and why."""
    return f"NOT EVERYTHING IS INDEXED: {one_line(fault)}"


def _learn_keys(archive: Archive, done: Synced) -> None:
    now_ms = SystemClock().now_ms()
    for server, trusting in done.servers.items():
        name, keys = f"{archive.destination} {server}", trusting.fingerprints
        known = archive.memory.recall(name)
        after = known.trusting(trusting.named, keys, is_right=trusting.is_right)
        if trusting.first_use:
            _tell_trusted(keys)
            after = structs.replace(after, fingerprints=keys)
        # The day is enough: each time that this is written it may cross what verify writes.
        if trusting.is_right and keys and now_ms - (known.last_seen_ms or 0) > _DAY_MS:
            after = structs.replace(after, seen_ms=now_ms)
        if after != known:
            archive.memory.keep(name, after)


def known_keys(archive: Archive, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys that are trusted without a look at the archive."""
    remembered = archive.memory.servers_at(archive.destination)
    lying = {server: known.fingerprints for server, known in remembered.items()}
    chosen = choose_keys(given, lying, remembered).values()
    return tuple(sorted({*given, *(key for one in chosen for key in one.fingerprints)}))


def _tell_trusted(keys: tuple[str, ...]) -> None:
    for key in keys:
        sys.stderr.write(
            f"Trusted from now on, because it is the first seen: the key\n    {grouped(key)}\n"
            "Compare it with the fingerprint that auditbot told.\n"
        )


def add_library_options(command: argparse.ArgumentParser) -> None:
    """Add which archive is meant and how its index is kept."""
    add_archive_options(command)
    command.add_argument(
        "--key",
        type=fingerprint,
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="the signing key's fingerprint that you wrote down",
    )
    command.add_argument(
        "--no-sync",
        action="store_true",
        help="use what is on this machine: fetch nothing, and wait for nobody who does",
    )


def add_parts_option(command: argparse.ArgumentParser) -> None:
    """Add whether the index knows parts of words."""
    command.add_argument(
        "--substrings",
        action=argparse.BooleanOptionalAction,
        help="index parts of words, too, which “search --containing” needs, or no longer; the "
        "index remembers it and is about twice as large with them",
    )


def reach(library: Library) -> str:
    """Return up to when the index reaches, in words."""
    until = library.until_ms
    return f"{moment(until)} UTC" if until else "nothing yet"


def foreseen(group: ExceptionGroup[Exception]) -> str:
    """Return what one of a group of foreseen failures says; others are bugs and are raised."""
    foreseen, bugs = group.split(StewardError)
    if foreseen is None or bugs is not None:
        raise group
    error: Exception = foreseen
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error)
