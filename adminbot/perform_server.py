"""Steps on the whole server: memberships, notices, and the bots' own being in rooms."""

from collections.abc import Mapping

from adminbot.engine.room_step import Dismiss
from adminbot.engine.server_steps import (
    BotsLeave,
    EditNotice,
    EnsureJoined,
    MendRoom,
    RecallNotice,
    SendNotice,
)
from adminbot.execution import Perform
from adminbot.server_acts import ServerActs
from common.errors import UserError
from common.ids import UserId
from common.membership.keeper import Keeper


def server_performers(acts: ServerActs, keeper: Keeper) -> Mapping[type, Perform]:
    """Return who carries out which kind of step."""
    return {**_acts(acts), **_rooms(keeper)}


def dismissing(keeper: Keeper, me: UserId) -> Mapping[type, Perform]:
    """Return who has adminbot leave a room."""

    async def dismiss(step: Dismiss, _key: str) -> None:
        _raise(await keeper.dismiss(step.room, me, step.asked_by))

    return {Dismiss: dismiss}


def _acts(acts: ServerActs) -> Mapping[type, Perform]:
    async def ensure_joined(step: EnsureJoined, _key: str) -> None:
        await acts.ensure_joined(step.user, step.room)

    async def send_notice(step: SendNotice, _key: str) -> None:
        await acts.send_notice(step.notice, step.user)

    async def edit_notice(step: EditNotice, _key: str) -> None:
        await acts.edit_notice(step.notice, step.user, step.revision)

    async def recall_notice(step: RecallNotice, _key: str) -> None:
        await acts.recall_notice(step.notice, step.user)

    return {
        EnsureJoined: ensure_joined,
        SendNotice: send_notice,
        EditNotice: edit_notice,
        RecallNotice: recall_notice,
    }


def _rooms(keeper: Keeper) -> Mapping[type, Perform]:
    async def mend_room(step: MendRoom, _key: str) -> None:
        if step.rejoin:
            await keeper.come_back()
        if step.readmit:
            await keeper.readmit(step.room)
        _raise(await keeper.mend(step.room))

    async def bots_leave(step: BotsLeave, _key: str) -> None:
        _raise(await keeper.leave(step.room))

    return {MendRoom: mend_room, BotsLeave: bots_leave}


def _raise(problem: str | None) -> None:
    if problem is not None:
        raise UserError(problem)
