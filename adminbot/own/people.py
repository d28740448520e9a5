"""What people chose for themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Danger, Permission
from common.i18n import t
from common.ids import UserId


@dataclass(frozen=True)
class LanguageOf:
    """In which language somebody wants to be spoken to; ``None`` if they never said."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT language FROM admin_person WHERE user_id = $1", (self.user,))

    def read_rows(self, rows: Sequence[Row]) -> str | None:
        """Return the language's code."""
        return next((row["language"] for row in rows), None)


@dataclass(frozen=True)
class SetLanguage:
    """Speak to somebody in a language from now on."""

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    language: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_person (user_id, language) VALUES ($1, $2)"
                " ON CONFLICT (user_id) DO UPDATE SET language = excluded.language",
                (self.user, self.language),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Speak to {user} in “{language}”", user=self.user, language=self.language)


@dataclass(frozen=True)
class Style:
    """How somebody wants to be answered."""

    threads: bool | None = None
    """In a thread at their command, rather than as a reply to it; ``None``: as the place has it."""
    plain: bool = False
    """As plain text, without tables and links."""


_THREADS = {"thread": True, "reply": False}


@dataclass(frozen=True)
class StyleOf:
    """How somebody wants to be answered; what they never said is as usual."""

    permission: ClassVar = Permission.PUBLIC

    user: UserId

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            "SELECT replies, formatting FROM admin_person WHERE user_id = $1", (self.user,)
        )

    def read_rows(self, rows: Sequence[Row]) -> Style:
        """Return the style."""
        row = next(iter(rows), None)
        if row is None:
            return Style()
        return Style(threads=_THREADS.get(row["replies"]), plain=row["formatting"] == "plain")


@dataclass(frozen=True)
class SetReplies:
    """Answer somebody in threads (“thread”), by replies (“reply”) or “usual” from now on."""

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    replies: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_person (user_id, replies) VALUES ($1, $2)"
                " ON CONFLICT (user_id) DO UPDATE SET replies = excluded.replies",
                (self.user, self.replies),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Answer {user} by “{style}”", user=self.user, style=self.replies)


@dataclass(frozen=True)
class SetFormatting:
    """Answer somebody with formatting (“full”) or without (“plain”) from now on."""

    permission: ClassVar = Permission.PUBLIC
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    formatting: str

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_person (user_id, formatting) VALUES ($1, $2)"
                " ON CONFLICT (user_id) DO UPDATE SET formatting = excluded.formatting",
                (self.user, self.formatting),
            ),
        )

    def describe(self) -> str:
        """Return what it does."""
        return t("Write to {user} as “{style}”", user=self.user, style=self.formatting)
