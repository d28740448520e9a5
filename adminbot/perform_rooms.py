"""Steps about rooms that look before they change; see ``adminbot.engine.room_step``."""

from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.engine.room_step import AdjustPower, EndBan, InviteFrom, MoveIn, SetPicture
from adminbot.execution import Perform
from common.errors import StewardError, TransientError, UserError
from common.homeserver.client_server.membership import InviteUser, UnbanUser
from common.homeserver.client_server.settings import SetRoomAvatar
from common.homeserver.client_server.state import SetPowerLevels, SetState
from common.homeserver.errors import NotAllowedError, NotFoundError, RefusedError
from common.homeserver.port import AdminReader, AdminWriter
from common.homeserver.synapse.rooms import (
    GetRoomState,
    GetStateEvent,
    ListRoomMembers,
    StateEvent,
)
from common.homeserver.synapse.users import JoinUser
from common.i18n import n, t
from common.ids import RoomId, UserId, server_of
from common.matrix.power import RoomPowers, level_in

_LEVELS = "m.room.power_levels"
_HERE = {"join", "invite", "ban"}
_CLOCKS_DIFFER_MS = 60_000


class Admin(AdminReader, AdminWriter, Protocol):
    """Both halves of the administration API."""


class Uploads(Protocol):
    """What is needed of ``common.matrix.media.Media``."""

    async def upload(
        self,
        data: AsyncIterable[bytes],
        *,
        size: int,
        content_type: str = "application/octet-stream",
        filename: str = "",
    ) -> str:
        """Return the content URI."""
        ...


@dataclass(frozen=True)
class RoomPerformers:
    """Who carries out these steps; ``bots`` are never invited, the keeper sees to them."""

    admin: Admin
    media: Uploads
    bots: frozenset[UserId]
    server_name: str

    def by_kind(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {
            AdjustPower: self.adjust_power,
            EndBan: self.end_ban,
            InviteFrom: self.invite_from,
            MoveIn: self.move_in,
            SetPicture: self.set_picture,
        }

    async def adjust_power(self, step: AdjustPower, key: str) -> None:
        """Change some numbers, leave the others as they are now."""
        del key
        found = await _state(self.admin, step.room, _LEVELS)
        content = {} if found is None else found.content
        wanted = step.applied_to(content)
        if wanted != content and _as_expected(step, content):
            await self._must_still_have(step, content)
            await self.admin.change(SetPowerLevels(step.room, wanted))

    async def _must_still_have(self, step: AdjustPower, content: Mapping[str, Any]) -> None:
        highest = max((level for level in step.users.values() if level is not None), default=None)
        if step.lender is None or highest is None:
            return
        create = await _state(self.admin, step.room, "m.room.create")
        power = None if create is None else RoomPowers(content, create.sender, create.content)
        members = await self.admin.read(ListRoomMembers(step.room))
        theirs = None if power is None else power.of(step.lender)
        if (
            theirs is None
            or step.lender not in members
            or not (theirs.creator or theirs.level >= highest)
        ):
            raise UserError(
                t(
                    "{user} has no power level {level} in {room} any more, to give it to anybody.",
                    user=step.lender,
                    level=highest,
                    room=step.room,
                )
            )

    async def end_ban(self, step: EndBan, key: str) -> None:
        """Lift a ban if it is still ours."""
        del key
        try:
            now = await self.admin.read(GetStateEvent(step.room, "m.room.member", step.user))
        except NotFoundError:
            return
        if now.content.get("membership") == "ban" and now.sender in self.bots:
            await self.admin.change(UnbanUser(step.room, step.user))

    async def invite_from(self, step: InviteFrom, key: str) -> None:
        """Invite who is in another room."""
        del key
        members = await self.admin.read(ListRoomMembers(step.source))
        if step.requester is not None and not await self._moderates(
            step.requester, step.source, members
        ):
            raise UserError(t("You are no moderator of {room} yourself.", room=step.source))
        await self._bring(step.room, members)

    async def _moderates(self, user: UserId, room: RoomId, members: Collection[UserId]) -> bool:
        create = await _state(self.admin, room, "m.room.create")
        if create is None or user not in members:
            return False
        levels = await _state(self.admin, room, _LEVELS)
        held = None if levels is None else levels.content
        return RoomPowers(held, create.sender, create.content).of(user).moderates

    async def move_in(self, step: MoveIn, key: str) -> None:
        """Carry over what the homeserver left behind when it upgraded a room."""
        del key
        new = await _replacement(self.admin, step.room)
        await self._must_be_made_by_us(step, new)
        for type_ in step.state:
            await _copy(self.admin, step.room, new, type_)
        if not step.members:
            return
        members = await self.admin.read(ListRoomMembers(step.room))
        if step.join:
            for one in members:
                if one not in self.bots and server_of(one) == self.server_name:
                    await _join(self.admin, new, one)
        await self._bring(new, members)

    async def _must_be_made_by_us(self, step: MoveIn, new: RoomId) -> None:
        """Refuse a room that the tombstone names and this upgrade has not made."""
        create = await _state(self.admin, new, "m.room.create")
        before = None if create is None else create.content.get("predecessor")
        if (
            create is None
            or create.sender not in self.bots
            or create.origin_server_ts < step.since_ms - _CLOCKS_DIFFER_MS
            or not isinstance(before, Mapping)
            or before.get("room_id") != step.room
        ):
            raise StewardError(
                t(
                    "{room} leads to another room than the one that was made for it.",
                    room=step.room,
                )
            )

    async def set_picture(self, step: SetPicture, key: str) -> None:
        """Upload a picture and show it."""
        del key

        async def data() -> AsyncIterator[bytes]:
            yield step.data

        url = await self.media.upload(data(), size=len(step.data), content_type=step.content_type)
        await self.admin.change(SetRoomAvatar(step.room, url))

    async def _bring(self, room: RoomId, people: Iterable[UserId]) -> None:
        """Invite who is not there; those who may not be are left, and how many is said."""
        there = {
            UserId(event.state_key)
            for event in await self.admin.read(GetRoomState(room, "m.room.member"))
            if event.content.get("membership") in _HERE
        }
        refused = 0
        for one in people:
            if one in there or one in self.bots:
                continue
            try:
                await self.admin.change(InviteUser(room, one))
            except RefusedError:
                refused += 1
        if refused:
            raise StewardError(
                n(
                    "{count} person could not be invited.",
                    "{count} people could not be invited.",
                    refused,
                )
            )


async def _state(admin: Admin, room: RoomId, type_: str) -> StateEvent | None:
    events = await admin.read(GetRoomState(room, type_))
    return next((event for event in events if not event.state_key), None)


def _as_expected(step: AdjustPower, content: Mapping[str, Any]) -> bool:
    users = content.get("users")
    held = users if isinstance(users, Mapping) else {}
    return all(level_in(held, user) == level for user, level in step.only_if.items()) and all(
        level_in(content, name) == level for name, level in step.only_if_levels.items()
    )


async def _join(admin: Admin, room: RoomId, user: UserId) -> None:
    try:
        await admin.change(JoinUser(user, room))
    except NotAllowedError:
        return  # in there already, or banned


async def _replacement(admin: Admin, room: RoomId) -> RoomId:
    tombstone = await _state(admin, room, "m.room.tombstone")
    new = None if tombstone is None else tombstone.content.get("replacement_room")
    if not isinstance(new, str) or not new:
        # Synapse writes it last: it may be a moment away.
        raise TransientError("The old room does not name its new one yet.")
    return RoomId(new)


async def _copy(admin: Admin, old: RoomId, new: RoomId, type_: str) -> None:
    try:
        there = {event.state_key for event in await admin.read(GetRoomState(new, type_))}
        for event in await admin.read(GetRoomState(old, type_)):
            if event.state_key in there or not event.content:
                continue
            sentence = t("Carry {type} over", type=type_)
            await admin.change(
                SetState(
                    room=new,
                    type=type_,
                    content=event.content,
                    state_key=event.state_key,
                    sentence=sentence,
                )
            )
    except NotFoundError as error:
        raise TransientError("The new room is not there yet.") from error
