"""Is the access log whole? Each key's entries, from the first one on.

What is looked for: entries that are missing, were changed, stand elsewhere, were put in, deleted or
written over, or that no key of this log signed. What a chain alone cannot show is that its end was cut
off: for that it is remembered how far each one went, and this machine knows its own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from auditbot.reader.access.entries import (
    FIRST,
    LARGEST_BYTES,
    Entry,
    Name,
    digest_of,
    name_of,
    public_object,
    public_of,
    read,
)
from auditbot.reader.memory import locked, write_private
from auditbot.reader.parse import parse
from auditbot.reader.signatures import PublicKey, key_of_pem
from auditbot.reader.verify.fetching import ahead, tasks
from auditbot.storage.reading import Item, Place
from common.errors import PermanentError


class Seen(msgspec.Struct, frozen=True):
    """How far a key's entries went: the last number, and the hash of its object."""

    number: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry, its object's hash, and whether it is as it was signed and follows the one before."""

    entry: Entry
    sha256: str
    is_sound: bool


@dataclass
class Chain:
    """What was done with one key."""

    key_id: str
    key: PublicKey | None = None
    is_known: bool | None = None
    """Whether somebody wrote its fingerprint down; ``None`` if no fingerprints were named."""
    entries: list[Stored] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def end(self) -> Seen | None:
        """Return how far it goes."""
        last = self.entries[-1] if self.entries else None
        return None if last is None else Seen(last.entry.number, last.sha256)


@dataclass
class Checked:
    """A whole access log."""

    chains: dict[str, Chain] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What is wrong with none of the chains in particular."""
    remarks: tuple[str, ...] = ()
    """What could not be looked at, each in a sentence."""

    @property
    def all_faults(self) -> list[str]:
        """Return everything that is wrong."""
        return [*self.faults, *(fault for one in self.chains.values() for fault in one.faults)]

    @property
    def stored(self) -> list[Stored]:
        """Return all entries by time."""
        found = [entry for chain in self.chains.values() for entry in chain.entries]
        return sorted(found, key=lambda one: (one.entry.time_ms, one.entry.key_id))


@dataclass
class _Listed:
    """What lies there, by key."""

    entries: dict[str, list[tuple[Name, Item]]] = field(default_factory=dict)
    publics: dict[str, Item] = field(default_factory=dict)
    faults: dict[str | None, list[str]] = field(default_factory=dict)
    """What is wrong with the objects of a key; ``None``: of no key."""


async def check(
    place: Place, seen: Mapping[str, Seen], fingerprints: Collection[str] = ()
) -> Checked:
    """Check an access log.

    Args:
        place: where it is
        seen: how far each key's entries went before, by key id
        fingerprints: those that somebody wrote down; with any, entries of other keys are told

    Raises:
        TransientError: the place is away.
        PermanentError: it cannot be listed.
    """
    checked = Checked()
    listed = await _list(place)
    checked.faults += listed.faults.get(None, [])
    checked.remarks = place.remarks
    for key_id in sorted({*listed.entries, *listed.publics, *seen}):
        chain = checked.chains[key_id] = Chain(key_id, faults=listed.faults.get(key_id, []))
        await _check_chain(place, chain, listed)
        if fingerprints:
            chain.is_known = chain.key is not None and chain.key.fingerprint in fingerprints
            if not chain.is_known and chain.entries:
                chain.faults.append(
                    f"Key {key_id} is none of those that you named: whose entries are these?"
                )
        _check_end(chain, seen.get(key_id))
    found = {chain.key.fingerprint for chain in checked.chains.values() if chain.key is not None}
    checked.faults += [
        f"Nothing was done with the key {wanted}, or its entries were removed."
        for wanted in sorted(set(fingerprints) - found)
    ]
    return checked


async def _list(place: Place) -> _Listed:
    listed = _Listed()
    async for item in place.list("access/"):
        name, public = name_of(item.key), public_of(item.key)
        faults = listed.faults.setdefault(name.key_id if name is not None else public, [])
        if len(item.versions) > 1:
            faults.append(f"{item.key}: something was written over it.")
        if item.deleted:
            faults.append(f"{item.key}: it was deleted; the store still has it.")
        if name is not None:
            listed.entries.setdefault(name.key_id, []).append((name, item))
        elif public is not None:
            listed.publics[public] = item
        else:
            faults.append(f"{item.key}: nothing of an access log has this name.")
    for found in listed.entries.values():
        found.sort(key=lambda pair: pair[0].number)
    return listed


async def _check_chain(place: Place, chain: Chain, listed: _Listed) -> None:
    chain.key = await _public(place, chain, listed.publics.get(chain.key_id))
    previous: str | None = FIRST
    expected = 0

    async def fetch(pair: tuple[Name, Item]) -> bytes:
        item = pair[1]
        # The first one that was written, whatever was put over it.
        version = item.versions[-1] if item.versions else None
        return await place.get(item.key, version, most_bytes=LARGEST_BYTES)

    async with tasks() as group:
        async for (name, item), got in ahead(group, listed.entries.get(chain.key_id, []), fetch):
            if name.number > expected:
                chain.faults.append(_gap(chain.key_id, expected, name.number - 1))
                previous = None
            expected = name.number + 1
            if isinstance(got, PermanentError):
                chain.faults.append(f"{item.key}: {got}")
                previous = None
                continue
            fault = _take(chain, name, got, previous)
            if fault is not None:
                chain.faults.append(f"{item.key}: {fault}.")
            previous = digest_of(got)
    if chain.entries and chain.key_id not in listed.publics:
        chain.faults.append(f"{public_object(chain.key_id)} is missing.")


async def _public(place: Place, chain: Chain, item: Item | None) -> PublicKey | None:
    if item is None:
        return None
    try:
        version = item.versions[-1] if item.versions else None
        key = key_of_pem(await place.get(item.key, version, most_bytes=LARGEST_BYTES))
    except PermanentError as error:
        chain.faults.append(f"{item.key}: {error}")
        return None
    if key is None or key.key_id != chain.key_id:
        chain.faults.append(f"{item.key}: it is not the key that it is named after.")
        return None
    return key


def _take(chain: Chain, name: Name, body: bytes, previous: str | None) -> str | None:
    """Take an entry up; return what is wrong with it, if anything is."""
    found = read(body)
    if found is None:
        return "it is no entry: it was changed"
    entry = found.entry
    own = found.own_key if entry.number == 0 else None
    if chain.key is None and own is not None and own.key_id == chain.key_id:
        chain.key = own
    fault = _fault(chain, name, entry, previous)
    if fault is None and (chain.key is None or not found.is_signed_by(chain.key)):
        fault = "its signature is not by its key: it was changed, or put here"
    chain.entries.append(Stored(entry, digest_of(body), fault is None))
    return fault


def _fault(chain: Chain, name: Name, entry: Entry, previous: str | None) -> str | None:
    if (entry.key_id, entry.number) != (name.key_id, name.number):
        return "it is an entry that belongs elsewhere"
    if previous is not None and entry.previous != previous:
        if entry.unconfirmed:
            return (
                "it does not follow the one before it, whose name was taken when it was sent again: "
                "somebody else put that one there"
            )
        return "it does not follow the one before it: one of the two was changed"
    before = chain.entries[-1].entry if chain.entries else None
    if before is not None and entry.time_ms < before.time_ms - 60_000:
        return "it was made before the one that it follows, by that machine's clock"
    return None


def _check_end(chain: Chain, seen: Seen | None) -> None:
    """Tell if entries are gone that were here once."""
    if seen is None:
        return
    known = {one.entry.number: one.sha256 for one in chain.entries}
    last = max(known, default=-1)
    if last < seen.number:
        chain.faults.append(f"{_gap(chain.key_id, last + 1, seen.number)} They were here before.")
    elif known.get(seen.number, seen.sha256) != seen.sha256:
        chain.faults.append(
            f"Entry {seen.number} of key {chain.key_id} is another one than was here before."
        )


def _gap(key_id: str, first: int, last: int) -> str:
    which = (
        f"Entry {first} of key {key_id} is"
        if first == last
        else (f"Entries {first} to {last} of key {key_id} are")
    )
    return f"{which} missing."


class _File(msgspec.Struct, frozen=True):
    places: dict[str, dict[str, Seen]] = {}


def furthest(*ends: Mapping[str, Seen]) -> dict[str, Seen]:
    """Return of each key how far it went at most; of two of one number the first."""
    found: dict[str, Seen] = {}
    for key_id, end in (pair for one in ends for pair in one.items()):
        if key_id not in found or found[key_id].number < end.number:
            found[key_id] = end
    return found


@dataclass(frozen=True, slots=True)
class Ends:
    """What this machine remembers of access logs: how far each key's entries went."""

    path: Path

    def recall(self, place: str) -> dict[str, Seen]:
        """Return what was seen at a place.

        Raises:
            PermanentError: the file is damaged, or cannot be read.
        """
        return self._load().places.get(place, {})

    def keep(self, place: str, checked: Checked) -> None:
        """Remember how far the keys went with whose entries nothing is wrong; never less than before.

        Raises:
            PermanentError: it cannot be kept, or the file is damaged.
        """
        ends = {
            key_id: chain.end
            for key_id, chain in checked.chains.items()
            if chain.end is not None and not chain.faults
        }
        try:
            with locked(self.path.with_suffix(".lock")):
                known = self._load().places
                places = {**known, place: furthest(known.get(place, {}), ends)}
                write_private(self.path, msgspec.json.encode(_File(places)))
        except OSError as error:
            raise PermanentError(
                f"“{self.path.parent}” cannot be used ({error.strerror}): make room, or give it to "
                "this user."
            ) from None

    def _load(self) -> _File:
        try:
            return parse(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise PermanentError(
                f"“{self.path}”, which remembers how far access logs went, cannot be read "
                f"({error.strerror}): give it to this user."
            ) from None
        except ValueError:
            raise PermanentError(
                f"“{self.path}”, which remembers how far access logs went, is damaged: bring it "
                "back from a backup, or delete it."
            ) from None
