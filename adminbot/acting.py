"""Steps about single accounts, in their own name, and words to them from the server.

The token for acting in somebody's name lives as long as it takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.engine.answer import Code, Mono, answer, facts, moment_of, say, written
from adminbot.engine.render import notice
from adminbot.engine.room_step import StepDown
from adminbot.engine.step import HandOverToken, InformPerson, LeaveAs
from adminbot.execution import Perform
from adminbot.telling import Telling
from common.clock import Clock
from common.config.secret import Secret
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, AdminWriter
from common.homeserver.synapse.room_content import FetchEvent
from common.homeserver.synapse.rooms import GetRoomState
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_rights import LogInAs
from common.i18n import t
from common.ids import EventId, UserId
from common.matrix.client import CLIENT, MatrixError, segment
from common.telemetry.log import Log

LIFETIME_MS = 60_000
_BAD_REQUEST = 400
_LEVELS = "m.room.power_levels"

log = Log("adminbot.acting")


class Admin(AdminReader, AdminWriter, Protocol):
    """Both halves of the administration API."""


class AsAnybody(Protocol):
    """What is needed of ``common.matrix.client.MatrixClient``."""

    async def request_as(
        self, token: Secret | None, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send one request with another access token."""
        ...


@dataclass(frozen=True)
class Acting:
    """What carries these steps out."""

    telling: Telling
    admin: Admin
    client: AsAnybody
    clock: Clock

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {
            LeaveAs: self.leave_as,
            StepDown: self.step_down,
            HandOverToken: self.hand_over_token,
            InformPerson: self.inform,
        }

    async def leave_as(self, step: LeaveAs, key: str) -> None:
        """Leave a room in somebody's name."""
        del key
        body = {} if step.reason is None else {"reason": step.reason}
        await self._as(step.user, f"{CLIENT}/v3/rooms/{segment(step.room)}/leave", body)

    async def step_down(self, step: StepDown, key: str) -> None:
        """Give up power in somebody's name; nothing but their own number is changed."""
        del key
        found = await self.admin.read(GetRoomState(step.room, _LEVELS))
        content = next((event.content for event in found if not event.state_key), {})
        wanted = step.applied_to(content)
        if wanted != content:
            path = f"{CLIENT}/v3/rooms/{segment(step.room)}/state/{_LEVELS}/"
            await self._as(step.user, path, wanted, method="PUT")

    async def hand_over_token(self, step: HandOverToken, key: str) -> None:
        """Make a token and tell it to one person alone."""
        until_ms = self.clock.now_ms() + step.minutes * 60_000
        token = await self.admin.change(LogInAs(step.user, until_ms))
        until = moment_of(until_ms)
        said = answer(
            facts(
                [
                    (t("Acts as"), Mono(step.user)),
                    (t("Until"), None if until is None else written(until)),
                ]
            ),
            say(t("The access token:")),
            Code(token.reveal()),
            say(t("To end it earlier, log out with it (POST /_matrix/client/v3/logout).")),
        )
        await self.telling.in_private(None, step.to, said, key=key)

    async def inform(self, step: InformPerson, key: str) -> None:
        """Say something to somebody by server notice, or by adminbot where there are none."""
        language = await self.telling.language_of(step.user)
        content = notice(step.said, language=language)
        try:
            sent = await self.admin.change(
                SendServerNotice(user=step.user, content=content, txn_id=key)
            )
        except RefusedError as error:
            if error.status != _BAD_REQUEST:
                raise
            # This homeserver has no server notices switched on.
            sent = await self.telling.to_person(step.user, step.said, key=key)
        if step.bring_in:
            await self._bring_in(step.user, sent)

    async def _bring_in(self, user: UserId, said: EventId) -> None:
        """Join the room of a message in somebody's name; they are told all the same without."""
        try:
            room = str((await self.admin.read(FetchEvent(said))).get("room_id", ""))
            await self._as(user, f"{CLIENT}/v3/join/{segment(room)}", {})
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            log.info("an invitation to a notice was left to the person", user=user, reason=error)

    async def _as(
        self, user: UserId, path: str, body: dict[str, Any], *, method: str = "POST"
    ) -> None:
        token = await self.admin.change(LogInAs(user, self.clock.now_ms() + LIFETIME_MS))
        try:
            await self.client.request_as(token, method, path, body)
        except MatrixError as error:
            raise RefusedError(error.status, error.errcode, error.message) from error
        finally:
            await self._end(token)

    async def _end(self, token: Secret) -> None:
        """End a token now; it ends by itself within a minute if that does not work."""
        try:
            await self.client.request_as(token, "POST", f"{CLIENT}/v3/logout", {})
        except StewardError as error:
            log.info("a token for acting was left to expire", reason=error)
