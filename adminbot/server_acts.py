"""Acts on the whole server that take more than one call, each safe to repeat.

Joining somebody who may be in already, and notices from the server that arrive once even if we
or the homeserver are killed at any moment.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adminbot.own.notices import CopyFor, MarkCopy, NoticeContent
from adminbot.own_records import OwnRecords
from common.errors import TransientError, UserError
from common.homeserver.client_server.messages import RedactEvent
from common.homeserver.errors import NotAllowedError, NotFoundError, RefusedError, SwitchedOffError
from common.homeserver.port import ChangeRequest, ReadRequest, T
from common.homeserver.synapse.room_content import FetchEvent, ReadMessages
from common.homeserver.synapse.rooms import GetRoom
from common.homeserver.synapse.server_notices import SendServerNotice
from common.homeserver.synapse.user_lookup import GetMemberships
from common.homeserver.synapse.users import JoinUser
from common.i18n import t
from common.ids import EventId, RoomId, UserId
from common.matrix.power import version_number

MARK = "org.matrix-steward.notice"
"""The field of a notice that has its name (``id``) and whom it is for (``to``), to be found by."""
_FEW = 5
_BAD_REQUEST = 400
_MOST_ROOMS = 200
_LAST_MESSAGES = 30
# Room version 11 (MSC2174): what is redacted stands in the content.
_REDACTS_IN_CONTENT_FROM = 11


class Admin(Protocol):
    """The administration API, both halves."""

    async def read(self, request: ReadRequest[T]) -> T:
        """Ask."""
        ...

    async def change(self, request: ChangeRequest[T]) -> T:
        """Do."""
        ...


@dataclass(frozen=True)
class ServerActs:
    """The acts."""

    admin: Admin
    records: OwnRecords

    async def ensure_joined(self, user: UserId, room: RoomId) -> None:
        """Have a local account in a room.

        Raises:
            UserError: they are banned there, or we lack the power to bring them in.
        """
        memberships = await self.admin.read(GetMemberships(user))
        if memberships.get(room) == "join":
            return
        if memberships.get(room) == "ban":
            raise UserError(t("{user} is banned from {room}.", user=user, room=room))
        try:
            await self.admin.change(JoinUser(user=user, room=room))
        except NotAllowedError:
            if (await self.admin.read(GetMemberships(user))).get(room) != "join":
                raise

    async def tell_as_server(self, user: UserId, text: str, *, name: str) -> None:
        """Send a plain notice from the server; the same name and text go to somebody once."""
        content = {"msgtype": "m.text", "body": text, "m.mentions": {}}
        txn = _txn(name, user, hashlib.sha256(text.encode()).hexdigest())
        await self._as_server(SendServerNotice(user=user, content=content, txn_id=txn))

    async def send_notice(self, notice: str, user: UserId) -> None:
        """Send a notice that was kept to one person, once.

        Raises:
            TransientError: it is not kept yet, or the homeserver is away.
            SwitchedOffError: the homeserver is not set up to send any.
        """
        copy = await self.records.read(CopyFor(notice, user))
        if copy is not None and copy.status != "sending":
            return
        content, _ = await self._content(notice, 0)
        # Under the same transaction ID the homeserver sends it once as long as it runs. If we
        # were cut short it may have been killed too, so look.
        sent = None if copy is None else await self._found(notice, user)
        if sent is None:
            await self._mark(MarkCopy(notice, user, "sending"))
            sent = await self._send(notice, user, content)
        await self._mark(MarkCopy(notice, user, "sent", sent))

    async def edit_notice(self, notice: str, user: UserId, revision: int) -> None:
        """Replace what one person was told by what is kept now."""
        copy = await self.records.read(CopyFor(notice, user))
        if copy is None or copy.status != "sent" or copy.event is None:
            return
        content, _ = await self._content(notice, revision)
        edit = {
            **content,
            "body": f"* {content.get('body', '')}",
            "m.new_content": dict(content),
            "m.relates_to": {"rel_type": "m.replace", "event_id": copy.event},
        }
        txn = _txn(f"edit-{revision}", user, notice)
        await self._as_server(SendServerNotice(user=user, content=edit, txn_id=txn))

    async def recall_notice(self, notice: str, user: UserId) -> None:
        """Redact what one person was told."""
        copy = await self.records.read(CopyFor(notice, user))
        if copy is None or copy.event is None or copy.status == "recalled":
            return
        try:
            room = RoomId(str((await self.admin.read(FetchEvent(copy.event)))["room_id"]))
            version = (await self.admin.read(GetRoom(room))).version
        except NotFoundError:
            await self._mark(MarkCopy(notice, user, "recalled"))  # gone with its room
            return
        txn = _txn("recall", user, notice)
        if version_number(version) >= _REDACTS_IN_CONTENT_FROM:
            # As the sender itself: this needs no power of ours in the room.
            await self._as_server(
                SendServerNotice(
                    user=user,
                    type="m.room.redaction",
                    content={"redacts": copy.event},
                    txn_id=txn,
                )
            )
        else:
            await self.admin.change(RedactEvent(room=room, event=copy.event, txn_id=txn))
        await self._mark(MarkCopy(notice, user, "recalled"))

    async def _content(self, notice: str, revision: int) -> tuple[Mapping[str, Any], int]:
        kept = await self.records.read(NoticeContent(notice))
        if kept is None or kept[1] < revision:
            # The step that keeps it is taken at the same time as the first ones that send it.
            raise TransientError(t("The notice is not kept yet."))
        return kept

    async def _send(self, notice: str, user: UserId, content: Mapping[str, Any]) -> EventId:
        request = SendServerNotice(
            user=user,
            content={**content, MARK: _mark_of(notice, user)},
            txn_id=_txn("notice", user, notice),
        )
        try:
            return await self._as_server(request)
        except (RefusedError, SwitchedOffError):
            await self._mark(MarkCopy(notice, user, ""))
            raise

    async def _as_server(self, request: SendServerNotice) -> EventId:
        try:
            return await self.admin.change(request)
        except RefusedError as error:
            if not notices_are_off(error):
                raise
            raise SwitchedOffError(
                t(
                    "This homeserver sends no notices. Set {setting} in homeserver.yaml, and "
                    "restart it.",
                    setting="server_notices",
                )
            ) from error

    async def _found(self, notice: str, user: UserId) -> EventId | None:
        """Look for a notice in somebody's small rooms, where an earlier attempt left it."""
        mark = _mark_of(notice, user)
        memberships = await self.admin.read(GetMemberships(user))
        rooms = [room for room, kind in memberships.items() if kind in {"join", "invite"}]
        for room in rooms[:_MOST_ROOMS]:
            try:
                if (await self.admin.read(GetRoom(room))).joined_members > _FEW:
                    continue
                page = await self.admin.read(ReadMessages(room=room, limit=_LAST_MESSAGES))
            except RefusedError:
                continue
            for event in page.chunk:
                if event.content.get(MARK) == mark and event.sender != user:
                    return event.event_id
        return None

    async def _mark(self, change: MarkCopy) -> None:
        async with self.records.database.transaction() as connection:
            await self.records.apply(connection, change)


def notices_are_off(error: RefusedError) -> bool:
    """Say whether a notice was refused because the homeserver is not set up to send any."""
    # Synapse has no code of its own for it (synapse/rest/admin/server_notice_servlet.py).
    return error.status == _BAD_REQUEST and "not enabled" in error.message


def _mark_of(notice: str, user: UserId) -> dict[str, str]:
    # With the person: the homeserver may tell several in one room that they share with it.
    return {"id": notice, "to": user}


def _txn(what: str, user: UserId, about: str) -> str:
    digest = hashlib.sha256(f"{what} {user} {about}".encode()).hexdigest()[:32]
    return f"steward-{digest}"
