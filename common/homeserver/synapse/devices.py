"""Sessions of accounts; ``ListUserDevices`` is with the users. Under MAS sessions live there."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from common.homeserver.port import Danger, HttpChange, HttpGet, Json, Permission, path
from common.homeserver.synapse.users import Device
from common.i18n import Msg, n, t
from common.ids import DeviceId, UserId


@dataclass(frozen=True)
class GetUserDevice:
    """``GET /_synapse/admin/v2/users/<user_id>/devices/<device_id>``."""

    permission: ClassVar = Permission.VIEW

    user: UserId
    device: DeviceId

    def to_http(self) -> HttpGet:
        """Return the call."""
        return HttpGet(path=path(_DEVICE, self.user, self.device))

    def read_response(self, body: Json) -> Device:
        """Return the device; ``NotFoundError`` if there is none."""
        return msgspec.convert(body, Device)


@dataclass(frozen=True)
class RenameUserDevice:
    """``PUT /_synapse/admin/v2/users/<user_id>/devices/<device_id>``."""

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    device: DeviceId
    name: str

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path(_DEVICE, self.user, self.device),
            body={"display_name": self.name},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return t(
            "Name the session {device} of {user} “{name}”",
            device=self.device,
            user=self.user,
            name=self.name,
        )


@dataclass(frozen=True)
class DeleteUserDevices:
    """``POST /_synapse/admin/v2/users/<user_id>/delete_devices``; unknown ones do not matter.

    Keys that only such a device had are lost to the person.
    """

    permission: ClassVar = Permission.SUPPORT
    danger: ClassVar = Danger.IRREVERSIBLE
    idempotent: ClassVar = True

    user: UserId
    devices: tuple[DeviceId, ...]

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="POST",
            path=path("/_synapse/admin/v2/users/{}/delete_devices", self.user),
            body={"devices": list(self.devices)},
        )

    def read_response(self, body: Json) -> None:
        """Return nothing."""

    def describe(self) -> Msg:
        """Return what it does."""
        return n(
            "End {count} session of {user}: {devices}",
            "End {count} sessions of {user}: {devices}",
            len(self.devices),
            user=self.user,
            devices=", ".join(self.devices),
        )


_DEVICE = "/_synapse/admin/v2/users/{}/devices/{}"
