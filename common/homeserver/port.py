"""What a request to a homeserver's administration API is, and who may have one made.

Reading and changing are two kinds of request. Whoever is handed an ``AdminReader`` can change
nothing: a change is not a ``HttpGet``, so the type checker refuses it, and the reader has no
method for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal, Protocol, TypeVar
from urllib.parse import quote

from common.i18n import Msg
from common.ids import RoomId, UserId

Json = dict[str, Any]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Permission(StrEnum):
    """What kind of act a request is; an actor holds some of these."""

    PUBLIC = "public"
    """Facts that anybody may know."""
    VIEW = "view"
    """Accounts, rooms, statistics; never what was said."""
    READ_CONTENT = "read_content"
    """What was said."""
    SUPPORT = "support"
    """Passwords, sessions, registration tokens."""
    MODERATE = "moderate"
    """Suspend, lock, redact, block, quarantine."""
    MANAGE = "manage"
    """Memberships, power and settings of rooms."""
    DESTROY = "destroy"
    """What cannot be undone."""
    OWN = "own"
    """Rights themselves: the admin flag, acting as others."""


class Danger(IntEnum):
    """How bad a mistake would be; a plan is as dangerous as its worst step."""

    NONE = 0
    """Done at once."""
    REVERSIBLE = 1
    """Asked about first."""
    IRREVERSIBLE = 2
    """Asked about first, and said to be for good."""


@dataclass(frozen=True, kw_only=True)
class HttpGet:
    """A call that changes nothing. ``path`` is percent-encoded already.

    ``by_sender`` must be set for an endpoint that has a filter called ``user_id``: an
    application service names the account it acts as by a parameter of the same name, so such a
    list would hold nothing but adminbot's own. The registration's sender needs no parameter.
    """

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    by_sender: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpChange:
    """A call that changes something.

    ``Secret`` values at the top level of ``body`` are revealed on the wire only.
    """

    method: Literal["POST", "PUT", "DELETE"]
    path: str
    body: Mapping[str, object] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


HttpCall = HttpGet | HttpChange


class ReadRequest(Protocol[T_co]):
    """An endpoint that only reads."""

    permission: ClassVar[Permission]

    def to_http(self) -> HttpGet:
        """Return the call."""
        ...

    def read_response(self, body: Json) -> T_co:
        """Return the typed answer; ``msgspec.ValidationError`` if it has another shape."""
        ...


class ChangeRequest(Protocol[T_co]):
    """An endpoint that changes something.

    A request may also have ``answered(answer) -> str``: what is kept of its answer with the step,
    for the report at the end (a number of files, say); never a secret.
    """

    permission: ClassVar[Permission]
    danger: ClassVar[Danger]
    idempotent: ClassVar[bool]

    def to_http(self) -> HttpChange:
        """Return the call."""
        ...

    def read_response(self, body: Json) -> T_co:
        """Return the typed answer; ``msgspec.ValidationError`` if it has another shape."""
        ...

    def describe(self) -> str:
        """Return what it does as a sentence for the person who confirms it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a task of the homeserver has come; ``done`` of ``total`` where it tells.

    ``failed`` is why it ended without success, ``said`` what there is to say of it, if anything.
    """

    finished: bool
    failed: str | None = None
    done: int | None = None
    total: int | None = None
    said: Msg | None = None


class FollowedChange(ChangeRequest[str], Protocol):
    """A change that the homeserver goes on with after it has answered.

    The answer is the name of its task, which is kept, so that it can be followed after a restart.
    """

    def follow(self, task: str) -> ReadRequest[Progress]:
        """Return the request that tells how far the task is."""
        ...


class AdminReader(Protocol):
    """The reading half of the API; the most that a command is ever handed."""

    async def read(self, request: ReadRequest[T]) -> T:
        """Ask; raise a ``RefusedError`` or ``TransientError``."""
        ...


class AdminWriter(Protocol):
    """The changing half; only the executor of confirmed plans and Steward's own upkeep hold it."""

    async def change(self, request: ChangeRequest[T]) -> T:
        """Do; raise a ``RefusedError`` or ``TransientError``."""
        ...


class Guarded(Protocol):
    """Anything that needs a right."""

    @property
    def permission(self) -> Permission:
        """Return which."""
        ...


@dataclass(frozen=True)
class Grant:
    """What may be asked in somebody's name: anywhere, of the one room they govern, of themselves.

    What only server admins may do is not lent to who governs a room, even where it is about that
    room: such a request says so by ``server_admins_only``.
    """

    anywhere: frozenset[Permission]
    in_room: frozenset[Permission] = frozenset()
    room: RoomId | None = None
    of_self: frozenset[Permission] = frozenset()
    user: UserId | None = None

    def allows(self, request: "Guarded") -> bool:
        """Say whether the request is within the grant."""
        if request.permission in self.anywhere:
            return True
        if getattr(request, "server_admins_only", False):
            return False
        room, user = getattr(request, "room", None), getattr(request, "user", None)
        if room is not None:
            return room == self.room and request.permission in self.in_room
        return user is not None and user == self.user and request.permission in self.of_self


EVERYTHING = Grant(frozenset(Permission))


def path(template: str, *segments: str) -> str:
    """Fill each ``{}`` of a path with one percent-encoded segment.

    Identifiers are hostile: they may hold ``/``, ``?``, ``#``, ``%`` or be ``..``; a bare dot
    segment would be resolved away by the HTTP client, so dots are encoded there too.
    """
    return template.format(*(_encoded(segment) for segment in segments))


def _encoded(segment: str) -> str:
    if segment in {".", ".."}:
        return segment.replace(".", "%2E")
    return quote(segment, safe="")
