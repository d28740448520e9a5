"""Who made which registration token; of the token itself only a digest is kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from adminbot.engine.text import storable
from common.config.secret import Secret
from common.homeserver.port import Danger, Permission
from common.homeserver.synapse.registration_tokens import masked
from common.i18n import Msg, t
from common.ids import RoomId, UserId

ANY_NUMBER = -1


def digest_of(token: str) -> str:
    """Return the name under which a token is remembered; tokens are too long to be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class TokenNote:
    """What is remembered of one token; ``uses`` is what it allowed before it was switched off.

    ``rooms``: where who comes with it is joined. ``for_user``: the one account it is for, and
    ``profile`` what that gets (displayname, email, type).
    """

    creator: UserId
    note: str
    made_ms: int
    uses: int | None
    told_expiry: bool
    told_used: bool
    rooms: tuple[RoomId, ...] = ()
    for_user: UserId | None = None
    profile: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenNotes:
    """All that is remembered, by digest."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT * FROM admin_token")

    def read_rows(self, rows: Sequence[Row]) -> Mapping[str, TokenNote]:
        """Return the notes."""
        return {
            row["digest"]: TokenNote(
                creator=UserId(row["creator"]),
                note=row["note"],
                made_ms=int(row["made_ms"]),
                uses=None if row["uses"] is None else int(row["uses"]),
                told_expiry=bool(row["told_expiry"]),
                told_used=bool(row["told_used"]),
                rooms=tuple(RoomId(room) for room in json.loads(row["rooms"])),
                for_user=None if row["for_user"] is None else UserId(row["for_user"]),
                profile=json.loads(row["profile"]),
            )
            for row in rows
        }


@dataclass(frozen=True, kw_only=True)
class RememberToken:
    """Remember who made a token and for whom, so that its maker can be told of it."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    token: Secret
    creator: UserId
    note: str
    made_ms: int
    rooms: tuple[RoomId, ...] = ()
    for_user: UserId | None = None
    profile: Mapping[str, str] = field(default_factory=dict)

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_token (digest, creator, note, made_ms, rooms, for_user, profile)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (digest) DO UPDATE SET"
                # Another one of that name was deleted elsewhere: what it was for is over.
                " creator = excluded.creator, note = excluded.note, made_ms = excluded.made_ms,"
                " rooms = excluded.rooms, for_user = excluded.for_user,"
                " profile = excluded.profile, uses = NULL, told_expiry = 0, told_used = 0",
                (
                    digest_of(self.token.reveal()),
                    self.creator,
                    storable(self.note),
                    self.made_ms,
                    json.dumps(list(self.rooms)),
                    self.for_user,
                    json.dumps(dict(self.profile)),
                ),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        if self.for_user is not None:
            return t("Remember for whom it is")
        if self.rooms:
            rooms = ", ".join(self.rooms)
            return t("Remember who made it, and to join who comes with it to {rooms}", rooms=rooms)
        return t("Remember who made it")


@dataclass(frozen=True, kw_only=True)
class TokenChanged:
    """A token's limits are others now: its maker is told of their end anew.

    ``uses``: what it allowed before it was switched off; ``None`` where it is on.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    token: Secret
    creator: UserId
    uses: int | None
    at_ms: int

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        return (
            Statement(
                "INSERT INTO admin_token (digest, creator, note, made_ms, uses)"
                " VALUES ($1, $2, '', $3, $4) ON CONFLICT (digest) DO UPDATE"
                " SET uses = excluded.uses, told_expiry = 0, told_used = 0",
                (digest_of(self.token.reveal()), self.creator, self.at_ms, self.uses),
            ),
        )

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Remember the limits of {token}", token=masked(self.token.reveal()))


@dataclass(frozen=True)
class ForgetToken:
    """Remember nothing of a token any more."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    token: Secret

    def to_sql(self) -> tuple[Statement, ...]:
        """Return the statements."""
        digest = digest_of(self.token.reveal())
        return (Statement("DELETE FROM admin_token WHERE digest = $1", (digest,)),)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Forget who made {token}", token=masked(self.token.reveal()))
