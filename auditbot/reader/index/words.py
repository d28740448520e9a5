"""Text → what is indexed of it, and what people search for → a query of the index; pure.

SQLite's tokenizer takes a run of Chinese or Japanese for one word. Such characters are indexed
one by one, and searched as phrases, so that any part of a text is found.
"""

import re
import unicodedata

_ALONE = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd])"
)
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_LONGEST = 64 * 1024

FOLDING = "1"
"""Which version of :func:`folded` this is: an index of another one is made anew."""
_ACCENTED = re.compile("([A-Za-z\u0370-\u03ff])[\u0300-\u036f]+")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""Unicode's Default_Ignorable_Code_Point: what nobody sees does not hide a word."""
_SPACE = re.compile("[\\s\x00-\x1f\x7f-\x9f]+")


def indexed(text: str) -> str:
    """Return what is indexed of a text."""
    return _ALONE.sub(r" \1 ", text[:_LONGEST])


def folded(text: str) -> str:
    """Return a text so that what people take for the same is the same.

    Case, forms of width, accents of Latin and Greek letters, and characters that nobody sees do not
    count; white space and control characters, however many, are one space. Vowels and tones of
    other scripts stay: they make other words. (Unicode 15, section 3.13, NFKC_Casefold.)
    """
    if text.isascii():
        return _SPACE.sub(" ", text.lower()).strip()
    apart = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text).casefold())
    whole = unicodedata.normalize("NFKC", _ACCENTED.sub(r"\1", apart)).casefold()
    return _SPACE.sub(" ", whole.encode("utf-8", "replace").decode()).strip()


def query_of(text: str) -> str | None:
    """Return the index's query for what a person typed; ``None`` if there is no word in it.

    Words must all occur, in any order; those in quotation marks in that order; one that ends in
    ``*`` is the beginning of a word.
    """
    parts = []
    for phrase, word in _WORD.findall(text):
        wanted = phrase or word
        is_beginning = word.endswith("*") and len(word) > 1
        quoted = indexed(wanted.rstrip("*") if is_beginning else wanted).replace('"', '""')
        if re.search(r"\w", quoted):
            parts.append(f'"{quoted.strip()}"' + ("*" if is_beginning else ""))
    return " ".join(parts) or None
