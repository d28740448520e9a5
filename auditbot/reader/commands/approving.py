"""``steward audit approve``: an officer looks at a plan of a deletion, and signs it on their own machine.

Exit status: 0 it was approved; 1 it was not, because the officer did not want to; 2 it cannot be.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from auditbot.reader.access.settings import access_place
from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.cosignatures import officer_key
from auditbot.reader.commands.cosigning import OFFICER
from auditbot.reader.commands.options import HOME, quantity, reading_settings, remote_log
from auditbot.reader.cosigning.key import Signer, read_key
from auditbot.reader.show import visible
from auditbot.reader.times import counted, moment
from auditbot.reader.verify.approvals import Wanted
from auditbot.reader.verify.report import grouped
from auditbot.storage.syncing import sync_folder
from common.approvals import LARGEST_PLAN, Approval, Plan, parse_plan
from common.clock import SystemClock
from common.config.environment import environment
from common.errors import ConfigError, StewardError, UserError

APPROVED, NOT_APPROVED, IMPOSSIBLE = 0, 1, 2
_WORD = "approve"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "approve",
        help="look at a plan of a deletion, and sign it",
        description="Show what “steward audit retention --plan” or “erase --plan” wrote, ask, and "
        "sign it with your own key (“steward audit cosign --new”). Exit status: 0 approved, 1 not, 2 "
        "it cannot be.",
    )
    command.set_defaults(act=_approve)
    command.add_argument("plan", type=Path, help="the file of the plan")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file for your approval (default: beside the plan, with your key's digits)",
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="Steward's configuration")
    command.add_argument(
        "--home",
        type=Path,
        default=HOME,
        metavar="DIRECTORY",
        help=f"where this machine keeps your key (default {HOME})",
    )
    command.add_argument(
        "--access-log", metavar="URL", help="where what you do is written down, too"
    )


def add_approval_options(command: argparse.ArgumentParser) -> None:
    """Add whose approvals there have to be of what was deleted."""
    command.add_argument(
        "--approved-by",
        type=officer_key,
        action="append",
        default=[],
        metavar="KEY",
        help="the verifier key of an officer who approves deletions; again for each: were all "
        "removals and erasures approved?",
    )
    command.add_argument(
        "--approvals",
        type=quantity,
        metavar="N",
        help="how many of these must have approved each (default: all)",
    )
    command.add_argument(
        "--approvals-since",
        type=_day,
        metavar="DAY",
        help="only of what was deleted on or after this day (UTC)",
    )


def wanted_approvals(arguments: argparse.Namespace) -> Wanted:
    """Return whose approvals there have to be.

    Raises:
        ConfigError: more than there are officers, or none of whom anybody would know.
    """
    officers = tuple(dict.fromkeys(arguments.approved_by))
    number = len(officers) if arguments.approvals is None else arguments.approvals
    if number > len(officers) or (arguments.approvals_since is not None and not officers):
        raise ConfigError("Whose approvals? Name each officer's key with --approved-by.")
    return Wanted(officers, number, arguments.approvals_since or 0)


def _day(text: str) -> int:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        message = f"“{text}” is no day; write 2026-03-01."
        raise argparse.ArgumentTypeError(message) from None
    return int(day.timestamp()) * 1000


async def _approve(arguments: argparse.Namespace) -> int:
    try:
        signer = read_key(arguments.home.expanduser() / OFFICER)
        body, plan = _read(arguments.plan)
        sys.stdout.writelines(f"{line}\n" for line in _words(plan, body))
        if plan.expires_ms < SystemClock().now_ms():
            raise UserError("The plan has expired: have a new one made.")
        sys.stdout.write(f"\nTo approve it as {signer.public.name}, type “{_WORD}”: ")
        sys.stdout.flush()
        if sys.stdin.readline().strip() != _WORD:
            sys.stdout.write("\nNothing was signed.\n")
            return NOT_APPROVED
        return _sign(arguments, signer, body, plan)
    except ConfigError:
        raise
    except StewardError as error:
        sys.stderr.write(f"steward: Nothing was signed: {visible(error)}\n")
        return IMPOSSIBLE


def _read(path: Path) -> tuple[bytes, Plan]:
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST_PLAN + 1)
        return body, parse_plan(body)
    except OSError as error:
        raise UserError(f"“{path}” cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"“{path}” is no plan: {error}.") from None


def _words(plan: Plan, body: bytes) -> Iterator[str]:
    what = {"retention": "Delete by age", "erasure": "Destroy keys"}[plan.act]
    yield f"{what}: the archive of {visible(plan.server_name)}, signed with the key {visible(plan.archive)}"
    yield f"    plan          {visible(plan.id)}, made by {visible(plan.actor)}"
    yield f"    good          from {moment(plan.made_ms)} to {moment(plan.expires_ms)} UTC"
    for name, value in plan.what.items():
        if value is not None or name == "keep_days":
            words = "for ever" if value is None else value
            yield f"    {visible(name.replace('_', ' ')):<13} {visible(words)}"
    yield f"    reason        {visible(plan.reason)}"
    for name, number in plan.counts.items():
        yield f"    {visible(name.replace('_', ' ')):<13} {number:,}"
    items = sum(one.items for one in plan.documents)
    yield f"    objects       {items:,} in {counted(len(plan.documents), 'signed document')}:"
    places = dict.fromkeys(one.destination for one in plan.documents)
    yield from (f"        at {visible(place)}" for place in places)
    yield f"    plan's hash   {grouped(sha256(body).hexdigest())}"
    yield ""
    yield "What the dry run said:"
    yield from (f"    {visible(line)}" for line in plan.lines)


def _sign(arguments: argparse.Namespace, signer: Signer, body: bytes, plan: Plan) -> int:
    path = _output(arguments, signer)
    clock = SystemClock()
    approval = Approval(
        v=1,
        type="steward.approval",
        plan=body.decode(),
        signed=signer.approve(body, clock.now_ms() // 1000),
    )
    home: Path = arguments.home.expanduser()
    place = access_place(
        arguments.access_log, home, reading_settings(arguments.config), environment()
    )
    log = AccessLog(
        home / "access.jsonl", clock, None if place is None else remote_log(place, home)
    )
    log.write(
        "approved",
        plan=plan.id,
        plan_sha256=sha256(body).hexdigest(),
        act=plan.act,
        by=signer.public.text,
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(approval.body)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.absolute().parent)
    except OSError as error:
        raise UserError(f"“{path}” cannot be written: {error.strerror}.") from None
    sys.stdout.write(
        f"\nApproved. Give “{path}” to whoever runs the command, for --apply --approval.\n"
    )
    return APPROVED


def _output(arguments: argparse.Namespace, signer: Signer) -> Path:
    plan: Path = arguments.plan
    given: Path | None = arguments.output
    path = given or plan.with_name(f"{plan.name}.approval-{signer.public.hint.hex()}")
    if os.path.lexists(path):
        raise UserError(f"“{path}” is there already: take another name with --output.")
    return path
