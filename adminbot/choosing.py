"""Asking for a missing argument: what it may be is found out as the command itself would.

Nothing is offered that who asks could not see by a command of their own, and nothing but words
that stand in the usage line where others read along.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adminbot.choices import Choices
from adminbot.commands.offered import Looking, offer_for
from adminbot.engine.actor import Actor, Caller, Place, Role, Standing, Target
from adminbot.engine.answer import Answer, Mono, Pill, answer
from adminbot.engine.authorize import Refusal, authorize, standing
from adminbot.engine.bind import UsageError
from adminbot.engine.catalogue import UnknownCommandError
from adminbot.engine.choice import (
    MOST_CHOICES,
    Choice,
    asking,
    completed,
    holds_a_secret,
    implied,
    number_in,
    unknown_number,
)
from adminbot.engine.command import Parameter
from adminbot.engine.intake import Request, Source
from adminbot.engine.line import LineError
from adminbot.engine.text import cut
from adminbot.engine.waiting import Job
from adminbot.own_records import OwnRecords
from adminbot.preparing import Preparing
from common.errors import UserError
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.users import ListUserRooms
from common.ids import RoomId, UserId

MOST_ROOMS = 60
"""Who is in more rooms than that is not asked which of them; that would take too long."""
_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Choosing:
    """What asking needs."""

    preparing: Preparing
    records: OwnRecords
    choices: Choices

    async def about(self, job: Job, error: LineError) -> Answer | None:
        """Return a question for what is missing on a line, or what to say of a wrong number.

        ``None``: neither; it is explained what is wrong.
        """
        request = job.request
        if isinstance(error, UnknownCommandError):
            return await self._about_number(request)
        if not isinstance(error, UsageError) or error.missing is None:
            return None
        if request.captions or request.source is Source.SCHEDULE or holds_a_secret(error):
            return None
        place = await self.preparing.facts.place(request.room, request.sender)
        found = await self._choices(job, error, error.missing, place)
        lines = [completed(request.text, request.formatted, error.missing, o.word) for o in found]
        if not 1 <= len(found) <= MOST_CHOICES or None in lines:
            return None
        await self.choices.offer(request, [line for line in lines if line is not None])
        return asking(error, found)

    async def _about_number(self, request: Request) -> Answer | None:
        number = number_in(request.text)
        waiting = await self.choices.waiting(request.room, request.sender)
        if number is None or waiting is None:
            return None
        if not waiting.over and waiting.chosen(number) is not None:
            return None  # it was sent before the question
        return answer(unknown_number(number, waiting))

    async def _choices(
        self, job: Job, error: UsageError, missing: Parameter, place: Place
    ) -> Sequence[Choice]:
        if missing.kind.choices:
            return implied(missing)
        if not place.private:
            return ()
        actor = await self.preparing.facts.actor(job.request.sender)
        if missing.room:
            needed = (
                Standing.MODERATOR if error.command.who is Role.ROOM_MODERATOR else Standing.ADMIN
            )
            return await self._rooms(job.request.sender, needed)
        try:
            return await self._offered(job, error, missing, actor, place)
        except UserError:
            return ()  # what cannot be asked for here is not offered

    async def _offered(
        self, job: Job, error: UsageError, missing: Parameter, actor: Actor, place: Place
    ) -> Sequence[Choice]:
        offer = offer_for(error.command, missing)
        if offer is None:
            return ()
        request, about = job.request, error.command.about_a_room
        given = None if about is None else error.found.get(about.name)
        room = RoomId(given) if isinstance(given, str) else place.current
        facts = self.preparing.facts
        target = None if room is None else await facts.target(room, actor.user)
        grant = authorize(error.command, actor, place, target, job.trust)
        if isinstance(grant, Refusal):
            return ()
        looking = Looking(
            self.preparing.admin.on_behalf_of(grant),
            self.records.on_behalf_of(grant),
            Caller(actor, place, target, job.trust, request.asked_at, request.event),
            room,
        )
        return await offer(looking)

    async def _rooms(self, user: UserId, needed: Standing) -> Sequence[Choice]:
        """Return the rooms in which somebody has a say."""
        facts = self.preparing.facts
        rooms = await facts.admin.read(ListUserRooms(user))
        if len(rooms) > MOST_ROOMS:
            return ()
        found: list[Choice] = []
        for room in rooms:
            if standing(Target(room, await facts.power(room, user))) < needed:
                continue
            if await facts.direct_with(room) == user:
                continue  # our own chat
            name = (await facts.admin.read(GetRoom(room))).name
            shown = Mono(cut(name, _LONGEST_SHOWN)) if name else Pill(room)
            found.append(Choice(room, shown, Pill(room) if name else ""))
        return found
