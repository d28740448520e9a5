"""Which rooms the bots are to be in."""

from collections.abc import Collection
from dataclasses import dataclass

from common.config.schema import Rooms
from common.database.pool import Database
from common.homeserver.client import AdminClient
from common.homeserver.errors import RefusedError, StrangeAnswerError
from common.homeserver.synapse.rooms import GetRoomState, StateEvent
from common.ids import RoomId, UserId, server_of

_IN = ("join", "invite", "knock")
_OF_TWO = 2
_MAKING_MS = 3000


@dataclass(frozen=True)
class BridgeChats:
    """What has to be known to tell chats with bridges' bots: those bots, our own, the moment."""

    bots: Collection[UserId]
    own: Collection[UserId]
    now_ms: int

    @classmethod
    async def known(
        cls, database: Database, own: Collection[UserId], now_ms: int
    ) -> "BridgeChats":
        """Return it with the bridges that adminbot knows of."""
        rows = await database.fetch("SELECT bot FROM bridge")
        return cls([UserId(row["bot"]) for row in rows], own, now_ms)


@dataclass(frozen=True)
class Verdict:
    """Whether the bots are to be in a room, and why not.

    ``None``: that cannot be said yet; without a reason, the room is only just being made.
    """

    wanted: bool | None
    reason: str = ""


async def judge(
    admin: AdminClient,
    room: RoomId,
    settings: Rooms,
    server_name: str,
    bridges: "BridgeChats",
) -> Verdict:
    """Say whether the settings want the bots in a room; everything, unless told otherwise.

    Never in somebody's own chat with a bridge's bot: codes to log in are shown there, and
    several bridges take a chat for theirs only as long as two are in it.
    """
    if settings.direct_chats and settings.federated and not bridges.bots:
        return Verdict(wanted=True)
    try:
        state = await admin.read(GetRoomState(room=room))
    except (RefusedError, StrangeAnswerError) as error:
        return Verdict(None, f"Its state cannot be read: {error}")
    if is_bridge_chat(state, bridges.bots, bridges.own):
        return Verdict(wanted=False, reason="It is somebody's chat with a bridge's bot.")
    if bridges.bots and _is_being_made(state, bridges.now_ms):
        return Verdict(None)
    reason = ""
    if not settings.federated and not _is_local(state, server_name):
        reason = "It is another server's (rooms.federated is off)."
    elif not settings.direct_chats and _is_direct(state) and not _is_with_us(state, bridges.own):
        reason = "It is a direct chat (rooms.direct_chats is off)."
    return Verdict(not reason, reason)


def _is_being_made(state: tuple[StateEvent, ...], now_ms: int) -> bool:
    """Say whether invitations may still follow: a new room whose maker is alone in it.

    Where the module has invited the bots already the maker is not alone.
    """
    members = {
        event.state_key
        for event in state
        if event.type == "m.room.member" and event.content.get("membership") in _IN
    }
    made_ms = max((e.origin_server_ts for e in state if e.type == "m.room.create"), default=0)
    return len(members) <= 1 and now_ms - made_ms < _MAKING_MS


def is_bridge_chat(
    state: tuple[StateEvent, ...], bridge_bots: Collection[UserId], own: Collection[UserId]
) -> bool:
    """Say whether a room is a bridge's bot with at most one other account, ours not counted.

    Or one of ours alone: it is about to invite the bot.
    """
    people = {
        event.state_key
        for event in state
        if event.type == "m.room.member" and event.content.get("membership") in _IN
    } - set(own)
    if not bridge_bots or len(people) > _OF_TWO:
        return False
    return not people or any(bot in people for bot in bridge_bots)


def _is_local(state: tuple[StateEvent, ...], server_name: str) -> bool:
    return any(
        event.type == "m.room.create" and server_of(event.sender) == server_name for event in state
    )


def _is_with_us(state: tuple[StateEvent, ...], own: Collection[UserId]) -> bool:
    """Say whether a room is somebody's own chat with our bots, where commands are given."""
    inside = {
        event.state_key
        for event in state
        if event.type == "m.room.member" and event.content.get("membership") in _IN
    }
    return bool(inside & set(own)) and len(inside - set(own)) <= 1


def _is_direct(state: tuple[StateEvent, ...]) -> bool:
    """Say whether a room was made as a direct chat: an invitation into it says so."""
    return any(
        event.type == "m.room.member" and event.content.get("is_direct") is True for event in state
    )
