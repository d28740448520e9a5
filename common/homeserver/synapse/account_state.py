"""Whether an account may be used: locked, suspended, closed, approved; see ``accounts`` for MAS."""

from dataclasses import dataclass
from typing import ClassVar

from common.config.secret import Secret
from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.homeserver.synapse.accounts import put_user, read_details
from common.homeserver.synapse.users import UserDetails
from common.i18n import Msg, t
from common.ids import UserId


@dataclass(frozen=True)
class LockUser:
    """``PUT /_synapse/admin/v2/users/<user_id>``: every request of a locked account is refused.

    Sessions are kept for when it is unlocked. A deactivated account cannot be locked.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    locked: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"locked": self.locked})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.locked:
            return t("Lock the account of {user}", user=self.user)
        return t("Unlock the account of {user}", user=self.user)


@dataclass(frozen=True)
class SuspendUser:
    """``PUT /_synapse/admin/v1/suspend/<user_id>``: a suspended account may read and leave only.

    The homeserver says ``M_USER_SUSPENDED`` to everything else.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    suspended: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path("/_synapse/admin/v1/suspend/{}", self.user),
            body={"suspend": self.suspended},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.suspended:
            return t("Suspend {user}: they can read, but not write", user=self.user)
        return t("Let {user} write again", user=self.user)


@dataclass(frozen=True)
class DeactivateUser:
    """``POST /_synapse/admin/v1/deactivate/<user_id>``.

    Ends all sessions, leaves all rooms, forgets password and addresses. ``erase`` also hides what
    they wrote from those who come later and removes the profile.
    """

    permission: ClassVar = Permission.DESTROY
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    erase: bool = False

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/deactivate/{}", self.user),
            body={"erase": self.erase},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.erase:
            return t("Close the account of {user} and erase them", user=self.user)
        return t("Close the account of {user}", user=self.user)


@dataclass(frozen=True)
class ReactivateUser:
    """``PUT /_synapse/admin/v2/users/<user_id>`` of a deactivated account.

    Rooms and addresses do not come back. Without a password nobody can sign in with one. An
    erased account is no longer marked as erased, but its profile stays empty. A homeserver that
    was made minutes ago answers 500 until it has made an index that this needs.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    password: Secret | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        body: dict[str, object] = {"deactivated": False}
        if self.password is not None:
            body["password"] = self.password
        return put_user(self.user, body)

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Open the account of {user} again", user=self.user)


@dataclass(frozen=True)
class ApproveUser:
    """``PUT /_synapse/admin/v2/users/<user_id>``; does nothing unless MSC3866 is switched on."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    approved: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"approved": self.approved})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.approved:
            return t("Approve the account of {user}", user=self.user)
        return t("Take the approval of {user} back", user=self.user)
