"""Long work: listed, shown, stopped."""

from datetime import datetime

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, facts, lately, when
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.values import FIRST_PAGE, Page
from adminbot.own.jobs import PAGE_SIZE, CancelJob, GetJob, JobSummary, ListJobs, StepsOf
from common.errors import UserError
from common.i18n import t


@command("jobs", who=Role.ANYONE)
async def jobs(
    own: OwnReader, caller: Caller, number: int | None = None, *, page: Page = FIRST_PAGE
) -> Answer:
    """List long work that you asked for, or show one; server admins see everybody's.

    Args:
        number: which one
    """
    if number is not None:
        return await _one_job(own, await _job(own, caller, number), caller.now)
    return await _list(own, caller, page)


@command("job list", who=Role.ANYONE)
async def job_list(own: OwnReader, caller: Caller, *, page: Page = FIRST_PAGE) -> Answer:
    """List long work that you asked for; server admins see everybody's."""
    return await _list(own, caller, page)


@command("job show", who=Role.ANYONE)
async def job_show(own: OwnReader, caller: Caller, number: int) -> Answer:
    """Show how far long work is; server admins see everybody's.

    Args:
        number: which job, as “job list” shows it
    """
    return await _one_job(own, await _job(own, caller, number), caller.now)


async def _list(own: OwnReader, caller: Caller, page: int) -> Answer:
    everybody = caller.acts_as_server_admin
    found = await own.read(ListJobs(None if everybody else caller.actor.user, page))
    if not found:
        return answer(t("There is none."))
    rows = tuple(
        (
            str(each.number),
            Mono(each.summary),
            Pill(each.requester),
            t(each.status),
            lately(each.started_ms, caller.now) or "",
        )
        for each in found[:PAGE_SIZE]
    )
    table = Table((t("Number"), t("What"), t("For"), t("State"), t("Begun")), rows)
    if len(found) > PAGE_SIZE:
        return answer(table, t("Go on with --page {page}.", page=page + 1))
    return answer(table)


async def _cancel(own: OwnReader, caller: Caller, number: int) -> Plan:
    """Stop long work before its next step, or talk with a bridge at once. What is done stays done.

    Args:
        number: which job; “jobs” shows them
    """
    job = await _job(own, caller, number)
    if job.status != "running":
        raise UserError(t("Job {number} is not running any more.", number=number))
    return Plan(
        summary=t("Stop job {number}: {summary}", number=number, summary=job.summary),
        steps=(CancelJob(number),),
        result=answer(t("Job {number} stops before its next step.", number=number)),
    )


# By the word, too, by which the others of the subject are known.
cancel = command("cancel", who=Role.ANYONE)(_cancel)
job_cancel = command("job cancel", who=Role.ANYONE)(_cancel)


async def _job(own: OwnReader, caller: Caller, number: int) -> JobSummary:
    found = await own.read(GetJob(number))
    theirs = found is not None and found.requester == caller.actor.user
    if found is None or not (theirs or caller.acts_as_server_admin):
        raise UserError(t("You have no job {number}.", number=number))
    return found


async def _one_job(own: OwnReader, job: JobSummary, now: datetime) -> Answer:
    counts = await own.read(StepsOf(job.number))
    return answer(
        facts(
            [
                (t("Number"), str(job.number)),
                (t("What"), Mono(job.summary)),
                (t("Command"), Mono(job.command)),
                (t("For"), Pill(job.requester)),
                (t("State"), t(job.status)),
                (t("Why"), job.reason or None),
                (t("Begun"), when(job.started_ms, now)),
                (t("Ended"), when(job.ended_ms, now)),
                (t("Steps"), str(job.total)),
                (t("Done"), str(counts.get("done", 0))),
                (t("Failed"), str(counts["failed"]) if "failed" in counts else None),
                (t("Not sure"), str(counts["unsure"]) if "unsure" in counts else None),
            ]
        )
    )
