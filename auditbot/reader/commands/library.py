"""The local index of the archive that the options name, brought up to date first."""

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec import structs

from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.options import (
    Archive,
    add_archive_options,
    fingerprint,
    open_archive,
)
from auditbot.reader.index.library import Library
from auditbot.reader.index.sync import Synced, sync
from auditbot.reader.memory import Remembered
from auditbot.reader.render.words import one_line
from auditbot.reader.times import moment
from auditbot.reader.verify.report import grouped
from common.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Open:
    """An archive with its index and the log of what is done with them."""

    archive: Archive
    library: Library
    log: AccessLog
    synced: Synced | None
    fingerprints: tuple[str, ...] = ()
    """The keys that the officer named."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Return why the index ends before the archive does, as far as it was looked."""
        return tuple(self.synced.faults) if self.synced else ()


@asynccontextmanager
async def open_library(arguments: argparse.Namespace) -> AsyncIterator[Open]:
    """Open the index; fetch what is new unless --no-sync was given."""
    async with open_archive(arguments) as archive:
        library = Library(archive.cache, archive.identities)
        try:
            synced = None
            if not arguments.no_sync:
                synced = await bring_up_to_date(archive, library, tuple(arguments.key))
            yield Open(archive, library, access_log(archive), synced, tuple(arguments.key))
        finally:
            library.close()


def access_log(archive: Archive) -> AccessLog:
    """Return the log of what is looked at."""
    return AccessLog(archive.home / "access.jsonl", SystemClock())


async def bring_up_to_date(
    archive: Archive, library: Library, fingerprints: tuple[str, ...]
) -> Synced:
    """Index what is new, and tell what stands in the way."""
    is_seen = sys.stderr.isatty()

    def tell(objects: int, records: int) -> None:
        if is_seen:
            sys.stderr.write(f"\r{objects:,} segments, {records:,} records indexed")

    def recall(server: str) -> Remembered:
        return archive.memory.recall(f"{archive.destination} {server}")

    done = await sync(archive.place, library, recall, fingerprints=fingerprints, progress=tell)
    if is_seen:
        sys.stderr.write("\r\x1b[K")
    _learn_keys(archive, done, fingerprints)
    for fault in done.faults:
        sys.stderr.write(f"NOT EVERYTHING IS INDEXED: {one_line(fault)}\n")
    return done


def _learn_keys(archive: Archive, done: Synced, fingerprints: tuple[str, ...]) -> None:
    for server, keys in done.fingerprints.items():
        if fingerprints:
            name = f"{archive.destination} {server}"
            known = archive.memory.recall(name)
            named = known.trusting(fingerprints, keys, is_right=not done.faults)
            if named != known:
                archive.memory.keep(name, named)
        elif done.first_use:
            _trust_first(archive, server, keys)


def _trust_first(archive: Archive, server: str, keys: tuple[str, ...]) -> None:
    remember_keys(archive, server, keys)
    for key in keys:
        sys.stderr.write(
            f"Trusted from now on, because it is the first seen: the key\n    {grouped(key)}\n"
            "Compare it with the fingerprint that auditbot told.\n"
        )


def remember_keys(archive: Archive, server: str, fingerprints: tuple[str, ...]) -> None:
    """Trust these keys from now on."""
    name = f"{archive.destination} {server}"
    known = archive.memory.recall(name)
    keys = tuple(sorted({*known.fingerprints, *fingerprints}))
    archive.memory.keep(name, structs.replace(known, fingerprints=keys))


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
        "--no-sync", action="store_true", help="use what is on this machine, fetch nothing"
    )


def reach(library: Library) -> str:
    """Return up to when the index reaches, in words."""
    until = library.until_ms
    return f"{moment(until)} UTC" if until else "nothing yet"
