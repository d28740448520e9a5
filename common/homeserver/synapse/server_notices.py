"""Notices from the server itself to single people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from common.homeserver.port import Danger, HttpChange, Json, Permission, path
from common.i18n import Msg, t
from common.ids import EventId, UserId


class _Sent(msgspec.Struct, frozen=True):
    event_id: EventId


@dataclass(frozen=True, kw_only=True)
class SendServerNotice:
    """``PUT /_synapse/admin/v1/send_server_notice/<txn_id>`` to a local person.

    Refused (400) unless ``server_notices`` is configured. Under one transaction ID a notice is
    sent once, but Synapse remembers them for half an hour to an hour only, and not over its own
    restart: who sends to many must keep by themselves to whom they have.
    """

    permission: ClassVar = Permission.MANAGE
    danger: ClassVar = Danger.NONE
    idempotent: ClassVar = True

    user: UserId
    content: Mapping[str, Any]
    txn_id: str
    type: str = "m.room.message"

    def to_http(self) -> HttpChange:
        """Return the call."""
        return HttpChange(
            method="PUT",
            path=path("/_synapse/admin/v1/send_server_notice/{}", self.txn_id),
            body={"user_id": self.user, "type": self.type, "content": dict(self.content)},
        )

    def read_response(self, body: Json) -> EventId:
        """Return the notice's event."""
        return msgspec.convert(body, _Sent).event_id

    def describe(self) -> Msg:
        """Return what it does."""
        return t("Send {user} a notice from the server", user=self.user)
