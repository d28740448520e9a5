"""Commands that are given at set times, in the name of who scheduled them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from adminbot import schedule as rules
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Bullets, Mono, Table, answer, say, when, written
from adminbot.engine.authorize import Refusal, authorize
from adminbot.engine.bind import bind
from adminbot.engine.command import Command, command
from adminbot.engine.line import parse_line
from adminbot.engine.outcome import Fate, Finished, report, tell
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Available, Settings
from adminbot.engine.values import Setting, Text, typed_span
from adminbot.own.schedules import AddSchedule, RemoveSchedule, Scheduled, Schedules
from common.errors import UserError
from common.homeserver.port import Permission
from common.i18n import n, t

SHOWN_RUNS = 3
MOST_SCHEDULES = 200
_SPAN = re.compile(r"(?:[0-9]{1,6}(?:w|d|h|min|m|s))+")

# What by itself wants a word typed wants one when it is scheduled.
_GRAVE = (Permission.DESTROY, Permission.OWN)

Missed = Literal["once", "skip", "all"]


@command("schedule", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def schedule(
    own: OwnReader,
    caller: Caller,
    available: Available,
    settings: Settings,
    words: Text,
    *,
    at: datetime | None = None,
    every: str | None = None,
    missed: Missed | None = None,
) -> Plan:
    """Give a command at a set time, or again and again.

    It is given in your name, with the rights you have then, and answered here. It is confirmed
    now and asks nothing then.

    Args:
        words: the command, after the options
        at: once, e.g. “tomorrow 9:00” or “in 2h”
        every: again and again: 1d, 12h, hourly, daily, weekly, monthly, or five fields of a
            crontab such as “0 9 * * mon-fri”
        missed: what becomes of runs that were due while I was down: once makes up for them with
            a single run, skip leaves them out, all makes up for each
    """
    zone = settings.config.adminbot.time_zone
    rule = rule_of(at, every)
    first = rules.next_after(rule, zone, begun=caller.now, after=caller.now)
    if first is None:
        raise UserError(t("That time is over; name one that is still to come."))
    text, found = checked(caller, available, settings, words)
    if len(await own.read(Schedules())) >= MOST_SCHEDULES:
        raise UserError(t("There are {most} schedules already; remove one.", most=MOST_SCHEDULES))
    step = adding(caller, settings, rule=rule, text=text, first=first, missed=missed)
    return Plan(
        summary=t("Give “{command}” {when}", command=Mono(text), when=told(rule, first)),
        steps=(step,),
        details=(Bullets(tuple((line,) for line in _runs(step))),),
        result=answer(
            t(
                "Scheduled: “{command}”, next on {moment}. “schedule list” shows it.",
                command=Mono(text),
                moment=written(first),
            )
        ),
        report="scheduled",
        ask=True,
        typed=found.name if found.needs in _GRAVE else None,
    )


@report("scheduled")
def numbered(finished: Finished) -> Answer:
    """Say what was scheduled, under which number, and how it is taken back."""
    said = tell(finished)
    for each in finished.with_fate(Fate.DONE):
        if isinstance(each.step, AddSchedule) and each.detail.isdecimal():
            line = t(
                "Its number is {number}: {command} takes it back.",
                number=each.detail,
                command=Mono(f"schedule remove {each.detail}"),
            )
            said = said.followed_by(say(line))
    return said


@command("schedule list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def schedule_list(own: OwnReader, caller: Caller) -> Answer:
    """List the commands that are given at set times, the next first."""
    found = await own.read(Schedules())
    if not found:
        return answer(t("Nothing is scheduled."))
    rows = tuple(
        (
            str(one.number),
            Mono(one.text),
            told(one.rule, None),
            when(one.next_ms, caller.now) or "",
            when(one.last_ms, caller.now) or t("never"),
            Mono(one.owner),
        )
        for one in found
    )
    columns = (t("Number"), t("Command"), t("When"), t("Next"), t("Last"), t("Owner"))
    return answer(
        Table(columns, rows),
        n("{count} command is scheduled.", "{count} commands are scheduled.", len(found)),
    )


@command("schedule remove", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def schedule_remove(own: OwnReader, number: int) -> Plan:
    """Do not give a command any more that was scheduled.

    Args:
        number: which, as “schedule list” shows it
    """
    one = await _one(own, number)
    return Plan(
        summary=t("Remove the schedule {number}", number=number),
        steps=(RemoveSchedule(number, one.text),),
    )


def rule_of(at: datetime | None, every: str | None) -> str:
    """Return the rule for the options “at” and “every”, one of which must be given."""
    if (at is None) == (every is None):
        raise UserError(t("Say when: either --at or --every."))
    if at is not None:
        return rules.at(at)
    text = every or ""
    if _SPAN.fullmatch(text.lower()):
        return rules.every(_span(text.lower()))
    return rules.cron(text)


def adding(
    caller: Caller,
    settings: Settings,
    *,
    rule: str,
    text: str,
    first: datetime,
    missed: Missed | None = None,
) -> AddSchedule:
    """Return the step that schedules a command for who asks, answered where they ask."""
    return AddSchedule(
        event=caller.command,
        owner=caller.actor.user,
        room=caller.place.room,
        text=text,
        formatted=caller.formatted,
        rule=rule,
        zone=settings.config.adminbot.time_zone,
        missed=missed or settings.config.adminbot.missed_runs,
        begun_ms=int(caller.now.timestamp() * 1000),
        next_ms=int(first.timestamp() * 1000),
    )


def checked(
    caller: Caller, available: Available, settings: Settings, words: str
) -> tuple[str, Command]:
    """Return what is to be scheduled, or say at once what is wrong with it."""
    text = words
    for prefix in sorted(settings.config.adminbot.prefixes, key=len, reverse=True):
        text = text.removeprefix(prefix).strip()
    line = parse_line(text, caller.formatted)
    found, rest = available.all.find(line)
    refuse_unfit(found, settings)
    bind(found, rest, Setting(settings.config.homeserver.server_name, caller.now))
    refusal = authorize(found, caller.actor, caller.place, caller.target, caller.trust)
    if isinstance(refusal, Refusal):
        raise UserError(refusal.sentence)
    return text, found


def refuse_unfit(found: Command, settings: Settings) -> None:
    """Refuse what must not happen by itself, or be kept."""
    if found.words[0] == "schedule":
        raise UserError(t("A schedule cannot be scheduled."))
    if found.name in settings.config.adminbot.two_person:
        raise UserError(
            t(
                "“{command}” wants a second server admin, so it cannot be scheduled.",
                command=found.name,
            )
        )
    if any(one.kind.secret for one in found.parameters):
        raise UserError(
            t(
                "“{command}” takes a secret, which is not kept, so it cannot be scheduled.",
                command=found.name,
            )
        )


def told(rule: str, first: datetime | None) -> str:
    """Return when a rule strikes, in words."""
    kind, _, value = rule.partition(":")
    if kind == "at":
        return t("once, on {moment}", moment=written(first or datetime.fromisoformat(value)))
    if kind == "every":
        return t("every {span}", span=Mono(typed_span(timedelta(seconds=int(value)))))
    return t("by the crontab {cron}", cron=Mono(value))


def _runs(step: AddSchedule) -> list[str]:
    """Return the first runs and what becomes of missed ones, for the question."""
    begun = datetime.fromtimestamp(step.begun_ms / 1000, tz=UTC)
    lines: list[str] = []
    after = begun
    for _ in range(SHOWN_RUNS):
        moment = rules.next_after(step.rule, step.zone, begun=begun, after=after)
        if moment is None:
            break
        lines.append(written(moment))
        after = moment
    kept = {
        "once": t("If I am down then, it is made up for once."),
        "skip": t("If I am down then, it is left out."),
        "all": t("If I am down then, each run is made up for."),
    }
    return [*lines, kept[step.missed]]


def _span(text: str) -> timedelta:
    units = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
    parts = re.findall(r"([0-9]{1,6})(w|d|h|min|m|s)", text)
    return timedelta(seconds=sum(int(number) * units[unit] for number, unit in parts))


async def _one(own: OwnReader, number: int) -> Scheduled:
    for one in await own.read(Schedules()):
        if one.number == number:
            return one
    raise UserError(t("There is no schedule {number}; “schedule list” shows all.", number=number))
