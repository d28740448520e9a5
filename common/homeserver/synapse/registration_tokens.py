"""Tokens with which people may make accounts. Not there under MAS, which has its own."""

from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from common.config.secret import Secret
from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.i18n import Msg, t


class RegistrationToken(msgspec.Struct, frozen=True):
    """One token. ``pending`` registrations have begun, ``completed`` ones made an account.

    ``uses_allowed`` is ``None`` where there is no limit, ``expiry_time`` milliseconds or ``None``.
    """

    token: str
    uses_allowed: int | None = None
    pending: int = 0
    completed: int = 0
    expiry_time: int | None = None

    def valid_at(self, now_ms: int) -> bool:
        """Say whether somebody could begin to register with it at a moment."""
        if self.expiry_time is not None and self.expiry_time < now_ms:
            return False
        # 0 is any number (Synapse 1.163, ``registration_token_is_valid``).
        return not self.uses_allowed or self.pending + self.completed < self.uses_allowed


class _Tokens(msgspec.Struct, frozen=True):
    registration_tokens: tuple[RegistrationToken, ...]


@dataclass(frozen=True)
class ListRegistrationTokens:
    """``GET /_synapse/admin/v1/registration_tokens``: valid ones, the others, or all."""

    permission: ClassVar = Permission.VIEW

    valid: bool | None = None

    def to_http(self) -> HttpGet:
        """Return the call."""
        query = {} if self.valid is None else {"valid": "true" if self.valid else "false"}
        return HttpGet(path="/_synapse/admin/v1/registration_tokens", query=query)

    def read_response(self, body: Json) -> tuple[RegistrationToken, ...]:
        """Return the tokens; there are no pages."""
        return msgspec.convert(body, _Tokens).registration_tokens


@dataclass(frozen=True)
class GetRegistrationToken:
    """``GET /_synapse/admin/v1/registration_tokens/<token>``."""

    permission: ClassVar = Permission.VIEW

    token: str

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_ONE, self.token))

    def read_response(self, body: Json) -> RegistrationToken:
        """Return the token; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, RegistrationToken)


@dataclass(frozen=True, kw_only=True)
class CreateRegistrationToken:
    """``POST /_synapse/admin/v1/registration_tokens/new``.

    ``token`` is 1 to 64 of ``A-Za-z0-9._~-``; without it the homeserver makes one of ``length``.
    Refused (400) if it exists or if ``expires_ms`` has passed. 0 uses are any number to Synapse.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = False

    token: Secret | None = None
    length: int = 16
    uses_allowed: int | None = None
    expires_ms: int | None = None

    def to_http(self) -> HttpChange:
        """Return the call."""
        named: dict[str, object] = (
            {"length": self.length} if self.token is None else {"token": self.token}
        )
        limits = {"uses_allowed": self.uses_allowed, "expiry_time": self.expires_ms}
        return HttpChange(
            method="POST",
            path="/_synapse/admin/v1/registration_tokens/new",
            body={**named, **limits},
        )

    def read_response(self, body: Json) -> RegistrationToken:
        """Return the token."""
        return msgspec.convert(body, RegistrationToken)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Make a registration token")


@dataclass(frozen=True, kw_only=True)
class UpdateRegistrationToken:
    """``PUT /_synapse/admin/v1/registration_tokens/<token>``.

    Both limits are set, ``None`` meaning none: give what shall stay as it is now.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    token: str = field(repr=False)
    uses_allowed: int | None
    expires_ms: int | None

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path(_ONE, self.token),
            body={"uses_allowed": self.uses_allowed, "expiry_time": self.expires_ms},
        )

    def read_response(self, body: Json) -> RegistrationToken:
        """Return the token as it is now; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, RegistrationToken)

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Change the limits of the registration token {token}", token=masked(self.token))


@dataclass(frozen=True)
class DeleteRegistrationToken:
    """``DELETE /_synapse/admin/v1/registration_tokens/<token>``; its counts are gone with it."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.REVERSIBLE
    idempotent: ClassVar = False  # the second time it is NotFoundError

    token: str = field(repr=False)

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(method="DELETE", path=path(_ONE, self.token))

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Delete the registration token {token}", token=masked(self.token))


def masked(token: str) -> str:
    """Return a token's beginning, enough to tell it from others and too little to use it."""
    return f"{token[: min(3, len(token) // 3)]}…"


_ONE = "/_synapse/admin/v1/registration_tokens/{}"
