"""Notices that were sent, and what new people are told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import EventId, UserId


@dataclass(frozen=True)
class Notice:
    """One notice; ``sent`` and ``recalled`` count people, ``unsure`` those who may have it."""

    notice: str
    number: int
    sent_by: UserId
    audience: str
    text: str
    sent_ms: int
    revision: int
    sent: int
    unsure: int
    recalled: int


_COUNTED = (
    "SELECT n.*,"
    " (SELECT COUNT(*) FROM admin_notice_copy c WHERE c.notice = n.notice"
    " AND c.status = 'sent') AS sent,"
    " (SELECT COUNT(*) FROM admin_notice_copy c WHERE c.notice = n.notice"
    " AND c.status = 'sending') AS unsure,"
    " (SELECT COUNT(*) FROM admin_notice_copy c WHERE c.notice = n.notice"
    " AND c.status = 'recalled') AS recalled"
    " FROM admin_notice n"
)


@dataclass(frozen=True)
class Notices:
    """The last notices, newest first; or the one of a number."""

    permission: ClassVar = Permission.VIEW

    number: int | None = None
    limit: int = 20

    def to_sql(self) -> Statement:
        """Return the statement."""
        if self.number is not None:
            return Statement(f"{_COUNTED} WHERE n.number = $1", (self.number,))
        return Statement(f"{_COUNTED} ORDER BY n.number DESC LIMIT $1", (self.limit,))

    def read_rows(self, rows: Sequence[Row]) -> tuple[Notice, ...]:
        """Return the notices."""
        return tuple(
            Notice(
                notice=row["notice"],
                number=int(row["number"]),
                sent_by=UserId(row["sent_by"]),
                audience=row["audience"],
                text=str(json.loads(row["content"]).get("body", "")),
                sent_ms=int(row["sent_ms"]),
                revision=int(row["revision"]),
                sent=int(row["sent"]),
                unsure=int(row["unsure"]),
                recalled=int(row["recalled"]),
            )
            for row in rows
        )


@dataclass(frozen=True)
class NoticeReaders:
    """To whom a notice went and was not taken back from."""

    permission: ClassVar = Permission.VIEW

    notice: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT user_id FROM admin_notice_copy WHERE notice = $1 AND status = 'sent'"
            " ORDER BY user_id",
            (self.notice,),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[UserId, ...]:
        """Return the people."""
        return tuple(UserId(row["user_id"]) for row in rows)


@dataclass(frozen=True)
class NoticeCopy:
    """How far the notice to one person is: “sending”, “sent”, “recalled”; its event if sent."""

    status: str
    event: EventId | None


@dataclass(frozen=True)
class CopyFor:
    """How far a notice to one person is; ``None`` if not begun."""

    permission: ClassVar = Permission.VIEW

    notice: str
    user: UserId

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT status, event_id FROM admin_notice_copy WHERE notice = $1 AND user_id = $2",
            (self.notice, self.user),
        )

    def read_rows(self, rows: Sequence[Row]) -> NoticeCopy | None:
        """Return it."""
        for row in rows:
            event = row["event_id"]
            return NoticeCopy(row["status"], None if event is None else EventId(event))
        return None


@dataclass(frozen=True)
class NoticeContent:
    """What a notice says, as a message's content, and its revision; ``None`` if not kept yet."""

    permission: ClassVar = Permission.VIEW

    notice: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT content, revision FROM admin_notice WHERE notice = $1", (self.notice,)
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Mapping[str, Any], int] | None:
        """Return content and revision."""
        return next(((json.loads(row["content"]), int(row["revision"])) for row in rows), None)


@dataclass(frozen=True)
class KeepNotice:
    """Keep what a notice says before it goes to anybody."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    notice: str
    by: UserId
    audience: str
    content: Mapping[str, Any]
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_notice (notice, number, sent_by, audience, content, sent_ms)"
                " VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM admin_notice),"
                " $2, $3, $4, $5) ON CONFLICT (notice) DO NOTHING",
                (
                    self.notice,
                    self.by,
                    str(self.audience),
                    json.dumps(dict(self.content)),
                    self.at_ms,
                ),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Keep the notice, for its status, changes and recall")


@dataclass(frozen=True)
class ReviseNotice:
    """Keep what a notice says from now on."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    notice: str
    revision: int
    content: Mapping[str, Any]

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "UPDATE admin_notice SET content = $1, revision = $2"
                " WHERE notice = $3 AND revision < $4",
                (json.dumps(dict(self.content)), self.revision, self.notice, self.revision),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Keep the new words of the notice")


@dataclass(frozen=True)
class MarkCopy:
    """Write down how far the notice to one person is; ``status`` “” forgets it."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    notice: str
    user: UserId
    status: str
    event: EventId | None = None

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        if not self.status:
            return (
                Statement(
                    "DELETE FROM admin_notice_copy WHERE notice = $1 AND user_id = $2",
                    (self.notice, self.user),
                ),
            )
        return (
            Statement(
                "INSERT INTO admin_notice_copy (notice, user_id, status, event_id)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (notice, user_id) DO UPDATE SET"
                " status = excluded.status,"
                " event_id = COALESCE(excluded.event_id, admin_notice_copy.event_id)",
                (self.notice, self.user, self.status, self.event),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Note how far the notice to {user} is", user=self.user)


@dataclass(frozen=True)
class Motd:
    """What new people are told; ``None`` if nothing."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT text FROM admin_motd")

    def read_rows(self, rows: Sequence[Row]) -> str | None:
        """Return the text."""
        return next((str(row["text"]) for row in rows), None)


@dataclass(frozen=True)
class SetMotd:
    """Tell new people something from now on; ``text`` ``None``: nothing any more."""

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    text: str | None
    by: UserId

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        if self.text is None:
            return (Statement("DELETE FROM admin_motd"),)
        return (
            Statement(
                "INSERT INTO admin_motd (id, text, set_by) VALUES (1, $1, $2)"
                " ON CONFLICT (id) DO UPDATE SET text = excluded.text, set_by = excluded.set_by",
                (self.text, self.by),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        if self.text is None:
            return t("Tell new people nothing any more")
        return t("Tell new people: {text}", text=self.text)
