"""The translation catalogues, kept up with the code: ``python -m adminbot.texts [--check]``.

Every sentence that ``t`` or ``n`` makes, and every command's help, becomes an entry of each
``common/locale/*.po``; what is translated already stays. With ``--check`` nothing is written,
and what is missing, doubtful or out of date is named.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from string import Formatter

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from adminbot.audit_trail import Phase
from adminbot.bridges.load import load_kinds
from adminbot.commands import catalogue
from adminbot.engine.actor import PlaceKind, Role
from adminbot.jobs import Status

_KEYWORDS: dict[str, tuple[int, ...] | None] = {"t": None, "n": (1, 2)}
_PACKAGES = ("adminbot", "auditbot", "common")
_LINE = 100


def template() -> Catalog:
    """Return every sentence there is, untranslated."""
    found = Catalog(project="matrix-steward", charset="utf-8")
    for package in _PACKAGES:
        folder = Path(str(files(package)))
        for name, _, message, _, _ in extract_from_dir(
            folder, method_map=[("**.py", "python")], keywords=_KEYWORDS
        ):
            found.add(message, locations=[(f"{package}/{name}", 0)])
    for text, where in _spoken():
        found.add(text, locations=[(where, 0)])
    return found


def _spoken() -> Iterator[tuple[str, str]]:
    """Yield sentences that stand in docstrings and enumerations."""
    for command in catalogue():
        where = f"adminbot/commands/{command.function.__module__.rpartition('.')[2]}.py"
        texts = [command.summary, command.description]
        texts += [each.help for each in command.parameters]
        yield from ((text, where) for text in texts if text)
    yield from ((each.value, "adminbot/engine/actor.py") for each in (*Role, *PlaceKind))
    yield from ((each.value, "adminbot/audit_trail.py") for each in Phase)
    yield from ((each.value, "adminbot/jobs.py") for each in Status)
    for kind in load_kinds().values():
        for note in (*kind.notes.before_login(), *kind.notes.in_general(), kind.who_may()):
            yield note.template, "adminbot/bridges/kinds"
        for words in kind.vocabularies:
            for spoken in filter(None, words.commands.values()):
                yield from ((note.template, "adminbot/bridges/kinds") for note in spoken.noted())


def catalogues() -> Iterator[tuple[Path, Catalog]]:
    """Yield each language's file with its sentences as they are now."""
    for path in sorted(Path(str(files("common").joinpath("locale"))).glob("*.po")):
        yield path, read_po(io.BytesIO(path.read_bytes()), locale=path.stem)


def updated(known: Catalog, source: Catalog) -> Catalog:
    """Return a language's catalogue with exactly the sentences of the source."""
    known.update(source, no_fuzzy_matching=True, update_creation_date=False)
    known.obsolete.clear()
    return known


def written(known: Catalog) -> bytes:
    """Return a catalogue as its file, the same for the same sentences."""
    out = io.BytesIO()
    write_po(out, known, width=_LINE, sort_output=True, omit_header=False, include_lineno=False)
    kept = [line for line in out.getvalue().split(b"\n") if not line.startswith(_VOLATILE)]
    return b"\n".join(kept)


_VOLATILE = (
    b'"POT-Creation-Date',
    b'"PO-Revision-Date',
    b'"Generated-By',
    b'"Last-Translator',
    b'"Language-Team',
    b'"Report-Msgid-Bugs-To',
    b"# Translations template",
    b"# Copyright",
    b"# This file is distributed",
    b"# FIRST AUTHOR",
    b"#, fuzzy",
)


def troubles(known: Catalog) -> Iterator[str]:
    """Yield what is wrong with a language's sentences."""
    for message in known:
        if not message.id:
            continue
        given = _strings(message.string)
        asked = _strings(message.id)
        if not given or not all(given):
            yield f"not translated: {asked[0]!r}"
        elif any(_fields(text) - _fields(*asked) for text in given):
            yield f"names a value that is not there: {given[0]!r}"
        elif _fields(asked[-1]) - _fields(given[-1]):
            yield f"leaves a value out: {given[-1]!r}"


def _strings(text: object) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text) if isinstance(text, tuple) else ()


def _fields(*texts: str) -> set[str]:
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


def main(arguments: Iterable[str]) -> int:
    """Write the catalogues, or say what is wrong with them; return the exit status."""
    source, wrong = template(), []
    for path, known in catalogues():
        before, after = path.read_bytes(), written(updated(known, source))
        if "--check" not in arguments:
            path.write_bytes(after)
            continue
        if before != after:
            wrong.append(f"{path.name} is out of date: `make generate` brings it up to date")
        wrong += [f"{path.name}: {trouble}" for trouble in troubles(known)]
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
