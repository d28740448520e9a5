"""The formats in which messages are written down, each once, for every command that offers them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditbot.reader.memory import write_private
from auditbot.reader.render.sheets import write_csv, write_jsonl
from auditbot.reader.transcript.build import Transcript
from auditbot.reader.transcript.eml import write_eml
from auditbot.reader.transcript.html import write_html
from auditbot.reader.transcript.loadfile import write_dat
from auditbot.reader.transcript.pdf import write_pdf
from auditbot.reader.transcript.rsmf import write_rsmf
from common.errors import PermanentError

Write = Callable[[Transcript, Path], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Args:
        write: writes it; returns what a person should know of it, in sentences
        is_folder: whether it is more than one file
    """

    write: Write
    is_folder: bool = False


def _sheet(writer: Callable[..., int]) -> Write:
    def write(transcript: Transcript, path: Path) -> tuple[str, ...]:
        write_private(path, b"")
        with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
            zone, readers = transcript.request.zone, transcript.readers
            writer(transcript.messages, file, zone, transcript.context, readers=readers)
        return ()

    return write


def _html(transcript: Transcript, path: Path) -> tuple[str, ...]:
    write_html(transcript, path)
    return ()


def _pdf(transcript: Transcript, path: Path) -> tuple[str, ...]:
    return write_pdf(transcript, path)


FORMATS = {
    "html": Format(_html),
    "pdf": Format(_pdf),
    "csv": Format(_sheet(write_csv)),
    "jsonl": Format(_sheet(write_jsonl)),
    "eml": Format(lambda shown, path: write_eml(shown, path).remarks, is_folder=True),
    "rsmf": Format(lambda shown, path: write_rsmf(shown, path).remarks, is_folder=True),
    "dat": Format(lambda shown, path: write_dat(shown, path).remarks, is_folder=True),
}


def write(transcript: Transcript, form: str, output: Path) -> tuple[str, ...]:
    """Write a transcript in a format; return what a person should know of it, in sentences.

    Raises:
        UserError: a folder with files is where one is to be made.
        PermanentError: it cannot be written.
    """
    try:
        return FORMATS[form].write(transcript, output)
    except OSError as error:
        raise PermanentError(f"“{output}” cannot be written: {error.strerror}.") from error
