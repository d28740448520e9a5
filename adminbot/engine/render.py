"""An answer becomes a Matrix message: plain text for every client, safe HTML for most.

The promise: nothing anybody wrote reaches the HTML unescaped, nothing pings, and the whole
stays small enough to be sent, encrypted too.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any
from urllib.parse import quote

from adminbot.engine.answer import (
    Answer,
    Block,
    Bullets,
    Code,
    Facts,
    Mono,
    Paragraph,
    Pill,
    Span,
    Spans,
    Strong,
    Table,
    say,
)
from adminbot.engine.text import cut, visible
from common.i18n import SOURCE, Language, parts, t, translated

# An event may have 65,536 bytes (specification, "Size limits"), the homeserver's part of it
# (signatures, what came before) included. Encryption makes the content a third larger.
MOST_BYTES = 40_000
LONGEST_SPAN = 2_000
LONGEST_CELL = 64
NOTHING = "–"
LONGEST_IDENTIFIER = 255

_CUT = say(
    t(
        "There is more than fits into one message; ask for less at a time, with --page, or with --csv."
    )
)

# As in common.ids; of rooms also those of version 12, which are 43 letters and digits.
_IDENTIFIER = re.compile(
    r"[@#][!-9;-~]+:[A-Za-z0-9.\-\[\]:]+|![!-9;-~]+:[!-~]+|![A-Za-z0-9_-]{43}"
)


@dataclass(frozen=True)
class Rendered:
    """Both forms of a message."""

    body: str
    html: str

    @property
    def content(self) -> dict[str, Any]:
        """The content of an ``m.room.message``."""
        return {
            "msgtype": "m.notice",
            "body": self.body,
            "format": "org.matrix.custom.html",
            "formatted_body": self.html,
            # Explicit and empty (specification, "User and room mentions"): naming is not pinging.
            "m.mentions": {},
        }

    @property
    def size(self) -> int:
        """Bytes of the content, exactly as they are encrypted and counted: canonical JSON."""
        return len(json.dumps(self.content, ensure_ascii=False).encode())


def render(
    answer: Answer, *, language: Language = SOURCE, most_bytes: int = MOST_BYTES
) -> Rendered:
    """Return both forms, in a language.

    What does not fit is shortened, names before rows: a row left out is on no page. What does
    not fit even then is left out, and that is said.
    """
    generous = _Writer(cell=LONGEST_CELL, link=LONGEST_IDENTIFIER, language=language)
    strict = _Writer(cell=24, link=24, language=language)
    for writer in (generous, strict):
        rendered = writer.write(answer.blocks)
        if rendered.size <= most_bytes:
            return rendered
    left = most_bytes - strict.write((_CUT,)).size
    return strict.write([*_fitting(strict, answer.blocks, left), _CUT])


def notice(
    answer: Answer,
    relation: Mapping[str, Any] | None = None,
    *,
    language: Language = SOURCE,
    plain: bool = False,
) -> dict[str, Any]:
    """Return the content of an ``m.room.message`` that says it; ``plain``: without formatting."""
    content = render(answer, language=language).content
    if plain:
        del content["format"], content["formatted_body"]
    if relation is not None:
        content["m.relates_to"] = dict(relation)
    return content


def _fitting(strict: "_Writer", blocks: Sequence[Block], most_bytes: int) -> list[Block]:
    """Return the blocks, the largest of them shortened until all fit."""
    kept = list(blocks)
    sizes = [strict.write((block,)).size for block in kept]
    # Between two blocks stands an empty line.
    while kept and (excess := sum(sizes) + 4 * len(kept) - most_bytes) > 0:
        at = max(range(len(kept)), key=sizes.__getitem__)
        share = max(0.0, 1 - excess / max(1, sizes[at])) * 0.9
        shorter = _shortened(kept[at], share)
        if shorter is None:
            del kept[at], sizes[at]
        else:
            kept[at], sizes[at] = shorter, strict.write((shorter,)).size
    return kept


def _shortened(block: Block, share: float) -> Block | None:
    """Return about that share of a block, always less than all; ``None`` if nothing is left."""
    match block:
        case Table(rows=rows):
            return replace(block, rows=rows[: int(len(rows) * share)]) if rows else None
        case Facts(rows=facts):
            return replace(block, rows=facts[: int(len(facts) * share)]) if facts else None
        case Bullets(items=items):
            return replace(block, items=items[: int(len(items) * share)]) if items else None
        case Paragraph(spans=spans):
            return Paragraph(spans[: int(len(spans) * share)]) if spans else None
        case Code(text=text):
            lines = text.split("\n")
            fewer = "\n".join(lines[: int(len(lines) * share)])
            return Code(fewer or text[: int(len(text) * share)]) if text else None


@dataclass(frozen=True)
class _Writer:
    """How long what others chose may be.

    ``cell``: a name in a table, which one line in a thousand must not make wide. ``link``: the
    text of a link to an identifier; the plain text always has the whole identifier.
    """

    cell: int
    link: int
    language: Language

    def write(self, blocks: Sequence[Block]) -> Rendered:
        """Return both forms of some blocks."""
        return Rendered(
            body="\n\n".join(self._plain(block) for block in blocks),
            html="".join(self._html(block) for block in blocks),
        )

    def _plain(self, block: Block) -> str:
        match block:
            case Paragraph(spans=spans):
                return self._plain_spans(spans)
            case Code(text=text):
                return _visible_lines(text)
            case Bullets(items=items):
                return "\n".join(f"• {self._plain_spans(item)}" for item in items)
            case Facts(rows=rows):
                names = [self._words(name) + ":" for name, _ in rows]
                width = max(map(len, names), default=0)
                return "\n".join(
                    f"{name:<{width}} {self._plain_spans(spans)}"
                    for name, (_, spans) in zip(names, rows, strict=True)
                )
            case Table():
                return self._plain_table(block)

    def _plain_table(self, table: Table) -> str:
        lines = [
            [self._words(name) for name in table.columns],
            *([self._cell(span) for span in row] for row in table.rows),
        ]
        # A long identifier sticks out instead of making every other row as wide.
        widths = [
            min(LONGEST_CELL, max(len(line[at]) for line in lines))
            for at in range(len(table.columns))
        ]
        return "\n".join(
            "  ".join(
                f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        )

    def _words(self, text: str) -> str:
        return visible(translated(text, self.language))

    def _cell(self, span: Span) -> str:
        text = self._plain_spans((span,))
        match span:
            case Pill():
                return text
            case Mono():
                return cut(text, self.cell) or NOTHING
            case _:
                return cut(text, LONGEST_CELL)

    def _html(self, block: Block) -> str:
        match block:
            case Paragraph(spans=spans):
                return f"<p>{self._html_spans(spans)}</p>"
            case Code(text=text):
                return f"<pre><code>{escape(_visible_lines(text))}</code></pre>"
            case Bullets(items=items):
                lines = "".join(f"<li>{self._html_spans(item)}</li>" for item in items)
                return f"<ul>{lines}</ul>"
            case Facts(rows=rows):
                lines = "".join(
                    f"<tr><td><strong>{escape(self._words(name))}</strong></td>"
                    f"<td>{self._html_spans(spans)}</td></tr>"
                    for name, spans in rows
                )
                return f"<table><tbody>{lines}</tbody></table>"
            case Table(columns=columns, rows=table):
                heading = "".join(f"<th>{escape(self._words(name))}</th>" for name in columns)
                lines = "".join(
                    f"<tr>{''.join(f'<td>{self._html_cell(span)}</td>' for span in row)}</tr>"
                    for row in table
                )
                return f"<table><thead><tr>{heading}</tr></thead><tbody>{lines}</tbody></table>"

    def _html_cell(self, span: Span) -> str:
        text = self._cell(span)
        return NOTHING if text == NOTHING else self._marked(span, text)

    def _html_spans(self, spans: Spans) -> str:
        return "".join(self._marked(span, _plain_span(span)) for span in self._said(spans))

    def _plain_spans(self, spans: Spans) -> str:
        return "".join(_plain_span(span) for span in self._said(spans))

    def _said(self, spans: Spans) -> Iterator[Span]:
        """Yield the pieces in the reader's language."""
        for span in spans:
            match span:
                case str():
                    for part in parts(span, self.language):
                        yield _as_span(part)
                case Mono(text=text):
                    yield Mono(translated(text, self.language))
                case Strong(text=text):
                    yield Strong(translated(text, self.language))
                case Pill():
                    yield span

    def _marked(self, span: Span, text: str) -> str:
        match span:
            case str():
                return escape(text)
            case Pill(target=target):
                link = _encoded(cut(target, LONGEST_IDENTIFIER))
                shown = escape(cut(text, self.link))
                return f'<a href="https://matrix.to/#/{link}">{shown}</a>'
            case Mono():
                return f"<code>{escape(text)}</code>"
            case Strong():
                return f"<strong>{escape(text)}</strong>"


def _as_span(part: object) -> Span:
    """Return a piece of a sentence; one that is nothing but a person or a room is their link."""
    if isinstance(part, Pill | Mono | Strong):
        return part
    text = str(part)
    return Pill(text) if _IDENTIFIER.fullmatch(text) else text


def _plain_span(span: Span) -> str:
    match span:
        case str():
            return visible(cut(span, LONGEST_SPAN))
        case Pill(target=target):
            return visible(cut(target, LONGEST_IDENTIFIER))
        case Mono(text=text) | Strong(text=text):
            return visible(cut(text, LONGEST_SPAN))


def _encoded(target: str) -> str:
    return quote(target.encode("utf-8", "replace"), safe="@!#:")


def _visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))
