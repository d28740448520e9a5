"""``steward audit access``: who did what, from the log that the officers cannot change.

Exit status: 0 it is whole; 1 something is wrong; 2 it could not be read. Of a new key 1 means that
no entry says so yet.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from auditbot.reader.access.checking import Checked, Ends, Seen, Stored, check, furthest
from auditbot.reader.access.entries import Entry
from auditbot.reader.access.settings import FILE, VARIABLE, AccessPlace, access_place
from auditbot.reader.access.writing import RemoteLog
from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.options import (
    CHAIN,
    Act,
    add_period_options,
    add_place_options,
    add_zone_option,
    fingerprint,
    open_place,
    period_of,
    reading_settings,
    remote_log,
)
from auditbot.reader.render.words import one_line, shown_line
from auditbot.reader.signatures import PublicKey
from auditbot.reader.times import moment
from auditbot.reader.verify.report import grouped
from auditbot.storage.reading import Place
from common.account import account_name
from common.clock import SystemClock
from common.config.environment import environment
from common.errors import ConfigError, PermanentError, StewardError, TransientError

WHOLE, BROKEN, UNREADABLE = 0, 1, 2


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser."""
    access = commands.add_parser(
        "access", help="the access log that lies out of the officers' reach"
    )
    acts = access.add_subparsers(required=True, metavar="ACTION")
    command = acts.add_parser("key", help="print the fingerprint of this machine's key")
    command.set_defaults(act=_key)
    command.add_argument(
        "--new", action="store_true", help="set the key aside and begin another one first"
    )
    add_place_options(command)
    command = acts.add_parser(
        "verify",
        help="is it whole?",
        description="Check each entry of the access log: signatures, order, gaps. Exit status: 0 "
        "it is whole, 1 something is wrong, 2 it could not be read.",
    )
    command.set_defaults(act=_status_of(_verify))
    _add_reading_options(command)
    command = acts.add_parser("list", help="who did what, by time or for each person")
    command.set_defaults(act=_status_of(_list))
    command.add_argument("--person", metavar="NAME", help="only of this person or key id")
    command.add_argument("--sum", action="store_true", help="count for each person instead")
    add_period_options(command, "done")
    add_zone_option(command)
    _add_reading_options(command)


def _add_reading_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--key",
        type=fingerprint,
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="an officer's key that was written down; again for each, then others are told",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line")
    command.add_argument(
        "--log",
        metavar="URL",
        help="look at the log at this place (default: the one to which what you do is added)",
    )
    add_place_options(command)


@dataclass(frozen=True, slots=True)
class _Open:
    """An access log, opened for reading, and how this machine adds to it."""

    where: AccessPlace
    place: Place
    remote: RemoteLog
    ends: Ends
    seen: dict[str, Seen]


@dataclass
class _Person:
    """What somebody did."""

    acts: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    last_ms: int = 0


def _where(
    arguments: argparse.Namespace, named: str | None = None
) -> tuple[AccessPlace, RemoteLog]:
    home: Path = arguments.home.expanduser()
    settings = reading_settings(arguments.config)
    option = "--log" if named else "--access-log"
    where = access_place(named or arguments.access_log, home, settings, environment(), option)
    if where is None:
        raise ConfigError(
            f"Which access log? Name it with --log, --access-log, {VARIABLE}, or “place” in "
            f"“{home / FILE}”."
        )
    return where, remote_log(where, home)


@asynccontextmanager
async def _opened(arguments: argparse.Namespace) -> AsyncIterator[_Open]:
    """Open the log with the credentials that read archives."""
    where, remote = _where(arguments, arguments.log)
    settings = reading_settings(arguments.config)
    place = open_place(
        where.url,
        msgspec.structs.replace(
            where.s3,
            access_key_id=settings.access_key_id,
            secret_access_key=settings.secret_access_key,
        ),
        replace(
            where.origin,
            inherited=where.origin.inherited | {"access_key_id", "secret_access_key"},
            credentials=None if settings.access_key_id else CHAIN,
        ),
    )
    ends = Ends(arguments.home.expanduser() / "access" / "seen.json")
    try:
        yield _Open(where, place, remote, ends, furthest(_own(remote), ends.recall(where.name)))
    finally:
        await place.close()


def _own(remote: RemoteLog) -> dict[str, Seen]:
    """Return how far this machine itself has come, with each key that it ever had."""
    return {
        key_id: Seen(state.number - 1, state.previous)
        for key_id, state in remote.states().items()
        if state.number
    }


def _log(arguments: argparse.Namespace) -> AccessLog:
    """Return the log of what is looked at: here, and where it is configured, whatever is looked at."""
    home: Path = arguments.home.expanduser()
    settings = reading_settings(arguments.config)
    own = access_place(arguments.access_log, home, settings, environment())
    remote = None if own is None else remote_log(own, home)
    return AccessLog(home / "access.jsonl", SystemClock(), remote)


async def _key(arguments: argparse.Namespace) -> int:
    """Print the fingerprint of this machine's key, of a new one with --new.

    That a key was set aside is an act like others, and the new key signs it at once: of the old one
    nothing can be asked, because it is damaged, or its next entry is somebody else's, where it has to
    be replaced. If the entry cannot be stored the new key stays all the same, as making another one
    would mend nothing: a sentence says so, the log on this machine says why, and the exit status is
    1. The next act stores the key's first entry before anything is shown.
    """
    where, remote = _where(arguments)
    key = remote.renew() if arguments.new else remote.key()
    trouble = _begun(arguments, key, where) if arguments.new else None
    sys.stdout.write(
        f"Key {key.key_id} of {one_line(account_name())} signs what is done here, for the "
        f"access log {one_line(where.name)}. Have its fingerprint written down by whoever checks "
        f"the log:\n\n    {grouped(key.fingerprint)}\n"
    )
    if trouble is None:
        return WHOLE
    sys.stdout.flush()
    sys.stderr.write(
        "steward: The new key is used from now on, but no entry says so yet: do not make another "
        f"one, the next act tells it before anything else. {one_line(trouble)}\n"
    )
    return BROKEN


def _begun(arguments: argparse.Namespace, key: PublicKey, where: AccessPlace) -> str | None:
    """Write down that a new key was begun; return why only this machine could."""
    said = {"log": where.name, "key": key.key_id, "fingerprint": key.fingerprint}
    log = _log(arguments)
    try:
        log.write("key renewed", **said)
    except StewardError as error:
        replace(log, remote=None).write("key renewed", **said, not_stored=str(error))
        return str(error)
    return None


def _status_of(act: Act) -> Act:
    """Return a command that says what failed with a status of its own: nothing was found wrong."""

    async def run(arguments: argparse.Namespace) -> int:
        try:
            return await act(arguments)
        except ConfigError:
            raise
        except StewardError as error:
            sys.stderr.write(f"steward: {one_line(error)}\n")
            return UNREADABLE

    return run


async def _checked(arguments: argparse.Namespace) -> tuple[Checked, _Open]:
    async with _opened(arguments) as opened:
        try:
            checked = await check(opened.place, opened.seen, tuple(arguments.key))
        except (TransientError, PermanentError) as error:
            raise type(error)(f"The access log cannot be read: {error}") from None
        opened.ends.keep(opened.where.name, checked)
        return checked, opened


async def _verify(arguments: argparse.Namespace) -> int:
    checked, opened = await _checked(arguments)
    faults = checked.all_faults
    _log(arguments).write(
        "access log verified",
        log=opened.where.name,
        entries=len(checked.stored),
        faults=len(faults),
    )
    if arguments.json:
        sys.stdout.write(f"{json.dumps(_as_json(checked))}\n")
    else:
        sys.stdout.writelines(
            f"{shown_line(line)}\n" for line in _verified(checked, opened, arguments)
        )
    sys.stdout.flush()
    if faults or (not checked.chains and arguments.key):
        return BROKEN
    return WHOLE if checked.chains else UNREADABLE


def _verified(checked: Checked, opened: _Open, arguments: argparse.Namespace) -> Iterator[str]:
    yield f"Access log at {one_line(opened.where.name)}"
    for chain in checked.chains.values():
        people = sorted({one.entry.user for one in chain.entries})
        machines = sorted({one.entry.machine for one in chain.entries})
        yield (
            f"    key {chain.key_id}: {len(chain.entries):,} entries by "
            f"{one_line(', '.join(people)) or 'nobody'} on "
            f"{one_line(', '.join(machines)) or 'no machine'}"
        )
        if chain.key is not None:
            yield f"        {grouped(chain.key.fingerprint)}"
        end = chain.end
        if end is not None:
            last = chain.entries[-1].entry.time_ms
            yield f"        ends with entry {end.number}, {moment(last)} UTC, {end.sha256}"
    faults = checked.all_faults
    for fault in faults:
        yield f"WRONG: {one_line(fault)}"
    for remark in checked.remarks:
        yield f"NOTE: {one_line(remark)}"
    yield from _ended(checked, opened, arguments)


def _ended(checked: Checked, opened: _Open, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield how it stands with the log."""
    faults = checked.all_faults
    if not checked.chains:
        # A mistyped place must not be taken for a log in which nothing is missing.
        yield f"There is no access log at {one_line(opened.where.name)}: check the place."
        if faults or arguments.key:
            yield "NOT WHOLE: something was written here before, and nothing is left."
        return
    yield (
        f"NOT WHOLE: {len(faults):,} faults."
        if faults
        else "WHOLE: every entry is signed by its key and follows the one before it."
    )
    if not arguments.key:
        yield "Compare the fingerprints with those that were written down, or name them with --key."


async def _list(arguments: argparse.Namespace) -> int:
    where, _ = _where(arguments, arguments.log)
    period = period_of(arguments)
    _log(arguments).write(
        "access log listed",
        log=where.name,
        person=arguments.person,
        start_ms=period.start_ms,
        end_ms=period.end_ms,
    )
    checked, _ = await _checked(arguments)
    wanted = [
        one
        for one in checked.stored
        if period.holds(one.entry.time_ms)
        and arguments.person in {None, one.entry.user, one.entry.key_id}
    ]
    if arguments.sum:
        sys.stdout.writelines(f"{shown_line(line)}\n" for line in _summed(wanted, arguments))
    else:
        sys.stdout.writelines(f"{shown_line(line)}\n" for line in _told(wanted, arguments))
    sys.stdout.flush()
    for remark in checked.remarks:
        sys.stderr.write(f"NOTE: {one_line(remark)}\n")
    for fault in checked.all_faults:
        sys.stderr.write(f"THE LOG IS NOT WHOLE: {one_line(fault)}\n")
    return BROKEN if checked.all_faults else WHOLE


def _told(wanted: list[Stored], arguments: argparse.Namespace) -> Iterator[str]:
    for one in wanted:
        entry = one.entry
        if arguments.json:
            yield json.dumps({**msgspec.to_builtins(entry), "sound": one.is_sound})
            continue
        mark = "" if one.is_sound else "NOT SOUND  "
        yield (
            f"{moment(entry.time_ms, arguments.zone)} {mark}{one_line(entry.user)} "
            f"({entry.key_id}) {one_line(entry.what)}: {_detail(entry)}"
        )


def _detail(entry: Entry) -> str:
    return ", ".join(
        f"{one_line(name)}: {one_line(value)}"
        for name, value in entry.detail.items()
        if value is not None
    )


def _summed(wanted: list[Stored], arguments: argparse.Namespace) -> Iterator[str]:
    people: dict[str, _Person] = {}
    for one in wanted:
        person = people.setdefault(one.entry.user, _Person())
        person.acts[one.entry.what] += 1
        person.keys.add(one.entry.key_id)
        person.last_ms = max(person.last_ms, one.entry.time_ms)
    for name, person in sorted(people.items()):
        if arguments.json:
            keys = sorted(person.keys)
            yield json.dumps(
                {"person": name, "keys": keys, "acts": person.acts, "last_ms": person.last_ms}
            )
            continue
        acts = ", ".join(
            f"{one_line(what)} {count:,}" for what, count in person.acts.most_common()
        )
        yield (
            f"{one_line(name)} (keys {', '.join(sorted(person.keys))}): "
            f"{person.acts.total():,} acts, the last at "
            f"{moment(person.last_ms, arguments.zone)}: {acts}"
        )


def _as_json(checked: Checked) -> dict[str, object]:
    return {
        "whole": bool(checked.chains) and not checked.all_faults,
        "faults": checked.all_faults,
        "remarks": list(checked.remarks),
        "keys": [
            {
                "key_id": chain.key_id,
                "fingerprint": chain.key.fingerprint if chain.key is not None else None,
                "entries": len(chain.entries),
                "people": sorted({one.entry.user for one in chain.entries}),
                "end": msgspec.to_builtins(chain.end),
            }
            for chain in checked.chains.values()
        ],
    }
