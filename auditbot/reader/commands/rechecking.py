"""``steward audit recheck``: decrypt what is archived again, and compare.

Exit status: 0 all agrees; 1 something differs or cannot be used; 2 it could not be read; 3 nothing
differs, but not everything could be decrypted again.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator

from auditbot.reader.commands.exporting_keys import (
    add_key_options,
    asked_for,
    export_keys,
    passphrase_of,
)
from auditbot.reader.commands.library import (
    Open,
    add_library_options,
    foreseen,
    open_library,
    reach,
)
from auditbot.reader.commands.options import add_period_options, period_of
from auditbot.reader.recheck.comparing import State
from auditbot.reader.recheck.run import (
    Rechecked,
    decrypted_in,
    decrypted_of,
    recheck,
    unread_in,
)
from auditbot.reader.recheck.shelf import Shelf
from auditbot.reader.render.words import one_line, shown_line
from auditbot.reader.show import visible
from auditbot.reader.times import moment
from common.errors import ConfigError, StewardError, UserError

AGREE, DIFFER, UNREADABLE, INCOMPLETE = 0, 1, 2, 3
_MOST_NAMED = 100
"""Messages without a key that are named; the rest is counted."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "recheck",
        help="decrypt messages again and compare with what is archived",
        description="Decrypt the ciphertexts that are kept with the room keys that are kept "
        "(auditbot.session_keys), and compare what they say, the session, its signature, the "
        "device and the room with the records. Needs the archive, also with --no-sync. Exit "
        "status: 0 all agrees, 1 something differs, a room key is damaged or not everything could "
        "be indexed, 2 it could not be read, 3 nothing differs, but not everything could be "
        "decrypted again. With --export-keys: 0 every message's key was written, 1 some cannot be "
        "used or not everything could be indexed, 2 nothing was written, 3 some are not kept.",
    )
    command.set_defaults(act=_recheck)
    command.add_argument("event_ids", nargs="*", metavar="EVENT_ID")
    command.add_argument("--room", metavar="ROOM_ID", help="only this room, by its ID")
    command.add_argument("--json", action="store_true", help="print one JSON object a message")
    add_key_options(command)
    add_period_options(command)
    add_library_options(command)


async def _recheck(arguments: argparse.Namespace) -> int:
    try:
        passphrase = passphrase_of(arguments)
        if passphrase is None:
            return await _compare(arguments)
        async with open_library(arguments) as opened:
            ids, trouble = _ids(opened, arguments)
            return await export_keys(arguments, opened, ids, trouble, passphrase)
    except ConfigError:
        raise
    except StewardError as error:
        sentence = str(error)
    except ExceptionGroup as group:
        sentence = foreseen(group)
    what = (
        "No room keys were exported"
        if arguments.export_keys
        else "Nothing could be decrypted again"
    )
    sys.stderr.write(f"steward: {what}: {visible(sentence)}\n")
    return UNREADABLE


async def _compare(arguments: argparse.Namespace) -> int:
    async with open_library(arguments) as opened:
        named = bool(arguments.event_ids)
        ids, trouble = _ids(opened, arguments)
        opened.log.write(
            "rechecked",
            archive=opened.archive.destination,
            **asked_for(arguments),
            found=len(ids),
        )
        if trouble is not None:
            raise UserError(trouble)
        shelf = Shelf(opened.archive.place, opened.library)
        counts: Counter[State] = Counter()
        keys_wanted = True
        async for one in recheck(opened.library, shelf, ids):
            if arguments.room is not None and one.record.get("room_id") != arguments.room:
                continue
            state = one.compared.state
            counts[state] += 1
            keys_wanted &= one.keys_wanted
            if arguments.json:
                sys.stdout.write(f"{json.dumps(_as_json(one))}\n")
            elif (
                named
                or state is State.DIFFERS
                or (state is not State.AGREES and counts[state] <= _MOST_NAMED)
            ):
                sys.stdout.writelines(f"{shown_line(line)}\n" for line in _lines(one))
        _tell(opened, arguments, counts, keys_wanted=keys_wanted)
    for fault in shelf.faults:
        sys.stderr.write(f"NOT ALL ROOM KEYS CAN BE USED: {one_line(fault)}\n")
    if counts[State.DIFFERS] or shelf.faults or opened.faults:
        return DIFFER
    return AGREE if counts[State.AGREES] == counts.total() > 0 else INCOMPLETE


def _ids(opened: Open, arguments: argparse.Namespace) -> tuple[list[int], str | None]:
    """Return which records are meant, and a sentence if there are none of an event."""
    if not arguments.event_ids:
        return decrypted_in(opened.library, period_of(arguments)), None
    found: list[int] = []
    for event_id in dict.fromkeys(arguments.event_ids):
        ids = decrypted_of(opened.library, event_id)
        if not ids:
            stored = opened.library.event(event_id)
            if stored is None:
                return [], f"The event “{event_id}” is not in the archive."
            is_open = stored.record.get("enc_status") == "undecryptable"
            why = "was never read" if is_open else "was not encrypted"
            return [], f"The event “{event_id}” {why}: there is nothing to compare."
        found += ids
    return found, None


def _tell(
    opened: Open, arguments: argparse.Namespace, counts: Counter[State], *, keys_wanted: bool
) -> None:
    sys.stdout.flush()
    counted = (*_COUNTED, _SEALED) if counts[State.SEALED] else _COUNTED
    words = [f"{counts[state]:,} {words}" for state, words in counted]
    sys.stderr.write(f"{', '.join(words)}. The index reaches {reach(opened.library)}.\n")
    if not arguments.event_ids and arguments.room is None:
        unread = unread_in(opened.library, period_of(arguments))
        if unread:
            sys.stderr.write(f"{unread:,} more could never be read: see “report”.\n")
    if counts[State.NO_KEY] and not keys_wanted:
        sys.stderr.write(
            "Room keys are kept for what comes after auditbot.session_keys was set.\n"
        )


_COUNTED = (
    (State.AGREES, "agree"),
    (State.DIFFERS, "DIFFER"),
    (State.NO_KEY, "without a session key"),
    (State.NOT_KEPT, "without their ciphertext"),
)
_SEALED = (State.SEALED, "sealed, and no key to open them is here")


def _lines(one: Rechecked) -> Iterator[str]:
    record, compared = one.record, one.compared
    received = record.get("ts_received")
    when = moment(received) if isinstance(received, int) else "?"
    yield (
        f"{compared.state.value.upper()}  {one_line(record.get('event_id'))}  {when} UTC  "
        f"{one_line(record.get('sender'))} in {one_line(record.get('room_id'))}"
    )
    yield (
        f"    session {one_line(record.get('enc_session_id'))}, message "
        f"{one_line(record.get('enc_index'))}, device {one_line(record.get('enc_device_id'))}, "
        f"key {one_line(record.get('enc_sender_key'))}, how it came: "
        f"{one_line(record.get('enc_key_source'))}"
    )
    for name, reason in compared.differences:
        yield f"    {name} differs: {one_line(reason)}"
    if compared.state is State.AGREES:
        yield f"    plaintext SHA-256 {one_line(record.get('payload_sha256'))}"


def _as_json(one: Rechecked) -> dict[str, object]:
    record, compared = one.record, one.compared
    names = ("event_id", "room_id", "sender", "ts_received", "payload_sha256")
    return {
        **{name: record.get(name) for name in (*names, "stream", "seq")},
        **{f"enc_{name}": record.get(f"enc_{name}") for name in _ENCRYPTION},
        "result": compared.state.value,
        "differences": [{"what": name, "why": why} for name, why in compared.differences],
    }


_ENCRYPTION = ("session_id", "index", "sender_key", "device_id", "trust", "key_source")
