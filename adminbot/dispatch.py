"""The one path of a command: read it, may they, run it, ask, carry it out, reply.

Facts are asked of the homeserver at that moment, before a command is run and again before a
confirmed plan is carried out. Each step is written to the trail before it is sent and after.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

from adminbot.audit_trail import AuditTrail, Phase, Subject
from adminbot.choices import Choices
from adminbot.choosing import Choosing
from adminbot.commands.help import explain
from adminbot.engine.actor import Caller
from adminbot.engine.answer import Answer, Strong, answer, say
from adminbot.engine.authorize import Refusal
from adminbot.engine.bind import HelpAsked, UsageError, without_secrets
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.confirm import must_ask, question, to_approve
from adminbot.engine.intake import Request, Source
from adminbot.engine.line import LineError
from adminbot.engine.outcome import Fate
from adminbot.engine.plan import Plan
from adminbot.engine.prepared import Mistyped, Ready, Refused
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Attached, Available, Reading
from adminbot.engine.trouble import explained, refused, steps, wrong
from adminbot.engine.waiting import Asked, Job
from adminbot.execution import Execution
from adminbot.facts import Facts
from adminbot.jobs import Status
from adminbot.preparing import AdminDoor, Preparing
from adminbot.progress import Showing
from adminbot.replies import Replies
from adminbot.store import Begin, Store
from common.clock import Clock
from common.database.pool import Connection
from common.errors import StartOverError, StewardError, TransientError, UserError
from common.homeserver.port import AdminReader, Grant
from common.i18n import t


@dataclass(frozen=True)
class Dispatcher:
    """What carrying out needs; one instance for all commands."""

    catalogue: Catalogue
    facts: Facts
    admin: AdminDoor
    store: Store
    trail: AuditTrail
    replies: Replies
    clock: Clock
    server_name: str
    execution: Execution
    showing: Showing
    attach: Callable[[Request], Attached]
    reading: Callable[[AdminReader], Reading]
    supplies: Mapping[type, object]
    two_person: Collection[str] = ()
    zone: tzinfo = UTC

    @property
    def preparing(self) -> Preparing:
        """What reads a line and says who may."""
        return Preparing(self.catalogue, self.facts, self.admin, self.server_name, self.zone)

    async def obey(self, job: Job) -> None:
        """Carry one command out as far as it goes without a confirmation.

        Raises:
            TransientError: something is away; the command can be tried again as a whole.
        """
        async with self.showing.busy(job.request):
            await self._obey(job)

    async def _obey(self, job: Job) -> None:
        request = job.request
        try:
            if request.source is not Source.SCHEDULE and not await self.facts.still_stands(
                request
            ):
                await self.store.end(request.event)
                return
            prepared = await self._prepare(job)
        except UserError as error:
            await self._close(request, Phase.REFUSED, "", refused(error), str(error))
            return
        match prepared:
            case HelpAsked(command=command):
                await self._close(request, Phase.ANSWERED, command.name, explain(command))
            case Refused(command=command, refusal=refusal):
                said = None if refusal.silent else answer(refusal.sentence)
                await self._close(request, Phase.REFUSED, command, said, refusal.sentence)
            case Mistyped(error=line_error, private=private):
                # Arguments that could not be read may hold a secret: only the name is kept.
                name = line_error.command.name if isinstance(line_error, UsageError) else ""
                said = await self._asked_back(job, line_error) or explained(
                    line_error, private=private
                )
                await self._close(request, Phase.MISTYPED, name, said)
            case Ready():
                await self._run(request, prepared)

    async def _asked_back(self, job: Job, error: LineError) -> Answer | None:
        """Ask for what is missing, where there are few things that it may be."""
        choosing = Choosing(
            self.preparing, self.execution.records, Choices(self.store.database, self.clock)
        )
        return await choosing.about(job, error)

    async def carry_out(self, asked: Asked) -> None:
        """Carry a confirmed plan out, if it is still the same plan and still allowed."""
        job = await self.store.job(asked.event)
        if job is None or not await self.store.is_now(asked.event, "confirmed"):
            return
        request = job.request
        try:
            prepared = await self._prepare(job)
            if not isinstance(prepared, Ready):
                await self._not_any_more(request, asked, prepared)
                return
            plan = await prepared.bound.command.run(
                self._supplies(prepared, request), prepared.bound.arguments
            )
        except UserError as error:
            said = answer(t("Not done. {why}", why=str(error)))
            await self._end(request, Phase.CHANGED, asked, said)
            return
        except TransientError:
            said = answer(t("Not done: the homeserver does not answer. Ask again in a while."))
            await self._end(request, Phase.FAILED, asked, said)
            return
        if not isinstance(plan, Plan) or plan.fingerprint != asked.fingerprint:
            said = answer(t("Not done: what this would do has changed since I asked. Ask again."))
            await self._end(request, Phase.CHANGED, asked, said)
            return
        written = without_secrets(prepared.bound)
        if await self.store.begin(asked.event, self._beginning(request, plan, written)):
            await self._work(request, prepared.grant)

    async def carry_on(self, asked: Asked) -> None:
        """Go on with a plan that is being carried out: just begun, or cut short by a restart."""
        job = await self.store.job(asked.event)
        if job is None or not await self.store.is_now(asked.event, "executing"):
            return
        try:
            prepared = await self._prepare(job)
        except UserError as error:
            prepared = Refused("", Refusal(str(error)))
        if isinstance(prepared, Ready):
            await self._work(job.request, prepared.grant)
        else:
            await self._not_any_more(job.request, asked, prepared)

    async def expire(self, asked: Asked) -> None:
        """Close a question that nobody answered in time."""
        job = await self.store.job(asked.event)
        if job is None or not await self.store.expire(asked.event):
            return
        await self.trail.note(_subject(job.request, asked.summary), Phase.EXPIRED)
        said = answer(t("Nobody confirmed in time, so nothing was done."))
        await self.replies.send(job.request, said, "expired")

    async def report_interruption(self, asked: Asked, reference: str = "") -> None:
        """Say how far a plan had come when a fault of ours ended it, with what to look for."""
        job = await self.store.job(asked.event)
        if job is None:
            return
        counts = await self.execution.jobs.counts(asked.event)
        done, failed = counts.get(Fate.DONE, 0), counts.get(Fate.FAILED, 0)
        unsure = counts.get(Fate.BEGUN, 0) + counts.get(Fate.UNSURE, 0)
        lines = [
            t(
                "I was interrupted: {done} steps done, {failed} failed, {unsure} may or may not "
                "have happened.",
                done=done,
                failed=failed,
                unsure=unsure,
            ),
            t("Look at the result, and ask again for what is missing."),
        ]
        whole = answer(asked.summary, *lines, wrong(reference))
        await self._end(job.request, Phase.INTERRUPTED, asked, whole, reference)

    async def failed(self, request: Request, reference: str) -> None:
        """Say that something is wrong with us, with what to look for in the log."""
        said = Answer((wrong(reference),))
        await self._close(request, Phase.BROKEN, "", said, reference)

    async def give_up(self, request: Request, sentence: str) -> None:
        """Answer that it cannot be done now."""
        await self._close(request, Phase.FAILED, "", answer(sentence), sentence)

    async def _prepare(self, job: Job) -> Ready | Refused | HelpAsked | Mistyped:
        return await self.preparing.prepare(job)

    def _supplies(self, ready: Ready, request: Request) -> Mapping[type, object]:
        return {
            **self.supplies,
            AdminReader: self.admin.on_behalf_of(ready.grant),
            OwnReader: self.execution.records.on_behalf_of(ready.grant),
            Caller: ready.caller,
            Available: ready.available,
            Reading: self.reading(self.admin.on_behalf_of(ready.grant)),
            Attached: self.attach(request),
        }

    async def _run(self, request: Request, ready: Ready) -> None:
        written = without_secrets(ready.bound)
        try:
            outcome = await ready.bound.command.run(
                self._supplies(ready, request), ready.bound.arguments
            )
        except UserError as error:
            await self._close(request, Phase.REFUSED, written, refused(error), str(error))
            return
        match outcome:
            case Answer():
                await self._close(request, Phase.ANSWERED, written, outcome)
            case Plan(steps=(), result=Answer() as said):
                # Nothing is to be done, so nothing is planned either.
                await self._close(request, Phase.ANSWERED, written, said)
            case Plan() if ready.bound.dry_run:
                said = Answer(
                    (
                        say(Strong(t("Would do: {summary}", summary=outcome.summary))),
                        steps(outcome),
                        *outcome.details,
                    ),
                    outcome.files,
                )
                await self._close(request, Phase.ANSWERED, written, said)
            case Plan():
                await self._ask(request, outcome, written, ready.bound.command.name)

    async def _ask(self, request: Request, plan: Plan, written: str, name: str) -> None:
        scheduled = request.source is Source.SCHEDULE
        # Also of what was scheduled before the configuration said so.
        second = name in self.two_person or plan.acts_as in self.two_person
        at_once = not second and (scheduled or not must_ask(plan))
        begin = self._beginning(request, plan, written) if at_once else None
        asked = await self.store.ask(request, plan, begin=begin, second=second)
        if asked is None:
            return
        await self.trail.note(_subject(request, written), Phase.PLANNED, asked.fingerprint)
        if at_once:
            return  # whoever looks for plans that are being carried out finds it
        # Named after the plan: a question sent before a crash may show another one, and who
        # answers that one must not confirm this one.
        about = asked.fingerprint[:16]
        if second:
            card = to_approve(plan, asked.code, request.sender)
            await self.replies.telling.to_admins(
                card, key=f"steward-approve-{about}-{request.event}", leave_out=request.sender
            )
        said = question(plan, asked.code, second=second)
        sent = await self.replies.send(request, said, "question", about=about)
        await self.store.question_sent(request.event, sent)
        if plan.typed is None and not second:
            await self.replies.offer_yes(request, sent, about=about)
        # After that, or who is quick would answer a question that we do not know by name yet.
        await self.replies.send_files(request, plan.files, "question", about=about)

    def _beginning(self, request: Request, plan: Plan, written: str) -> Begin:
        async def begin(connection: Connection) -> None:
            await self.execution.jobs.begin(connection, request, plan, written)
            subject = _subject(request, written)
            await self.trail.note_in(connection, subject, Phase.CONFIRMED, plan.fingerprint)

        return begin

    async def _work(self, request: Request, grant: Grant) -> None:
        """Do what is left of a plan, and say what became of it."""
        running = await self.execution.jobs.running(request.event)
        if running is None:
            # All that is missing is that it was said; what was said is forgotten.
            await self._finish(request, answer(t("This is done.")))
            return

        async def still_allowed() -> str | None:
            job = await self.store.job(request.event)
            try:
                prepared = None if job is None else await self._prepare(job)
            except TransientError:
                return None  # nothing can be done meanwhile; it is asked again in a while
            except UserError as error:
                return str(error)
            if isinstance(prepared, Ready):
                return None
            return prepared.refusal.sentence if isinstance(prepared, Refused) else ""

        async with self.showing.of(request, running) as ticker:
            ended = await self.execution.carry_on(request, running, grant, ticker, still_allowed)
        if ended.stopped is not None:
            await self._finish(request, ended.said, Status.CANCELLED, ended.stopped)
        else:
            # Asked for during the last step, or while it waited for the homeserver.
            late = await self.execution.jobs.cancelled(request.event)
            await self._finish(request, ended.said, Status.CANCELLED if late else Status.DONE)

    async def _not_any_more(self, request: Request, asked: Asked, why: object) -> None:
        refusal = why.refusal if isinstance(why, Refused) else Refusal("")
        said = None if refusal.silent else answer(t("Not done. {why}", why=refusal.sentence))
        await self._end(request, Phase.REFUSED, asked, said, refusal.sentence)

    async def _finish(
        self,
        request: Request,
        said: Answer | None,
        ended: Status | None = None,
        reason: str = "",
    ) -> None:
        try:
            if said is not None:
                await self.replies.send(request, said, "outcome")
        except (TransientError, StartOverError):
            # It stays as being carried out, and is reported as soon as that can be said.
            raise
        except StewardError:
            # Done is done, even if it can never be said.
            await self._over(request, ended, reason)
            raise
        await self._over(request, ended, reason)

    async def _over(self, request: Request, ended: Status | None, reason: str) -> None:
        if ended is not None:
            await self.execution.jobs.end(request.event, ended, reason)
        await self.store.end(request.event)

    async def _end(
        self, request: Request, phase: Phase, asked: Asked, said: Answer | None, detail: str = ""
    ) -> None:
        await self.trail.note(_subject(request, asked.summary), phase, detail)
        await self._finish(request, said, Status.CANCELLED, detail)

    async def _close(
        self, request: Request, phase: Phase, command: str, said: Answer | None, detail: str = ""
    ) -> None:
        await self.trail.note(_subject(request, command), phase, detail)
        if said is not None:
            await self.replies.send(request, said, "answer")
        # With a plan that was never asked about, if there is one.
        await self.store.end(request.event)


def _subject(request: Request, command: str) -> Subject:
    return Subject(request.event, request.room, request.sender, command)
