"""What a missing argument may be: the few things of a kind that there are at this moment."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from adminbot.commands.reports import with_handling
from adminbot.commands.token_list import SHORTEST_BEGINNING, state_of
from adminbot.engine.actor import Caller
from adminbot.engine.answer import Mono, Pill
from adminbot.engine.choice import Choice
from adminbot.engine.command import Command, Parameter
from adminbot.engine.people import ms_of
from adminbot.engine.report import KINDS
from adminbot.engine.step import OwnReader
from adminbot.own.approvals import WaitingApprovals
from adminbot.own.bridges import ListBridges
from adminbot.own.jobs import ListJobs
from adminbot.own.notices import Notices
from adminbot.own.schedules import Schedules
from common.homeserver.port import AdminReader
from common.homeserver.synapse.registration_tokens import ListRegistrationTokens, masked
from common.homeserver.synapse.rooms import GetRoomState
from common.ids import RoomId


@dataclass(frozen=True)
class Looking:
    """What an offer may look at: no more than the command itself."""

    admin: AdminReader
    own: OwnReader
    caller: Caller
    room: RoomId | None
    """The room that the command is about, if it is about one."""


Offer = Callable[[Looking], Awaitable[Sequence[Choice]]]


def offer_for(command: Command, parameter: Parameter) -> Offer | None:
    """Return how to find what an argument may be, ``None`` if that is not known."""
    return _OFFERS.get((command.name, parameter.name)) or _OFFERS.get(
        (f"{command.words[0]} *", parameter.name)
    )


async def _bridges(looking: Looking) -> Sequence[Choice]:
    return [Choice(row.name, Mono(row.name)) for row in await looking.own.read(ListBridges())]


async def _tokens(looking: Looking) -> Sequence[Choice]:
    tokens = await looking.admin.read(ListRegistrationTokens())
    names = [one.token for one in tokens]
    now_ms = ms_of(looking.caller.now)
    beginnings = [beginning(one, names) for one in names]
    return [
        Choice(first, Mono(masked(one.token)), Mono(state_of(one, now_ms)))
        for one, first in zip(tokens, beginnings, strict=True)
        if first is not None
    ]


def beginning(token: str, among: Sequence[str]) -> str | None:
    """Return what tells a token from others and is too little to use it, if there is that."""
    for length in range(SHORTEST_BEGINNING, len(token) // 2 + 1):
        if sum(one.startswith(token[:length]) for one in among) == 1:
            return token[:length]
    return None


async def _approvals(looking: Looking) -> Sequence[Choice]:
    waiting = await looking.own.read(WaitingApprovals(ms_of(looking.caller.now)))
    return [Choice(one.code, Mono(one.summary), Pill(one.requester)) for one in waiting]


async def _schedules(looking: Looking) -> Sequence[Choice]:
    return [
        Choice(str(one.number), Mono(one.text), Pill(one.owner))
        for one in await looking.own.read(Schedules())
    ]


async def _jobs(looking: Looking) -> Sequence[Choice]:
    caller = looking.caller
    whose = None if caller.acts_as_server_admin else caller.actor.user
    return [
        Choice(str(job.number), Mono(job.summary), Pill(job.requester))
        for job in await looking.own.read(ListJobs(whose))
        if job.status == "running"
    ]


async def _notices(looking: Looking) -> Sequence[Choice]:
    found = await looking.own.read(Notices(limit=10))
    return [Choice(str(one.number), Mono(one.text)) for one in found]


async def _reports(looking: Looking) -> Sequence[Choice]:
    return [
        Choice(report.ref.name, Mono(report.ref.name), Pill(report.reporter))
        async for report, handling in with_handling(looking.admin, looking.own, KINDS)
        if handling.closed_by is None
    ]


async def _knocks(looking: Looking) -> Sequence[Choice]:
    if looking.room is None:
        return []
    members = await looking.admin.read(GetRoomState(looking.room, "m.room.member"))
    return [
        Choice(one.state_key, Pill(one.state_key))
        for one in members
        if one.content.get("membership") == "knock"
    ]


_OFFERS: Mapping[tuple[str, str], Offer] = {
    ("bridge *", "name"): _bridges,
    ("token *", "token"): _tokens,
    ("approve", "code"): _approvals,
    ("deny", "code"): _approvals,
    ("schedule remove", "number"): _schedules,
    ("cancel", "number"): _jobs,
    ("notice edit", "number"): _notices,
    ("notice recall", "number"): _notices,
    ("reports *", "report"): _reports,
    ("knocks accept", "who"): _knocks,
    ("knocks deny", "who"): _knocks,
}
