"""Records → messages as people saw them and as they were: originals, edits, deletions, reactions.

The promise kept: nothing is shown without what became of it, and nothing that somebody changed
hides what was there before.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from auditbot.reader.index.build import root_key
from auditbot.reader.index.library import Library, Stored, detail_of
from auditbot.reader.layout import server_of
from auditbot.reader.said import edit_text
from auditbot.reader.sealed import unopened

Json = dict[str, Any]

_GONE = frozenset({"arrived_redacted", "recovered_unredacted"})
"""What had been deleted before it was archived, and may be there all the same."""
_NO_MESSAGE = frozenset({"m.room.redaction", "m.reaction"})
CLEAR_EDIT = "edit that is NOT ENCRYPTED, although the message is"


@dataclass(frozen=True)
class Reaction:
    """A reaction, and its deletion if it was taken back."""

    stored: Stored
    taken_back: Stored | None = None

    @property
    def key(self) -> str:
        """Return what was reacted with."""
        return str(self.stored.record.get("reaction_key") or "?")


@dataclass(frozen=True)
class Edit:
    """A later version of a message."""

    stored: Stored
    late: Stored | None = None
    deleted: Stored | None = None
    media: tuple[Stored, ...] = ()

    @property
    def said(self) -> Json:
        """Return the record that holds the text, which may have been read later."""
        return (self.late or self.stored).record

    @property
    def is_readable(self) -> bool:
        """Return whether it could be read, at once or later, and can be read here."""
        return is_readable(self.stored.record, self.late) and unopened(self.said) is None


@dataclass(frozen=True)
class Receipt:
    """That somebody has read up to a message, or up to what was made of it.

    ``of`` is what the receipt names: ``""`` for the message, ``edit``, ``reaction``, ``deletion``.
    """

    stored: Stored
    of: str = ""

    @property
    def type(self) -> str:
        """Return the receipt's type."""
        return str(detail_of(self.stored.record).get("receipt_type") or "")


@dataclass
class Message:
    """All that belongs to one event, or to one gap.

    ``first`` is ``None`` if the event itself is not archived.
    """

    root: int
    first: Stored | None = None
    late: Stored | None = None
    edits: list[Edit] = field(default_factory=list)
    deletions: list[Stored] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    media: list[Stored] = field(default_factory=list)
    others: list[Stored] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    archives: tuple[str, ...] = ()
    """In which servers' archives it is, where the index has several of them."""
    closed: Stored | None = None
    """The end of a gap."""

    @cached_property
    def record(self) -> Json:
        """Return the record of the event, or what is there of it."""
        for stored in (self.first, self.closed, *self.others, *self.deletions):
            if stored is not None:
                return stored.record
        edits = [edit.stored.record for edit in self.edits]
        reactions = [reaction.stored.record for reaction in self.reactions]
        others = [other.record for other in self.others]
        receipts = [receipt.stored.record for receipt in self.receipts]
        return (edits + reactions + others + receipts + [{}])[0]

    @property
    def is_original_missing(self) -> bool:
        """Return whether there is only what others made of it, later."""
        return self.first is None and self.closed is None and not self.others

    @property
    def said(self) -> Json:
        """Return the record that holds the text, which may have been read later."""
        return self.late.record if self.late is not None else self.record

    @property
    def is_readable(self) -> bool:
        """Return whether the event could be read, at once or later, and can be read here."""
        return is_readable(self.record, self.late) and unopened(self.said) is None

    @property
    def is_deleted(self) -> bool:
        """Return whether somebody deleted it, before or after it was archived."""
        return bool(self.deletions) or self.record.get("content_state") in _GONE

    @property
    def is_state(self) -> bool:
        """Return whether it is no message but says something of the room."""
        return self.record.get("state_key") is not None

    @property
    def text(self) -> str | None:
        """Return the original text, ``None`` if there is none or it is not archived."""
        body = self.said.get("body")
        is_edit = self.first is None and self.said.get("edit_of") is not None
        return None if body is None or is_edit else str(body)

    @property
    def latest_text(self) -> str | None:
        """Return the text after the author's edits, as clients show it."""
        for edit in reversed(self.edits):
            if edit.deleted is None and edit.said.get("body") is not None and self._is_shown(edit):
                return edit_text(edit.said)
        return self.text

    def is_by_author(self, edit: Edit) -> bool | None:
        """Return whether the author made an edit; clients ignore one by somebody else.

        ``None`` if nobody can tell, because the original is not archived. What the writer says of
        it is not enough to believe it: it may not have had the original then, and looked at the
        sender only.
        """
        if edit.stored.record.get("edit_valid") is False:
            return False
        original = self.first or self.late
        return None if original is None else _is_of_same(original.record, edit.stored.record)

    def doubt_of(self, edit: Edit) -> str:
        """Return why an edit is not what the author made of the message, "" if it is."""
        is_by_author = self.is_by_author(edit)
        if is_by_author is None:
            return "edit of a message that is not archived in this room"
        if not is_by_author:
            return "edit by somebody else"
        if edit.stored.record.get("edit_of") != self.record.get("event_id"):
            return "edit of an edit, which clients ignore"
        if self._is_encrypted and edit.stored.record.get("enc_status") == "clear":
            # A homeserver could have written it; the sender's device vouches for nothing.
            return CLEAR_EDIT
        return ""

    @property
    def _is_encrypted(self) -> bool:
        return self.record.get("enc_status") in {"decrypted", "undecryptable"}

    def _is_shown(self, edit: Edit) -> bool:
        """Return whether an edit is what the one who is named as the sender has said."""
        is_by_author = self.is_by_author(edit)
        if is_by_author is None:
            return _is_of_same(self.record, edit.stored.record)
        return not self.doubt_of(edit)

    @property
    def time_ms(self) -> int:
        """Return when it was received, by which messages are ordered."""
        received = self.record.get("ts_received")
        return received if isinstance(received, int) else 0

    @property
    def records(self) -> list[Stored]:
        """Return every record that it is made of, in the order of the archive."""
        found = [self.first, self.late, self.closed, *self.media, *self.deletions, *self.others]
        found += [receipt.stored for receipt in self.receipts]
        for edit in self.edits:
            found += [edit.stored, edit.late, edit.deleted, *edit.media]
        for reaction in self.reactions:
            found += [reaction.stored, reaction.taken_back]
        there = {stored.id: stored for stored in found if stored is not None}
        return [there[id_] for id_ in sorted(there)]


def _is_of_same(first: Json, second: Json) -> bool:
    """Return whether two events have the same sender and room."""
    return all(
        first.get(name) is not None and first.get(name) == second.get(name)
        for name in ("sender", "room_id")
    )


def is_readable(first: Json, late: Stored | None) -> bool:
    """Return whether an event could be read by the archive, at once or later."""
    return late is not None or first.get("enc_status") != "undecryptable"


def load(library: Library, roots: Sequence[int]) -> list[Message]:
    """Return the messages of these roots, in their order; a negative one is a single record."""
    parts = _parts(library, [root for root in roots if root >= 0])
    messages = []
    for root in roots:
        if root >= 0:
            messages.append(_message(root, parts.get(root, [])))
        else:
            messages.append(Message(root, others=list(library.stored([-root]))))
    if library.has_several_servers:
        for message in messages:
            found = {server_of(stored.key) for stored in message.records}
            message.archives = tuple(sorted(filter(None, found)))
    return messages


def _parts(library: Library, roots: Sequence[int]) -> dict[int, list[Stored]]:
    pairs = library.by_roots(roots)
    groups: dict[int, list[Stored]] = defaultdict(list)
    for (root, _), stored in zip(pairs, library.stored(id_ for _, id_ in pairs), strict=True):
        groups[root].append(stored)
    return groups


def _message(root: int, group: Iterable[Stored]) -> Message:
    message = Message(root)
    inner: list[Stored] = []
    """What deletes an edit or a reaction."""
    receipts: list[Stored] = []
    lists = {
        "media": message.media,
        "deletion": message.deletions,
        "inner deletion": inner,
        "receipt": receipts,
    }
    later: dict[int, Stored] = {}
    reactions: list[tuple[int, Stored]] = []
    edits: list[tuple[int, Stored]] = []
    for stored in group:
        own = _target(stored, "event_id")
        match _part(stored, root, is_own=own == root):
            case "closing":
                message.closed = stored
            case "original":
                _add_original(message, stored)
            case "decryption":
                later.setdefault(own, stored)
            case "edit":
                edits.append((own, stored))
            case "reaction":
                reactions.append((own, stored))
            case part:
                lists.get(part, message.others).append(stored)
    message.late = later.get(root)
    gone = {_target(item, "redacts"): item for item in reversed(inner)}
    message.edits = [
        _edit(stored, later.get(own), _deletion(stored, gone.get(own)), message)
        for own, stored in edits
    ]
    message.reactions = [
        Reaction(stored, _deletion(stored, gone.get(own))) for own, stored in reactions
    ]
    message.others += inner
    message.receipts = list(_receipts(message, receipts))
    return message


def _edit(stored: Stored, late: Stored | None, deleted: Stored | None, message: Message) -> Edit:
    """Return an edit; what became of its own attachment is not of the message's."""
    places = {(item.stream, item.seq) for item in (stored, late) if item is not None}
    media = tuple(item for item in message.media if _of(item) in places)
    message.media = [item for item in message.media if item not in media]
    return Edit(stored, late, deleted, media)


def _of(stored: Stored) -> tuple[str, object]:
    """Return stream and number of the record that another one speaks of."""
    stream = detail_of(stored.record).get("of_stream") or stored.record.get("stream")
    return str(stream), stored.record.get("of_seq")


def _target(stored: Stored, name: str) -> int:
    """Return what a record names, as the index knows it: a message, or what belongs to one."""
    room_id = stored.record.get("room_id")
    return root_key(str(stored.record.get(name)), None if room_id is None else str(room_id))


def _add_original(message: Message, stored: Stored) -> None:
    if message.first is None:
        message.first = stored
    elif server_of(stored.key) != server_of(message.first.key):
        # What another server recorded of the event; it may say something else.
        message.others.append(stored)


_PARTS = {
    "decryption": "decryption",
    "media": "media",
    "gap": "original",
    "gap_closed": "closing",
    "receipt": "receipt",
}


def _part(stored: Stored, root: int, *, is_own: bool) -> str:
    """Return what a record is to the message that it belongs to."""
    record = stored.record
    kind = record.get("kind")
    if kind != "event":
        return _PARTS.get(str(kind), "other")
    if record.get("redacts") is not None:
        return "deletion" if _target(stored, "redacts") == root else "inner deletion"
    if is_own:
        return "original"
    if record.get("edit_of") is not None:
        return "edit"
    is_reaction = record.get("event_type") == "m.reaction"
    return "reaction" if is_reaction and _target(stored, "rel_event_id") == root else "other"


def _receipts(message: Message, receipts: Iterable[Stored]) -> Iterator[Receipt]:
    """Yield the receipts of a message, and which name an edit, a reaction or a deletion of it."""
    parts = {_target(edit.stored, "event_id"): "edit" for edit in message.edits}
    parts |= {_target(one.stored, "event_id"): "reaction" for one in message.reactions}
    parts |= {_target(stored, "event_id"): "deletion" for stored in message.deletions}
    for stored in receipts:
        yield Receipt(stored, parts.get(_target(stored, "event_id"), ""))


def _deletion(stored: Stored, found: Stored | None) -> Stored | None:
    """Return what deleted an edit or a reaction, its own record if that alone tells of it."""
    return stored if found is None and stored.record.get("content_state") in _GONE else found


def is_act(record: Json) -> bool:
    """Return whether a record is of something done rather than said."""
    return record.get("state_key") is not None or record.get("event_type") in _NO_MESSAGE
