"""Manifests: what is in the archive, signed, every quarter of an hour and when a stream ends.

Decided and written down whole before anything of it is stored, like a segment: whatever is
killed whenever, the same manifest is stored with the same bytes under the same key.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec

from auditbot import manifest_facts as facts
from auditbot.content_keys import BY_PERSON, SEAL_CONTENT
from auditbot.description import description
from auditbot.encryption import digest_of, recipients_text
from auditbot.pipeline import note
from auditbot.pipeline.manifest import Before, Json, Listed, Occasion, next_manifest, note_key
from auditbot.pipeline.merkle import CompactRange, pack, unpack
from auditbot.pipeline.seal import root_of
from auditbot.signing import Keyring, SigningKey, pem_of
from auditbot.storage.addressing import place_name
from auditbot.storage.port import Abilities
from common.clock import Clock
from common.database.pool import Connection, Database, Row

MOST_UNLISTED = 64
"""Segments that wait for a manifest at most: their bodies stay in our database as long."""
INTERVAL_MS = 900_000


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known of a destination."""

    abilities: Abilities | None = None
    conditional_create: bool | None = None
    checksum: bool | None = None
    probed_ms: int | None = None
    clock_offset_ms: int | None = None

    @property
    def fencing(self) -> str | None:
        """Return how a second writer is kept out: by the store, or by a lease alone (``weak``)."""
        if self.conditional_create is None:
            return None
        return "strong" if self.conditional_create else "weak"

    def entry(self) -> Json:
        """Return what a manifest says of it."""
        abilities = self.abilities
        return {
            "kind": abilities.kind if abilities is not None else None,
            "conditional_create": self.conditional_create,
            "fencing": self.fencing,
            "checksum": self.checksum,
            "object_lock": abilities.object_lock if abilities is not None else None,
            "object_lock_seen": abilities.lock_seen if abilities is not None else None,
            "retention_days": abilities.retention_days if abilities is not None else None,
            "versioning": abilities.versioning if abilities is not None else None,
            "sse": abilities.sse if abilities is not None else None,
            "probed_ms": self.probed_ms,
        }


UNKNOWN = Probed()


@dataclass(frozen=True, slots=True)
class MadeManifest:
    """A manifest whose every byte is decided; storing it may be repeated without harm."""

    stream: str
    number: int
    key: str
    body: bytes
    sha256: str
    signature: bytes
    note_key: str
    note: bytes
    signing_pem: tuple[str, bytes]
    """Key id and public key."""
    recipients: tuple[str, ...]

    @property
    def content(self) -> Mapping[str, Any]:
        """Return what it says."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


@dataclass
class Manifests:
    """The manifests of all streams."""

    database: Database
    server_name: str
    keys: Keyring
    clock: Clock
    started_ms: int
    interval_ms: int = INTERVAL_MS
    receipts: bool = False
    session_keys: bool = False
    media_kept: bool = True
    ciphertext_kept: bool = True
    media_scanner: str | None = None
    """Which kind of scanner looks at attachments."""
    infected_kept: bool = True
    auditbot: str | None = None
    """The account in whose rooms the archive is at home; ``None``: any room counts."""
    probed: dict[str, Probed] = field(default_factory=dict)
    """What is known of each stream's destination."""
    _made_at: dict[str, float] = field(default_factory=dict)
    """When the last one of each stream was made, on a clock that is never set."""

    async def make_key(self) -> None:
        """Make the key that signs, if there is none."""
        async with self.database.transaction() as connection:
            await self.keys.current(connection, now_ms=self.clock.now_ms())

    async def make_due(self, *, flush: bool = False) -> int:
        """Write down the manifests that are due; return in how many ms to look again."""
        look_again = self.interval_ms
        async with self.database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT * FROM audit_stream WHERE closed = 0 AND NOT EXISTS (SELECT 1 FROM"
                " audit_manifest WHERE audit_manifest.stream = audit_stream.id AND closing = 1)"
                " ORDER BY started_ms, id"
            )
            for row in rows:
                stream = str(row["id"])
                before = await self._before(connection, stream)
                closing = await facts.is_drained(connection, row)
                left = self._left_ms(stream, before)
                if closing or left <= 0 or await _is_many(connection, stream, flush=flush):
                    await self._make(connection, row, before, closing=closing)
                    self._made_at[stream] = self.clock.monotonic()
                else:
                    look_again = min(look_again, left)
        return look_again

    def _left_ms(self, stream: str, before: Before) -> int:
        """Return how long the next manifest may wait."""
        if before.number < 0:
            return 0
        made_at = self._made_at.get(stream)
        if made_at is not None:
            age = int((self.clock.monotonic() - made_at) * 1000)
        else:
            age = self.clock.now_ms() - before.created_ms
        # After a start with a clock that was set back, make one and count from there.
        return self.interval_ms - age if age >= 0 else 0

    async def oldest_made(self, stream: str) -> MadeManifest | None:
        """Return the manifest of a stream that is to be stored next."""
        row = await self.database.fetchrow(
            "SELECT audit_manifest.*, audit_signing_key.public_key, audit_stream.recipients"
            " FROM audit_manifest JOIN audit_signing_key ON"
            " audit_signing_key.key_id = audit_manifest.key_id"
            " JOIN audit_stream ON audit_stream.id = audit_manifest.stream"
            " WHERE state = 'made' AND stream = $1 ORDER BY number LIMIT 1",
            stream,
        )
        if row is None:
            return None
        return MadeManifest(
            stream=stream,
            number=row["number"],
            key=row["object_key"],
            body=bytes(row["body"]),
            sha256=row["sha256"],
            signature=bytes(row["signature"]),
            note_key=row["note_key"],
            note=bytes(row["note"]),
            signing_pem=(row["key_id"], pem_of(bytes(row["public_key"]))),
            recipients=recipients_of(row),
        )

    async def mark_stored(self, manifest: MadeManifest) -> None:
        """Remember that a manifest is stored, and forget the bodies it lists."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_manifest SET state = 'stored' WHERE stream = $1 AND number = $2",
                manifest.stream,
                manifest.number,
            )
            await connection.execute(
                "DELETE FROM audit_body WHERE stream = $1 AND EXISTS (SELECT 1 FROM audit_segment"
                " WHERE audit_segment.stream = audit_body.stream"
                " AND audit_segment.first_seq = audit_body.first_seq AND manifest <= $2)",
                manifest.stream,
                manifest.number,
            )
            await connection.execute(
                "UPDATE audit_stream SET closed = 1 WHERE id = $1 AND EXISTS (SELECT 1 FROM"
                " audit_manifest WHERE stream = $1 AND number = $2 AND closing = 1)",
                manifest.stream,
                manifest.number,
            )

    async def _make(
        self, connection: Connection, row: Row, before: Before, *, closing: bool
    ) -> None:
        stream = str(row["id"])
        # A clock that was set back must not turn the order of manifests round.
        created_ms = max(self.clock.now_ms(), before.created_ms)
        key = await self.keys.current(connection, now_ms=created_ms)
        segments = await facts.unlisted(connection, stream)
        extra = await self._extra(connection, row, before, segments, closing=closing)
        occasion = Occasion(
            self.server_name,
            stream,
            created_ms,
            from_ms=before.created_ms if before.number >= 0 else row["started_ms"],
            extra=extra,
        )
        manifest, after = next_manifest(occasion, before, segments)
        checkpoint, text = await self._note(connection, stream, after.tree, key)
        manifest["checkpoint"] = {"key": checkpoint, "sha256": hashlib.sha256(text).hexdigest()}
        signed = key.sign_document(manifest)
        await connection.execute(
            "INSERT INTO audit_manifest (stream, number, object_key, body, sha256, signature,"
            " key_id, note_key, note, created_ms, tree_size, tree_hashes, totals, closing, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'made')",
            stream,
            after.number,
            after.key,
            signed.body,
            signed.sha256,
            signed.signature,
            signed.key_id,
            checkpoint,
            text,
            created_ms,
            after.tree.end,
            pack(after.tree.hashes),
            json.dumps(after.totals, sort_keys=True),
            int(closing),
        )
        await facts.mark_listed(connection, stream, after.number, after.tree.end, extra)

    async def _note(
        self, connection: Connection, stream: str, tree: CompactRange, key: SigningKey
    ) -> tuple[str, bytes]:
        """Return the checkpoint of a tree; a size has one for ever, whatever key signs now."""
        place = note_key(self.server_name, stream, tree.end)
        row = await connection.fetchrow(
            "SELECT note FROM audit_manifest WHERE stream = $1 AND tree_size = $2"
            " ORDER BY number LIMIT 1",
            stream,
            tree.end,
        )
        if row is not None:
            return place, bytes(row["note"])
        origin = note.origin_of(self.server_name, stream)
        text = note.text_of(origin, tree.end, tree.root)
        signature = key.sign(text.encode())
        return place, note.note_of(text, origin, key.public_key, signature)

    async def _extra(
        self,
        connection: Connection,
        row: Row,
        before: Before,
        segments: Sequence[Listed],
        *,
        closing: bool,
    ) -> Json:
        stream = str(row["id"])
        probed = self.probed.get(stream, UNKNOWN)
        recipients = recipients_of(row)
        previous = await facts.previous_stream(connection, row) if before.number < 0 else None
        if previous is not None:
            previous["place"] = await _place(connection, previous["stream"])
        closed = facts.closed(row) if closing else None
        if closed is not None:
            closed["next_place"] = await _place(connection, closed["next_stream"])
        return {
            "place": place_name(row["destination"], row["endpoint_url"]),
            "previous_stream": previous,
            "process_started_ms": self.started_ms,
            "interval_ms": self.interval_ms,
            "closed": closed,
            "media": await facts.media(connection, stream),
            "sessions": await facts.sessions(connection, stream, segments),
            "day_keys": await facts.day_keys(connection, stream),
            "content_keys": await facts.content_keys(connection, stream),
            "stamps": await facts.stamps(connection, stream),
            "statements": await facts.statements(connection, stream),
            "description": self._description(recipients) if before.number < 0 else [],
            **await facts.open_counts(connection),
            "rooms": await facts.rooms(connection, self.auditbot),
            "receipts": self.receipts,
            "session_keys": self.session_keys,
            "media_kept": self.media_kept,
            "ciphertext_kept": self.ciphertext_kept,
            "media_scanner": self.media_scanner,
            "infected_kept": self.infected_kept,
            "encryption": self._encryption(row, recipients),
            "storage": probed.entry(),
            "clock_offset_ms": probed.clock_offset_ms,
            "config_sha256": row["config_hash"],
            "software": {"name": "steward", "version": version("matrix-steward")},
            "waiting": await facts.waiting(connection, stream),
        }

    def _encryption(self, row: Row, recipients: Sequence[str]) -> Json | None:
        """Return what is encrypted, and for whom."""
        if not recipients:
            return None
        of_content = row["seal"] == SEAL_CONTENT
        said: Json = {
            "scheme": "age",
            "recipients": recipients_object(self.server_name, recipients)[0],
            "day_keys": bool(row["erasable"]) and not of_content,
        }
        if of_content:
            said["content_keys"] = "person" if row["erasable"] == BY_PERSON else "day"
        return said

    def _description(self, recipients: Sequence[str]) -> list[Json]:
        """Return what is put beside the records for people, so that nobody can replace it."""
        objects = description(self.server_name)
        if recipients:
            objects.append(recipients_object(self.server_name, recipients))
        return [
            {
                "key": key,
                "version_id": None,
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
            for key, body in objects
        ]

    async def _before(self, connection: Connection, stream: str) -> Before:
        row = await connection.fetchrow(
            "SELECT number, object_key, sha256, created_ms, tree_size, tree_hashes, totals"
            " FROM audit_manifest WHERE stream = $1 ORDER BY number DESC LIMIT 1",
            stream,
        )
        if row is None:
            return Before()
        return Before(
            row["number"],
            row["object_key"],
            row["sha256"],
            row["created_ms"],
            CompactRange(0, row["tree_size"], unpack(bytes(row["tree_hashes"]))),
            json.loads(row["totals"]),
        )


async def _is_many(connection: Connection, stream: str, *, flush: bool) -> bool:
    unlisted = await facts.unlisted_count(connection, stream)
    return unlisted >= MOST_UNLISTED or (flush and unlisted > 0)


async def _place(connection: Connection, stream: str | None) -> str | None:
    """Return the name of the place that a stream is kept at."""
    row = await connection.fetchrow(
        "SELECT destination, endpoint_url FROM audit_stream WHERE id = $1", stream
    )
    return None if row is None else place_name(row["destination"], row["endpoint_url"])


def recipients_of(row: Row) -> tuple[str, ...]:
    """Return the age keys that a stream's objects are encrypted to."""
    return tuple(filter(None, str(row["recipients"]).split("\n")))


def recipients_object(server_name: str, recipients: Sequence[str]) -> tuple[str, bytes]:
    """Return key and body of the object that names who can open the archive."""
    key = f"{root_of(server_name)}keys/recipients-{digest_of(recipients)}.txt"
    return key, recipients_text(recipients)
