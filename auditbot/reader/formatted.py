"""The HTML of a message → the text that a client shows of it; whether ``body`` says the same; pure.

What changes what people read is told, not dropped: a picture by its words, what is struck through,
a raised digit, the cells of a table, and a link whose text is another address than it leads to.
"""

import re
from html.parser import HTMLParser

import nh3

_BREAKS = {
    *("br", "p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "div", "blockquote", "tr", "pre"),
    *("hr", "ul", "ol", "table", "details", "summary"),
}
_AROUND = {"del": "~~", "s": "~~", "strike": "~~"}
_BEFORE = {"sup": "^", "td": "\t", "th": "\t"}
_ADDRESS = re.compile(r"\s*(?:https?://|www\.)\S+\s*", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:https?://)?(?:www\.)?", re.IGNORECASE)
_TAGS = {*_BREAKS, *_AROUND, *_BEFORE, "img", "a"}

_LINK = re.compile(r"\[([^\]\n]*)\]\([^)\n]*\)")
_MARKED = re.compile(r"(\*{1,3}|_{1,3}|`{1,3})(?=\S)([^\n]*?\S)\1")
_FENCE = re.compile(r"^```.*$", re.MULTILINE)
_AT_BEGIN = {"<li": r"[-*+]\s+", "<h": r"#{1,6}\s+", "<blockquote": r">\s?"}
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_ROUNDS = 3


class _Text(HTMLParser):
    """Gathers the text of HTML that was made sound before."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._link: tuple[int, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "img":
            self.parts.append(known.get("alt") or "(a picture)")
        elif tag == "a":
            self._link = (len(self.parts), known.get("href") or "")
        elif tag == "br":
            self.parts.append("\n")
        else:
            self.parts.append(_AROUND.get(tag) or _BEFORE.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:
            start, target = self._link
            text = "".join(self.parts[start:]).strip()
            if _ADDRESS.fullmatch(text) and not _is_of(text, target):
                self.parts.append(f" (leads to {target or 'nowhere'})")
            self._link = None
        self.parts.append("\n" if tag in _BREAKS else _AROUND.get(tag, ""))

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _is_of(text: str, target: str) -> bool:
    """Return whether an address that is shown is that to which the link leads."""
    shown, meant = (_SCHEME.sub("", one).rstrip("/").casefold() for one in (text, target))
    return shown == meant


def html_text(text: str, *, is_reply: bool = False) -> str:
    """Return the text of HTML as a client would show it.

    Args:
        text: the HTML
        is_reply: whether it answers a message; only then clients leave out what it repeats of that
    """
    dropped = {"script", "style"} | ({"mx-reply"} if is_reply else set())
    sound = nh3.clean(
        text,
        tags=_TAGS,
        clean_content_tags=dropped,
        attributes={"img": {"alt"}, "a": {"href"}},
        link_rel=None,
    )
    parser = _Text()
    parser.feed(sound)
    parser.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(parser.parts)).strip()


def says_the_same(text: str, body: str, markup: str, *, is_reply: bool = False) -> bool:
    """Return whether ``body`` says what is shown, but for white space, case and marks of formatting.

    Args:
        text: what a client shows of the HTML
        body: what stands beside it
        markup: the HTML; marks at the beginning of lines count as such only where it has lists,
            headings or quotations
        is_reply: whether it answers a message, which ``body`` may repeat
    """
    bodies = [body]
    if is_reply:
        bodies.append("\n".join(line for line in body.split("\n") if not line.startswith("> ")))
    shown = _bare(text)
    return any(shown in {_bare(one), _bare(_unmarked(one, markup))} for one in bodies)


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()


def _unmarked(body: str, markup: str) -> str:
    """Return a text without marks of formatting, where the HTML has what they mean."""
    begins = "|".join(mark for tag, mark in _AT_BEGIN.items() if tag in markup.casefold())
    text = _FENCE.sub("", body) if "<pre" in markup.casefold() else body
    if begins:
        text = re.sub(rf"^\s*(?:{begins})+", "", text, flags=re.MULTILINE)
    text = _LINK.sub(r"\1", text)
    for _ in range(_ROUNDS):
        text = _MARKED.sub(r"\2", text)
    return _ESCAPED.sub(r"\1", text)
