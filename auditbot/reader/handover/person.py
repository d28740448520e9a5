"""All that an archive holds of a person → a zip file that they can read, and that proves itself.

For requests such as those of Art. 15 GDPR: what the person wrote and did, what they attached, and
in which rooms they were when; what others said in them only if it is asked for, because it is
those people's, too.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditbot.reader.conversation import Message, load
from auditbot.reader.handover.cases import Case
from auditbot.reader.handover.package import HandedOver, More, pack
from auditbot.reader.index.context import ordered
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Known, Query, people, search
from auditbot.reader.index.stays import Shared, Stay, stays
from auditbot.reader.render.templates import templates
from auditbot.reader.render.words import one_line
from auditbot.reader.times import moment
from auditbot.reader.transcript.build import Request, Transcript, gather
from auditbot.reader.transcript.html import render, stylesheet
from auditbot.reader.transcript.subject import Subject
from auditbot.storage.reading import Place
from common.errors import UserError

Json = dict[str, Any]

MOST_MESSAGES = 100_000
"""What is in one file: own messages, and those of others."""
_CHUNK = 500
_SOMEBODY_ELSES = "a message that is not this person's"


@dataclass(frozen=True, slots=True)
class Given:
    """What a person was given.

    Args:
        package: the file
        rooms: how many rooms they were in
        others: how many messages of others are in it
    """

    package: HandedOver
    rooms: int
    others: int


def find_person(library: Library, text: str) -> Subject:
    """Return whom a text means; somebody who never wrote is known by the whole ID alone.

    Raises:
        UserError: there is nobody, or more than one.
    """
    found = people(library, text)
    exact = [one for one in found if one.name == text]
    chosen = exact or found
    if len(chosen) == 1:
        return Subject("person", chosen[0])
    if text.startswith("@") and ":" in text and not exact:
        # Not by a part of somebody else's ID.
        return Subject("person", Known(0, text, None, 0, 0, 0))
    if chosen:
        names = ", ".join(one_line(one.name) for one in chosen[:10])
        raise UserError(f"“{text}” fits more than one: {names}. Write the ID of the one you mean.")
    raise UserError(
        f"Nobody of the archive fits “{text}”. Write the whole ID, such as @alice:example.org: who "
        "never wrote anything is found by it alone."
    )


async def give(
    library: Library, place: Place, request: Request, path: Path, *, with_conversations: bool
) -> Given:
    """Write the zip file of the person that a request is about.

    Raises:
        UserError: the archive holds nothing of them, or too much for one file.
        DamagedArchiveError: a proof does not hold.
    """
    subject = request.subject
    if subject is None:
        raise UserError("Name a person.")
    user_id = subject.known.name
    rooms = stays(library, user_id, request.period)
    own = _own(library, user_id, request)
    if not own and not rooms:
        raise UserError(
            f"The archive holds nothing of “{user_id}” in that time: no message, and no room that "
            "they were in."
        )
    others = _others(library, user_id, rooms, request) if with_conversations else {}
    spoken_count = sum(map(len, others.values()))
    if len(own) + spoken_count > MOST_MESSAGES:
        raise UserError(
            f"More than {MOST_MESSAGES:,} messages are too many for one file: choose a shorter time "
            "with --from and --to, and make several."
        )
    transcript = await gather(library, place, request, own, set())
    _without_others(transcript)
    pages, spoken = await _conversations(library, transcript, own, rooms, others)
    by_room: dict[str, int] = {}
    for message in own:
        room_id = str(message.record.get("room_id"))
        by_room[room_id] = by_room.get(room_id, 0) + 1
    listed = [_listed(number, one, request, by_room) for number, one in enumerate(rooms, 1)]
    known = {
        "facts": transcript.facts,
        "rooms": listed,
        "pages": pages,
        "with_conversations": with_conversations,
        "others": spoken_count,
        "attachments": len(transcript.attachments),
        "style": Markup(stylesheet("look.css", "transcript.css")),  # noqa: S704  # ours
    }
    files = {
        "index.html": _page("person.html", known),
        "missing.html": _page("person_missing.html", known),
        "rooms.json": json.dumps(listed, indent=1).encode() + b"\n",
        **{name: body for name, body in pages.items() if body},
    }
    more = More(
        messages=tuple(message for some in others.values() for message in some),
        audiences=tuple(audience for one in spoken for audience in one.audiences),
        records=tuple(number for one in rooms for number in one.evidence),
        files=files,
    )
    case = Case(
        name=f"All that is archived of {subject.name}",
        archive=request.archive,
        created_ms=request.made_ms,
        created_by=request.made_by,
        description="Begin with index.html.",
    )
    done = await pack(library, place, case, transcript, path, more=more)
    return Given(done, len(rooms), spoken_count)


def _own(library: Library, user_id: str, request: Request) -> list[Message]:
    """Return what the person said and did.

    What they did to a message of somebody else is theirs alone: the message is not.
    """
    roots = (
        search(library, Query(people=(user_id,), period=request.period))
        if _has(library, user_id)
        else []
    )
    own: list[int] = []
    acts: list[int] = []
    seen: set[int] = set()
    for message in _loaded(library, roots):
        if message.first is not None and message.first.record.get("sender") == user_id:
            own.append(message.root)
            seen.update(stored.id for stored in message.records)
        else:
            # That they read something of others is told nowhere in here: see missing.html.
            acts += [
                stored.id
                for stored in message.records
                if stored.record.get("sender") == user_id and stored.record["kind"] != "receipt"
            ]
    alone = [-number for number in dict.fromkeys(acts) if number not in seen]
    return load(library, ordered(library, [*own, *alone]))


def _without_others(transcript: Transcript) -> None:
    """Take out what is repeated of others' messages that this person answered."""
    own = {view["anchor"] for view in transcript.views}
    for view in transcript.views:
        for name in ("reply_to", "thread"):
            if view[name] and view[name]["anchor"] not in own:
                view[name] = {"anchor": None, "text": _SOMEBODY_ELSES, "sender": ""}


def _has(library: Library, user_id: str) -> bool:
    return any(one.name == user_id for one in people(library, user_id))


def _others(
    library: Library, user_id: str, rooms: list[Shared], request: Request
) -> dict[int, list[Message]]:
    """Return what others said that the person could read, by the rooms' numbers."""
    found: dict[int, list[Message]] = {}
    count = 0
    for number, room in enumerate(rooms, 1):
        if not room.room.id:
            continue
        roots = search(library, Query(rooms=(room.room.name,), period=request.period))
        for message in _loaded(library, roots):
            record = message.record
            place = message.first.id if message.first else 0
            is_theirs = record.get("sender") == user_id
            if not place or is_theirs or record.get("kind") != "event":
                continue
            if room.could_read(place, record.get("history_visibility")):
                found.setdefault(number, []).append(message)
                count += 1
        if count > MOST_MESSAGES:
            break
    return found


def _loaded(library: Library, roots: list[int]) -> Iterable[Message]:
    for start in range(0, len(roots), _CHUNK):
        yield from load(library, roots[start : start + _CHUNK])


async def _conversations(
    library: Library,
    transcript: Transcript,
    own: list[Message],
    rooms: list[Shared],
    others: dict[int, list[Message]],
) -> tuple[dict[str, bytes], list[Transcript]]:
    """Return the pages of the rooms' conversations, and what they are made of."""
    pages: dict[str, bytes] = {}
    spoken: list[Transcript] = []
    for number, some in others.items():
        room = rooms[number - 1].room
        here = {
            message.root: message for message in own if message.record.get("room_id") == room.name
        }
        here |= {message.root: message for message in some}
        request = replace(transcript.request, subject=Subject("room", room))
        messages = [here[root] for root in ordered(library, list(here))]
        # The attachments of others are named, and are not in here.
        found = await gather(library, None, request, messages, set(), with_files=False)
        shown = {
            key: {"inline": None, "link": f"../media/{attachment.safe_name}"}
            for key, attachment in transcript.attachments.items()
        }
        pages[_page_name(number)] = render(found, shown).encode("utf-8", "replace")
        spoken.append(found)
    return pages, spoken


def _page_name(number: int) -> str:
    return f"rooms/room-{number:04}.html"


def _listed(number: int, shared: Shared, request: Request, own: dict[str, int]) -> Json:
    """Return what is said of a room."""
    room = shared.room
    return {
        "number": number,
        "page": _page_name(number),
        "room_id": one_line(room.name),
        "name": one_line(room.label or ""),
        "alias": one_line(room.alias or ""),
        "is_direct": bool(room.is_direct),
        "periods": [_period(stay, request) for stay in shared.stays],
        "invited": [moment(one.moment_ms, request.zone) for one in shared.invites],
        "sealed": shared.sealed,
        "messages": own.get(room.name, 0),
    }


def _period(stay: Stay, request: Request) -> Json:
    return {
        "from": None if stay.from_ms is None else moment(stay.from_ms, request.zone),
        "to": None if stay.to_ms is None else moment(stay.to_ms, request.zone),
        "ended": one_line(stay.ended),
    }


def _page(name: str, known: Json) -> bytes:
    return templates().get_template(name).render(**known).encode("utf-8", "replace")
