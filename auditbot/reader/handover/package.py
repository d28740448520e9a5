"""A case → a zip file that proves itself: records, proofs, attachments, and the program to check.

The receiver needs neither the archive nor Steward; ``verify.py`` needs nothing but Python.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditbot.reader.conversation import Message, load
from auditbot.reader.handover.cases import Case, roots_of
from auditbot.reader.handover.keys import checkpoint, vouching
from auditbot.reader.handover.proofs import Proof, Prover
from auditbot.reader.index.library import Library, Stored
from auditbot.reader.layout import server_of
from auditbot.reader.memory import write_private
from auditbot.reader.render.sheets import write_csv, write_jsonl
from auditbot.reader.render.templates import templates
from auditbot.reader.transcript.build import Request, Transcript, gather
from auditbot.reader.transcript.html import render, stylesheet
from auditbot.reader.verify.report import grouped
from auditbot.storage.reading import Place
from common.errors import UserError

_EPOCH = (1980, 1, 1, 0, 0, 0)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a hand-over holds."""

    path: Path
    sha256: str
    files_sha256: str
    """Of ``files.json``, which lists the hash of every other file."""
    messages: int
    records: int
    attachments: int
    fingerprint: str
    missing: tuple[str, ...]
    verdict: str
    """How the archive was found, with what turned out while it was gathered."""
    standing: str


async def hand_over(
    library: Library, place: Place, case: Case, request: Request, path: Path
) -> HandedOver:
    """Write a case's zip file.

    Args:
        library: the index
        place: where the archive is: keys, checkpoints and attachments are read there
        case: what is handed over
        request: who makes it, and how the archive was found
        path: the file

    Raises:
        UserError: the case is empty, or of several servers.
        DamagedArchiveError: a proof does not hold.
    """
    messages = load(library, roots_of(library, case))
    if not messages:
        raise UserError(f"The case “{case.name}” is empty: add messages to it first.")
    transcript = await gather(library, place, request, messages, set())
    return await pack(library, place, case, transcript, path)


@dataclass(frozen=True, slots=True)
class More:
    """What a package holds besides the messages that it is of.

    Args:
        messages: further messages whose records are proved
        audiences: the sets of their readers
        records: the numbers of further records that are proved
        files: further files, by their names
    """

    messages: tuple[Message, ...] = ()
    audiences: tuple[Json, ...] = ()
    records: tuple[int, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


NOTHING_MORE = More()


async def pack(
    library: Library,
    place: Place,
    case: Case,
    transcript: Transcript,
    path: Path,
    *,
    more: More = NOTHING_MORE,
) -> HandedOver:
    """Write the zip file of messages that were gathered, with all that proves them.

    Raises:
        UserError: they are of several servers.
        DamagedArchiveError: a proof does not hold.
    """
    request, messages = transcript.request, transcript.messages
    stored = records_of(
        library,
        [*messages, *more.messages],
        [*transcript.audiences, *more.audiences],
        more.records,
    )
    servers = {server_of(item.key) for item in stored}
    if len(servers) != 1:
        raise UserError("A case is of one homeserver: make one for each.")
    prover = Prover(library)
    proofs = [prover.prove(item) for item in stored]
    vouched = await vouching(place, str(servers.pop()), request.fingerprints)
    contents = _Contents()
    for proof in {item.head.stream: item for item in proofs}.values():
        body = await checkpoint(place, proof.head, vouched.keyring)
        contents.add(f"checkpoints/{proof.head.stream}.note", body)
    contents.add("records.jsonl", b"".join(item.line + b"\n" for item in stored))
    opened = [item.content for item in stored if item.content is not None]
    if opened:
        contents.add("opened.jsonl", b"".join(content + b"\n" for content in opened))
    contents.add_json("proofs.json", _proofs(proofs))
    contents.add_json("keys.json", vouched.document)
    contents.add_json("case.json", _summary(case, request, transcript.facts, len(stored)))
    shown = {}
    for key, attachment in transcript.attachments.items():
        name = f"media/{attachment.safe_name}"
        contents.add(name, attachment.path.read_bytes())
        shown[key] = {"inline": None, "link": name}
    contents.add("transcript.html", render(transcript, shown).encode("utf-8", "replace"))
    contents.add("messages.csv", _sheet(transcript, write_csv))
    contents.add("messages.jsonl", _sheet(transcript, write_jsonl))
    contents.add("verify.py", files("auditbot.reader.handover").joinpath("verify.py").read_bytes())
    for name, body in more.files.items():
        contents.add(name, body)
    fingerprint = str(vouched.document["fingerprint"])
    _explain(contents, case, transcript.facts, fingerprint)
    body = contents.zipped()
    write_private(path, body)
    return HandedOver(
        path=path,
        sha256=hashlib.sha256(body).hexdigest(),
        files_sha256=contents.listed_sha256,
        messages=len(messages),
        records=len(stored),
        attachments=len(shown),
        fingerprint=fingerprint,
        missing=tuple(transcript.facts["missing"]),
        verdict=request.verdict,
        standing=request.standing,
    )


def records_of(
    library: Library,
    messages: Iterable[Message],
    audiences: Iterable[Json] = (),
    records: Iterable[int] = (),
) -> list[Stored]:
    """Return all records of messages and what says who could read them, in order.

    Args:
        library: the index
        messages: the messages
        audiences: the sets of readers, whose later ones are named by records of their own
        records: the numbers of further records
    """
    later = [number for audience in audiences for number in audience["records"]]
    found = {stored.id: stored for stored in library.stored(dict.fromkeys([*later, *records]))}
    for message in messages:
        for stored in message.records:
            found[stored.id] = stored
            audience_id = stored.record.get("audience_id")
            if isinstance(audience_id, str):
                for listed in library.audience_records(audience_id, stored.id):
                    found[listed.id] = listed
    return [found[id_] for id_ in sorted(found)]


class _Contents:
    """The files of a hand-over, each with its hash."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def add(self, name: str, body: bytes) -> None:
        self._files[name] = body

    def add_json(self, name: str, value: object) -> None:
        self.add(name, json.dumps(value, indent=1).encode() + b"\n")

    @property
    def listed_sha256(self) -> str:
        """Return the hash of the list of all files, once they are zipped."""
        return hashlib.sha256(self._files["files.json"]).hexdigest()

    def zipped(self) -> bytes:
        """Return the zip file; the same contents give the same bytes."""
        digests = {name: hashlib.sha256(body).hexdigest() for name, body in self._files.items()}
        self.add_json("files.json", digests)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(self._files):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, self._files[name])
        return buffer.getvalue()


def _proofs(proofs: list[Proof]) -> Json:
    return {
        "checkpoints": {
            proof.head.stream: f"checkpoints/{proof.head.stream}.note" for proof in proofs
        },
        "records": [
            {
                "stream": proof.stored.stream,
                "seq": proof.stored.seq,
                "path": [node.hex() for node in proof.path],
            }
            for proof in proofs
        ],
    }


def _summary(case: Case, request: Request, facts: Mapping[str, Any], records: int) -> Json:
    return {
        "case": case.name,
        "description": case.description,
        "archive": request.archive,
        "made_ms": request.made_ms,
        "made_by": request.made_by,
        "software": facts["version"],
        "archive_verified": request.verdict,
        "messages": facts["messages"],
        "records": records,
        "missing": facts["missing"],
        "items": [
            {"stream": item.stream, "seq": item.seq, "event_id": item.event_id, "why": item.why}
            for item in case.items
        ],
    }


def _explain(contents: _Contents, case: Case, facts: Mapping[str, Any], fingerprint: str) -> None:
    known = {"case": case, "facts": facts, "fingerprint": grouped(fingerprint)}
    text = templates().get_template("handover.txt").render(**known)
    style = Markup(stylesheet("look.css", "transcript.css"))  # noqa: S704  # ours
    page = templates().get_template("handover.html").render(style=style, **known)
    contents.add("README.txt", text.encode("utf-8", "replace"))
    contents.add("verify.html", page.encode("utf-8", "replace"))


def _sheet(transcript: Transcript, writer: Any) -> bytes:
    buffer = io.StringIO(newline="")
    writer(transcript.messages, buffer, UTC, readers=transcript.readers)
    return buffer.getvalue().encode("utf-8", "replace")
