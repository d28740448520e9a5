"""The statement of a day as a page for people: one file, no scripts, everything escaped; pure."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

_STYLE = """
body { margin: 2rem auto; max-width: 50rem; padding: 0 1rem; color: #1c2430; background: #fff;
  font: 15px/1.5 "Noto Sans", "Segoe UI", Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid #dfe3e8; }
th { font-weight: 500; color: #5b6675; } td.n { text-align: right; width: 9rem;
  font-variant-numeric: tabular-nums; }
p.verdict { padding: .6rem .9rem; border-radius: .4rem; background: #e8f5ed; }
p.verdict.missing { background: #fff5dd; } .soft { color: #5b6675; }
"""
_WHY = {
    "no_session": "the key was not received",
    "unknown_index": "only a later part of the key was received",
    "withheld_unverified": "the sender's client gives keys to verified devices only",
    "withheld_blacklisted": "the sender blocked the archive's device",
    "withheld_unauthorised": "the sender's client says that the archive may not read it",
    "withheld_unavailable": "the sender's client has lost the key",
    "no_olm": "no secure channel to the sender's device could be made",
    "before_join": "sent before the archive's account came into the room",
    "replay": "the key was used for another message before: an attack, or a fault",
    "bad_mac": "changed on its way: an attack, or a fault",
    "room_mismatch": "the key belongs to another room: an attack, or a fault",
    "malformed": "malformed",
}
_MEDIA = {
    "stored": "stored",
    "duplicate": "stored before",
    "too_large": "larger than the limit",
    "missing": "the homeserver no longer had it",
    "hash_mismatch": "not what the sender announced",
    "forbidden": "refused by the homeserver",
    "gave_up": "all attempts failed",
    "infected": "the malware scanner found something in it",
}
_STORED = {"stored", "duplicate"}
_GAPS = {
    "set_aside": "could not be processed; kept whole",
    "history_refused": "a stretch of a room that the homeserver does not give",
    "event_missing": "single events",
    "not_recorded": "received, and not recorded any more when the export was stopped",
}
_KEPT = "\u200c\u200d\ufe0f"
_MOST = 1000

Json = Mapping[str, Any]


def page_of(stated: Json) -> bytes:
    """Return the page of a statement, which names the page's hash in turn.

    Args:
        stated: the statement's own members, without the key that will sign it
    """
    style_hash = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    title = f"{_shown(stated['server_name'])}, {_shown(stated['day'])}"
    is_missing = any(count for _, count in _missing(stated))
    verdict = (
        "Not everything of this day could be archived, or read: see below."
        if is_missing
        else "Nothing of this day is known to be missing."
    )
    parts = [
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            f"style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'\">\n"
            f"<title>Completeness: {title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        ),
        f"<h1>What was archived of {title}</h1>\n",
        (
            f'<p class="soft">Stated by Steward on {_moment(stated["created_ms"])}. Days are UTC, by '
            "the time of receipt. This page is for people; what is signed is completeness.json beside "
            "it, which names this page's SHA-256.</p>\n"
        ),
        f'<p class="verdict{" missing" if is_missing else ""}">{verdict}</p>\n',
        _read_later(stated),
        *(_table(heading, rows) for heading, rows in _sections(stated)),
        _service(stated["service"]),
        _open(stated["open"]),
        _rooms(stated["rooms"]),
        '<p class="soft">Calls are not archived, only that they took place.</p>\n',
        "</body>\n</html>\n",
    ]
    return "".join(parts).encode("utf-8", "replace")


def _read_later(stated: Json) -> str:
    unread = sum(stated["undecryptable"].values())
    if not unread:
        return ""
    return (
        f"<p>{unread:,} could not be read when they came; {stated['undecryptable_read']:,} of them "
        "are read by now.</p>\n"
    )


def _missing(stated: Json) -> Iterator[tuple[str, int]]:
    yield "not read", sum(stated["undecryptable"].values()) - stated["undecryptable_read"]
    yield "not kept", stated["media_not_kept"]
    yield from ((name, n) for name, n in stated["media"].items() if name not in _STORED)
    yield from stated["gaps"].items()
    for name in ("not_sealed", "undecryptable_open", "gaps_open", "media_open"):
        yield name, stated[name]
    yield "not covered", stated["rooms"]["not_covered_count"]
    yield "not compared", stated["sampled"]["not_read"]


def _sections(stated: Json) -> Iterator[tuple[str, Sequence[tuple[str, int]]]]:
    unread = sum(stated["undecryptable"].values())
    yield (
        "Events of this day",
        [
            ("all", stated["counts"].get("event", 0)),
            ("in clear", stated["clear"]),
            ("encrypted, read at once", stated["decrypted"]),
            *_named("encrypted, not read at once: ", stated["undecryptable"], _WHY),
            *([("of these, read by now", stated["undecryptable_read"])] if unread else []),
            ("of this day or earlier, read later on this day", stated["read_later"]),
        ],
    )
    attachments = _named("", stated["media"], _MEDIA)
    if stated["media_not_kept"]:
        words = "not archived: auditbot.media is off"
        attachments.append((words, stated["media_not_kept"]))
    yield "Attachments", attachments or [("none", 0)]
    sampled = stated["sampled"]
    yield (
        "Compared with the homeserver on this day",
        [
            ("rooms", sampled["rooms"]),
            ("of them, could not be compared", sampled["not_read"]),
            ("events", sampled["events"]),
            ("of them, missing in the archive then", sampled["missing"]),
        ],
    )
    signed = stated["manifests"]
    yield (
        "Signed on this day",
        [
            ("manifests", signed["made"]),
            ("of them, later than they were due", signed["late"]),
            ("longest time without one, in minutes", signed["longest_ms"] // 60_000),
        ],
    )
    pushed = stated["transactions"]
    if pushed is not None:
        yield (
            "Pushed by the homeserver on this day (for information)",
            [
                ("transactions", pushed["seen"]),
                ("of them, sent again", pushed["repeated"]),
                ("numbers in between that other services have, or none", pushed["skipped"]),
                ("times that the numbers began anew", pushed["restarted"]),
            ],
        )
    yield (
        "Open when this was stated",
        [
            ("messages without a key", stated["undecryptable_open"]),
            ("attachments still to be fetched", stated["media_open"]),
            ("events known of and still awaited", sum(stated["awaited"].values())),
            *_named("gaps: ", stated["gaps"], _GAPS),
            *([] if stated["gaps"] else [("gaps", stated["gaps_open"])]),
            ("records of this day that were not stored yet", stated["not_sealed"]),
        ],
    )
    counts = sorted(stated["counts"].items())
    yield (
        "Records of this day",
        [*((str(kind), count) for kind, count in counts), ("segments", stated["segments"])],
    )


def _named(
    before: str, counts: Mapping[str, int], words: Mapping[str, str]
) -> list[tuple[str, int]]:
    return [(f"{before}{words.get(name, name)}", count) for name, count in sorted(counts.items())]


def _table(heading: str, rows: Sequence[tuple[str, int]]) -> str:
    lines = "".join(
        f'<tr><th>{_shown(name)}</th><td class="n">{count:,}</td></tr>\n' for name, count in rows
    )
    return f"<h2>{_shown(heading)}</h2>\n<table>\n{lines}</table>\n"


def _service(days: Sequence[Json]) -> str:
    """Return how soon the messages of the last days could be read, as of the day's end."""
    if not any(day["encrypted"] for day in days):
        return ""
    names = ("encrypted", "within 60 s", "within 24 h", "not read", "of these, final")
    head = "".join(f"<th>{name}</th>" for name in ("received on", *names))
    lines = "".join(
        f"<tr><td>{_shown(day['day'])}</td>"
        + "".join(f'<td class="n">{figure}</td>' for figure in _figures(day))
        + "</tr>\n"
        for day in days
        if day["encrypted"]
    )
    return (
        "<h2>How soon encrypted messages were read</h2>\n"
        "<p>As of the end of this day. “Final” is what could not be read within 72 hours, or what no key "
        "makes readable; if a key comes all the same, it is read, and recorded as read later.</p>\n"
        f"<table>\n<tr>{head}</tr>\n{lines}</table>\n"
    )


def _figures(day: Json) -> Iterator[str]:
    yield f"{day['encrypted']:,}"
    for name in ("within_60_s", "within_24_h"):
        yield f"{day[name]:,} ({_share(day[name], day['encrypted'])})"
    yield f"{day['encrypted'] - day['read']:,}"
    yield f"{day['final']:,}"


def _share(part: int, whole: int) -> str:
    """Return a share in per cent, rounded down: all but one of many is not all."""
    return f"{part * 1000 // whole / 10:.1f} %"


def _open(waiting: Json) -> str:
    """Return what waits for a key: by cause, room and sending device."""
    if not waiting["causes"]:
        return ""
    causes = _table(
        "Messages without a key, by cause",
        [(_WHY.get(name, name), count) for name, count in sorted(waiting["causes"].items())],
    )
    rooms = [(room["room_id"], room["events"]) for room in waiting["rooms"]]
    devices = [
        (f"{one['sender']} {one['device_id'] or '(no name)'}", one["events"])
        for one in waiting["devices"]
    ]
    return (
        causes
        + _listed("room", rooms, waiting["rooms_count"])
        + _listed("sending device", devices, waiting["devices_count"])
    )


def _listed(what: str, rows: Sequence[tuple[str, int]], count: int) -> str:
    heading = f"Messages without a key, by {what}"
    if not rows:
        return (
            f"<h2>{heading}</h2>\n<p>{count:,}; “steward audit coverage” names them to who has "
            "the key of the archive.</p>\n"
        )
    more = count - len(rows)
    return _table(heading, rows) + (f"<p>… and {more:,} more.</p>\n" if more > 0 else "")


def _rooms(rooms: Json) -> str:
    listed = rooms["not_covered"][:_MOST]
    lines = "".join(
        f"<tr><td>{_shown(room['room_id'])}</td><td>{_shown(room['reason'])}</td></tr>\n"
        for room in listed
    )
    more = rooms["not_covered_count"] - len(listed)
    compared_ms = rooms["compared_ms"]
    compared = (
        "When all rooms of the homeserver were gone through last is not known."
        if compared_ms is None
        else f"All rooms of the homeserver were gone through last on {_moment(compared_ms)}."
    )
    return (
        f"<h2>Rooms</h2>\n<p>{rooms['covered']:,} archived, {rooms['not_covered_count']:,} not. "
        f"{compared}</p>\n<table>\n{lines}</table>\n{f'<p>… and {more:,} more.</p>' if more > 0 else ''}\n"
    )


def _moment(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _shown(text: object) -> str:
    """Return text that can neither be markup nor turn the direction of the line."""
    return escape(
        "".join(
            character
            if character.isprintable() or character in _KEPT
            else f"⟨U+{ord(character):04X}⟩"
            for character in str(text)
        )
    )
