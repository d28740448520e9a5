"""State events → what a room is like at a point of its history; pure.

Source: Matrix specification v1.18, client-server API, "Room events".
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

from auditbot.pipeline.hostile import INT64, Envelope, JsonObject, clean, key, mapping, string

LONGEST_TEXT = 1024
"""Characters of a name that are kept: it is repeated in every record of the room."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody and a room. ``since`` is the own time of the event that says so.

    Who left stays here: otherwise an older join that is found late would bring them back.
    """

    membership: str
    name: str | None
    since: int


@dataclass(frozen=True)
class RoomContext:
    """A room, as far as it is known. ``complete`` says whether its whole state was seen."""

    room_id: str
    complete: bool = False
    version: str | None = None
    type: str | None = None
    name: str | None = None
    alias: str | None = None
    encrypted: bool | None = None
    join_rule: str | None = None
    history_visibility: str | None = None
    federated: bool | None = None
    is_direct: bool | None = None
    set_at: Mapping[str, int] = field(default_factory=dict)
    """State event type → the own time of the event that set it."""
    members: Mapping[str, Member] = field(default_factory=dict)

    @cached_property
    def joined(self) -> tuple[str, ...]:
        """Return who is joined, sorted."""
        return tuple(
            sorted(user for user, who in self.members.items() if who.membership == "join")
        )

    @cached_property
    def audience_id(self) -> str:
        """Return the name of the set of people who are joined."""
        return hashlib.sha256("\n".join(self.joined).encode()).hexdigest()

    def name_of(self, user: str | None) -> str | None:
        """Return how a member is called in this room."""
        member = self.members.get(key(user or ""))
        return member.name if member is not None else None


def fold(
    context: RoomContext,
    events: Iterable[Envelope],
    *,
    late: bool = False,
    received_ms: int = INT64 - 1,
) -> RoomContext:
    """Return the room after ``events``.

    Args:
        context: the room before them
        events: in the order in which they took effect; what is no state event changes nothing
        late: they were found after others had been seen already, so an event that is older than
            the one in force does not replace it
        received_ms: when they came: none is younger, whatever the sender's server says
    """
    changes: dict[str, Any] = {}
    set_at = dict(context.set_at)
    members = context.members
    for event in events:
        if event.state_key is None or event.content is None:
            continue
        if event.type == "m.room.member":
            # One copy for the whole fold: a room's first state may hold thousands of members.
            members = dict(members) if members is context.members else members
            since = min(event.ts_origin or 0, received_ms)
            who = cast(dict[str, Member], members)
            _fold_member(who, event, event.content, since=since, late=late)
            if _says_direct(event):
                changes["is_direct"] = True
        elif event.state_key == "":
            since = min(event.ts_origin or 0, received_ms)
            _fold_setting(changes, set_at, event, event.content, since=since, late=late)
    if not changes and members is context.members and set_at == context.set_at:
        return context
    return replace(context, **changes, set_at=set_at, members=members)


def completed(context: RoomContext) -> RoomContext:
    """Return a room whose whole state is known: what no event says is the default."""
    return replace(
        context,
        complete=True,
        encrypted=bool(context.encrypted),
        is_direct=bool(context.is_direct),
        join_rule=context.join_rule or "invite",
        history_visibility=context.history_visibility or "shared",
        federated=True if context.federated is None else context.federated,
    )


def short(value: object) -> str | None:
    """Return a clean string of bounded length, ``None`` for anything else."""
    if not isinstance(value, str):
        return None
    # First what nearly all are: this is called dozens of times for every event.
    text = value if value.isascii() and "\0" not in value else clean(value)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT]


def _fold_member(
    members: dict[str, Member],
    event: Envelope,
    content: JsonObject,
    *,
    since: int,
    late: bool,
) -> None:
    user = key(event.state_key or "")
    before = members.get(user)
    if late and before is not None and since < before.since:
        return
    membership = string(content.get("membership"))
    name = short(content.get("displayname")) or None
    if membership in {"join", "invite", "knock"}:
        members[user] = Member(membership, name, since)
    else:
        # A leave or a ban usually carries no name; the one they had is how people knew them.
        known = before.name if before is not None else None
        members[user] = Member("leave", name or known, since)


def _fold_setting(
    changes: dict[str, Any],
    set_at: dict[str, int],
    event: Envelope,
    content: JsonObject,
    *,
    since: int,
    late: bool,
) -> None:
    reader = _READERS.get(event.type or "")
    if reader is None or (late and since < set_at.get(event.type or "", since)):
        return
    set_at[event.type or ""] = since
    changes.update(reader(content))


def _says_direct(event: Envelope) -> bool:
    # Only an invitation says it, and nobody invites themselves; the invited person's own join
    # replaces it. ``unsigned`` is our homeserver's.
    before = mapping(event.unsigned.get("prev_content"))
    return _invites(mapping(event.content), event.sender, event.state_key) or _invites(
        before, event.unsigned.get("prev_sender"), event.state_key
    )


def _invites(content: JsonObject, sender: object, invited: str | None) -> bool:
    return (
        content.get("membership") == "invite"
        and content.get("is_direct") is True
        and sender != invited
    )


def _create(content: JsonObject) -> dict[str, Any]:
    return {
        # Rooms older than room versions say nothing; that means version 1.
        "version": short(content.get("room_version")) or "1",
        "type": short(content.get("type")),
        "federated": content.get("m.federate") is not False,
    }


_READERS: Mapping[str, Callable[[JsonObject], dict[str, Any]]] = {
    "m.room.create": _create,
    "m.room.name": lambda content: {"name": short(content.get("name")) or None},
    "m.room.canonical_alias": lambda content: {"alias": short(content.get("alias")) or None},
    # Encryption cannot be switched off, whatever a later event says.
    "m.room.encryption": lambda _: {"encrypted": True},
    "m.room.join_rules": lambda content: {"join_rule": short(content.get("join_rule"))},
    "m.room.history_visibility": lambda content: {
        "history_visibility": short(content.get("history_visibility"))
    },
}
