"""From a line to a command that may be run: facts are asked of the homeserver at that moment."""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Protocol

from adminbot.engine.actor import Actor, Caller, Place, Role, Target
from adminbot.engine.authorize import Refusal, authorize, may_list, unheard
from adminbot.engine.bind import Bound, HelpAsked, bind, without_secrets
from adminbot.engine.catalogue import Catalogue
from adminbot.engine.command import Command
from adminbot.engine.intake import Request
from adminbot.engine.line import LineError, parse_line
from adminbot.engine.prepared import Mistyped, Ready, Refused
from adminbot.engine.supply import Available
from adminbot.engine.values import Setting
from adminbot.engine.waiting import Job
from adminbot.facts import Facts
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, AdminWriter, Grant
from common.homeserver.synapse.rooms import ResolveAlias
from common.i18n import t
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
class Preparing:
    """What reading a line needs."""

    catalogue: Catalogue
    facts: Facts
    admin: AdminDoor
    server_name: str
    zone: tzinfo

    async def prepare(self, job: Job) -> Ready | Refused | HelpAsked | Mistyped:
        """Read a line as a command, and find out whether it may be given there by them."""
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
        bound = bind(command, rest, self._setting(place, job.request))
        if isinstance(bound, HelpAsked):
            return bound
        bound = await self._find_rooms(bound)
        target = await self._target(bound, actor, place)
        decision = authorize(command, actor, place, target, job.trust)
        if isinstance(decision, Refusal):
            return Refused(without_secrets(bound), decision)
        caller = Caller(
            actor,
            place,
            target,
            job.trust,
            job.request.asked_at,
            job.request.event,
            job.request.formatted,
        )
        return Ready(bound, caller, decision, self._available(caller))

    def _setting(self, place: Place, request: Request) -> Setting:
        return Setting(self.server_name, request.asked_at, place.current, self.zone)

    async def _find_rooms(self, bound: Bound) -> Bound:
        found: dict[str, RoomId] = {}
        for name, address in bound.addresses.items():
            try:
                found[name] = await self.admin.read(ResolveAlias(address.alias))
            except NotFoundError:
                raise UserError(
                    t("There is no room with the address {address}.", address=address.alias)
                ) from None
        return bound.with_rooms(found)

    async def _target(self, bound: Bound, actor: Actor, place: Place) -> Target | None:
        room = bound.room or place.current
        return None if room is None else await self.facts.target(room, actor.user)

    def _available(self, caller: Caller) -> Available:
        def listed(command: Command) -> bool:
            return may_list(command, caller.actor, caller.place, caller.target, caller.trust)

        return Available(here=self.catalogue.only(listed), all=self.catalogue)
