"""A transcript as PDF/A-2u, the form for keeping; as plain PDF where no font has a character.

Typst sets it, in a process of its own with bounds on memory and time.
"""

import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from auditbot.reader.memory import write_private
from auditbot.reader.render.templates import size
from auditbot.reader.times import local
from auditbot.reader.transcript.build import Attachment, Transcript
from auditbot.reader.transcript.typeset import FAILED, SECONDS
from common.errors import PermanentError

_PICTURE_BYTES = 8 * 2**20
_PICTURE_DOTS = 25_000_000
_MOST_PICTURES = 200
_FITTING = 40
"""As many of the widest letters fit on a line."""
_LONG = re.compile(rf"(?<!\S)(?![0-9a-f]{{64}}\b)\S{{{_FITTING + 1},}}")
_BREAK, _JOINER = "\u200b", "\u200d"
_NAMES = frozenset({"key", "sha256", "id", "stream"})
_OURS = frozenset({"segments", "streams", "fingerprints", "standing", "kind"})


def write_pdf(transcript: Transcript, path: Path) -> tuple[str, ...]:
    """Write the document; return what a person should know of it, in sentences.

    Raises:
        PermanentError: it cannot be set; the sentence says what else to do.
    """
    with tempfile.TemporaryDirectory(prefix="steward-pdf-") as name:
        folder = Path(name)
        pictures = _copy_pictures(transcript, folder)
        body = json.dumps(_data(transcript, pictures)).encode("ascii")
        (folder / "data.json").write_bytes(body)
        output = folder / "transcript.pdf"
        words = [sys.executable, "-m", "auditbot.reader.transcript.typeset", name, str(output)]
        try:
            done = subprocess.run(  # noqa: S603  # our own program and our own paths
                words, capture_output=True, timeout=SECONDS + 60, check=False
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, FAILED, b"", b"it took too long")
        if not output.exists():
            reason = done.stderr.decode("utf-8", "replace").strip() or "it needs too much memory"
            raise PermanentError(
                f"The PDF cannot be made ({reason[:300]}): choose a shorter time, or the format "
                "html, which a browser prints."
            )
        write_private(path, output.read_bytes())
        shown = json.loads((folder / "data.json").read_bytes())["pictures"]
    left_out = sum(
        key not in shown
        for key, item in transcript.attachments.items()
        if item.picture is not None
    )
    if not left_out:
        return ()
    what = "picture is" if left_out == 1 else "pictures are"
    sentence = (
        f"{left_out:,} {what} named in the PDF and not shown: damaged, too large, of a kind that "
        f"it cannot hold, or more than {_MOST_PICTURES:,} in all. The format html has them."
    )
    return (sentence,)


def _data(transcript: Transcript, pictures: dict[str, str]) -> dict[str, Any]:
    days = []
    for day, views in transcript.days:
        shown = []
        for view in views:
            versions = [{**one, "media": _sized(one["media"])} for one in view["versions"]]
            shown.append({**view, "media": _sized(view["media"]), "versions": versions})
        days.append({"day": day, "messages": shown})
    made = local(transcript.request.made_ms) or datetime(1970, 1, 1, tzinfo=UTC)
    facts = {
        name: value if name in _OURS else _broken(value)
        for name, value in transcript.facts.items()
    }
    return {
        # PDF/A asks for a date.
        "date": [made.year, made.month, made.day],
        "facts": facts,
        "days": _broken(days),
        "audiences": _broken(transcript.audiences),
        "pictures": pictures,
    }


def _broken(value: Any, name: str = "") -> Any:
    """Return the same with places at which long words may end a line: none runs off the page."""
    if isinstance(value, str) and name not in _NAMES:
        return _LONG.sub(lambda found: _breakable(found[0]), value)
    if isinstance(value, dict):
        return {key: _broken(item, str(key)) for key, item in value.items()}
    return [_broken(item, name) for item in value] if isinstance(value, list) else value


def _breakable(word: str) -> str:
    """Return a word of which every part fits on a line, but for marks that belong to a letter."""
    parts: list[str] = []
    together = 0
    for before, character in pairwise(f"{_JOINER}{word}"):
        is_bound = before == _JOINER or unicodedata.category(character)[0] in {"M", "C"}
        if together >= _FITTING and not is_bound:
            parts.append(_BREAK)
            together = 0
        parts.append(character)
        together += 1
    return "".join(parts)


def _sized(media: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**media, "size_words": size(media["size"])} if media else None


def _copy_pictures(transcript: Transcript, folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, attachment in transcript.attachments.items():
        ending = _ending(attachment)
        if ending is not None and len(found) < _MOST_PICTURES:
            name = attachment.sha256 + ending
            shutil.copyfile(attachment.path, folder / name)
            found[key] = name
    return found


def _ending(attachment: Attachment) -> str | None:
    """Return the ending of a picture that may be unpacked, ``None`` for all else."""
    if attachment.size > _PICTURE_BYTES:
        return None
    body = attachment.path.read_bytes()
    dots = _dots(body, attachment.picture)
    if dots is None or not 0 < dots <= _PICTURE_DOTS:
        return None
    return ".png" if attachment.picture == "image/png" else ".jpg"


def _dots(body: bytes, mime: str | None) -> int | None:
    """Return how many dots a picture has, by its header; ``None`` if that cannot be told."""
    if mime == "image/png" and len(body) > 24 and body[12:16] == b"IHDR":  # noqa: PLR2004  # the header's length
        width, height = struct.unpack(">II", body[16:24])
        return int(width * height)
    if mime == "image/jpeg":
        return _jpeg_dots(body)
    return None


def _jpeg_dots(body: bytes) -> int | None:
    place = 2
    while place + 9 < len(body) and body[place] == 0xFF:  # noqa: PLR2004  # every marker begins so
        marker = body[place + 1]
        (length,) = struct.unpack(">H", body[place + 2 : place + 4])
        # Start of frame, of any kind of coding.
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # noqa: PLR2004  # markers of JPEG
            height, width = struct.unpack(">HH", body[place + 5 : place + 9])
            return int(width * height)
        place += 2 + length
    return None
