"""A file of words that supervisors look for: one entry a line."""

from dataclasses import dataclass
from pathlib import Path

from auditbot.reader.index.words import query_of
from common.errors import UserError

_MOST_BYTES = 2**20
_MOST_TERMS = 5000
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Term:
    """An entry: as it was written, and as it is searched for."""

    text: str
    query: str


def read_lexicon(path: Path) -> tuple[Term, ...]:
    """Return the entries of a file; empty lines and those that begin with ``#`` are none.

    Several words on a line must stand together, in that order; ``pric*`` is a beginning.

    Raises:
        UserError: it cannot be read, or a line of it holds no word.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"“{path}” is too large for a lexicon: at most 1 MiB.")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The lexicon “{path}” cannot be read: {error}.") from error
    terms: dict[str, Term] = {}
    for number, line in enumerate(lines, 1):
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        query = text if '"' in text or " " not in text else f'"{text}"'
        if query_of(query) is None or len(text) > _LONGEST:
            raise UserError(f"Line {number} of “{path}” is nothing that can be searched for.")
        terms[text] = Term(text, query)
    if len(terms) > _MOST_TERMS:
        raise UserError(f"“{path}” has {len(terms):,} entries: at most {_MOST_TERMS:,}.")
    return tuple(terms.values())
