"""Files: keeping people from downloading them, and deleting them."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.i18n import Msg, t
from common.ids import RoomId, UserId


class DeletedMedia(msgspec.Struct, frozen=True):
    """Which files of this server were deleted, by their IDs."""

    deleted_media: tuple[str, ...]
    total: int


class _Purged(msgspec.Struct, frozen=True):
    deleted: int


class _Quarantined(msgspec.Struct, frozen=True):
    num_quarantined: int


@dataclass(frozen=True)
class QuarantineMedia:
    """``POST /_synapse/admin/v1/media/quarantine/<server>/<media_id>``, of other servers too.

    Copies with the same content are quarantined with it. A protected file is left alone, without
    a word; an unknown one too.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    server: str
    media_id: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = "/_synapse/admin/v1/media/quarantine/{}/{}"
        return HttpChange(method="POST", path=path(where, self.server, self.media_id))

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Quarantine the file {mxc}", mxc=_mxc(self.server, self.media_id))


@dataclass(frozen=True)
class UnquarantineMedia:
    """``POST /_synapse/admin/v1/media/unquarantine/<server>/<media_id>``."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    server: str
    media_id: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = "/_synapse/admin/v1/media/unquarantine/{}/{}"
        return HttpChange(method="POST", path=path(where, self.server, self.media_id))

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Let people download the file {mxc} again", mxc=_mxc(self.server, self.media_id))


@dataclass(frozen=True)
class QuarantineRoomMedia:
    """``POST /_synapse/admin/v1/room/<room_id>/media/quarantine``: of unencrypted messages."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True
    server_admins_only: ClassVar = True

    room: RoomId

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_synapse/admin/v1/room/{}/media/quarantine", self.room)
        return HttpChange(method="POST", path=where)

    def read_response(self, body: Json) -> int:
        """Return how many files."""
        return msgspec.convert(body, _Quarantined).num_quarantined

    def answered(self, answer: int) -> str:
        """Return how many files."""
        return str(answer)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Quarantine every file in {room}", room=self.room)


@dataclass(frozen=True)
class QuarantineUserMedia:
    """``POST /_synapse/admin/v1/user/<user_id>/media/quarantine``: all they uploaded here."""

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_synapse/admin/v1/user/{}/media/quarantine", self.user)
        return HttpChange(method="POST", path=where)

    def read_response(self, body: Json) -> int:
        """Return how many files."""
        return msgspec.convert(body, _Quarantined).num_quarantined

    def answered(self, answer: int) -> str:
        """Return how many files."""
        return str(answer)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Quarantine every file of {user}", user=self.user)


@dataclass(frozen=True)
class ProtectMedia:
    """``POST /_synapse/admin/v1/media/[un]protect/<media_id>``, this server's only.

    A protected file cannot be quarantined; an unknown one is passed over without a word.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    media_id: str
    protected: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        act = "protect" if self.protected else "unprotect"
        where = path("/_synapse/admin/v1/media/{}/{}", act, self.media_id)
        return HttpChange(method="POST", path=where)

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.protected:
            return t("Keep the file {media} from being quarantined", media=self.media_id)
        return t("Let the file {media} be quarantined", media=self.media_id)


@dataclass(frozen=True)
class DeleteMedia:
    """``DELETE /_synapse/admin/v1/media/<server>/<media_id>``: of this server only (else 400)."""

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False  # the second time it is NotFoundError

    server: str
    media_id: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = path("/_synapse/admin/v1/media/{}/{}", self.server, self.media_id)
        return HttpChange(method="DELETE", path=where)

    def read_response(self, body: Json) -> DeletedMedia:
        """Return what was deleted; ``NotFoundError`` if there is no such file."""
        return msgspec.convert(body, DeletedMedia)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Delete the file {mxc}", mxc=_mxc(self.server, self.media_id))


@dataclass(frozen=True)
class DeleteUserMedia:
    """``DELETE /_synapse/admin/v1/users/<user_id>/media``: the ``limit`` oldest; call it again.

    It deletes until ``total`` of the answer is 0; pictures of profiles and rooms too.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = False  # the second time it takes the next ones

    user: UserId
    limit: int = 100

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="DELETE",
            path=path("/_synapse/admin/v1/users/{}/media", self.user),
            query={"limit": str(self.limit), "order_by": "created_ts", "dir": "f"},
        )

    def read_response(self, body: Json) -> DeletedMedia:
        """Return what was deleted."""
        return msgspec.convert(body, DeletedMedia)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Delete the files of {user}, {limit} at most", user=self.user, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class DeleteOldMedia:
    """``POST /_synapse/admin/v1/media/delete``: files of this server, by last download and size.

    ``unused_since_ms`` is milliseconds, ``larger_than`` bytes. Pictures of profiles and rooms stay
    unless ``with_profiles``. Never downloaded counts from the upload.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    unused_since_ms: int
    larger_than: int = 0
    with_profiles: bool = False

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/media/delete",
            query={
                "before_ts": str(self.unused_since_ms),
                "size_gt": str(self.larger_than),
                "keep_profiles": "false" if self.with_profiles else "true",
            },
        )

    def read_response(self, body: Json) -> DeletedMedia:
        """Return what was deleted."""
        return msgspec.convert(body, DeletedMedia)

    def answered(self, answer: DeletedMedia) -> str:
        """Return how many were deleted."""
        return str(answer.total)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.with_profiles:
            return t("Delete files nobody downloaded lately, pictures of people and rooms too")
        return t("Delete files nobody downloaded lately")


@dataclass(frozen=True)
class PurgeRemoteMedia:
    """``POST /_synapse/admin/v1/purge_media_cache``: copies of other servers' files.

    Those not downloaded since ``unused_since_ms`` (milliseconds); they are fetched anew when
    somebody wants them, if the other server still has them.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    unused_since_ms: int

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/purge_media_cache",
            query={"before_ts": str(self.unused_since_ms)},
        )

    def read_response(self, body: Json) -> int:
        """Return how many were deleted."""
        return msgspec.convert(body, _Purged).deleted

    def answered(self, answer: int) -> str:
        """Return how many were deleted."""
        return str(answer)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Remove copies of other servers' files that nobody downloaded lately")


def _mxc(server: str, media_id: str) -> str:
    return f"mxc://{server}/{media_id}"
