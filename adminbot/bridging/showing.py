"""Showing a log-in code to one person: in our own chat with them, taken back when it is over."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from adminbot.bridging.provisioning import Code
from adminbot.engine.answer import File, Mono, answer, say
from adminbot.telling import Sent, Telling
from common.clock import Clock
from common.database.pool import Database
from common.errors import StewardError
from common.i18n import t
from common.ids import RoomId, UserId
from common.telemetry.log import Log

KEPT_MS = 600_000

log = Log("adminbot.bridges")


@dataclass
class CodeShower:
    """Shows codes to one person, one after the other."""

    telling: Telling
    database: Database
    clock: Clock
    person: UserId
    key: str
    shown: int = field(default=0)

    async def show(self, code: Code) -> Callable[[], Awaitable[None]]:
        """Show a code; what is returned takes it back."""
        self.shown += 1
        key = f"{self.key}-code{self.shown}"
        # Asked anew for each code: whoever else has come into the chat must not see it.
        room = await self.telling.direct_chat(self.person)
        if code.picture is not None:
            sent = await self._picture(room, code.picture, key)
        else:
            said = answer(code.words or t("Confirm on the telephone."))
            if code.text is not None:
                said = said.followed_by(say(Mono(code.text)))
            sent = Sent(await self.telling.to_room(room, said, key=key, also=(self.person,)))
        # By the clock too, should this process end before.
        await self.telling.take_back_later(room, (sent,), KEPT_MS)

        async def take_back() -> None:
            try:
                await self.telling.redact(room, sent.event, key=f"{key}-over")
                if sent.media is not None:
                    await self.telling.delete_file(sent.media)
            except StewardError as error:
                log.warning("a code could not be taken back yet", room=room, reason=error)

        return take_back

    async def _picture(self, room: RoomId, picture: bytes, key: str) -> Sent:
        file = File("code.png", "image/png", picture)
        return await self.telling.file(room, file, key, None, (self.person,))
