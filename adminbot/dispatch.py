"""The one path of a command: read it, may they, run it, ask, carry it out, reply.

Facts are asked of the homeserver at that moment, before a command is run and again before a
confirmed plan is carried out. Each step is written to the trail before it is sent and after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from adminbot.audit_trail import AuditTrail, Phase, Subject
from adminbot.commands.help import explain
from adminbot.engine.actor import Actor, Caller, Place, PlaceKind, Role, Target
from adminbot.engine.answer import Answer, Strong, answer, count, say
from adminbot.engine.authorize import Refusal, authorize, may_list, unheard
from adminbot.engine.bind import Bound, HelpAsked, UsageError, bind, without_secrets
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command
from adminbot.engine.confirm import must_ask, question
from adminbot.engine.intake import Request
from adminbot.engine.line import LineError, parse_line
from adminbot.engine.plan import Plan
from adminbot.engine.supply import Available, Health
from adminbot.engine.trouble import explained, refused, steps, stopped, wrong
from adminbot.engine.values import Setting
from adminbot.engine.waiting import Asked, Job
from adminbot.facts import Facts
from adminbot.replies import Replies
from adminbot.store import Store
from common.clock import Clock
from common.errors import StartOverError, StewardError, TransientError, UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, AdminWriter, ChangeRequest, Grant
from common.homeserver.synapse.rooms import ResolveAlias
from common.ids import RoomId

_ROOM_ROLES = {Role.ROOM_MODERATOR, Role.ROOM_ADMIN}


class AdminDoor(Protocol):
    """The administration API, opened only as far as a grant."""

    async def read(self, request: ResolveAlias) -> RoomId:
        """Look a room's address up."""
        ...

    def on_behalf_of(self, grant: Grant) -> AdminReader:
        """Return the reading half."""
        ...

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half."""
        ...


@dataclass(frozen=True)
class Ready:
    """A command that may be run, by whom, and with what."""

    bound: Bound
    caller: Caller
    grant: Grant
    available: Available


@dataclass(frozen=True)
class Refused:
    """A command that may not be run; ``command`` is its name and arguments without secrets."""

    command: str
    refusal: Refusal


@dataclass(frozen=True)
class Mistyped:
    """A line that cannot be read as a command; ``private``: only who wrote it reads along."""

    error: LineError
    private: bool


@dataclass(frozen=True)
class Dispatcher:
    """What carrying out needs; one instance for all commands."""

    catalogue: Catalogue
    facts: Facts
    admin: AdminDoor
    store: Store
    trail: AuditTrail
    replies: Replies
    health: Health
    clock: Clock
    server_name: str

    async def obey(self, job: Job) -> None:
        """Carry one command out as far as it goes without a confirmation.

        Raises:
            TransientError: something is away; the command can be tried again as a whole.
        """
        request = job.request
        try:
            if not await self.facts.still_stands(request):
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
                said = explained(line_error, private=private)
                await self._close(request, Phase.MISTYPED, name, said)
            case Ready():
                await self._run(request, prepared)

    async def carry_out(self, asked: Asked) -> None:
        """Carry a confirmed plan out, if it is still the same plan and still allowed."""
        job = await self.store.job(asked.event)
        if job is None or not await self.store.begin(asked.event):
            return
        request = job.request
        try:
            prepared = await self._prepare(job)
            if not isinstance(prepared, Ready):
                refusal = prepared.refusal if isinstance(prepared, Refused) else Refusal("")
                said = None if refusal.silent else answer(f"Not done. {refusal.sentence}")
                await self._end(request, Phase.REFUSED, asked, said, refusal.sentence)
                return
            plan = await prepared.bound.command.run(
                self._supplies(prepared), prepared.bound.arguments
            )
        except UserError as error:
            await self._end(request, Phase.CHANGED, asked, answer(f"Not done. {error}"))
            return
        except TransientError:
            said = answer("Not done: the homeserver does not answer. Ask again in a while.")
            await self._end(request, Phase.FAILED, asked, said)
            return
        if not isinstance(plan, Plan) or plan.fingerprint != asked.fingerprint:
            said = answer("Not done: what this would do has changed since I asked. Ask again.")
            await self._end(request, Phase.CHANGED, asked, said)
            return
        await self._execute(request, prepared, plan, Phase.CONFIRMED)

    async def expire(self, asked: Asked) -> None:
        """Close a question that nobody answered in time."""
        job = await self.store.job(asked.event)
        if job is None or not await self.store.expire(asked.event):
            return
        await self.trail.note(_subject(job.request, asked.summary), Phase.EXPIRED)
        said = answer("Nobody confirmed in time, so nothing was done.")
        await self.replies.send(job.request, said, "expired")

    async def report_interruption(self, asked: Asked, reference: str = "") -> None:
        """Say how far a plan had come when it was cut short; nothing is repeated blindly.

        Cut short by the end of the process, or by a fault of ours: then with what to look for
        in the log.
        """
        job = await self.store.job(asked.event)
        if job is None:
            return
        taken = await self.trail.steps_taken(asked.event)
        if taken[Phase.DONE]:
            # All that was missing is that it was said.
            await self._finish(job.request, answer(f"Done: {asked.summary}."))
            return
        begun, did = taken[Phase.ABOUT_TO], taken[Phase.DID]
        unsure = begun - did - taken[Phase.FAILED]
        said = (
            f"I was interrupted: {count(did, 'step')} done"
            + (", and one that may or may not have happened" if unsure else "")
            + ". Look at the result, and ask again for what is missing."
        )
        whole = answer(asked.summary, said)
        if reference:
            whole = whole.followed_by(wrong(reference))
        await self._end(job.request, Phase.INTERRUPTED, asked, whole, reference)

    async def failed(self, request: Request, reference: str) -> None:
        """Say that something is wrong with us, with what to look for in the log."""
        asked = await self.store.executing(request.event)
        if asked is not None:
            await self.report_interruption(asked, reference)
            return
        said = Answer((wrong(reference),))
        await self._close(request, Phase.BROKEN, "", said, reference)

    async def give_up(self, request: Request, sentence: str) -> None:
        """Answer that it cannot be done now."""
        await self._close(request, Phase.FAILED, "", answer(sentence), sentence)

    async def _prepare(self, job: Job) -> Ready | Refused | HelpAsked | Mistyped:
        # Before a word is read: to a bridge's account even “there is no such command” is an
        # answer.
        actor = await self.facts.actor(job.request.sender)
        refusal = unheard(actor, job.trust)
        if refusal is not None:
            return Refused("", refusal)
        place = await self.facts.place(job.request.room, job.request.sender)
        try:
            return await self._read(job, actor, place)
        except LineError as error:
            return Mistyped(error, place.private)

    async def _read(self, job: Job, actor: Actor, place: Place) -> Ready | Refused | HelpAsked:
        line = parse_line(job.request.text, job.request.formatted)
        command, rest = self.catalogue.find(line)
        if command.who not in _ROOM_ROLES:
            early = authorize(command, actor, place, None, job.trust)
            if isinstance(early, Refusal):
                return Refused(command.name, early)
        bound = bind(command, rest, self._setting(place))
        if isinstance(bound, HelpAsked):
            return bound
        bound = await self._find_rooms(bound)
        target = await self._target(bound, actor, place)
        decision = authorize(command, actor, place, target, job.trust)
        if isinstance(decision, Refusal):
            return Refused(without_secrets(bound), decision)
        caller = Caller(actor, place, target, job.trust, self.clock.now())
        return Ready(bound, caller, decision, self._available(caller))

    def _setting(self, place: Place) -> Setting:
        current = None if place.kind is PlaceKind.DIRECT else place.room
        return Setting(self.server_name, self.clock.now(), current)

    async def _find_rooms(self, bound: Bound) -> Bound:
        found: dict[str, RoomId] = {}
        for name, address in bound.addresses.items():
            try:
                found[name] = await self.admin.read(ResolveAlias(address.alias))
            except NotFoundError:
                raise UserError(f"There is no room with the address {address.alias}.") from None
        return bound.with_rooms(found)

    async def _target(self, bound: Bound, actor: Actor, place: Place) -> Target | None:
        current = None if place.kind is PlaceKind.DIRECT else place.room
        room = bound.room or current
        return None if room is None else await self.facts.target(room, actor.user)

    def _available(self, caller: Caller) -> Available:
        def listed(command: Command) -> bool:
            return may_list(command, caller.actor, caller.place, caller.target, caller.trust)

        return Available(here=self.catalogue.only(listed), all=self.catalogue)

    def _supplies(self, ready: Ready) -> Mapping[type, object]:
        return {
            AdminReader: self.admin.on_behalf_of(ready.grant),
            Caller: ready.caller,
            Available: ready.available,
            Health: self.health,
        }

    async def _run(self, request: Request, ready: Ready) -> None:
        written = without_secrets(ready.bound)
        try:
            outcome = await ready.bound.command.run(self._supplies(ready), ready.bound.arguments)
        except UserError as error:
            await self._close(request, Phase.REFUSED, written, refused(error), str(error))
            return
        match outcome:
            case Answer():
                await self._close(request, Phase.ANSWERED, written, outcome)
            case Plan() if ready.bound.dry_run:
                said = Answer((say(Strong(f"Would do: {outcome.summary}")), steps(outcome)))
                await self._close(request, Phase.ANSWERED, written, said)
            case Plan():
                await self._ask(request, ready, outcome, written)

    async def _ask(self, request: Request, ready: Ready, plan: Plan, written: str) -> None:
        asked = await self.store.ask(request, plan, at_once=not must_ask(plan))
        if asked is None:
            return
        await self.trail.note(_subject(request, written), Phase.PLANNED, asked.fingerprint)
        if not must_ask(plan):
            await self._execute(request, ready, plan, Phase.CONFIRMED)
            return
        # Named after the plan: a question sent before a crash may show another one, and who
        # answers that one must not confirm this one.
        about = asked.fingerprint[:16]
        said = question(plan, asked.code)
        sent = await self.replies.send(request, said, "question", about=about)
        await self.store.question_sent(request.event, sent)
        if plan.typed is None:
            await self.replies.offer_yes(request, sent, about=about)

    async def _execute(self, request: Request, ready: Ready, plan: Plan, phase: Phase) -> None:
        subject = _subject(request, without_secrets(ready.bound))
        await self.trail.note(subject, phase, plan.fingerprint)
        writer = self.admin.executing_for(ready.grant)
        for number, step in enumerate(plan.steps):
            await self.trail.note(subject, Phase.ABOUT_TO, step.describe(), step=number)
            trouble = await _attempt(writer, step)
            if trouble is not None:
                await self.trail.note(subject, Phase.FAILED, trouble, step=number)
                await self._finish(request, stopped(plan, number, trouble))
                return
            await self.trail.note(subject, Phase.DID, step.describe(), step=number)
        await self.trail.note(subject, Phase.DONE)
        await self._finish(request, plan.result or answer(f"Done: {plan.summary}."))

    async def _finish(self, request: Request, said: Answer | None) -> None:
        try:
            if said is not None:
                await self.replies.send(request, said, "outcome")
        except (TransientError, StartOverError):
            # It stays as being carried out, and is reported as soon as that can be said.
            raise
        except StewardError:
            # Done is done, even if it can never be said.
            await self.store.end(request.event)
            raise
        await self.store.end(request.event)

    async def _end(
        self, request: Request, phase: Phase, asked: Asked, said: Answer | None, detail: str = ""
    ) -> None:
        await self.trail.note(_subject(request, asked.summary), phase, detail)
        await self._finish(request, said)

    async def _close(
        self, request: Request, phase: Phase, command: str, said: Answer | None, detail: str = ""
    ) -> None:
        await self.trail.note(_subject(request, command), phase, detail)
        if said is not None:
            await self.replies.send(request, said, "answer")
        # With a plan that was never asked about, if there is one.
        await self.store.end(request.event)


async def _attempt(writer: AdminWriter, step: ChangeRequest[object]) -> str | None:
    try:
        await writer.change(step)
    except TransientError:
        return "the homeserver does not answer; it may or may not have happened"
    except StartOverError:
        raise
    except StewardError as error:
        return str(error)
    return None


def _subject(request: Request, command: str) -> Subject:
    return Subject(request.event, request.room, request.sender, command)
