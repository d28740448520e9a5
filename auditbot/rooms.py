"""What rooms are like as of their last record, kept over restarts and bounded in memory."""

import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any

import msgspec

from auditbot.pipeline.room_state import Member, RoomContext
from common.database.pool import Connection

MOST_MEMBERS = 100_000
"""Members held in memory, over all cached rooms; a few dozen megabytes."""


class _Stored(msgspec.Struct, frozen=True):
    """The part of a context that is one value of the database."""

    version: str | None
    type: str | None
    name: str | None
    alias: str | None
    encrypted: bool | None
    join_rule: str | None
    history_visibility: str | None
    federated: bool | None
    is_direct: bool | None
    set_at: dict[str, int]


_FIELDS = tuple(field.name for field in msgspec.structs.fields(_Stored))


@dataclass(frozen=True, slots=True)
class _Cached:
    revision: str
    context: RoomContext


class Rooms:
    """The contexts of rooms.

    A cached context is used only while the database names the same random revision, so that a
    transaction that was rolled back leaves nothing behind.
    """

    def __init__(self) -> None:
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._members = 0

    async def load(
        self, connection: Connection, room_ids: Collection[str]
    ) -> dict[str, RoomContext]:
        """Return the contexts of those rooms that are known."""
        if not room_ids:
            return {}
        places = ", ".join(f"${number}" for number in range(1, len(room_ids) + 1))
        rows = await connection.fetch(
            "SELECT room_id, revision, complete, context FROM audit_room"  # noqa: S608  # placeholders and constants only
            f" WHERE room_id IN ({places})",  # placeholders only
            *room_ids,
        )
        contexts: dict[str, RoomContext] = {}
        for row in rows:
            room_id, revision = str(row["room_id"]), str(row["revision"])
            cached = self._cache.get(room_id)
            if cached is None or cached.revision != revision:
                context = await _read(
                    connection, room_id, bytes(row["context"]), complete=bool(row["complete"])
                )
                self._keep(room_id, _Cached(revision, context))
            else:
                self._cache.move_to_end(room_id)
                context = cached.context
            contexts[room_id] = context
        return contexts

    async def save(
        self,
        connection: Connection,
        before: Mapping[str, RoomContext],
        after: Iterable[RoomContext],
    ) -> None:
        """Store the contexts that differ from those loaded."""
        for context in after:
            known = before.get(context.room_id)
            if context is known:
                continue
            revision = secrets.token_hex(8)
            await connection.execute(
                "INSERT INTO audit_room (room_id, revision, complete, context)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (room_id) DO UPDATE SET"
                " revision = excluded.revision, complete = excluded.complete,"
                " context = excluded.context",
                context.room_id,
                revision,
                int(context.complete),
                _write(context),
            )
            await _save_members(connection, context, known.members if known is not None else {})
            self._keep(context.room_id, _Cached(revision, context))

    async def replace(self, connection: Connection, context: RoomContext) -> None:
        """Store a room whose whole state is known, in the place of what was known of it."""
        await connection.execute("DELETE FROM audit_member WHERE room_id = $1", context.room_id)
        await self.save(connection, {}, [context])

    def _keep(self, room_id: str, entry: _Cached) -> None:
        old = self._cache.pop(room_id, None)
        self._members -= len(old.context.members) if old is not None else 0
        self._cache[room_id] = entry
        self._members += len(entry.context.members)
        while self._members > MOST_MEMBERS and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._members -= len(dropped.context.members)


def _write(context: RoomContext) -> bytes:
    values: dict[str, Any] = {name: getattr(context, name) for name in _FIELDS}
    return msgspec.json.encode(values)


async def _read(
    connection: Connection, room_id: str, data: bytes, *, complete: bool
) -> RoomContext:
    rows = await connection.fetch(
        "SELECT user_id, membership, name, since FROM audit_member WHERE room_id = $1", room_id
    )
    # The same people are in many rooms: of each name there is one in memory.
    members = {
        intern(row["user_id"]): Member(
            intern(row["membership"]),
            None if row["name"] is None else intern(row["name"]),
            row["since"],
        )
        for row in rows
    }
    stored = msgspec.json.decode(data, type=_Stored)
    return RoomContext(
        room_id=room_id,
        complete=complete,
        members=members,
        **{name: getattr(stored, name) for name in _FIELDS},
    )


async def _save_members(
    connection: Connection, context: RoomContext, before: Mapping[str, Member]
) -> None:
    if context.members is before:
        return
    changed = [
        (context.room_id, user, who.membership, who.name, who.since)
        for user, who in context.members.items()
        if before.get(user) != who
    ]
    if changed:
        await connection.executemany(
            "INSERT INTO audit_member (room_id, user_id, membership, name, since)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (room_id, user_id) DO UPDATE SET"
            " membership = excluded.membership, name = excluded.name, since = excluded.since",
            changed,
        )
