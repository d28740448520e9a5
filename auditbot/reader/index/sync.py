"""Bring the local index up to what the archive's signed manifests list.

Only what a trusted key signed gets in; everything fetched is compared with its hash first, and
every record with the Merkle tree, so what is found later needs no second look.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from auditbot.reader.documents import ListedFile, ListedSegment, Manifest, is_newer
from auditbot.reader.index.build import Builder
from auditbot.reader.index.library import Library
from auditbot.reader.index.parts import has_parts, without_parts
from auditbot.reader.layout import (
    NEWER,
    is_content_key,
    is_day_key,
    is_otherwise_packed,
    manifest_key,
    segment_key,
    server_folder,
    wrapped_key_of,
)
from auditbot.reader.memory import Remembered
from auditbot.reader.open_sealed import opens, unseal
from auditbot.reader.parse import parse
from auditbot.reader.unpack import DamagedArchiveError
from auditbot.reader.verify.fetching import ahead
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.inventory import Inventory, newer_version, take_inventory
from auditbot.reader.verify.keyring import Keyring, read_keys, read_signed, trusted_of
from auditbot.reader.verify.servers import (
    KEY_IS_ANOTHERS,
    choose_keys,
    gone_servers,
    server_gone,
    strange_server,
)
from auditbot.reader.verify.statements import Statements, load_statements
from auditbot.storage.reading import MissingObjectError, Place
from common.errors import PermanentError

_LARGEST_KEY = 2**16
_SLACK = 2

Progress = Callable[[int, int], None]


@dataclass
class Synced:
    """What a synchronisation brought."""

    segments: int = 0
    records: int = 0
    removed: int = 0
    until_ms: int = 0
    faults: list[str] = field(default_factory=list)
    """Why the index ends where it ends, if not at the archive's end."""
    servers: dict[str, "Trusting"] = field(default_factory=dict)
    """What is trusted of each server whose archive is indexed."""

    @property
    def fingerprints(self) -> dict[str, tuple[str, ...]]:
        """Return where trust begins in each server's archive."""
        return {server: trusting.fingerprints for server, trusting in self.servers.items()}


@dataclass(frozen=True, slots=True)
class Trusting:
    """What is trusted of a server's archive.

    Args:
        fingerprints: where trust begins
        named: the keys that a person named now, as far as they may be of this server
        first_use: whether the archive's own key was taken, for want of anything better
        is_right: whether nothing stood in the way
    """

    fingerprints: tuple[str, ...]
    named: tuple[str, ...]
    first_use: bool
    is_right: bool


async def sync(
    place: Place,
    library: Library,
    recall: Callable[[str], Remembered],
    *,
    servers: Collection[str] = (),
    fingerprints: tuple[str, ...] = (),
    progress: Progress = lambda _objects, _records: None,
) -> Synced:
    """Index what is new.

    Args:
        place: where the archive is
        library: the index and the cached objects
        recall: what this machine remembers of a server's archive
        servers: those of which it remembers anything at this place, gone or not
        fingerprints: keys that somebody trusts
        progress: is told how many segments and records came

    Raises:
        TransientError: the place is away; what was indexed stays.
    """
    done = Synced()
    inventories, _ = await take_inventory(place)
    newer = await newer_version(place)
    if newer is not None:
        done.faults.append(newer)
    remembered = {server: recall(server) for server in sorted({*servers, *inventories})}
    for server, known in gone_servers(inventories, remembered).items():
        done.faults.append(f"{server_gone(server, known)} Run verify.")
    findings = Findings()
    keys = {
        server: await read_keys(place, inventory, findings)
        for server, inventory in sorted(inventories.items())
    }
    lying = {server: found.known for server, found in keys.items()}
    for server, choice in choose_keys(fingerprints, lying, remembered).items():
        if choice.is_strange:
            # Of a server of which only copies are left there is nothing to believe.
            if inventories[server].streams:
                done.faults.append(_not_indexed(library, server))
            continue
        inventory, before = inventories[server], len(done.faults)
        keyring = trusted_of(keys[server], choice.fingerprints, findings)
        statements = await load_statements(place, inventory, keyring.trust, findings)
        is_named = bool(fingerprints) or remembered[server].named
        run = _Sync(
            place,
            library,
            inventory,
            keyring,
            statements,
            done,
            progress,
            is_named=is_named,
        )
        async with asyncio.TaskGroup() as group:
            for stream in inventory.streams:
                await run.stream(stream, group)
            await run.fetch_awaited(group)
        run.forget_removed()
        is_right = newer is None and len(done.faults) == before
        done.servers[server] = Trusting(keyring.anchors, choice.named, keyring.first_use, is_right)
    done.faults += library.complete_words()
    return done


def _not_indexed(library: Library, server: str) -> str:
    """Return what is to be said of a server that nothing vouches for."""
    sentence = f"{strange_server(server)} Nothing of it is indexed now."
    if server not in library.servers():
        return sentence
    return (
        f"{sentence} But this machine has some of before, which is shown: do not believe that. To "
        f"be rid of it delete “{library.folder / 'index.sqlite'}”: the index is built anew."
    )


def complete_parts(library: Library, progress: Progress = lambda _objects, _records: None) -> int:
    """Add what an index lacks that is to know parts of words; return how many segments it was.

    It is taken from the objects on this machine; nothing is fetched. Each object is a transaction
    of its own, so whoever stops it loses little.

    Raises:
        DamagedArchiveError: objects are not on this machine, or no identity opens them. All others
            have been added.
    """
    connection = library.connection
    if not has_parts(connection):
        return 0
    missing = without_parts(connection)
    builder = Builder(connection, library.contents)
    records = 0
    reasons = []
    for number, object_id in enumerate(missing, 1):
        key, first_id, count = connection.execute(
            "SELECT key, first_id, last_seq - first_seq + 1 FROM object WHERE id = ?", (object_id,)
        ).fetchone()
        try:
            builder.add_parts(object_id, key, first_id, library.object_body(key))
        except DamagedArchiveError as error:
            reasons.append(str(error))
        records += count
        progress(number, records)
    if reasons:
        raise DamagedArchiveError(f"{len(reasons):,} segments: {reasons[0]}")
    return len(missing)


@dataclass
class _Sync:
    place: Place
    library: Library
    inventory: Inventory
    keyring: Keyring
    statements: Statements
    done: Synced
    progress: Progress
    is_named: bool = False
    """Whether a person named the keys that are trusted, now or before."""

    async def stream(self, stream: str, group: asyncio.TaskGroup) -> None:
        """Index a stream's manifests that are not yet, in order, until one is wrong."""
        connection = self.library.connection
        row = connection.execute(
            "SELECT number, sha256, created_ms FROM manifest WHERE stream = ?"
            " ORDER BY number DESC LIMIT 1",
            (stream,),
        ).fetchone()
        number, digest = (row[0], row[1]) if row else (-1, None)
        if row:
            self.done.until_ms = max(self.done.until_ms, row[2])
        fault = self._strangers(stream)
        if fault is not None:
            self.done.faults.append(fault)
            return
        wanted = [item for item in self.inventory.manifests[stream] if item[0] > number]

        async def fetch(item: tuple[int, str]) -> tuple[bytes, bytes]:
            return await read_signed(self.place, item[1])

        async for (_, key), got in ahead(group, wanted, fetch):
            if isinstance(got, PermanentError):
                self.done.faults.append(f"{key}: {got}")
                return
            body, signature = got
            try:
                manifest = self._checked(key, body, signature, number + 1, digest)
                await self._take(key, body, manifest, group)
            except DamagedArchiveError as error:
                self.done.faults.append(str(error))
                return
            number, digest = manifest.number, hashlib.sha256(body).hexdigest()

    def _strangers(self, stream: str) -> str | None:
        """Return what is wrong if a key signed what is indexed that is not trusted any more."""
        if not self.keyring.anchors:
            hint = f"{KEY_IS_ANOTHERS} " if self.is_named else ""
            return (
                f"{hint}None of the keys that you trust is in the archive of {self.inventory.server}: "
                "it is another one, or its keys were removed. Run verify."
            )
        rows = self.library.connection.execute(
            "SELECT DISTINCT key_id FROM manifest WHERE stream = ? ORDER BY key_id", (stream,)
        )
        strange = [str(key) for (key,) in rows if key not in self.keyring.trust.keys]
        if not strange:
            return None
        return (
            f"What this machine has of stream {stream} is signed with the key {strange[0]}, which "
            "is not trusted: do not believe what is shown of it, and run verify. If the key that "
            f"you trust is the right one, delete “{self.library.folder / 'index.sqlite'}”: it is "
            "built anew."
        )

    def _checked(
        self, key: str, body: bytes, signature: bytes, expected: int, previous: str | None
    ) -> Manifest:
        if is_newer(body):
            raise DamagedArchiveError(NEWER.format(what=f"“{key}”"))
        try:
            manifest = parse(body, type=Manifest)
        except ValueError as error:
            raise DamagedArchiveError(f"“{key}” is no manifest: run verify.") from error
        fault = self.keyring.trust.judge(manifest.key_id, manifest.created_ms, body, signature)
        named = manifest_key(key)
        if fault is None and (named is None or named.number != expected):
            fault = f"manifest {expected} is missing before it"
        if fault is None and (manifest.stream, manifest.number) != (
            named and named.stream,
            expected,
        ):
            fault = "it is not the one that its name says"
        if fault is None and named and named.server != server_folder(manifest.server_name):
            fault = "it is of another server"
        if fault is None and (manifest.previous and manifest.previous.sha256) != previous:
            fault = "it does not follow the one before it"
        if fault is not None:
            raise DamagedArchiveError(f"“{key}” cannot be trusted: {fault}. Run verify.")
        return manifest

    async def _take(
        self, key: str, body: bytes, manifest: Manifest, group: asyncio.TaskGroup
    ) -> None:
        await self._keep_keys(manifest, group)
        known = self.library.indexed_keys([item.key for item in manifest.objects])
        new = [item for item in manifest.objects if item.key not in known]
        async for item, got in ahead(group, new, self._fetch, width=4):
            if isinstance(got, MissingObjectError) and item.key in self.statements.tombstones:
                self.library.add_removed(item, manifest.stream, key)
                self.done.removed += 1
                continue
            if isinstance(got, PermanentError):
                raise DamagedArchiveError(f"“{item.key}”: {got}")
            # What came on such a day after its key was gone is encrypted to the officers.
            if self.is_erased(item.key) and not opens(item.key, got, self.library.identities):
                self.library.add_removed(item, manifest.stream, key)
                self.done.removed += 1
                continue
            self.done.records += await asyncio.to_thread(
                self._index, item, manifest.stream, key, got
            )
            self.done.segments += 1
            self.progress(self.done.segments, self.done.records)
        self.library.add_manifest(key, body, manifest)
        self.done.until_ms = max(self.done.until_ms, manifest.created_ms)

    async def _keep_keys(self, manifest: Manifest, group: asyncio.TaskGroup) -> None:
        """Keep the wrapped keys of content beside what they open."""
        listed = [
            file
            for file in manifest.content_keys
            if is_content_key(file.key) and not self.library.has_key(file.key)
        ]
        wanted = [file for file in listed if self.inventory.there(file.key)]
        for file in listed:
            if file not in wanted and file.key not in self.statements.erased:
                self.library.await_key(file.key, file.sha256)

        async def fetch(file: ListedFile) -> bytes:
            return await self.place.get(file.key, file.version_id, most_bytes=_LARGEST_KEY)

        async for file, got in ahead(group, wanted, fetch):
            if isinstance(got, MissingObjectError):
                # Destroyed meanwhile, or lost: whatever needs it says so.
                self.library.await_key(file.key, file.sha256)
                continue
            if isinstance(got, PermanentError):
                raise DamagedArchiveError(f"“{file.key}”: {got}")
            if hashlib.sha256(got).hexdigest() != file.sha256:
                raise DamagedArchiveError(f"“{file.key}” was changed: run verify.")
            self.library.keep_day_key(file.key, got)

    async def fetch_awaited(self, group: asyncio.TaskGroup) -> None:
        """Keep the keys of content that were not there when their manifest was indexed."""
        wanted = [item for item in self.library.awaited_keys() if self.inventory.there(item[0])]

        async def fetch(item: tuple[str, str]) -> bytes:
            # What was brought back may be another version than the one that was listed.
            return await self.place.get(item[0], most_bytes=_LARGEST_KEY)

        async for (key, sha256), got in ahead(group, wanted, fetch):
            if isinstance(got, PermanentError):
                self.done.faults.append(f"“{key}”: {got}")
            elif hashlib.sha256(got).hexdigest() != sha256:
                self.done.faults.append(f"“{key}” was changed: run verify.")
            else:
                self.library.keep_awaited(key, got)

    async def _fetch(self, item: ListedSegment) -> bytes:
        named = segment_key(item.key)
        if is_otherwise_packed(item.key):
            raise DamagedArchiveError(NEWER.format(what=f"“{item.key}”"))
        if named is None or named.server != self.inventory.server:
            raise DamagedArchiveError(f"“{item.key}” is not the key of a segment of this server.")
        body = await asyncio.to_thread(self._kept, item)
        if body is None:
            body = await self.place.get(item.key, item.version_id, most_bytes=item.size + _SLACK)
        name = wrapped_key_of(item.key)
        if name is not None and self.inventory.there(name) and not self.library.day_key(item.key):
            self.library.keep_day_key(name, await self.place.get(name, most_bytes=_LARGEST_KEY))
        if len(body) != item.size or hashlib.sha256(body).hexdigest() != item.sha256:
            raise DamagedArchiveError(f"“{item.key}” was changed: run verify.")
        return body

    def _kept(self, item: ListedSegment) -> bytes | None:
        """Return what an index of before fetched, if this machine has it unchanged."""
        try:
            body = self.library.cached(item.sha256).read_bytes()
        except OSError:
            return None
        return body if hashlib.sha256(body).hexdigest() == item.sha256 else None

    def _index(self, item: ListedSegment, stream: str, manifest: str, body: bytes) -> int:
        clear, wrapped = body, None
        if item.key.endswith(".age"):
            # Of an erased day the key may still be on this machine: what comes now is not sealed to it.
            wrapped = None if self.is_erased(item.key) else self.library.day_key(item.key)
            clear = unseal(item.key, body, self.library.identities, wrapped)
        self.library.cache(item.sha256, body)
        return Builder(self.library.connection, self.library.contents).add(
            item, stream, manifest, clear, of_day=wrapped is not None
        )

    def forget_removed(self) -> None:
        """Take off this machine what was deleted from the archive on purpose."""
        known = self.library.indexed_keys(list(self.statements.tombstones))
        removed = [key for key in known if not self.inventory.there(key)]
        self.library.forget(removed)
        own = f"v1/{self.inventory.server}/media/"
        media = [key for key in self.statements.tombstones if key.startswith(own)]
        self.library.forget_files([key for key in media if not self.inventory.there(key)])
        gone = [name for name in self.statements.erased if not self.inventory.there(name)]
        erased = self.library.forget_days(list(filter(is_day_key, gone)))
        self.done.removed += len(removed) + erased
        self.library.forget_contents([name for name in gone if is_content_key(name)])
        self.library.wipe()

    def is_erased(self, key: str) -> bool:
        """Return whether the key of the day that an object is encrypted to was destroyed."""
        name = wrapped_key_of(key)
        return name in self.statements.erased and not self.inventory.there(str(name))
