"""An answer becomes a Matrix message: plain text for every client, safe HTML for most.

The promise: nothing anybody wrote reaches the HTML unescaped, nothing pings, and the whole
stays small enough to be sent, encrypted too.
"""

from collections.abc import Mapping
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

# An event may have 65,536 bytes; encryption makes it a third larger.
MOST_BYTES = 40_000
LONGEST_SPAN = 2_000

_CUT = say("There is more than fits into one message; ask for less at a time, with --page.")


@dataclass(frozen=True)
class Rendered:
    """Both forms of a message."""

    body: str
    html: str

    @property
    def size(self) -> int:
        """Bytes of both together, as JSON at worst writes them."""
        return sum(
            len(text.encode("utf-8", "replace")) + text.count("\n") + text.count('"')
            for text in (self.body, self.html)
        )


def render(answer: Answer, *, most_bytes: int = MOST_BYTES) -> Rendered:
    """Return both forms; what does not fit is left out, and that is said."""
    rendered = _render(answer.blocks)
    if rendered.size <= most_bytes:
        return rendered
    return _render([*_fitting(answer.blocks, most_bytes - _render((_CUT,)).size), _CUT])


def notice(answer: Answer, relation: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of an ``m.room.message`` that says it."""
    rendered = render(answer)
    content: dict[str, Any] = {
        "msgtype": "m.notice",
        "body": rendered.body,
        "format": "org.matrix.custom.html",
        "formatted_body": rendered.html,
        # Explicit and empty (specification, "User and room mentions"): naming is not pinging.
        "m.mentions": {},
    }
    if relation is not None:
        content["m.relates_to"] = dict(relation)
    return content


def _render(blocks: tuple[Block, ...] | list[Block]) -> Rendered:
    return Rendered(
        body="\n\n".join(_plain(block) for block in blocks),
        html="".join(_html(block) for block in blocks),
    )


def _fitting(blocks: tuple[Block, ...], most_bytes: int) -> list[Block]:
    """Return the blocks, the largest of them shortened until all fit."""
    kept = list(blocks)
    sizes = [_render((block,)).size for block in kept]
    # Between two blocks stands an empty line.
    while kept and (excess := sum(sizes) + 4 * len(kept) - most_bytes) > 0:
        at = max(range(len(kept)), key=sizes.__getitem__)
        share = max(0.0, 1 - excess / max(1, sizes[at])) * 0.9
        shorter = _shortened(kept[at], share)
        if shorter is None:
            del kept[at], sizes[at]
        else:
            kept[at], sizes[at] = shorter, _render((shorter,)).size
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


def _plain(block: Block) -> str:
    match block:
        case Paragraph(spans=spans):
            return _plain_spans(spans)
        case Code(text=text):
            return _visible_lines(text)
        case Bullets(items=items):
            return "\n".join(f"• {_plain_spans(item)}" for item in items)
        case Facts(rows=rows):
            width = max((len(name) for name, _ in rows), default=0)
            return "\n".join(
                f"{visible(name) + ':':<{width + 1}} {_plain_spans(spans)}" for name, spans in rows
            )
        case Table():
            return _plain_table(block)


def _plain_table(table: Table) -> str:
    lines = [
        [visible(name) for name in table.columns],
        *([_plain_span(span) for span in row] for row in table.rows),
    ]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _plain_spans(spans: Spans) -> str:
    return "".join(_plain_span(span) for span in spans)


def _plain_span(span: Span) -> str:
    return visible(cut(_words_of(span), LONGEST_SPAN))


def _words_of(span: Span) -> str:
    match span:
        case str():
            return span
        case Pill(target=target):
            return target
        case Mono(text=text) | Strong(text=text):
            return text


def _html(block: Block) -> str:
    match block:
        case Paragraph(spans=spans):
            return f"<p>{_html_spans(spans)}</p>"
        case Code(text=text):
            return f"<pre><code>{escape(_visible_lines(text))}</code></pre>"
        case Bullets(items=items):
            return f"<ul>{''.join(f'<li>{_html_spans(item)}</li>' for item in items)}</ul>"
        case Facts(rows=rows):
            lines = (
                f"<tr><td><strong>{escape(visible(name))}</strong></td>"
                f"<td>{_html_spans(spans)}</td></tr>"
                for name, spans in rows
            )
            return f"<table><tbody>{''.join(lines)}</tbody></table>"
        case Table(columns=columns, rows=table):
            heading = "".join(f"<th>{escape(visible(name))}</th>" for name in columns)
            lines = (
                f"<tr>{''.join(f'<td>{_html_span(span)}</td>' for span in row)}</tr>"
                for row in table
            )
            return (
                f"<table><thead><tr>{heading}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            )


def _html_spans(spans: Spans) -> str:
    return "".join(_html_span(span) for span in spans)


def _html_span(span: Span) -> str:
    text = escape(_plain_span(span))
    match span:
        case str():
            return text
        case Pill(target=target):
            return f'<a href="https://matrix.to/#/{_encoded(target)}">{text}</a>'
        case Mono():
            return f"<code>{text}</code>"
        case Strong():
            return f"<strong>{text}</strong>"


def _encoded(target: str) -> str:
    return quote(target.encode("utf-8", "replace"), safe="@!#:")


def _visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))
