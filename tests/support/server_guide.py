"""The guide to the commands about the server as a whole, its dialogues typed to a running Steward.

In a fenced block whose first line begins with “> ”, each such line is typed in a direct chat and
what follows is the answer; “> ✅” says yes to the question before it. ``python -m
tests.support.server_guide`` writes the answers of today into the guide.
"""

import asyncio
import re
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from common.ids import RoomId
from tests.support.clients import RawClient
from tests.support.talk import Talk, talk_in
from tests.support.world import Wish, World, prepare_world

GUIDE = Path(__file__).parents[2] / "docs" / "server-guide.md"
FENCE = re.compile(r"^```text\n(> .*?)^```$", re.MULTILINE | re.DOTALL)
_ROOM_ID = re.compile(r"![A-Za-z0-9_-]{43}")
_EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]{43}")
_CODE = re.compile(r"(confirm )[A-Z2-7]{4}(”)")
_ADMIN = re.compile(r"@root-[0-9a-f]{6}:")
_BUILD = re.compile(r" \(b=[^)]*\)")


def typed(block: str) -> list[str]:
    """Return what is typed in one block."""
    return [line[2:] for line in block.splitlines() if line.startswith("> ")]


@dataclass(frozen=True)
class Stage:
    """The admin at their chat, and the rooms that have a name in the guide."""

    talk: Talk
    rooms: dict[str, RoomId]

    async def play(self, block: str) -> str:
        """Return one block with the answers of today."""
        lines = typed(block)
        said: list[str] = []
        for number, line in enumerate(lines):
            if line == "✅" or line.startswith("confirm "):
                continue
            agreed = number + 1 < len(lines) and (
                lines[number + 1] == "✅" or lines[number + 1].startswith("confirm ")
            )
            real = self._real(line)
            said.append(f"> {line}")
            if agreed:
                question, outcome = await self.talk.both(real)
                said += [*self._shown(question), "", f"> {lines[number + 1]}"]
                said += [*self._shown(outcome), ""]
            else:
                said += [*self._shown(await self.talk.ask(real)), ""]
        return "\n".join(said).rstrip()

    def _real(self, line: str) -> str:
        for name, room in self.rooms.items():
            line = line.replace(name, room)
        return line

    def _shown(self, text: str) -> list[str]:
        for name, room in self.rooms.items():
            text = text.replace(room, name)
        for pattern, plain in (
            (_ROOM_ID, "!other"),
            (_EVENT_ID, "$event"),
            (_CODE, r"\1ABCD\2"),
            (_ADMIN, "@root:"),
            (_BUILD, ""),
        ):
            text = pattern.sub(plain, text)
        return [line.rstrip() for line in text.splitlines()]


async def replay(world: World, guide: str) -> str:
    """Return the guide with the answers that are given today."""
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(talk_in(world))
        amelia, bruno = [
            await stack.enter_async_context(await RawClient.register(world.synapse, name))
            for name in ("amelia", "bruno")
        ]
        space = {"creation_content": {"type": "m.space"}}
        rooms = {
            "!company": await amelia.create_room(name="Company", extra=space),
            "!lobby": await amelia.create_room(name="Lobby", extra={"room_version": "11"}),
            "!old": await amelia.create_room(name="Old project"),
        }
        for room in rooms.values():
            await amelia.wait_for_members(room, world.steward.adminbot, world.steward.auditbot)
        await amelia.send_state(
            rooms["!company"], "m.space.child", {"via": [world.synapse.server_name]},
            state_key=rooms["!lobby"],
        )  # fmt: skip
        await amelia.invite(rooms["!lobby"], bruno.user_id)
        await bruno.join(rooms["!lobby"])
        await amelia.send_text(rooms["!lobby"], "Good morning")
        stage, written = Stage(talk, rooms), guide
        for block in list(FENCE.finditer(guide)):
            fresh = await stage.play(block[1])
            written = written.replace(block[0], f"```text\n{fresh}\n```", 1)
        return written


async def _write() -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = await prepare_world(Path(directory), Wish())
        async with world.synapse, world.steward:
            GUIDE.write_text(await replay(world, GUIDE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    asyncio.run(_write())
