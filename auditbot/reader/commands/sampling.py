"""``steward audit sample``: conversations for supervisory review, and who reviewed them."""

import argparse
import json
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.library import (
    Open,
    access_log,
    add_library_options,
    open_library,
    reach,
)
from auditbot.reader.commands.options import (
    Archive,
    add_archive_options,
    add_period_options,
    add_zone_option,
    open_archive,
    period_of,
)
from auditbot.reader.commands.searching import tell_unsearched
from auditbot.reader.index.query import Query
from auditbot.reader.render.words import one_line, shown_line
from auditbot.reader.review.conversations import (
    Conversation,
    Wanted,
    conversations,
    count_hits,
    draw,
)
from auditbot.reader.review.lexicon import read_lexicon
from auditbot.reader.review.log import Reviews, last_hash, read_reviews
from auditbot.reader.times import counted, moment
from common.clock import SystemClock
from common.errors import UserError

_DEFAULT = 20
_LONGEST_SEED = 100
RESULTS = ("clear", "concern", "escalated")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    sample = commands.add_parser(
        "sample", help="supervisory review: draw conversations, mark them"
    )
    acts = sample.add_subparsers(required=True, metavar="ACTION")
    command = acts.add_parser(
        "draw",
        help="draw conversations by chance",
        description="Draw conversations (one room on one day) by chance, and those in which words "
        "of a lexicon occur. The seed that is printed draws the same again.",
    )
    command.set_defaults(act=_draw)
    command.add_argument("count", nargs="?", type=_count, default=_DEFAULT, metavar="N")
    command.add_argument("--seed", type=_seed, metavar="TEXT", help="draw by this seed")
    command.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="words to look for, one entry a line"
    )
    command.add_argument(
        "--hits",
        type=_count,
        default=_DEFAULT,
        metavar="N",
        help=f"list at most so many others with words of the lexicon (default {_DEFAULT})",
    )
    for name, what in (("person", "somebody who wrote in it"), ("room", "a room")):
        command.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar=name.upper(),
            help=f"{what}: an ID, or a part of a name; may be given again",
        )
    command.add_argument("--json", action="store_true", help="for programs")
    add_period_options(command)
    add_zone_option(command)
    add_library_options(command)
    command = acts.add_parser("mark", help="mark conversations that were drawn as reviewed")
    command.set_defaults(act=_mark)
    command.add_argument("ids", nargs="+", metavar="ID", help="as “draw” printed it")
    command.add_argument(
        "--result", choices=RESULTS, default="clear", help="what was found (default clear)"
    )
    command.add_argument("--note", default="", help="what is to be said about it")
    add_archive_options(command)
    command = acts.add_parser("log", help="what was drawn and who reviewed what")
    command.set_defaults(act=_log)
    add_zone_option(command)
    add_archive_options(command)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What was drawn, out of what."""

    seed: str
    found: dict[str, Conversation]
    chosen: list[Conversation]
    hit: list[Conversation]
    """Others in which words of the lexicon occur, those with the most first."""
    total: Counter[str]


async def _draw(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments)
    lexicon = read_lexicon(arguments.lexicon) if arguments.lexicon else ()
    seed = arguments.seed or secrets.token_hex(8)
    async with open_library(arguments) as opened:
        found = conversations(opened.library, wanted)
        total = count_hits(opened.library, wanted, found, lexicon)
        chosen = draw(found, arguments.count, seed)
        ids = {one.id for one in chosen}
        hit = [one for one in found.values() if one.hits and one.id not in ids]
        hit.sort(key=lambda one: (-one.hits.total(), one.day, one.room_id))
        drawn = _Drawn(seed, found, chosen, hit, total)
        listed = [*chosen, *hit[: arguments.hits]]
        log, reviews = _reviews(opened.archive)
        facts = {"archive": opened.archive.destination, **_facts(drawn, wanted, arguments)}
        opened.log.write("sample drawn", **facts)
        log.write("drawn", **facts, conversations=[_noted(one) for one in listed])
        if arguments.json:
            sys.stdout.write(f"{json.dumps(_as_json(drawn, listed, reviews))}\n")
        else:
            for line in _lines(opened, drawn, reviews, arguments):
                sys.stdout.write(f"{shown_line(line)}\n")
        sys.stdout.flush()
        is_sealed = tell_unsearched(
            opened,
            *(
                Query(rooms=wanted.rooms, period=wanted.period, text=term.query)
                for term in lexicon[:1]
            ),
        )
        faults = opened.synced.faults if opened.synced else []
    if not reviews.is_whole:
        sys.stderr.write("THE REVIEW LOG IS BROKEN: see “steward audit sample log”.\n")
    return 1 if faults or is_sealed or not reviews.is_whole else 0


def _wanted(arguments: argparse.Namespace) -> Wanted:
    period = period_of(arguments)
    if period.start_ms is None or period.end_ms is None:
        raise UserError("Of which time? Give --from and --to: a draw is of a period that is over.")
    if period.end_ms > SystemClock().now_ms():
        raise UserError(
            "This period is not over yet, and the same seed would draw others later: give an "
            "earlier --to, yesterday at the latest."
        )
    return Wanted(
        period=period,
        zone=arguments.zone,
        zone_name=str(arguments.zone),
        rooms=tuple(arguments.room),
        people=tuple(arguments.person),
    )


def _facts(drawn: _Drawn, wanted: Wanted, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how it was drawn: with this, it can be drawn again."""
    lexicon: Path | None = arguments.lexicon
    return {
        "seed": drawn.seed,
        "count": arguments.count,
        "from": moment(wanted.period.start_ms) if wanted.period.start_ms is not None else None,
        "to": moment(wanted.period.end_ms) if wanted.period.end_ms is not None else None,
        "of": wanted.as_words(),
        "population": len(drawn.found),
        "lexicon": str(lexicon) if lexicon else None,
    }


def _noted(one: Conversation) -> dict[str, Any]:
    return {"id": one.id, "room": one.room_id, "day": one.day, "messages": one.messages}


def _lines(
    opened: Open, drawn: _Drawn, reviews: Reviews, arguments: argparse.Namespace
) -> Iterator[str]:
    zone = str(arguments.zone)
    yield (
        f"{len(drawn.chosen):,} of {len(drawn.found):,} conversations, drawn by chance with the "
        f"seed {one_line(drawn.seed)}"
    )
    yield f"Days are of {zone}. The index reaches {reach(opened.library)}."
    for one in drawn.chosen:
        yield from _shown(one, reviews)
    if arguments.lexicon is None:
        return
    yield ""
    yield f"Words of the lexicon, in all {len(drawn.found):,} conversations:"
    for text, count in drawn.total.most_common():
        yield f"    {counted(count, 'message')}: {one_line(text)}"
    if not drawn.total:
        yield "    none"
    shown = drawn.hit[: arguments.hits]
    if shown:
        yield f"Others in which they occur, {len(shown):,} of {len(drawn.hit):,}:"
    for one in shown:
        yield from _shown(one, reviews)


def _shown(one: Conversation, reviews: Reviews) -> Iterator[str]:
    yield (
        f"{one.id}  {one.day}  {one_line(one.room_name)} ({one_line(one.room_id)}): "
        f"{counted(one.messages, 'message')}"
    )
    if one.hits:
        hits = ", ".join(f"{one_line(text)} {count:,}" for text, count in one.hits.most_common())
        yield f"    words: {hits}"
    review = reviews.reviewed.get(one.id)
    if review is not None:
        more = one.messages - review.messages
        note = f": {one_line(review.note)}" if review.note else ""
        yield (
            f"    reviewed {moment(review.time_ms)} UTC by {one_line(review.user)}, "
            f"{one_line(review.result)}{note}"
            f"{f'; {more:,} MESSAGES MORE SINCE' if more > 0 else ''}"
        )


def _as_json(drawn: _Drawn, listed: Sequence[Conversation], reviews: Reviews) -> dict[str, Any]:
    chosen = {one.id for one in drawn.chosen}
    return {
        "seed": drawn.seed,
        "population": len(drawn.found),
        "with_hits": len([one for one in drawn.found.values() if one.hits]),
        "words": dict(drawn.total),
        "conversations": [
            {
                "id": one.id,
                "by_chance": one.id in chosen,
                "room_id": one.room_id,
                "room_name": one.room_name,
                "day": one.day,
                "messages": one.messages,
                "words": dict(one.hits),
                "reviewed": one.id in reviews.reviewed,
            }
            for one in listed
        ],
    }


async def _mark(arguments: argparse.Namespace) -> int:
    async with open_archive(arguments) as archive:
        log, reviews = _reviews(archive)
        unknown = [id_ for id_ in arguments.ids if id_ not in reviews.drawn]
        if unknown:
            raise UserError(
                f"“{one_line(unknown[0])}” was never drawn here: “steward audit sample draw” "
                "prints what can be marked."
            )
        access_log(archive).write(
            "sample reviewed",
            archive=archive.destination,
            conversations=", ".join(arguments.ids),
            result=arguments.result,
            note=arguments.note,
        )
        for id_ in dict.fromkeys(arguments.ids):
            drawn = reviews.drawn[id_]
            log.write(
                "reviewed",
                archive=archive.destination,
                conversation=id_,
                room=drawn.get("room"),
                day=drawn.get("day"),
                messages=drawn.get("messages"),
                result=arguments.result,
                note=arguments.note,
            )
            sys.stdout.write(
                f"Reviewed: {one_line(drawn.get('day'))} {one_line(drawn.get('room'))}, "
                f"{arguments.result}.\n"
            )
        sys.stdout.write(f"The review log ends with {last_hash(log.path)}.\n")
    return 0


async def _log(arguments: argparse.Namespace) -> int:
    async with open_archive(arguments) as archive:
        log, reviews = _reviews(archive)
        access_log(archive).write(
            "sample log shown", archive=archive.destination, entries=len(reviews.entries)
        )
        for entry, follows in reviews.entries:
            when = moment(entry.get("time_ms"), arguments.zone)
            mark = "" if follows else "DOES NOT FOLLOW  "
            sys.stdout.write(f"{when} {mark}{one_line(entry.get('user'))} {_told(entry)}\n")
        open_ones = [id_ for id_ in reviews.drawn if id_ not in reviews.reviewed]
        sys.stdout.write(
            f"{len(reviews.drawn):,} conversations were drawn, {len(open_ones):,} of them are not "
            "reviewed"
            f"{': ' + ', '.join(map(one_line, open_ones[:50])) if open_ones else ''}.\n"
        )
        if not reviews.is_whole:
            sys.stdout.write("THE LOG IS BROKEN: something was taken out or changed.\n")
            return 1
        end = last_hash(log.path)
        sys.stdout.write(f"The log is unbroken; it ends with {end}.\n" if end else "")
    return 0


def _told(entry: dict[str, Any]) -> str:
    if entry.get("what") == "reviewed":
        note = f": {one_line(entry.get('note'))}" if entry.get("note") else ""
        return (
            f"reviewed {one_line(entry.get('conversation'))} ({one_line(entry.get('day'))} "
            f"{one_line(entry.get('room'))}), {one_line(entry.get('result'))}{note}"
        )
    listed = entry.get("conversations")
    count = len(listed) if isinstance(listed, list) else 0
    return (
        f"drew {count:,} of {one_line(entry.get('population'))} with the seed "
        f"{one_line(entry.get('seed'))}, {_drawn_of(entry)}{one_line(entry.get('of'))}"
    )


def _drawn_of(entry: dict[str, Any]) -> str:
    """Return of which time was drawn; an older version took half of one."""
    start, end = entry.get("from"), entry.get("to")
    if start and end:
        return f"{one_line(start)} to {one_line(end)} UTC, "
    if start:
        return f"from {one_line(start)} UTC on, "
    return f"up to {one_line(end)} UTC, " if end else ""


def _reviews(archive: Archive) -> tuple[AccessLog, Reviews]:
    log = AccessLog(archive.home / "reviews.jsonl", SystemClock())
    return log, read_reviews(log, archive.destination)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("write a whole number")
    return int(text)


def _seed(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST_SEED:
        message = f"a seed is a text of at most {_LONGEST_SEED} characters"
        raise argparse.ArgumentTypeError(message)
    return text
