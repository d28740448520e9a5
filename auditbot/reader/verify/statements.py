"""Removals, holds and their releases: what was deleted on purpose, and by whom."""

import hashlib
from dataclasses import dataclass, field

from auditbot.reader.documents import (
    LARGEST_DOCUMENT_BYTES,
    Completeness,
    Erasure,
    HoldStated,
    ListedFile,
    ListedSegment,
    Removal,
    Statement,
)
from auditbot.reader.layout import (
    DAY_MS,
    DEFAULT_CLASS,
    is_content_key,
    is_day_key,
    page_key,
    server_folder,
)
from auditbot.reader.parse import parse
from auditbot.reader.times import moment
from auditbot.reader.trust import Trust
from auditbot.reader.verify.approvals import NOBODY, Approvals, Wanted
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.inventory import Inventory
from auditbot.reader.verify.keyring import read_signed
from auditbot.storage.reading import MissingObjectError, Place, TooLargeError

_TYPES = {
    "removals": ("steward.removal",),
    "holds": ("steward.hold", "steward.hold_release"),
    "keys": ("steward.key_rotation",),
    "reports": ("steward.completeness",),
    "erasures": ("steward.erasure",),
}

_APPROVED: dict[str, type[Removal] | type[Erasure]] = {"removals": Removal, "erasures": Erasure}
"""What officers may have approved."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An object that was deleted on purpose."""

    removal: str
    sha256: str
    size: int
    first_seq: int | None
    last_seq: int | None
    why: str
    created_ms: int = 0
    reason: str = ""


@dataclass
class Statements:
    """The valid statements of an archive."""

    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    erased: dict[str, ListedFile] = field(default_factory=dict)
    """The keys of days and of content that were destroyed on purpose."""
    holds: dict[str, HoldStated] = field(default_factory=dict)
    """The holds, by their ids."""
    released: dict[str, int] = field(default_factory=dict)
    """When they ended."""
    digests: dict[str, str] = field(default_factory=dict)
    created: dict[str, int] = field(default_factory=dict)
    signers: dict[str, str] = field(default_factory=dict)
    """The ids of the keys that signed them."""
    days: dict[str, Completeness] = field(default_factory=dict)
    """What the writer stated of each day, by key."""
    approvals: Approvals = field(default_factory=Approvals)
    pages: set[str] = field(default_factory=set)
    """The same for people, as far as a valid statement names them."""

    def stands_for(self, listed: ListedSegment | ListedFile, findings: Findings) -> bool:
        """Return whether a missing object is a tombstone; tell if a removal does not fit it."""
        stone = self.tombstones.get(listed.key)
        if stone is None:
            return False
        fits = (stone.sha256, stone.size) == (listed.sha256, listed.size)
        if isinstance(listed, ListedSegment):
            fits &= (stone.first_seq, stone.last_seq) == (listed.first_seq, listed.last_seq)
        if isinstance(listed, ListedSegment):
            self._held(listed, stone, findings)
            _early(listed, stone, findings)
        if not fits:
            findings.wrong(
                "tombstone",
                stone.removal,
                f"What it says of {listed.key} is not what the manifest says of it.",
            )
        return True

    def _held(self, listed: ListedSegment, stone: Tombstone, findings: Findings) -> None:
        """Tell if a hold of everything kept a segment when it was removed.

        Of a hold that names rooms or people nobody can tell whether it named what is gone.
        """
        for hold in self.holds.values():
            ended_ms = self.released.get(hold.id)
            was_held = hold.created_ms < stone.created_ms and (
                ended_ms is None or ended_ms > stone.created_ms
            )
            is_all = not hold.rooms and not hold.users
            in_time = (hold.from_ms or 0) <= listed.last_ms and (
                hold.to_ms is None or listed.first_ms < hold.to_ms
            )
            if was_held and is_all and in_time:
                findings.wrong(
                    "held",
                    stone.removal,
                    f"It removed {listed.key}, which the hold {hold.id} kept at that time.",
                )


def _early(listed: ListedSegment, stone: Tombstone, findings: Findings) -> None:
    """Tell if retention removed a segment before the longest class in it was over."""
    if stone.reason != "retention":
        return
    for name, said in (listed.classes or {}).items():
        if name == DEFAULT_CLASS:
            continue  # how long that is kept was never promised here
        until_ms = None
        if said.keep_days is not None:
            until_ms = (listed.last_ms // DAY_MS + said.keep_days + 1) * DAY_MS
        if until_ms is None or stone.created_ms < until_ms:
            until = "for ever" if until_ms is None else f"until {moment(until_ms)} UTC"
            findings.wrong(
                "early",
                stone.removal,
                f"It removed {listed.key}, which the class “{name}” kept {until}.",
            )


async def load_statements(
    place: Place,
    inventory: Inventory,
    trust: Trust,
    findings: Findings,
    wanted: Wanted = NOBODY,
) -> Statements:
    """Read what was stated beside the manifests; one that is not validly signed counts nothing.

    Args:
        place: where the archive is
        inventory: what lies there
        trust: the keys that may have signed it
        findings: is told what is wrong
        wanted: whose approvals deletions have to have
    """
    found = Statements()
    for key in inventory.keys(_TYPES):
        if not key.endswith(".json") or not inventory.there(key):
            continue
        folder = key.split("/")[2]
        if folder == "keys" and "/rotation-" not in key:
            continue
        try:
            body, signature = await read_signed(place, key)
        except (MissingObjectError, TooLargeError) as error:
            findings.wrong("statement", key, str(error))
            continue
        fault = _take(found, key, (body, signature), inventory.server, trust)
        if fault is not None:
            findings.wrong("statement", key, f"It counts nothing: {fault}.")
        elif folder in _APPROVED:
            stated = parse(body, type=_APPROVED[folder])
            found.approvals.take(key, body, stated, wanted, findings)
        elif key in found.days:
            await _check_page(place, found, key, findings)
    return found


async def _check_page(place: Place, found: Statements, key: str, findings: Findings) -> None:
    """Check the page for people that a day's statement names."""
    named = found.days[key].page
    if named is None:
        return
    if named.key != page_key(key):
        findings.wrong("statement", key, "It names a page that does not belong to it.")
        return
    found.pages.add(named.key)
    try:
        body = await place.get(named.key, named.version_id, most_bytes=LARGEST_DOCUMENT_BYTES)
    except (MissingObjectError, TooLargeError) as error:
        findings.wrong("statement", named.key, str(error))
        return
    if hashlib.sha256(body).hexdigest() != named.sha256:
        findings.wrong(
            "statement", named.key, "It is not the page that was signed: it was changed."
        )


def _take(
    found: Statements, key: str, signed: tuple[bytes, bytes], server: str, trust: Trust
) -> str | None:
    """Take a statement up; return what is wrong with it, if anything is."""
    body, signature = signed
    folder = key.split("/")[2]
    found.digests[key] = hashlib.sha256(body).hexdigest()
    try:
        stated = parse(body, type=Statement)
        removal = parse(body, type=Removal) if folder == "removals" else None
        day = parse(body, type=Completeness) if folder == "reports" else None
        erasure = parse(body, type=Erasure) if folder == "erasures" else None
    except ValueError:
        return "it is no statement of a form that is known here"
    fault = trust.judge(stated.key_id or stated.old_key_id, stated.created_ms, body, signature)
    fault = fault or _misplaced(stated, day, key, server)
    if fault is not None:
        return fault
    found.created[key] = stated.created_ms
    found.signers[key] = stated.key_id or stated.old_key_id
    if day is not None:
        found.days[key] = day
    if erasure is not None:
        found.erased.update({item.key: item for item in erasure.day_keys if is_day_key(item.key)})
        content = (item for item in erasure.content_keys if is_content_key(item.key))
        found.erased.update({item.key: item for item in content})
    if folder == "holds":
        _take_hold(found, body)
    if removal is not None:
        _take_removal(found, key, removal)
    return None


def _take_removal(found: Statements, key: str, removal: Removal) -> None:
    why = f"{removal.reason}, by {removal.actor} on {moment(removal.created_ms)} UTC"
    for item in removal.objects:
        found.tombstones[item.key] = Tombstone(
            key,
            item.sha256,
            item.size,
            item.first_seq,
            item.last_seq,
            why,
            removal.created_ms,
            removal.reason,
        )
    for file in (*removal.sessions, *removal.media):
        found.tombstones[file.key] = Tombstone(key, file.sha256, file.size, None, None, why)


def _take_hold(found: Statements, body: bytes) -> None:
    try:
        hold = parse(body, type=HoldStated)
    except ValueError:
        return
    if hold.type == "steward.hold_release":
        found.released[hold.id] = hold.created_ms
    else:
        found.holds[hold.id] = hold


def _misplaced(stated: Statement, day: Completeness | None, key: str, server: str) -> str | None:
    """Return why a signed statement does not belong where it lies."""
    if stated.type not in _TYPES[key.split("/")[2]]:
        return f"it is a “{stated.type}”"
    if server_folder(stated.server_name) != server:
        return "it is of another server"
    if day is not None and f"/dt={day.day}/" not in key:
        return "it is of another day"
    return None
