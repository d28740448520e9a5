"""What a plan is made of: calls to the homeserver, changes of our own tables, words to people.

Each kind is data: what it does can be shown, compared, stored and carried out later by somebody
else. Reading our own tables is a kind of its own, as it is with the homeserver.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from adminbot.engine.answer import Answer
from adminbot.engine.calls import IN_THEIR_NAME, LEAVE, SAY, TELL, Calls
from common.config.secret import Secret
from common.homeserver.client_server.membership import JoinRoom
from common.homeserver.port import ChangeRequest, Danger, Permission
from common.homeserver.synapse.room_content import FetchEvent
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_rights import LogInAs
from common.i18n import n, t
from common.ids import RoomId, UserId

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """One SQL statement for both databases; ``values`` are for its ``$1``, ``$2`` and so on."""

    sql: str
    values: tuple[object, ...] = ()


class OwnQuery(Protocol[T_co]):
    """A question to our own tables."""

    permission: ClassVar[Permission]

    def to_sql(self) -> Statement:
        """Return the statement."""
        ...

    def read_rows(self, rows: Sequence[Row]) -> T_co:
        """Return the typed answer."""
        ...


class OwnReader(Protocol):
    """The reading half of our own tables, as ``AdminReader`` is of the homeserver's API."""

    async def read(self, query: OwnQuery[T]) -> T:
        """Ask within the grant."""
        ...


class Step(Protocol):
    """One act of a plan."""

    permission: ClassVar[Permission]
    danger: ClassVar[Danger]
    idempotent: ClassVar[bool]

    def describe(self) -> str:
        """Return what it does as a sentence for the person who confirms it."""
        ...


class OwnChange(Step, Protocol):
    """A change of our own tables; all its statements in one transaction, once.

    It may have a method ``kept`` that returns a statement: what that finds afterwards, in the same
    transaction, is kept as what there is to say of the step.
    """

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        ...


@dataclass(frozen=True, kw_only=True)
class SayInRoom:
    """Words of adminbot in a room, encrypted where the room is."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = SAY

    room: RoomId
    said: Answer
    ping: tuple[UserId, ...] = field(default=())

    def describe(self) -> str:
        """Return what it does."""
        return t("Write into {room}", room=self.room)


@dataclass(frozen=True, kw_only=True)
class TellPerson:
    """Words of adminbot to one person, in their direct chat; it is made if there is none."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = TELL

    user: UserId
    said: Answer

    def describe(self) -> str:
        """Return what it does."""
        return t("Write to {user}", user=self.user)


@dataclass(frozen=True, kw_only=True)
class InformPerson:
    """Words of the server to somebody about their own account.

    By server notice; where the homeserver has no server notices, by adminbot in their direct
    chat. ``bring_in``: accept the invitation to it in their name, for who is about to be
    suspended and could not.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = (SendServerNotice, *TELL, FetchEvent, JoinRoom, *IN_THEIR_NAME)

    user: UserId
    said: Answer
    bring_in: bool = False

    def describe(self) -> str:
        """Return what it does."""
        return t("Tell {user} so", user=self.user)


@dataclass(frozen=True, kw_only=True)
class HandOverToken:
    """An access token to act as somebody, made when it is due and told to one person alone."""

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False
    calls: ClassVar[Calls] = (LogInAs, *TELL)

    user: UserId
    to: UserId
    minutes: int

    def describe(self) -> str:
        """Return what it does."""
        return n(
            "Make an access token to act as {user} for {count} minute, and tell it to {to} alone",
            "Make an access token to act as {user} for {count} minutes, and tell it to {to} alone",
            self.minutes,
            user=self.user,
            to=self.to,
        )


@dataclass(frozen=True)
class LeaveAs:
    """Leave a room as somebody of this server, or reject an invitation to it.

    In their own name, so that it works whatever power they have there; a token for it is made
    and ended at once. ``NotAllowedError`` while the account is locked.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True
    calls: ClassVar[Calls] = (*LEAVE, *IN_THEIR_NAME)

    user: UserId
    room: RoomId
    reason: str | None = None

    def describe(self) -> str:
        """Return what it does."""
        return t("Let {user} leave {room}", user=self.user, room=self.room)


@dataclass(frozen=True)
class TellAdmins:
    """Words for the server admins: in the admin rooms, or to each of them."""

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True
    calls: ClassVar[Calls] = TELL

    said: Answer

    def describe(self) -> str:
        """Return what it does."""
        return t("Tell the server admins")


def calls_homeserver(step: Step) -> bool:
    """Say whether a step is a ``ChangeRequest``."""
    return hasattr(step, "to_http")


def changes_own(step: Step) -> bool:
    """Say whether a step is an ``OwnChange``."""
    return hasattr(step, "to_sql")


def canonical(step: Step | ChangeRequest[object]) -> str:
    """Return a step in one canonical spelling: the HTTP call, or the values it is made of.

    A generated secret is different every time a plan is made, so only its place counts; it is
    never written down either.
    """
    if hasattr(step, "to_http"):
        call = step.to_http()
        query = [_plain(call.query)] if call.query else []
        spelling: object = [call.method, call.path, _plain(call.body), *query]
    else:
        spelling = [type(step).__name__, _plain(step)]
    return json.dumps(spelling, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain(value: object) -> object:
    match value:
        case Secret():
            return {"secret": True}
        case Mapping():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case None | str() | int() | float():
            return value
        case _:
            pass
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {each.name: _plain(getattr(value, each.name)) for each in fields}
    return str(value)
