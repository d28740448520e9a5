"""What an account may do beside the ordinary: limits, shadow bans, tokens, time windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.config.secret import Secret
from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg, t
from common.ids import UserId


class RateLimit(msgspec.Struct, frozen=True):
    """A limit of somebody's own; 0 and 0 mean none at all."""

    messages_per_second: int
    burst_count: int


class _Token(msgspec.Struct, frozen=True):
    access_token: str


class _Window(msgspec.Struct, frozen=True):
    updatable_without_uia_before_ms: int


class _Expiry(msgspec.Struct, frozen=True):
    expiration_ts: int


@dataclass(frozen=True)
class GetRateLimit:
    """``GET /_synapse/admin/v1/users/<user_id>/override_ratelimit``."""

    permission: ClassVar = Permission.VIEW

    user: UserId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_LIMIT, self.user))

    def read_response(self, body: Json) -> RateLimit | None:
        """Return the limit; ``None`` where everybody's applies."""
        return msgspec.convert(body, RateLimit) if body else None


@dataclass(frozen=True)
class SetRateLimit:
    """``POST /_synapse/admin/v1/users/<user_id>/override_ratelimit``; 0 and 0 mean no limit."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    messages_per_second: int
    burst_count: int

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path(_LIMIT, self.user),
            body={
                "messages_per_second": self.messages_per_second,
                "burst_count": self.burst_count,
            },
        )

    def read_response(self, body: Json) -> RateLimit:
        """Return the limit."""
        return msgspec.convert(body, RateLimit)

    def describe(self) -> Msg:
        """Return what it does."""
        if not self.messages_per_second:
            return t("Lift every rate limit for {user}", user=self.user)
        return t(
            "Limit {user} to {rate} messages a second, {burst} at once",
            user=self.user,
            rate=self.messages_per_second,
            burst=self.burst_count,
        )


@dataclass(frozen=True)
class ClearRateLimit:
    """``DELETE /_synapse/admin/v1/users/<user_id>/override_ratelimit``."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(method="DELETE", path=path(_LIMIT, self.user))

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Let everybody's rate limit apply to {user}", user=self.user)


@dataclass(frozen=True)
class ShadowBanUser:
    """``POST /_synapse/admin/v1/users/<user_id>/shadow_ban``.

    To lift it, ``DELETE /_synapse/admin/v1/users/<user_id>/shadow_ban``. A shadow-banned account is told that all goes well, and reaches nobody.
    """

    permission: ClassVar = Permission.MODERATE
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    banned: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST" if self.banned else "DELETE",
            path=path("/_synapse/admin/v1/users/{}/shadow_ban", self.user),
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        if self.banned:
            return t("Shadow-ban {user}: what they do reaches nobody", user=self.user)
        return t("Lift the shadow ban of {user}", user=self.user)


@dataclass(frozen=True)
class LogInAs:
    """``POST /_synapse/admin/v1/users/<user_id>/login``; not there under MAS.

    The token has no device, so it reads nothing that is encrypted, and shows in no list of
    sessions: only its own ``/logout`` or ``valid_until_ms`` ends it. Synapse counts the use as
    the person's activity.
    """

    permission: ClassVar = Permission.OWN
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False

    user: UserId
    valid_until_ms: int

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v1/users/{}/login", self.user),
            body={"valid_until_ms": self.valid_until_ms},
        )

    def read_response(self, body: Json) -> Secret:
        """Return the access token."""
        return Secret(msgspec.convert(body, _Token).access_token)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Make an access token with which to act as {user}", user=self.user)


@dataclass(frozen=True)
class AllowCrossSigningReset:
    """``POST /_synapse/admin/v1/users/<user_id>/_allow_cross_signing_replacement_without_uia``.

    For ten minutes the person may set up a new identity without their password. Refused with
    ``NotFoundError`` if they have none.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId

    def to_http(self) -> HttpChange:
        """Return the call."""
        where = "/_synapse/admin/v1/users/{}/_allow_cross_signing_replacement_without_uia"
        return HttpChange(method="POST", path=path(where, self.user))

    def read_response(self, body: Json) -> int:
        """Return until when, in milliseconds."""
        return msgspec.convert(body, _Window).updatable_without_uia_before_ms

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Let {user} replace their encryption identity for ten minutes", user=self.user)


@dataclass(frozen=True, kw_only=True)
class SetAccountValidity:
    """``POST /_synapse/admin/v1/account_validity/validity``; not there under MAS.

    ``expires_ms`` is when the account ends; ``None`` is the configured period from now, for
    which Synapse must have account validity switched on.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    expires_ms: int | None = None
    renewal_emails: bool = True

    def to_http(self) -> HttpChange:
        """Return the call."""
        body: dict[str, object] = {
            "user_id": self.user,
            "enable_renewal_emails": self.renewal_emails,
        }
        if self.expires_ms is not None:
            body["expiration_ts"] = self.expires_ms
        return HttpChange(
            method="POST", path="/_synapse/admin/v1/account_validity/validity", body=body
        )

    def read_response(self, body: Json) -> int:
        """Return when the account ends, in milliseconds."""
        return msgspec.convert(body, _Expiry).expiration_ts

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Set how long the account of {user} is valid", user=self.user)


@dataclass(frozen=True)
class SetExperimentalFeatures:
    """``PUT /_synapse/admin/v1/experimental_features/<user_id>``; those not named stay."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    features: Mapping[str, bool]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path("/_synapse/admin/v1/experimental_features/{}", self.user),
            body={"features": dict(self.features)},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        on = ", ".join(sorted(name for name, on in self.features.items() if on))
        off = ", ".join(sorted(name for name, on in self.features.items() if not on))
        if not off:
            return t("Switch {features} on for {user}", features=on, user=self.user)
        if not on:
            return t("Switch {features} off for {user}", features=off, user=self.user)
        return t("Switch {on} on and {off} off for {user}", on=on, off=off, user=self.user)


_LIMIT = "/_synapse/admin/v1/users/{}/override_ratelimit"
