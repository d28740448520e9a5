"""Text for people that knows how it was made, so that it can be said in their language.

A ``Msg`` is its English sentence and remembers the template and the values behind it. Whoever
shows it translates at the last moment; logs and the trail simply use it as the string it is.
The promise: what is translated is our own template, never a value somebody else chose.

Source: GNU gettext manual, "The Format of PO Files"; plural forms by the language's own rule.
"""

import gettext
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Self

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ENGLISH = "en"
_DOMAIN_FOLDER = "locale"
_FORMATTER = Formatter()


class Msg(str):
    """An English sentence with its template; values may be ``Msg`` themselves."""

    __slots__ = ("number", "plural", "template", "values")

    template: str
    plural: str | None
    number: int
    values: Mapping[str, object]

    def __new__(
        cls,
        template: str,
        values: Mapping[str, object],
        *,
        plural: str | None = None,
        number: int = 1,
    ) -> Self:
        """Fill the template; a value is shown by its ``str``."""
        chosen = template if plural is None or number == 1 else plural
        self = super().__new__(cls, "".join(str(part) for part in _fill(chosen, values)))
        self.template, self.plural, self.number, self.values = template, plural, number, values
        return self

    def __str__(self) -> str:
        """Return the message itself, so that an error's text can still be translated."""
        return self


def t(template: str, /, **values: object) -> Msg:
    """Return a sentence; ``{name}`` in it stands for a value."""
    return Msg(template, values)


def n(singular: str, plural: str, count: int, /, **values: object) -> Msg:
    """Return a sentence about a number of things, which is its value ``{count}``."""
    return Msg(singular, {"count": count, **values}, plural=plural, number=count)


def whole(sentence: str) -> Msg:
    """Return a sentence of ours that stands in a data file; braces in it are just braces."""
    return Msg(sentence.replace("{", "{{").replace("}", "}}"), {})


def parts(text: str, language: "Language") -> Iterator[object]:
    """Yield a text's pieces in a language: our words as ``str``, values as what they are.

    For showing values apart from words, e.g. in a typewriter face. Nested messages are taken
    apart too; a plain string is one piece.
    """
    if not isinstance(text, Msg):
        yield text
        return
    for part in _fill(language.template(text), text.values):
        if isinstance(part, Msg):
            yield from parts(part, language)
        else:
            yield part


def translated(text: str, language: "Language") -> str:
    """Return a text in a language; a plain string as it is."""
    return "".join(str(part) for part in parts(text, language))


@dataclass(frozen=True)
class Language:
    """One language's sentences; ``code`` as in BCP 47, e.g. “de”."""

    code: str
    look_up: Callable[[Msg], str]

    def template(self, message: Msg) -> str:
        """Return the template of a message in this language."""
        return self.look_up(message)


def _english(message: Msg) -> str:
    plural = message.plural
    return message.template if plural is None or message.number == 1 else plural


SOURCE = Language(ENGLISH, _english)
"""The language in which the sentences are written."""


@cache
def languages() -> Mapping[str, Language]:
    """Return every language there is a catalogue for, English first."""
    found = {ENGLISH: SOURCE}
    for entry in sorted(files("common").joinpath(_DOMAIN_FOLDER).iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".po"):
            code = entry.name.removesuffix(".po")
            found[code] = Language(code, _from_catalogue(entry.read_bytes()))
    return found


def _from_catalogue(po: bytes) -> Callable[[Msg], str]:
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(po)))
    compiled.seek(0)
    translations = gettext.GNUTranslations(compiled)

    def look_up(message: Msg) -> str:
        if message.plural is None:
            return translations.gettext(message.template)
        return translations.ngettext(message.template, message.plural, message.number)

    return look_up


def _fill(template: str, values: Mapping[str, object]) -> Iterator[object]:
    for words, name, _, _ in _FORMATTER.parse(template):
        if words:
            yield words
        if name is not None:
            yield values[name]
