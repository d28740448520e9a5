"""A Hookshot that keeps to what the real one does with state and commands.

Source: matrix-hookshot 7.4.3, ``src/ConnectionManager.ts`` (who may not manage connections has
their change put back), ``src/Connections/SetupConnection.ts`` (commands and their answers).
"""

from collections.abc import Mapping
from typing import Any

from adminbot.bridges.hookshot import FEED, GITHUB, WEBHOOK
from common.ids import RoomId, UserId
from tests.support.clients import RawClient
from tests.support.scripted_bot import ScriptedBot, Talk

TYPES = {FEED, GITHUB, WEBHOOK}


class Hookshot:
    """``managers`` are those whom its permissions grant manageConnections."""

    def __init__(self, me: RawClient) -> None:
        self.managers: set[UserId] = set()
        self.logged_in: set[UserId] = set()
        self.secrets: dict[UserId, str] = {}
        self.bot = ScriptedBot(
            me,
            {"!hookshot github repo": self._github, "!hookshot webhook": self._webhook},
            on_state=self._changed,
        )

    async def _changed(self, bot: ScriptedBot, room: RoomId, event: Mapping[str, Any]) -> None:
        if event["type"] not in TYPES or event["sender"] in self.managers:
            return
        before = event.get("unsigned", {}).get("prev_content", {})
        await bot.me.send_state(room, event["type"], before, state_key=event["state_key"])

    async def _github(self, talk: Talk) -> None:
        if talk.sender not in self.logged_in:
            await talk.react("⛔")
            await talk.say(
                "Failed to handle command: You are not logged into GitHub. Start a DM with this "
                "bot and use the command `github login`."
            )
            return
        org, repo = talk.words.rsplit("/", 2)[-2:]
        await self.bot.me.send_state(
            talk.room, GITHUB, {"org": org, "repo": repo}, state_key=f"{org}/{repo}"
        )
        await talk.say(f"Room configured to bridge {org}/{repo}")

    async def _webhook(self, talk: Talk) -> None:
        name = talk.words.split()[-1]
        self.secrets[talk.sender] = name
        await self.bot.me.send_state(talk.room, WEBHOOK, {"name": name}, state_key=name)
        await talk.say("Room configured to bridge webhooks. See admin room for secret url.")
