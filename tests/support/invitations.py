"""Waiting for an invitation."""

import asyncio

from common.ids import RoomId, UserId
from tests.support.clients import RawClient

_DEADLINE_SECONDS = 60


async def invited_by(person: RawClient, sender: UserId, since: str) -> RoomId:
    """Return the room that somebody invites to after a moment.

    Each answer is asked for once: the homeserver repeats what it said to the same question.
    """
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while True:
            answer = await person.sync(since=since, timeout_ms=2000)
            since = answer["next_batch"]
            for room, invited in answer.get("rooms", {}).get("invite", {}).items():
                if any(event["sender"] == sender for event in invited["invite_state"]["events"]):
                    return RoomId(room)
