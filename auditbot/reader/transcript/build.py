"""Everything that a transcript shows, gathered once for all its formats."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from auditbot.reader.conversation import Message, load
from auditbot.reader.index.library import Library
from auditbot.reader.media import ReplacedAttachmentError, fetch_file, picture_type, safe_name
from auditbot.reader.read import Period
from auditbot.reader.render.audiences import Audiences
from auditbot.reader.render.view import Viewer
from auditbot.reader.render.words import all_media
from auditbot.reader.times import moment
from auditbot.reader.transcript.provenance import Sources, missing
from auditbot.reader.transcript.subject import Subject, select
from auditbot.reader.verify.report import grouped
from auditbot.storage.reading import Place
from common.errors import PermanentError, UserError

Json = dict[str, Any]

MOST_MESSAGES = 200_000
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment on this machine."""

    path: Path
    sha256: str
    name: str
    safe_name: str
    picture: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    archive: str
    subject: Subject | None
    """The room or person; ``None`` for a selection of messages."""
    period: Period
    zone: tzinfo
    zone_name: str
    made_ms: int
    made_by: str
    verdict: str
    standing: str
    """``right`` if all is, ``partly`` if that is known of a part, ``wrong``, or ``unknown``."""
    fingerprints: tuple[str, ...]
    faults: tuple[str, ...] = ()
    context_hours: float = 0
    case: str = ""


@dataclass
class Transcript:
    """A transcript before it takes a format."""

    request: Request
    messages: list[Message]
    views: list[Json]
    readers: Audiences
    facts: Json
    attachments: dict[str, Attachment] = field(default_factory=dict)
    """By the key of the object."""

    @property
    def audiences(self) -> list[Json]:
        """Return the sets of people who could read something, by their numbers from 1 on."""
        return self.readers.lists

    @property
    def context(self) -> frozenset[int]:
        """Return the roots of the messages that are only around others."""
        return frozenset(view["root"] for view in self.views if view["context"])

    @property
    def days(self) -> Iterator[tuple[str, list[Json]]]:
        """Yield the messages by day."""
        for day, views in groupby(self.views, key=lambda view: str(view["day"])):
            yield day, list(views)


async def build(
    library: Library, place: Place | None, request: Request, *, with_files: bool = True
) -> Transcript:
    """Gather a transcript.

    Raises:
        UserError: it would be too long for one document.
    """
    if request.subject is None:
        raise UserError("Name a room or a person.")
    roots, context = select(
        library, request.subject, request.period, context_hours=request.context_hours
    )
    if len(roots) > MOST_MESSAGES:
        raise UserError(
            f"{len(roots):,} messages are too many for one document (at most {MOST_MESSAGES:,}): "
            "choose a shorter time with --from and --to."
        )
    return await gather(
        library, place, request, load(library, roots), context, with_files=with_files
    )


async def gather(
    library: Library,
    place: Place | None,
    request: Request,
    messages: list[Message],
    context: set[int],
    *,
    with_files: bool = True,
) -> Transcript:
    """Gather what is shown of messages that were chosen already.

    If an attachment turns out to be replaced, the archive is wrong, whatever was verified of it
    before: the transcript's own request says so.
    """
    viewer, sources = Viewer(library, request.zone), Sources(library)
    views = []
    for message in messages:
        views.append(viewer.view(message, is_context=message.root in context))
        sources.add(message)
    attachments: dict[str, Attachment] = {}
    failed: list[str] = []
    if with_files:
        attachments, failed, replaced = await _attachments(library, place, messages)
        if replaced:
            request = _wrong(request, replaced)
    tally = viewer.tally
    facts: Json = {
        "title": request.subject.title if request.subject else request.case,
        "kind": request.subject.kind if request.subject else "case",
        "subject": request.subject.name if request.subject else "",
        "archive": request.archive,
        "case": request.case,
        "from": moment(request.period.start_ms, request.zone)
        if request.period.start_ms is not None
        else "the beginning",
        "to": moment(request.period.end_ms, request.zone)
        if request.period.end_ms is not None
        else "the end",
        "zone": request.zone_name,
        "reach": moment(library.until_ms, request.zone) if library.until_ms else "",
        "made": f"{moment(request.made_ms)} UTC",
        "made_by": request.made_by,
        "version": software(),
        "verdict": request.verdict,
        "standing": request.standing,
        "fingerprints": [grouped(text) for text in request.fingerprints],
        "messages": tally.messages,
        "edited": tally.edited,
        "deleted": tally.deleted,
        "late": tally.late,
        "unreadable": tally.unreadable.total(),
        "attachments": tally.attachments,
        "others": len(messages) - tally.messages,
        "context": len(context),
        "missing": [
            *missing(
                library,
                tally,
                _period(request, messages),
                request.faults,
                zone=request.zone,
                subject=request.subject,
            ),
            *failed,
        ],
        "segments": sources.listed(),
        "streams": sources.streams(),
    }
    return Transcript(request, messages, views, viewer.audiences, facts, attachments)


def _period(request: Request, messages: list[Message]) -> Period:
    """Return of which time a transcript is: chosen messages are of that from first to last."""
    if request.subject is not None or not messages:
        return request.period
    times = [message.time_ms for message in messages]
    return Period(min(times), max(times) + 1)


def _wrong(request: Request, replaced: int) -> Request:
    """Return a request whose verdict tells of attachments that were replaced."""
    before = request.verdict if request.standing == "wrong" else "WRONG:"
    words = f"{before} {replaced:,} attachments were replaced: see what is missing."
    return replace(request, standing="wrong", verdict=words)


async def _attachments(
    library: Library, place: Place | None, messages: list[Message]
) -> tuple[dict[str, Attachment], list[str], int]:
    """Return the attachments, why others are not here, and how many of these were replaced."""
    found: dict[str, Attachment] = {}
    failed: list[str] = []
    replaced = set[str]()
    for media in itertools.chain.from_iterable(map(all_media, messages)):
        key = media["key"]
        if key is None or key in found or key in replaced:
            continue
        try:
            path = await fetch_file(place, library, str(key))
        except ReplacedAttachmentError as error:
            failed.append(f"Attachment “{media['name']}”: {error}")
            replaced.add(str(key))
            continue
        except PermanentError as error:
            failed.append(f"Attachment “{media['name']}” cannot be shown: {error}")
            continue
        found[str(key)] = describe(path, str(media["name"]))
    return found, failed, len(replaced)


def describe(path: Path, name: str) -> Attachment:
    """Return what is to be known of an attachment on this machine."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        # Its name on this machine is the hash of what is stored, which may be encrypted.
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Attachment(
        path=path,
        sha256=digest,
        name=name,
        safe_name=safe_name(digest, name, head),
        picture=picture_type(head),
        size=path.stat().st_size,
    )


def software() -> str:
    """Return name and version of this program."""
    try:
        return f"Steward {version('matrix-steward')}"
    except PackageNotFoundError:
        return "Steward"
