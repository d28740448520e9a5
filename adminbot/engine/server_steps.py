"""Acts on the whole server that are no single call: memberships, notices, the bots' own rooms."""

from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.answer import moment_of, written
from adminbot.engine.calls import ENTER, LEAVE, OWN, SEND_FILE, Calls
from common.config.secret import Secret
from common.homeserver.client_server.messages import RedactEvent
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.registration_tokens import (
    GetRegistrationToken,
    UpdateRegistrationToken,
)
from common.homeserver.synapse.room_content import FetchEvent, ReadMessages
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.user_rights import SetAccountValidity
from common.homeserver.synapse.users import JoinUser
from common.i18n import t
from common.ids import RoomId, UserId


@dataclass(frozen=True)
class EnsureJoined:
    """Have a local account in a room; who is in there already stays, who is banned stays out."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = (GetMemberships, JoinUser)

    user: UserId
    room: RoomId

    def describe(self) -> str:
        """Return what it does."""
        return t("Make {user} join {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class SendNotice:
    """Send the notice of this name to one person, once whatever happens in between."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetMemberships, GetRoom, ReadMessages, SendServerNotice, OWN)

    notice: str
    user: UserId

    def describe(self) -> str:
        """Return what it does."""
        return t("Send {user} a notice from the server", user=self.user)


@dataclass(frozen=True)
class EditNotice:
    """Replace what one person was told, by a revision of the notice."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (SendServerNotice,)

    notice: str
    user: UserId
    revision: int

    def describe(self) -> str:
        """Return what it does."""
        return t("Change the notice to {user}", user=self.user)


@dataclass(frozen=True)
class RecallNotice:
    """Take a notice back from one person."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (FetchEvent, GetRoom, SendServerNotice, RedactEvent, OWN)

    notice: str
    user: UserId

    def describe(self) -> str:
        """Return what it does."""
        return t("Take the notice to {user} back", user=self.user)


@dataclass(frozen=True)
class ExpireToken:
    """Let a registration token expire now; what it allows stays.

    That closes it whatever it allows: Synapse 1.163 takes “0 uses” for “any number”. ``off``: mark
    it by 0 uses all the same, so that it can be told from one that expired by itself.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = (GetRegistrationToken, UpdateRegistrationToken)

    token: Secret
    shown: str
    off: bool = False

    def describe(self) -> str:
        """Return what it does."""
        return t("Let the registration token {token} expire", token=self.shown)


@dataclass(frozen=True, kw_only=True)
class KeepValid:
    """Let an account be valid until a moment, or for the configured period from now.

    Synapse keeps a moment of its own where it lets no account expire, and never looks at it; so
    it is asked for its period first, which it can answer only where it does.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (SetAccountValidity,)

    user: UserId
    until_ms: int | None = None
    renewal_emails: bool = True

    def describe(self) -> str:
        """Return what it does."""
        moment = None if self.until_ms is None else moment_of(self.until_ms)
        if moment is None:
            return t("Let the account of {user} be valid for another period", user=self.user)
        return t(
            "Let the account of {user} be valid until {moment}",
            user=self.user,
            moment=written(moment),
        )


@dataclass(frozen=True, kw_only=True)
class ExportRoom:
    """Send somebody what the homeserver has of a room, in their direct chat; milliseconds."""

    permission: ClassVar = Permission.READ_CONTENT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = (ReadMessages, *SEND_FILE)

    room: RoomId
    by: UserId
    reason: str
    from_ms: int | None = None
    until_ms: int | None = None

    def describe(self) -> str:
        """Return what it does."""
        return t("Send {user} the history of {room}", user=self.by, room=self.room)


@dataclass(frozen=True)
class MendRoom:
    """Bring the bots into a room, with power, as far as that can be had."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = ENTER

    room: RoomId
    rejoin: bool = False
    """Whether the bots are to enter rooms again, having been told to leave all."""
    readmit: bool = False
    """Whether adminbot comes, too, if the room's admins had it leave."""

    def describe(self) -> str:
        """Return what it does."""
        return t("Bring the bots into {room}", room=self.room)


@dataclass(frozen=True)
class BotsLeave:
    """Have the bots leave a room, and enter none by themselves until they are told to rejoin."""

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = LEAVE

    room: RoomId

    def describe(self) -> str:
        """Return what it does."""
        return t("Leave {room} with the bots", room=self.room)
