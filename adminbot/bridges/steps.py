"""What plans about bridges are made of, besides rows: words to a bridge's bot, room connections.

Each is data, carried out by ``adminbot.bridging``. What concerns a person's own account at the
other network names that person, and only who asks can be named.
"""

from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.calls import (
    CHAT_WITH_BOT,
    HOOK,
    KICK,
    OWN,
    PING,
    PREPARE,
    PROVISIONING,
    STATE,
    TELL,
    Calls,
)
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.account_state import SuspendUser
from common.homeserver.synapse.users import GetUser
from common.i18n import t
from common.ids import RoomId, UserId

Arguments = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class PrepareRoom:
    """Have a bridge's bot in a room, with the power it needs there."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = PREPARE

    bridge: str
    bot: UserId
    room: RoomId

    def describe(self) -> str:
        """Return what it does."""
        return t("Invite {bot} to {room}, with the power it needs", bot=self.bot, room=self.room)


@dataclass(frozen=True, kw_only=True)
class SpeakToBridge:
    """Type a command to a bridge's bot as adminbot, and follow what it answers."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False
    calls: ClassVar[Calls] = (*CHAT_WITH_BOT, OWN)

    bridge: str
    verb: str
    arguments: Arguments = ()
    room: RoomId | None = None
    asked_by: UserId

    def describe(self) -> str:
        """Return what it does."""
        return t("Ask {bridge} for “{verb}”", bridge=self.bridge, verb=self.verb)


@dataclass(frozen=True, kw_only=True)
class SpeakForPerson:
    """Have a command typed to a bridge's bot by the person it concerns, or in their name.

    ``person`` is who asked, never anybody else.
    """

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False
    calls: ClassVar[Calls] = (GetUser, *CHAT_WITH_BOT, PROVISIONING, OWN)

    bridge: str
    verb: str
    arguments: Arguments = ()
    about: RoomId | None = None
    person: UserId

    def describe(self) -> str:
        """Return what it does."""
        return t(
            "Have {bridge} asked for “{verb}” by {person}",
            bridge=self.bridge,
            verb=self.verb,
            person=self.person,
        )


@dataclass(frozen=True, kw_only=True)
class ProbeBridge:
    """Ask at once whether a bridge is up: the homeserver's ping and its bot."""

    permission: ClassVar = Permission.VIEW
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (PING, *CHAT_WITH_BOT, OWN)

    bridge: str

    def describe(self) -> str:
        """Return what it does."""
        return t("Ask {bridge} whether it is up", bridge=self.bridge)


@dataclass(frozen=True, kw_only=True)
class HoldToLimits:
    """Do at once what a decision about a bridge means."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (GetUser, SuspendUser, *TELL, OWN)

    bridge: str

    def describe(self) -> str:
        """Return what it does."""
        return t("Do what that means for {bridge}, and tell whom it concerns", bridge=self.bridge)


@dataclass(frozen=True, kw_only=True)
class WriteConnection:
    """Write or empty a state event by which an integration is told what to do in a room.

    It is looked at again: the integration may put it back.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (STATE,)

    bot: UserId
    room: RoomId
    type: str
    key: str
    content: tuple[tuple[str, str | bool], ...] = ()
    what: str

    def describe(self) -> str:
        """Return what it does."""
        if not self.content or ("disabled", True) in self.content:
            return t("Disconnect {what} from {room}", what=self.what, room=self.room)
        return t("Connect {what} with {room}", what=self.what, room=self.room)


@dataclass(frozen=True, kw_only=True)
class RemoveOldBot:
    """Have an old bot leave a room, by removing it."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = KICK

    bot: UserId
    room: RoomId

    def describe(self) -> str:
        """Return what it does."""
        return t("Remove the old bot {bot} from {room}", bot=self.bot, room=self.room)


@dataclass(frozen=True, kw_only=True)
class RestartBridge:
    """Have the operator's hook restart a bridge, and wait until it answers again."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False
    calls: ClassVar[Calls] = (HOOK, PING, OWN)

    bridge: str

    def describe(self) -> str:
        """Return what it does."""
        return t("Restart {bridge} by its hook", bridge=self.bridge)


@dataclass(frozen=True, kw_only=True)
class LetUse:
    """Have the operator's hook let a person use a bridge, or not any more."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (HOOK,)

    bridge: str
    user: UserId
    allowed: bool

    def describe(self) -> str:
        """Return what it does."""
        if self.allowed:
            return t("Let {user} use {bridge}, by its hook", user=self.user, bridge=self.bridge)
        return t("Keep {user} from {bridge}, by its hook", user=self.user, bridge=self.bridge)
