"""Guides whose dialogues are real: typed again to a running Steward, word for word.

In a fenced block whose first line begins with “> ”, each such line is typed and what follows is
the answer. “> ✅” reacts to the last answer; “> NAME: words” has somebody else say something;
“> (to NAME: words) command” is a reply to what they said; “> (in private) command” goes into a
direct chat.

``python -m tests.support.guide room`` (or ``admin``) writes the answers of today into the guide.
"""

import asyncio
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.demo.clients import NioClient, Seen
from common.ids import RoomId, UserId
from tests.support.clients import RawClient, wait_for
from tests.support.people import Commander
from tests.support.world import Wish, World, prepare_world

_DOCS = Path(__file__).parents[2] / "docs"
GUIDE = _DOCS / "room-admin-guide.md"
ADMIN_GUIDE = _DOCS / "admin-guide.md"
_FENCE = re.compile(r"^```text\n(> .*?)^```$", re.MULTILINE | re.DOTALL)
_SAYS = re.compile(r"(?P<who>[a-z]+): (?P<words>.+)")
_REPLY = re.compile(r"\(to (?P<who>[a-z]+): (?P<words>[^)]+)\) (?P<line>.+)")
_PRIVATE = re.compile(r"\(in private\) (?P<line>.+)")
_ROOM_ID = re.compile(r"![A-Za-z0-9_-]{43}")
_EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]{43}")
_CODE = re.compile(r"(confirm )[A-Z2-7]{4}(”)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
_BUILD = re.compile(r" \(b=[^)]*\)")
"""Synapse adds the branch of whatever checkout it runs in."""
_PASSING = (
    # What is another one each time, though the guide shows it as it was.
    (re.compile(r"\b[A-Z]{10}\b"), "SESSIONIDS"),
    (re.compile(r"![A-Za-z0-9_-]+…"), "!other…"),
    (re.compile(r"(?<=^Token: )\S+…"), "abc…"),
    (re.compile(r"^\S{3}…(?= valid)"), "abc…"),
    (re.compile(r"\b(?:just now|never|in [0-9]+ [a-z]+|[0-9]+ [a-z]+ ago)\b"), "then"),
    (re.compile(r"2026-12-01 09:00 UTC \(then\)"), "then"),
    (re.compile(r"--at \"[^\"]*$|--at \"\S+ \S+…"), "--at …"),
    (re.compile(r"[0-9.]+ (?:[KM]i)?B\b"), "1 B"),
    (re.compile(r"(?<=^Month: ).*"), "2026-12"),
    (re.compile(r"(?<=^Seen at all: )[0-9]+"), "1"),
    (re.compile(r"(?<=^Seen within 30 days: )[0-9]+"), "1"),
    # adminbot makes itself a chat with the admin if it has to tell them something before they do.
    (re.compile(r"(?<=^Rooms: )[0-9]+|(?<=^Rooms of this server's people: )[0-9]+"), "5"),
    (re.compile(r"\b[0-9]+(?= 0 1$)"), "5"),
)
_HANGS_ON_THE_MOMENT = re.compile(
    # What the homeserver is busy with, and whether who plays came before Steward's first look.
    r"(?:update_join_states|delete_old_otks) |[0-9]+ tasks?\.$"
    r"|– [0-9] [0-9] (?:yes|no) 12 |[0-9]+ rooms in all\.$"
    r"|@(?:amelia|root):\S+ then \(no token\)|Page 1 of 1\. [0-9] accounts? in all\.$"
)
_WIDGET = re.compile(r"(?<![\w@:-])[A-Za-z0-9_-]{24}(?![\w:.-])")


@dataclass
class Stage:
    """Everybody who appears in a guide."""

    world: World
    room: RoomId
    maker: Commander
    others: dict[str, RawClient] = field(default_factory=dict)
    last: Seen | None = None
    chat: RoomId | None = None

    async def play(self, line: str) -> str | None:
        """Type one line; return the answer, made the same each time."""
        if found := _SAYS.fullmatch(line):
            await self.others[found["who"]].send_text(self.room, found["words"])
            return None
        if line == "✅":
            assert self.last is not None
            return self._shown(await self.maker.confirm(self.last))
        if found := _PRIVATE.fullmatch(line):
            chat = await self._private()
            return self._shown(await self.maker.ask(chat, self._real(found["line"])))
        extra = None
        if found := _REPLY.fullmatch(line):
            event = await self.others[found["who"]].send_text(self.room, found["words"])
            extra = {"m.relates_to": {"m.in_reply_to": {"event_id": event}}}
            line = found["line"]
        if line.removeprefix("!").startswith("confirm "):
            assert self.last is not None
            return self._shown(await self.maker.confirm(self.last, self._real(line)))
        if line == "registrations list":
            return self._shown(await self._all_settled(line))
        return self._shown(await self.maker.ask(self.room, self._real(line), extra=extra))

    async def _all_settled(self, line: str) -> Seen:
        """Ask until it is known of everybody how they came, which takes some seconds."""
        answers: list[Seen] = []

        async def settled() -> bool:
            answers.append(await self.maker.ask(self.room, line))
            return not any(
                words in answers[-1].body for words in ("not known yet", "Nobody has made")
            )

        await wait_for(settled, 100, "Steward to know how everybody came")
        return answers[-1]

    async def _private(self) -> RoomId:
        if self.chat is None:
            self.chat = await self.maker.client.direct_chat(self.maker.adminbot)
            await self.maker.client.wait_for_members(self.chat, self.maker.adminbot)
        return self.chat

    def _real(self, line: str) -> str:
        return line.replace("!room", self.room)

    def _shown(self, seen: Seen) -> str:
        self.last = seen
        text = seen.body.replace(self.room, "!room")
        text = _ROOM_ID.sub("!other", _EVENT_ID.sub("$event", text))
        text = _MOMENT.sub("2026-12-01 09:00 UTC", _CODE.sub(r"\1ABCD\2", text))
        text = _BUILD.sub("", text)
        return _WIDGET.sub("wJ2kq0Zt7Lr5Yb1Xc8Vn3Md4", text)


async def replay(world: World, guide: str, *, by_admin: bool = False) -> str:
    """Return the guide with the answers that are given today."""
    cast = _AdminCast(world) if by_admin else _Cast(world)
    async with cast as stage:
        written = guide
        for block in list(_FENCE.finditer(guide)):
            lines: list[str] = []
            for typed in _typed(block[1]):
                lines.append(f"> {typed}")
                try:
                    said = await stage.play(typed)
                except TimeoutError as error:
                    raise TimeoutError(f"There was no answer to “{typed}”.") from error
                if said is not None:
                    lines += [*(one.rstrip() for one in said.splitlines()), ""]
            fresh = "\n".join(lines).rstrip()
            written = written.replace(block[0], f"```text\n{fresh}\n```", 1)
        return written


def changed(guide: str, today: str) -> list[str]:
    """Return the lines that are said no longer, and those that are said instead.

    In whatever order lists come, and without what is another one each time.
    """
    found: list[str] = []
    for old, new in zip(_FENCE.finditer(guide), _FENCE.finditer(today), strict=True):
        before, after = Counter(_settled(old[1])), Counter(_settled(new[1]))
        found += [f"- {line}" for line in (before - after).elements()]
        found += [f"+ {line}" for line in (after - before).elements()]
    return found


def _settled(block: str) -> Iterator[str]:
    for line in block.splitlines():
        said = " ".join(line.split())
        for pattern, plain in _PASSING:
            said = pattern.sub(plain, said)
        if said and not _HANGS_ON_THE_MOMENT.match(said):
            yield said


def _typed(block: str) -> Iterator[str]:
    for line in block.splitlines():
        if line.startswith("> "):
            yield line.removeprefix("> ")


@dataclass
class _Cast:
    world: World
    opened: list[RawClient | NioClient] = field(default_factory=list)

    async def __aenter__(self) -> Stage:
        world = self.world
        account = await world.synapse.register("amelia")
        client = NioClient(world.synapse.url, account, world.directory / "amelia")
        await client.open()
        self.opened.append(client)
        room = await client.create_room("Tea room", extra={"room_version": "11"})
        stage = Stage(world, room, Commander(client, world.steward.adminbot))
        for name in ("bruno", "clara", "dario"):
            one = await RawClient.register(world.synapse, name)
            self.opened.append(one)
            stage.others[name] = one
            if name != "dario":
                path = f"/_matrix/client/v3/rooms/{room}/invite"
                await client.request("POST", path, {"user_id": one.user_id})
                await one.join(room)
        bots = (world.steward.adminbot, world.steward.auditbot)
        await client.wait_for_members(room, *bots, UserId(stage.others["clara"].user_id))
        return stage

    async def __aexit__(self, *_: object) -> None:
        for one in self.opened:
            await one.close()


@dataclass
class _AdminCast(_Cast):
    """A server admin alone with adminbot, and a few rooms of the server."""

    async def __aenter__(self) -> Stage:
        world = self.world
        account = await world.synapse.register("root", admin=True)
        client = NioClient(world.synapse.url, account, world.directory / "root")
        await client.open()
        self.opened.append(client)
        bot = world.steward.adminbot
        one = await RawClient.register(world.synapse, "amelia")
        self.opened.append(one)
        hall = await one.create_room(name="Hall", extra={"room_alias_name": "hall"})
        attic = await one.create_room(name="Attic", extra={"room_alias_name": "attic"})
        company = await one.create_room(
            name="Company",
            extra={"room_alias_name": "company", "creation_content": {"type": "m.space"}},
        )
        for room in (hall, attic):
            via = {"via": ["steward.localhost"]}
            await one.send_state(company, "m.space.child", via, state_key=room)
        for room in (hall, attic, company):
            await one.wait_for_members(room, bot)
        chat = await client.direct_chat(bot, encrypted=True)
        await client.wait_for_members(chat, bot)
        return Stage(world, chat, Commander(client, bot))


async def _write(name: str) -> None:
    guide, by_admin = (ADMIN_GUIDE, True) if name == "admin" else (GUIDE, False)
    with tempfile.TemporaryDirectory() as directory:
        world = await prepare_world(Path(directory), Wish())
        async with world.synapse, world.steward:
            written = await replay(world, guide.read_text("utf-8"), by_admin=by_admin)
            guide.write_text(written, "utf-8")


if __name__ == "__main__":
    asyncio.run(_write(sys.argv[1]))
