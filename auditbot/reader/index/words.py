"""Text → what is indexed of it, and what people search for → a query of the index; pure.

SQLite's tokenizer takes a run of Chinese or Japanese for one word. Such characters are indexed
one by one, and searched as phrases, so that any part of a text is found.
"""

import re

_ALONE = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd])"
)
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_LONGEST = 64 * 1024


def indexed(text: str) -> str:
    """Return what is indexed of a text."""
    return _ALONE.sub(r" \1 ", text[:_LONGEST])


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
