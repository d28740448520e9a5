"""Making accounts of this homeserver, and how people sign in to and are named by them.

``PUT /_synapse/admin/v2/users/<user_id>`` makes and changes alike, and leaves alone what its body
does not name; so it is told apart here by purpose. Under MAS the authentication service owns
passwords, e-mail addresses, identities and whether an account exists; Synapse then refuses or,
worse, keeps to itself what is set here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.config.secret import Secret
from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.homeserver.synapse.users import ExternalId, ThirdPartyId, UserDetails
from common.i18n import Msg, t
from common.ids import UserId


@dataclass(frozen=True, kw_only=True)
class CreateUser:
    """``PUT /_synapse/admin/v2/users/<user_id>`` of an account that must not exist yet.

    If it exists, it is *changed*: ask ``IsUsernameAvailable`` before, and compare the answer's
    ``created_ms`` with the time where it matters. Without a password nobody can sign in. The
    admin flag is not set here; that is ``SetUserAdmin`` with its own right.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    password: Secret | None = None
    display_name: str | None = None
    user_type: str | None = None
    threepids: tuple[ThirdPartyId, ...] = ()
    external_ids: tuple[ExternalId, ...] = ()

    def to_http(self) -> HttpChange:
        """Return the call."""
        body: dict[str, object] = {}
        if self.password is not None:
            body["password"] = self.password
        if self.display_name is not None:
            body["displayname"] = self.display_name
        if self.user_type is not None:
            body["user_type"] = self.user_type
        if self.threepids:
            body["threepids"] = [_threepid(one) for one in self.threepids]
        if self.external_ids:
            body["external_ids"] = [_external_id(one) for one in self.external_ids]
        return put_user(self.user, body)

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Create the account {user}", user=self.user)


@dataclass(frozen=True)
class SetDisplayName:
    """``PUT /_synapse/admin/v2/users/<user_id>``: the name people see; ``""`` removes it."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    name: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"displayname": self.name})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.name:
            return t("Take the display name of {user} away", user=self.user)
        return t("Name {user} “{name}”", user=self.user, name=self.name)


@dataclass(frozen=True)
class SetUserAvatar:
    """``PUT /_synapse/admin/v2/users/<user_id>``: an ``mxc://`` address; ``""`` removes it."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    avatar_url: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"avatar_url": self.avatar_url})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.avatar_url:
            return t("Take the picture of {user} away", user=self.user)
        return t("Give {user} the picture {url}", user=self.user, url=self.avatar_url)


@dataclass(frozen=True)
class SetUserType:
    """``PUT /_synapse/admin/v2/users/<user_id>``: ``bot``, ``support`` or nothing special."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    user_type: str | None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"user_type": self.user_type})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.user_type is None:
            return t("Make {user} an ordinary account", user=self.user)
        return t("Make {user} an account of type {type}", user=self.user, type=self.user_type)


@dataclass(frozen=True)
class SetThreepids:
    """``PUT /_synapse/admin/v2/users/<user_id>``: **all** e-mail addresses and numbers.

    The list replaces what was there, so it must have been read just before.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    threepids: tuple[ThirdPartyId, ...]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(self.user, {"threepids": [_threepid(one) for one in self.threepids]})

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.threepids:
            return t("Remove every address of {user}", user=self.user)
        listed = ", ".join(one.address for one in self.threepids)
        return t("Set the addresses of {user} to {addresses}", user=self.user, addresses=listed)


@dataclass(frozen=True)
class SetExternalIds:
    """``PUT /_synapse/admin/v2/users/<user_id>``: **all** identities at sign-on providers.

    The list replaces what was there. Refused with status 409 if one belongs to somebody else.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    external_ids: tuple[ExternalId, ...]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return put_user(
            self.user, {"external_ids": [_external_id(one) for one in self.external_ids]}
        )

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.external_ids:
            return t("Remove every single sign-on identity of {user}", user=self.user)
        listed = ", ".join(f"{one.auth_provider}: {one.external_id}" for one in self.external_ids)
        return t("Let {user} sign in with {identities}", user=self.user, identities=listed)


@dataclass(frozen=True)
class ResetPassword:
    """``POST /_synapse/admin/v1/reset_password/<user_id>``; not there under MAS.

    ``logout_devices`` also ends every session, and with it the keys that only a device had.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    password: Secret
    logout_devices: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/reset_password/{}", self.user),
            body={"new_password": self.password, "logout_devices": self.logout_devices},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.logout_devices:
            return t("Give {user} a new password and end all sessions", user=self.user)
        return t("Give {user} a new password; sessions go on", user=self.user)


@dataclass(frozen=True, kw_only=True)
class PutUser:
    """``PUT /_synapse/admin/v2/users/<user_id>``: make or change an account in one call.

    What is ``None`` is left alone; ``threepids`` and ``external_ids`` replace all there are. It
    may set the admin flag and open a closed account, so it needs the right that goes furthest.
    """

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    new: bool
    password: Secret | None = None
    display_name: str | None = None
    user_type: str | None = None
    admin: bool | None = None
    reopen: bool = False
    threepids: tuple[ThirdPartyId, ...] | None = None
    external_ids: tuple[ExternalId, ...] | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        given: dict[str, object] = {
            "password": self.password,
            "displayname": self.display_name,
            "user_type": self.user_type,
            "admin": self.admin,
            "deactivated": False if self.reopen else None,
        }
        if self.threepids is not None:
            given["threepids"] = [_threepid(one) for one in self.threepids]
        if self.external_ids is not None:
            given["external_ids"] = [_external_id(one) for one in self.external_ids]
        body = {name: value for name, value in given.items() if value is not None}
        return put_user(self.user, body)

    def read_response(self, body: Json) -> UserDetails:
        """Return the account."""
        return read_details(body)

    def describe(self) -> Msg:
        """Return what it does."""
        if self.new:
            return t("Create the account {user}", user=self.user)
        if self.reopen:
            return t("Open the account of {user} again", user=self.user)
        return t("Change the account of {user}", user=self.user)


def put_user(user: UserId, body: Mapping[str, object]) -> HttpChange:
    """Return the call that changes of an account what the body names."""
    return HttpChange(method="PUT", path=path("/_synapse/admin/v2/users/{}", user), body=body)


def read_details(body: Json) -> UserDetails:
    """Return the account as it is after a change."""
    return msgspec.convert(body, UserDetails, strict=False)


def _threepid(one: ThirdPartyId) -> Json:
    return {"medium": one.medium, "address": one.address}


def _external_id(one: ExternalId) -> Json:
    return {"auth_provider": one.auth_provider, "external_id": one.external_id}
