"""``steward audit destination|retention|hold|key``: what operators type."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from auditbot.operations import (
    approving,
    destination,
    erasure,
    holds,
    keys,
    legal_holds,
    over,
    retention,
)
from auditbot.operations.desk import Desk, day_text, desk
from auditbot.operations.erasable import Found
from common.config.environment import environment
from common.config.load import has_settings, load
from common.config.schema import Config
from common.errors import ConfigError, PermanentError, UserError
from common.ids import parse_user_id

CONFIG_FILE = Path("config.yaml")

MEANINGS = {
    "destination": "show, set or clear where the archive goes, while Steward runs",
    "retention": "delete what is older than the policy; a dry run unless --apply",
    "erase": "destroy the keys of days, or of what a person wrote; a dry run unless --apply",
    "hold": "legal holds: what must not be deleted",
    "key": "show the fingerprint of the signing key, or make a new key",
}

Act = Callable[[Desk, argparse.Namespace], Coroutine[None, None, str]]


def main(argv: Sequence[str]) -> int:
    """Carry one of the operations out; return the exit status."""
    arguments = _parser().parse_args(argv)
    path = arguments.config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    environ = environment()
    if path is None and not has_settings(environ):
        raise ConfigError("Which Steward? Name its configuration with --config.")
    told = asyncio.run(_act(load(path, environ), arguments))
    sys.stdout.write(f"{told}\n")
    return 0


async def _act(config: Config, arguments: argparse.Namespace) -> str:
    act: Act = arguments.act
    async with desk(config) as opened:
        return await act(opened, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steward audit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_destination(commands)
    _add_retention(commands)
    _add_erase(commands)
    _add_hold(commands)
    _add_key(commands)
    return parser


_Commands = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for it


def _add_destination(commands: "_Commands[argparse.ArgumentParser]") -> None:
    group = _group(commands, "destination")
    _command(group, "show", "show where the archive goes", lambda at, _: destination.show(at))
    one = _command(group, "set", "send the archive elsewhere from now on", _set)
    one.add_argument("destination", help="file:///DIRECTORY or s3://BUCKET/PREFIX")
    one.add_argument("--endpoint-url", metavar="URL", help="the address of the object store")
    one.add_argument(
        "--no-check", action="store_true", help="do not try first whether it can be used"
    )
    _command(group, "clear", "stop the export", lambda at, _: destination.clear(at))


def _add_retention(commands: "_Commands[argparse.ArgumentParser]") -> None:
    one = _command(commands, "retention", MEANINGS["retention"], _retain)
    one.add_argument(
        "--keep-days",
        type=_days,
        metavar="N",
        help="keep so many whole days of what is in no other class (default: auditbot.keep_days)",
    )
    _add_approving(one, "delete what the dry run lists")


def _add_erase(commands: "_Commands[argparse.ArgumentParser]") -> None:
    one = _command(commands, "erase", MEANINGS["erase"], _erase)
    what = one.add_mutually_exclusive_group(required=True)
    what.add_argument("--from", dest="start", type=_day, metavar="DAY", help="the first day (UTC)")
    what.add_argument(
        "--person",
        type=_person,
        metavar="@USER:SERVER",
        help="what this person wrote up to now, in all rooms",
    )
    one.add_argument("--to", dest="end", type=_day, metavar="DAY", help="the last one (UTC)")
    one.add_argument(
        "--class",
        dest="label",
        metavar="LABEL",
        help="of the days only this retention class, where content is sealed by day",
    )
    one.add_argument("--reason", required=True, help="why; stays in the archive")
    _add_approving(one, "destroy what the dry run lists")


def _add_approving(command: argparse.ArgumentParser, meaning: str) -> None:
    what = command.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help=meaning)
    what.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="write down what would be done, for officers to approve (“steward audit approve”)",
    )
    command.add_argument(
        "--valid-days",
        type=_valid_days,
        default=approving.VALID_DAYS,
        metavar="N",
        help=f"for how many days the plan may be carried out (default {approving.VALID_DAYS})",
    )
    command.add_argument(
        "--approval",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="with --apply: an officer's approval of the plan; again for each officer",
    )


def _add_hold(commands: "_Commands[argparse.ArgumentParser]") -> None:
    group = _group(commands, "hold")
    one = _command(group, "add", "hold something", _hold)
    one.add_argument("--reason", required=True, help="why; stays in the archive")
    one.add_argument("--room", action="append", default=[], metavar="ID", help="only this room")
    one.add_argument("--user", action="append", default=[], metavar="ID", help="only this person")
    one.add_argument("--from", dest="start", type=_moment, metavar="TIME", help="received since")
    one.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="received before")
    _command(group, "list", "show what is held", lambda at, _: holds.show(at))
    one = _command(group, "remove", "release a hold; deletes nothing", _release)
    one.add_argument("id", help="as “list” shows it")
    one.add_argument("--reason", required=True, help="why; stays in the archive")
    _command(group, "apply", "set and lift the bucket's own legal holds now", _apply)


def _add_key(commands: "_Commands[argparse.ArgumentParser]") -> None:
    group = _group(commands, "key")
    _command(group, "show", "show the fingerprint", lambda at, _: keys.show(at))
    _command(
        group, "rotate", "make a new key that the old one signs", lambda at, _: keys.rotate(at)
    )


def _group(
    commands: "_Commands[argparse.ArgumentParser]", name: str
) -> "_Commands[argparse.ArgumentParser]":
    meaning = MEANINGS[name]
    parser = commands.add_parser(name, help=meaning, description=f"{meaning.capitalize()}.")
    return parser.add_subparsers(required=True, metavar="ACTION")


def _command(
    commands: "_Commands[argparse.ArgumentParser]", name: str, meaning: str, act: Act
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=meaning, description=f"{meaning.capitalize()}.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="Steward's configuration")
    parser.set_defaults(act=act)
    return parser


async def _set(at: Desk, arguments: argparse.Namespace) -> str:
    if not arguments.destination.startswith(("file:", "s3:")):
        raise UserError("A destination is like file:///DIRECTORY or s3://BUCKET/PREFIX.")
    return await destination.change(
        at, arguments.destination, arguments.endpoint_url, check=not arguments.no_check
    )


async def _retain(at: Desk, arguments: argparse.Namespace) -> str:
    keep_days = arguments.keep_days or at.config.auditbot.keep_days
    if keep_days is None and not await over.is_any_class_recorded(at):
        raise UserError("How long is the archive kept? Set auditbot.keep_days or add --keep-days.")
    given = _given(at, arguments)
    left = await retention.carry_out(at) if arguments.apply else None
    as_of = given.as_of if given is not None else None
    found = await over.survey(at, keep_days=keep_days, as_of=as_of)
    work = await approving.work_of_retention(at, found, keep_days=keep_days)
    if left is None:
        told = await _dry(at, work, arguments, "Nothing was deleted", "--apply deletes it")
        return f"{found.text()}\n{told}"
    approved = await approving.agreed(at, given, work)
    told = await retention.apply(at, found, keep_days=keep_days, approved=approved)
    if found.free or found.media:
        return f"{found.text()}\n{told}"
    left.check()
    return f"{found.text()}\n{left.text}"


async def _erase(at: Desk, arguments: argparse.Namespace) -> str:
    if arguments.person is not None and (arguments.end, arguments.label) != (None, None):
        raise UserError("A person's key is of all days and classes: leave --to and --class out.")
    given = _given(at, arguments)
    left = await erasure.carry_out(at) if arguments.apply else None
    try:
        found = await _to_erase(at, arguments)
    except UserError as error:
        if left is None or not left.done:
            raise
        return f"An erasure that was interrupted was finished: {left.text}\n{error}"
    what = _asked(arguments)
    work = await approving.work_of_erasure(at, found, what=what, reason=arguments.reason)
    if not arguments.apply:
        told = await _dry(at, work, arguments, "Nothing was destroyed", "--apply destroys them")
        return f"{found.text()}\n{told}"
    # What is held is refused anyway, and that is recorded.
    approved = None if found.held_by else await approving.agreed(at, given, work)
    told = await erasure.apply(at, found, reason=arguments.reason, approved=approved)
    return f"{found.text()}\n{told}"


def _given(at: Desk, arguments: argparse.Namespace) -> approving.Given | None:
    """Return what was approved; before anything is done."""
    if not arguments.apply:
        if arguments.approval:
            raise UserError("An approval is for --apply.")
        return None
    return approving.read_given(at, arguments.approval)


async def _dry(
    at: Desk, work: approving.Work, arguments: argparse.Namespace, nothing: str, apply: str
) -> str:
    if arguments.plan is not None:
        valid_days = arguments.valid_days
        told = await approving.write_plan(at, work, arguments.plan, valid_days=valid_days)
        return f"{nothing}: this was a dry run. {told}"
    if at.config.auditbot.approvals_needed:
        return f"{nothing}: this was a dry run. --plan FILE writes what officers have to approve."
    return f"{nothing}: this was a dry run. {apply}."


def _asked(arguments: argparse.Namespace) -> approving.What:
    """Return what is to be erased, as a plan says it."""
    if arguments.person is not None:
        return {"person": str(arguments.person)}
    last = arguments.start if arguments.end is None else arguments.end
    return {
        "from": day_text(arguments.start),
        "to": day_text(last),
        "class": arguments.label,
    }


async def _to_erase(at: Desk, arguments: argparse.Namespace) -> Found:
    if arguments.person is not None:
        return await erasure.survey_person(at, arguments.person)
    last = arguments.start if arguments.end is None else arguments.end
    if last < arguments.start:
        raise UserError("The last day is before the first one.")
    return await erasure.survey(
        at, first_day=arguments.start, last_day=last, label=arguments.label
    )


async def _hold(at: Desk, arguments: argparse.Namespace) -> str:
    told = await holds.add(
        at,
        reason=arguments.reason,
        rooms=arguments.room,
        users=arguments.user,
        from_ms=arguments.start,
        to_ms=arguments.end,
    )
    return await _with_bucket(at, told)


async def _release(at: Desk, arguments: argparse.Namespace) -> str:
    return await _with_bucket(at, await holds.remove(at, arguments.id, reason=arguments.reason))


async def _apply(at: Desk, _: argparse.Namespace) -> str:
    done = await legal_holds.settle(at, actor=at.actor)
    if done.trouble is not None:
        raise PermanentError(done.text)
    return done.text or "Nothing was to be set or lifted."


async def _with_bucket(at: Desk, told: str) -> str:
    done = await legal_holds.settle(at, actor=at.actor)
    return f"{told}\n{done.text}" if done.text else told


def _days(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("write a whole number of days, 1 or more")
    return int(text)


def _valid_days(text: str) -> int:
    days = _days(text)
    if days > approving.MOST_VALID_DAYS:
        message = f"a plan is good for {approving.MOST_VALID_DAYS} days at most"
        raise argparse.ArgumentTypeError(message)
    return days


def _person(text: str) -> str:
    try:
        return parse_user_id(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _day(text: str) -> int:
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        message = f"“{text}” is no day; write {date(2026, 3, 1)}."
        raise argparse.ArgumentTypeError(message) from None


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"“{text}” is no time; write {date(2026, 3, 1)} or 2026-03-01T14:00."
        raise argparse.ArgumentTypeError(message) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
