"""Saying something: to a room or a person, in their language, with files, once.

The promise: the same key is sent once only, however often it is tried; what is private is seen
by one person alone and taken back after a while.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from adminbot.engine.answer import Answer, Button, File
from adminbot.engine.render import notice
from adminbot.facts import Facts
from adminbot.outgoing import outgoing
from adminbot.own.people import LanguageOf, Style, StyleOf
from adminbot.own_records import OwnRecords
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.port import AdminReader, AdminWriter, Grant
from common.homeserver.synapse.media_changes import DeleteMedia
from common.homeserver.synapse.users import ListUserRooms
from common.i18n import SOURCE, Language, languages
from common.ids import EventId, RoomId, UserId
from common.matrix.client import CLIENT, segment
from common.matrix.messenger import OutgoingFile
from common.telemetry.log import Log

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
MOST_ROOMS_LOOKED_AT = 100
BUTTONS_LIVE_MS = 14 * 86_400_000

log = Log("adminbot")


_T = TypeVar("_T")


class Admin(AdminReader, Protocol):
    """The administration API, for what a look needs and for deleting files of our own."""

    def executing_for(self, grant: Grant) -> AdminWriter:
        """Return the changing half."""
        ...


class Messenger(Protocol):
    """What is needed of ``common.matrix.messenger.Messenger``."""

    async def send(
        self,
        room_id: RoomId,
        content: dict[str, Any],
        *,
        txn_id: str,
        event_type: str = "m.room.message",
        also: Sequence[UserId] = (),
    ) -> EventId:
        """Send, encrypted where the room is; once for each ``txn_id``."""
        ...

    async def edit(
        self, room_id: RoomId, event_id: EventId, content: dict[str, Any], *, txn_id: str
    ) -> EventId:
        """Replace a message of ours."""
        ...

    async def upload_file(self, room_id: RoomId, file: OutgoingFile) -> dict[str, Any]:
        """Upload a file, encrypted if the room is; return the content of its message."""
        ...


class Sender(Protocol):
    """What is needed of ``common.matrix.client.MatrixClient``."""

    async def send(
        self, room_id: RoomId, event_type: str, content: dict[str, Any], txn_id: str
    ) -> EventId:
        """Send an event as it is; once for each ``txn_id``."""
        ...

    async def request(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send one request."""
        ...


@dataclass(frozen=True)
class Sent:
    """A message of ours; ``media``: where the file that it brought is kept."""

    event: EventId
    media: str | None = None


@dataclass(frozen=True)
class Telling:
    """The way to rooms and people. ``secrets_kept_ms``: after that what is private goes."""

    messenger: Messenger
    client: Sender
    facts: Facts
    admin: Admin
    records: OwnRecords
    database: Database
    clock: Clock
    default_language: str = SOURCE.code
    secrets_kept_ms: int = 600_000
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def language_of(self, user: UserId | None) -> Language:
        """Return in which language to speak to somebody, or to a room."""
        chosen = None if user is None else await self.records.read(LanguageOf(user))
        known = languages()
        return known.get(chosen or self.default_language, SOURCE)

    async def style_of(self, user: UserId) -> Style:
        """Return how somebody wants to be answered."""
        return await self.records.read(StyleOf(user))

    async def to_room(
        self,
        room: RoomId,
        said: Answer,
        *,
        key: str,
        language: Language = SOURCE,
        relation: Mapping[str, Any] | None = None,
        also: Sequence[UserId] = (),
        plain: bool = False,
    ) -> EventId:
        """Say something in a room, with some patience; return the message with the words."""
        content = notice(said, relation, language=language, plain=plain)

        async def send() -> EventId:
            return await self.messenger.send(room, content, txn_id=key, also=also)

        sent = await self._patiently(send)
        await self.files_to_room(room, said.files, key=key, relation=relation, also=also)
        await self._offer(room, sent, said.buttons, key, thread=_thread(relation))
        return sent

    async def files_to_room(
        self,
        room: RoomId,
        files: Sequence[File],
        *,
        key: str,
        relation: Mapping[str, Any] | None = None,
        also: Sequence[UserId] = (),
    ) -> None:
        """Send files into a room, with some patience."""
        for number, file in enumerate(files):
            await self.file(room, file, f"{key}-file{number}", relation, also)

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        """Say something to one person alone; the chat is made if there is none."""
        room = await self.direct_chat(user)
        language = await self.language_of(user)
        plain = (await self.style_of(user)).plain
        return await self.to_room(
            room, said, key=key, language=language, also=(user,), plain=plain
        )

    async def to_admins(self, said: Answer, *, key: str, leave_out: UserId | None = None) -> None:
        """Tell the server admins: in the admin rooms, or each of them where there are none.

        A room that somebody else reads along in is none at that moment.

        Raises:
            TransientError: not all of them know yet; the same key tells each once only.
        """
        rooms = [
            (number, RoomId(room))
            for number, room in enumerate(self.facts.control_rooms)
            if await self.is_for_admins(RoomId(room))
        ]
        if rooms:
            language = await self.language_of(None)
            for number, room in rooms:
                await self._tolerantly(
                    self.to_room(room, said, key=f"{key}-{number}", language=language)
                )
            return
        for user in await self.facts.people_in_charge():
            if user != leave_out:
                await self._tolerantly(self.to_person(user, said, key=f"{key}-{user}"))

    async def is_for_admins(self, room: RoomId) -> bool:
        """Say whether what is for server admins may be said in a room now, or log that not."""
        if await self.facts.is_for_admins(room):
            return True
        log.warning("an admin room is told nothing, since others may read along", room=room)
        return False

    async def _tolerantly(self, telling: Awaitable[EventId]) -> None:
        """One room that takes no message must not keep the others from knowing."""
        try:
            await telling
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            log.error("an admin could not be told", reason=error)

    async def in_private(
        self, room: RoomId | None, user: UserId, said: Answer, *, key: str
    ) -> RoomId:
        """Say what holds a secret; ``room`` is their direct chat if that is known to be one."""
        if room is None:
            room = await self.direct_chat(user)
        language = await self.language_of(user)
        words, plain = replace(said, files=()), (await self.style_of(user)).plain
        sent = await self.to_room(
            room, words, key=key, language=language, also=(user,), plain=plain
        )
        files = [
            await self.file(room, file, f"{key}-file{number}", None, (user,))
            for number, file in enumerate(said.files)
        ]
        await self.take_back_later(room, (Sent(sent), *files), self.secrets_kept_ms)
        return room

    async def take_back_later(self, room: RoomId, said: Sequence["Sent"], after_ms: int) -> None:
        """Have what holds a secret redacted after a while, and its files deleted."""
        due_ms = self.clock.now_ms() + after_ms
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO admin_redaction (event_id, room_id, due_ms, media)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
                [(each.event, room, due_ms, each.media) for each in said],
            )

    async def take_back_secrets(self) -> None:
        """Redact what was private and has been there long enough."""
        due = await self.database.fetch(
            "SELECT * FROM admin_redaction WHERE due_ms <= $1 ORDER BY due_ms LIMIT 50",
            self.clock.now_ms(),
        )
        for row in due:
            room, event = RoomId(row["room_id"]), EventId(row["event_id"])
            try:
                await self.redact(room, event, key=f"steward-secret-{event}")
                if row["media"] is not None:
                    await self.delete_file(row["media"])
            except TransientError:
                return
            except StewardError as error:
                log.error("a secret could not be taken back", room=room, event=event, reason=error)
            async with self.database.transaction() as connection:
                await connection.execute("DELETE FROM admin_redaction WHERE event_id = $1", event)

    async def redact(self, room: RoomId, event: EventId, *, key: str) -> None:
        """Take a message of ours back."""
        path = f"{CLIENT}/v3/rooms/{segment(room)}/redact/{segment(event)}/{segment(key)}"
        await self.client.request("PUT", path, {})

    async def delete_file(self, uri: str) -> None:
        """Delete a file of ours, which a redaction leaves in the homeserver's media store."""
        server, _, media_id = uri.removeprefix("mxc://").partition("/")
        may = Grant(frozenset({DeleteMedia.permission}))
        with suppress(NotFoundError):
            await self.admin.executing_for(may).change(DeleteMedia(server, media_id))

    async def direct_chat(self, user: UserId) -> RoomId:
        """Return a room in which somebody is alone with us; one is made if there is none."""
        known = await self.database.fetchval(
            "SELECT room_id FROM admin_direct_chat WHERE user_id = $1", user
        )
        if known is not None and await self.facts.alone_with(RoomId(known), user):
            return RoomId(known)
        room = await self._found(user) or await self._made(user)
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_direct_chat (user_id, room_id) VALUES ($1, $2)"
                " ON CONFLICT (user_id) DO UPDATE SET room_id = excluded.room_id",
                user,
                room,
            )
        return room

    async def _found(self, user: UserId) -> RoomId | None:
        theirs = await self.admin.read(ListUserRooms(user))
        for room in theirs[-MOST_ROOMS_LOOKED_AT:]:
            try:
                if await self._suits(room, user):
                    return room
            except RefusedError:
                continue
        return None

    async def _suits(self, room: RoomId, user: UserId) -> bool:
        return await self.facts.speaks_to_us(room) == user and await self.facts.alone_with(
            room, user
        )

    async def _made(self, user: UserId) -> RoomId:
        answer = await self.client.request(
            "POST",
            "/_matrix/client/v3/createRoom",
            {
                "preset": "trusted_private_chat",
                "is_direct": True,
                "invite": [user],
                "initial_state": [
                    {
                        "type": "m.room.encryption",
                        "state_key": "",
                        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
                    }
                ],
            },
        )
        return RoomId(str(answer["room_id"]))

    async def _patiently(self, send: Callable[[], Awaitable[_T]]) -> _T:
        for wait_seconds in WAITS_SECONDS:
            try:
                return await send()
            except TransientError:
                await self.sleep(wait_seconds)
        return await send()

    async def file(
        self,
        room: RoomId,
        file: File,
        key: str,
        relation: Mapping[str, Any] | None,
        also: Sequence[UserId],
    ) -> "Sent":
        """Send a file into a room, with some patience."""
        content = await self._patiently(lambda: self.messenger.upload_file(room, outgoing(file)))
        uri = str(content["url"] if "url" in content else content["file"]["url"])
        if relation is not None:
            content["m.relates_to"] = dict(relation)
        event = await self._patiently(
            lambda: self.messenger.send(room, content, txn_id=key, also=also)
        )
        return Sent(event, uri)

    async def _offer(
        self,
        room: RoomId,
        card: EventId,
        buttons: Sequence[Button],
        key: str,
        *,
        thread: str | None,
    ) -> None:
        """Write the buttons down, then put them under the message.

        The reactions go in clear even in encrypted rooms, as clients send them; losing one
        costs nothing, since anybody may react with the sign themselves.
        """
        if not buttons:
            return
        until_ms = self.clock.now_ms() + BUTTONS_LIVE_MS
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO admin_button (card_id, key, room_id, command, until_ms, thread_id)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (card_id, key) DO NOTHING",
                [(card, each.key, room, each.command, until_ms, thread) for each in buttons],
            )
        for each in buttons:
            await self.react(room, card, each.key, key=f"{key}-{each.key}")

    async def react(self, room: RoomId, about: EventId, sign: str, *, key: str) -> None:
        """Put a reaction under a message; that it is lost costs nothing."""
        relation = {"rel_type": "m.annotation", "event_id": about, "key": sign}
        try:
            await self.client.send(room, "m.reaction", {"m.relates_to": relation}, key)
        except StartOverError:
            raise
        except StewardError as error:
            log.info("a reaction was not sent", room=room, reason=error)


def _thread(relation: Mapping[str, Any] | None) -> str | None:
    """Return the root of the thread that a message is in."""
    found = (relation or {}).get("event_id")
    return found if isinstance(found, str) else None
