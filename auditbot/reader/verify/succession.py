"""How the streams of an archive follow each other, and whether one is missing or was put in."""

from auditbot.reader.documents import Manifest, PreviousStream
from auditbot.reader.times import moment
from auditbot.reader.verify.context import Context
from auditbot.storage.addressing import place_name


def check_succession(context: Context) -> None:
    """Check that the streams follow each other and that nothing between them is hidden."""
    begun = sorted(
        (chain.first for chain in context.chains.values() if chain.first is not None),
        key=lambda first: (first.from_ms, first.stream),
    )
    for first in begun:
        _follows(context, first, begun)
    _forks(context, begun)
    followed = {first.previous_stream.stream for first in begun if first.previous_stream}
    ends = [first.stream for first in begun if first.stream not in followed]
    last = context.chains[ends[-1]].last if ends else None
    if last is not None and last.closed is not None:
        _next(context, last)


def _follows(context: Context, first: Manifest, begun: list[Manifest]) -> None:
    findings, key = context.findings, f"stream {first.stream}"
    said = first.previous_stream
    if first.number != 0:
        return
    if said is None:
        before = next((one for one in begun if one is not first and _is_before(one, first)), None)
        if before is not None:
            findings.wrong(
                "succession", key, f"It says that none came before it, but {before.stream} did."
            )
        return
    known = context.chains.get(said.stream)
    if known is None or known.last is None:
        _not_here(context, first, said)
        return
    last = known.last
    named = (said.final_manifest, said.final_sha256)
    if named not in {(None, None), (last.number, known.last_sha256)}:
        findings.wrong(
            "stream_end",
            known.last_key,
            f"It is not the last manifest that stream {first.stream} names: what came after it "
            "was cut away, or it was replaced.",
        )
    if last.closed is not None and last.closed.next_stream not in {None, first.stream}:
        findings.wrong(
            "stream_missing",
            known.last_key,
            f"It says that {last.closed.next_stream} came next, not {first.stream}.",
        )
    findings.notice(
        "not_exported",
        key,
        f"Nothing was exported from {moment(said.stopped_ms)} to {moment(first.from_ms)} UTC.",
    )


def _is_before(one: Manifest, first: Manifest) -> bool:
    """Return whether a stream began before one that says that it is the first."""
    if one.from_ms == first.from_ms:
        # Within the same millisecond the names say nothing, unless both want to be the first.
        return one.previous_stream is None and one.stream < first.stream
    return one.from_ms < first.from_ms


def _not_here(context: Context, first: Manifest, said: PreviousStream) -> None:
    key = f"stream {first.stream}"
    sentence = (
        f"The stream before it, {said.stream}, is not here; it was kept at “{said.destination}” "
        f"until {moment(said.stopped_ms)} UTC"
    )
    if _is_here(context, first, said.place, said.destination):
        context.findings.wrong(
            "stream_missing", key, f"{sentence}, as this one is: it was removed."
        )
    else:
        context.findings.notice(
            "stream_missing", key, f"{sentence}, where it has to be verified by itself."
        )


def _is_here(
    context: Context, stated: Manifest, place: str | None, destination: str | None
) -> bool:
    """Return whether a stream belongs to the place where the one that speaks of it is kept.

    Both are the writer's words: how the reader spells the place, or where a copy of the archive
    lies, says nothing.
    """
    if stated.place is not None and place is not None:
        return place == stated.place
    # An older writer did not say where its own stream was, but the next one may.
    own = {
        first.previous_stream.destination
        for chain in context.chains.values()
        if (first := chain.first) is not None
        and first.previous_stream is not None
        and first.previous_stream.stream == stated.stream
    }
    here = {context.options.destination, *own} - {None}
    return any(_same(destination, str(one)) for one in here)


def _forks(context: Context, begun: list[Manifest]) -> None:
    """Tell of streams that stand where another one does: one of them was put in."""
    by_previous: dict[str, list[str]] = {}
    for first in begun:
        if first.number == 0 and first.previous_stream is not None:
            by_previous.setdefault(first.previous_stream.stream, []).append(first.stream)
    for previous, (one, *others) in by_previous.items():
        for other in others:
            context.findings.wrong(
                "succession",
                f"stream {other}",
                f"It and stream {one} both say that {previous} came before them: one of the two "
                "was put in by somebody who has the key.",
            )


def _next(context: Context, last: Manifest) -> None:
    closed = last.closed
    if closed is None or closed.next_stream is None or closed.next_stream in context.chains:
        return
    is_here = _is_here(context, last, closed.next_place, closed.next_destination)
    tell = context.findings.wrong if is_here else context.findings.notice
    tell(
        "stream_missing",
        f"stream {last.stream}",
        f"The stream after it, {closed.next_stream}, is not here; it went to "
        f"“{closed.next_destination}”" + (", as this one did." if is_here else "."),
    )


def _same(one: str | None, other: str) -> bool:
    return bool(one) and place_name(str(one)) == place_name(other)
