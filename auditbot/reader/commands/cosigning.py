"""``steward audit cosign``: a second party says, out of Steward's reach, what it saw of an archive.

Exit status: 0 it was cosigned; 1 it was not, because something is wrong with the archive; 2 it could
not be read, or the cosignature not be stored.
"""

import argparse
import asyncio
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from auditbot.reader.access.settings import COSIGNATURES, AccessPlace
from auditbot.reader.commands.cosignatures import OPTION, add_place_option, cosigning_place
from auditbot.reader.commands.library import access_log, foreseen
from auditbot.reader.commands.options import (
    Archive,
    add_archive_options,
    fingerprint,
    open_archive,
)
from auditbot.reader.cosigning.key import Signer, make_key, read_key
from auditbot.reader.cosigning.notes import (
    Cosignature,
    Cosigned,
    checkpoint_of,
    object_key,
    with_line,
)
from auditbot.reader.cosigning.seen import FILE, Head, Seen
from auditbot.reader.documents import LARGEST_DOCUMENT_BYTES, Manifest
from auditbot.reader.layout import server_of
from auditbot.reader.memory import Seen as SeenStream
from auditbot.reader.memory import locked
from auditbot.reader.parse import parse
from auditbot.reader.render.words import one_line
from auditbot.reader.show import visible
from auditbot.reader.times import moment
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import as_text, overall, verdicts
from auditbot.reader.verify.run import verify
from auditbot.storage.adding import Adding, RefusedError, TakenKeyError
from auditbot.storage.addressing import place_name
from common.clock import SystemClock
from common.errors import ConfigError, PermanentError, StewardError, UserError
from common.officers import OfficerKey

COSIGNED, NOT_COSIGNED, UNREADABLE = 0, 1, 2
OFFICER = "officer"
_NOTE_MOST = 2**16


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "cosign",
        help="say, where nobody else can change it, what you saw of an archive",
        description="Verify an archive, see that it extends what you cosigned last, and sign its "
        "newest tree head with your own key. Exit status: 0 it was cosigned, 1 something is wrong "
        "with it, 2 it could not be read, or the cosignature not be stored.",
    )
    command.set_defaults(act=_cosign)
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--new", metavar="NAME", help="make your key, once; NAME is such as auditor.example.com"
    )
    what.add_argument(
        "--show", action="store_true", help="print the public half of your key, to be written down"
    )
    add_archive_options(command)
    add_place_option(command, "nowhere: then it has to be named")
    command.add_argument(
        "--key",
        type=fingerprint,
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="the archive's signing key's fingerprint that you wrote down",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="look into all contents first, not only at signatures, sizes and the chain",
    )


@dataclass(frozen=True, slots=True)
class _Desk:
    """Who cosigns, what they remember, and where it goes."""

    signer: Signer
    seen: Seen
    where: AccessPlace
    adding: Adding
    archive: Archive
    now_ms: int


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint that is to be cosigned."""

    origin: str
    body: bytes
    text: bytes
    server_name: str
    stream: str
    size: int
    root: str


async def _cosign(arguments: argparse.Namespace) -> int:
    folder = arguments.home.expanduser() / OFFICER
    try:
        if arguments.new is not None:
            with locked(folder / "lock"):
                return _make(folder, arguments.new)
        if arguments.show:
            _print_key(read_key(folder).public)
            return COSIGNED
        signer = read_key(folder)
        with locked(folder / "lock"):
            async with open_archive(arguments) as archive:
                return await _act(archive, arguments, signer, folder)
    except ConfigError:
        raise
    except StewardError as error:
        sys.stderr.write(f"steward: Nothing was cosigned: {visible(error)}\n")
    except ExceptionGroup as group:
        sys.stderr.write(f"steward: Nothing was cosigned: {visible(foreseen(group))}\n")
    except OSError as error:
        sys.stderr.write(f"steward: “{folder}” cannot be used: {error.strerror}.\n")
    return UNREADABLE


def _make(folder: Path, name: str) -> int:
    signer = make_key(folder, name)
    Seen(folder / FILE, signer.public.text).begin()
    _print_key(signer.public)
    return COSIGNED


def _print_key(public: OfficerKey) -> None:
    sys.stdout.write(
        f"The key of {public.name}. Have the line below written down by whoever verifies the archive; "
        "it is public, and shows by itself if it was misspelt:\n\n"
        f"    {public.text}\n"
    )


async def _act(
    archive: Archive, arguments: argparse.Namespace, signer: Signer, folder: Path
) -> int:
    where = cosigning_place(arguments)
    if where is None:
        raise ConfigError(
            f"Where to? Name the place for cosignatures with {OPTION}, {COSIGNATURES.variable}, or "
            f"“place” in “{arguments.home.expanduser() / COSIGNATURES.file}”."
        )
    _check_beside(where, archive)
    desk = _Desk(
        signer,
        Seen(folder / FILE, signer.public.text),
        where,
        where.adding(),
        archive,
        SystemClock().now_ms(),
    )
    results = await _verified(desk, arguments)
    if not results:
        raise PermanentError(f"There is no archive in {archive.destination}.")
    sys.stdout.write("\n".join(as_text(result, archive.destination) for result in results))
    if overall(results) == "wrong":
        access_log(archive).write(
            "not cosigned", archive=archive.destination, result=verdicts(results)
        )
        sys.stdout.write(
            "\nNOT COSIGNED: something is wrong with it, or with what it was before.\n"
        )
        return NOT_COSIGNED
    _check_named(desk, results)
    if any(result.unfit for result in results):
        raise UserError("None of the identities that you named opens all of it: see above.")
    sys.stdout.write("\n")
    for result in results:
        for checkpoint in await _checkpoints(desk, result):
            sys.stdout.write(await _store(desk, checkpoint))
    return COSIGNED


def _check_beside(where: AccessPlace, archive: Archive) -> None:
    """Refuse a place among the archive's objects, in which nobody else may put anything.

    Raises:
        ConfigError: it is one.
    """
    inside = f"{place_name(archive.destination)}/v1/"
    if f"{place_name(where.url)}/".startswith(inside):
        raise ConfigError(
            f"“{where.url}” is among the archive's own objects: take a place of your own, or the "
            "archive's place itself, where cosignatures stand beside v1/."
        )


async def _verified(desk: _Desk, arguments: argparse.Namespace) -> list[Verified]:
    archive, heads = desk.archive, desk.seen.heads()
    here = place_name(archive.destination)
    own = Cosigned(
        desk.signer.public,
        [_remembered(origin, head) for origin, head in heads.items()],
        is_own=True,
        elsewhere=frozenset(
            origin.rpartition("/")[2] for origin, head in heads.items() if head.place != here
        ),
    )
    options = Options(
        now_ms=desk.now_ms,
        destination=archive.destination,
        sample=None if arguments.all else 0,
        fingerprints=tuple(arguments.key),
        identities=archive.identities,
        cosigned=(own,),
    )
    return await verify(archive.place, options, archive.memory)


def _remembered(origin: str, head: Head) -> Cosignature:
    server_name, _, stream = origin.rpartition("/steward/")
    root = bytes.fromhex(head.root)
    return Cosignature(f"stream {stream}", server_name, stream, head.size, root, head.time_s)


def _check_named(desk: _Desk, results: list[Verified]) -> None:
    """Refuse an archive whose signing key was only found in it.

    Raises:
        UserError: nobody wrote its fingerprint down.
    """
    known = desk.archive.memory.servers_at(desk.archive.destination)
    for result in results:
        if result.server not in known or not known[result.server].named:
            raise UserError(
                f"The signing key of {result.server_name or result.server} was only found in the "
                "archive. Have its fingerprint read out to you, and give it once with --key."
            )


async def _checkpoints(desk: _Desk, result: Verified) -> list[_Checkpoint]:
    """Return the newest checkpoints of a server's streams that are not cosigned yet, the last one first.

    That of the newest stream is cosigned again even if nothing came: it says as of when.
    """
    heads = desk.seen.heads()
    ordered = sorted(result.streams.values(), key=lambda seen: seen.created_ms, reverse=True)
    found = [await _checkpoint(desk, result, seen) for seen in ordered]
    return [
        one
        for number, one in enumerate(found)
        if number == 0 or not _is_cosigned(one, heads.get(one.origin))
    ]


def _is_cosigned(one: _Checkpoint, head: Head | None) -> bool:
    return head is not None and (head.size, head.root) == (one.size, one.root)


async def _checkpoint(desk: _Desk, result: Verified, seen: SeenStream) -> _Checkpoint:
    """Return the checkpoint of a manifest that was verified just now.

    Raises:
        PermanentError: it is another one than that by now.
    """
    place = desk.archive.place
    body = await place.get(seen.key, most_bytes=LARGEST_DOCUMENT_BYTES)
    changed = f"“{seen.key}” was changed while it was verified: verify again."
    if hashlib.sha256(body).hexdigest() != seen.sha256:
        raise PermanentError(changed)
    manifest = parse(body, type=Manifest)
    if server_of(manifest.checkpoint.key) != result.server:
        raise PermanentError(f"“{seen.key}” names a checkpoint of another server.")
    note_body = await place.get(manifest.checkpoint.key, most_bytes=_NOTE_MOST)
    if hashlib.sha256(note_body).hexdigest() != manifest.checkpoint.sha256:
        raise PermanentError(changed)
    try:
        note, server_name, stream = checkpoint_of(note_body)
    except ValueError as error:
        raise PermanentError(f"“{manifest.checkpoint.key}” is not cosigned: {error}.") from None
    said = (server_name, stream, note.size, note.root.hex())
    if said != (result.server_name, manifest.stream, seen.size, seen.root):
        raise PermanentError(f"“{manifest.checkpoint.key}” is not what its manifest says.")
    return _Checkpoint(note.origin, note_body, note.text, *said)


async def _store(desk: _Desk, one: _Checkpoint) -> str:
    """Cosign a checkpoint and store that; return what to tell.

    What was cosigned is remembered first: of a cosignature that may have been stored the next one
    has to be an extension, too.
    """
    time_s = desk.now_ms // 1000
    head = Head(one.size, one.root, time_s, place_name(desk.archive.destination))
    before = desk.seen.heads()
    desk.seen.keep({**before, one.origin: head})
    public = desk.signer.public
    key = object_key(public, one.server_name, one.stream, one.size, time_s)
    access_log(desk.archive).write(
        "cosigned",
        by=public.text,
        stream=one.stream,
        records=one.size,
        root=one.root,
        cosignature=key,
        cosignatures=desk.where.name,
    )
    body = with_line(one.body, desk.signer.cosign(one.text, time_s))
    try:
        await asyncio.to_thread(desk.adding.create, key, body)
    except TakenKeyError:
        # Within the same second it is the same cosignature, byte for byte.
        if before.get(one.origin) != head:
            raise
    except RefusedError as error:
        raise PermanentError(
            f"{error} A place for cosignatures needs credentials that may create objects there "
            f"(s3:PutObject on {desk.where.url}/cosignatures/*) and nothing else, not those that read "
            f"the archive: in “{desk.where.file}”, by a profile, or from the environment."
        ) from None
    return (
        f"Cosigned as {public.name} on {moment(time_s * 1000)} UTC: {one.size:,} records of stream "
        f"{one.stream} of {visible(one.server_name)}\n"
        f"    root      {one.root}\n"
        f"    stored    {key} at {one_line(desk.where.name)}\n"
    )
