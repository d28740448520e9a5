"""Acts that are promised for later: a lock that ends by itself, a ban with a time.

``do_later`` makes a step of it, for any plan. The promise: at the moment it was promised for, or
as soon after it as we are there, the step is taken once, and noted in the trail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast

from adminbot.engine.answer import moment_of, written
from adminbot.engine.step import Row, Statement, Step
from common.homeserver.port import Danger, Permission
from common.i18n import Msg, t
from common.ids import RoomId, UserId

WAITING, BEGUN, DONE, FAILED, CANCELLED = "waiting", "begun", "done", "failed", "cancelled"


TOLD = " (told)"


@dataclass(frozen=True, kw_only=True)
class DoLater:
    """Take a step later; within the same grant that the step itself would need.

    ``slot`` names what it is about, e.g. “lock @alice:example.org”: a later promise in the same
    slot takes the place of an earlier one that still waits. ``requester`` is told, in private,
    if it cannot be done.
    """

    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    step: Any
    slot: str
    due: datetime
    requester: UserId
    asked_in: RoomId

    @property
    def permission(self) -> Permission:
        """The step's."""
        return cast(Step, self.step).permission

    @property
    def room(self) -> RoomId | None:
        """The room that the step is about, if any."""
        return getattr(self.step, "room", None)

    @property
    def server_admins_only(self) -> bool:
        """Whether the step is for server admins only."""
        return bool(getattr(self.step, "server_admins_only", False))

    def describe(self) -> Msg:
        """Return what it does."""
        return t(
            "On {moment}: {step}", moment=written(self.due), step=cast(Step, self.step).describe()
        )


def do_later(step: Step, *, slot: str, due: datetime, requester: UserId, asked_in: RoomId) -> Step:
    """Return the step that promises another one; put it before what it is to undo."""
    made = DoLater(step=step, slot=slot, due=due, requester=requester, asked_in=asked_in)
    # Its permission is that of the step inside, so it is a property and no class variable.
    return cast(Step, made)


@dataclass(frozen=True)
class ForgetLater:
    """Do not do what was promised in a slot; nothing happens if nothing was.

    What was to be told of it, promised in the slot of the same name with ``TOLD`` behind it, goes
    with it.
    """

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    slot: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_later SET status = $1 WHERE slot IN ($2, $3) AND status = $4",
                (CANCELLED, self.slot, f"{self.slot}{TOLD}", WAITING),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Forget that it was to end by itself")


@dataclass(frozen=True)
class DueLater:
    """When what was promised in some slots is due; slots in which nothing waits are left out."""

    permission: ClassVar = Permission.VIEW

    slots: tuple[str, ...]

    def to_sql(self) -> Statement:
        """Return the statement."""
        places = ", ".join(f"${number}" for number in range(2, len(self.slots) + 2))
        return Statement(
            f"SELECT slot, due_ms FROM admin_later WHERE status = $1 AND slot IN ({places})",  # noqa: S608  # placeholders only
            (WAITING, *self.slots),
        )

    def read_rows(self, rows: Sequence[Row]) -> Mapping[str, datetime]:
        """Return the moments, by slot."""
        due = {row["slot"]: moment_of(int(row["due_ms"])) for row in rows}
        return {slot: moment for slot, moment in due.items() if moment is not None}
