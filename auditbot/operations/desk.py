"""What the operations work with, and how their acts are signed, stored and recorded."""

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from auditbot.ledger import Destinations, Writing, open_stream
from auditbot.pipeline.manifest import signature_key
from auditbot.pipeline.seal import root_of
from auditbot.signing import Keyring
from auditbot.storage.open import open_store
from auditbot.storage.port import ArchiveStore
from common.account import account_name
from common.clock import Clock, SystemClock
from common.config.schema import Config
from common.crypto.canonical import canonical_json
from common.database.migrations import upgrade_table
from common.database.pool import Connection, Database, Row
from common.errors import UserError


@dataclass(frozen=True, slots=True)
class Place:
    """A destination, and the stream that lists what is put there now, if one is open."""

    destination: str
    endpoint_url: str | None
    stream: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A signed document that is not a manifest."""

    key: str
    body: bytes
    signature: bytes
    page: bytes | None = None
    """The same for people, stored beside it; the document names its hash."""
    is_stored: bool = False

    @property
    def content(self) -> dict[str, Any]:
        """Return what it says."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


@dataclass(frozen=True)
class Desk:
    """One act's tools."""

    config: Config
    database: Database
    clock: Clock = field(default_factory=SystemClock)

    @property
    def server_name(self) -> str:
        """Return whose archive it is."""
        return self.config.homeserver.server_name

    @property
    def auditbot(self) -> str:
        """Return the account whose rooms are archived."""
        return f"@{self.config.auditbot.localpart}:{self.server_name}"

    @property
    def root(self) -> str:
        """Return what all keys begin with."""
        return root_of(self.server_name)

    @property
    def actor(self) -> str:
        """Return who acts, as the archive will say."""
        return f"{account_name()} (command line)"

    @property
    def keys(self) -> Keyring:
        """Return the keys that sign."""
        return Keyring(self.config.encryption.pickle_key)

    async def writing(self, connection: Connection) -> Writing | None:
        """Return the stream that records of acts go to, ``None`` if nothing is exported."""
        return await open_stream(
            connection,
            Destinations(self.config),
            server_name=self.server_name,
            now_ms=self.clock.now_ms(),
        )

    async def state(
        self,
        connection: Connection,
        place: Place,
        key: str,
        document: Mapping[str, Any],
        *,
        page: Callable[[Mapping[str, Any]], bytes] | None = None,
    ) -> Statement:
        """Sign a document and write it down, to be stored at a place.

        Args:
            connection: the transaction
            place: where it is to be stored
            key: its key, below the server's folder
            document: what it says
            page: makes a page for people of what it says
        """
        signer = await self.keys.current(connection, now_ms=self.clock.now_ms())
        content = {**document, "server_name": self.server_name, "v": 1}
        body = page(content) if page is not None else None
        if body is not None:
            digest = hashlib.sha256(body).hexdigest()
            beside = page_key(f"{self.root}{key}")
            content["page"] = {"key": beside, "size": len(body), "sha256": digest}
        signed = signer.sign_document(content)
        statement = Statement(f"{self.root}{key}", signed.body, signed.signature, body)
        await self.keep(connection, place, statement)
        return statement

    async def keep(self, connection: Connection, place: Place, statement: Statement) -> None:
        """Write a signed document down, to be stored at a place."""
        await connection.execute(
            "INSERT INTO audit_statement (object_key, destination, endpoint_url, stream, body,"
            " sha256, signature, made_ms, page, state)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'made')",
            statement.key,
            place.destination,
            place.endpoint_url,
            place.stream,
            statement.body,
            hashlib.sha256(statement.body).hexdigest(),
            statement.signature,
            self.clock.now_ms(),
            statement.page,
        )

    async def publish(self, store: ArchiveStore, statement: Statement) -> None:
        """Store a document that was written down; safe to repeat."""
        # The key of a day's statement is the same for whoever makes one, and not every store refuses
        # to write over it.
        store.look_first(on=True)
        signature = statement.signature
        key = signature_key(statement.key)
        await store.put(key, signature, hashlib.sha256(signature).hexdigest())
        if statement.page is not None:
            digest = hashlib.sha256(statement.page).hexdigest()
            await store.put(page_key(statement.key), statement.page, digest)
        digest = hashlib.sha256(statement.body).hexdigest()
        stored = await store.put(statement.key, statement.body, digest)
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_statement SET state = 'stored', version_id = $2"
                " WHERE object_key = $1 AND state = 'made'",
                statement.key,
                stored.version_id if stored is not None else None,
            )

    async def unpublished(self, prefix: str) -> list[tuple[Place, Statement]]:
        """Return documents that an interrupted act left to be stored."""
        rows = await self.database.fetch(
            "SELECT * FROM audit_statement WHERE state = 'made' ORDER BY made_ms, object_key"
        )
        return [
            _statement(row)
            for row in rows
            if str(row["object_key"]).startswith(f"{self.root}{prefix}")
        ]

    async def unfinished(
        self, prefix: str, *, made_ms: range | None = None
    ) -> AsyncIterator[tuple[Place, Statement]]:
        """Yield the documents, oldest first, of which not all is known to be done that they say.

        Args:
            prefix: of which kind
            made_ms: only those that were made in these moments
        """
        rows = await self.database.fetch(
            "SELECT object_key, made_ms FROM audit_statement"
            " WHERE state <> 'done' AND object_key LIKE $1 ORDER BY made_ms, object_key",
            f"{self.root}{prefix}%",
        )
        # One by one: each may be a megabyte.
        for found in rows:
            if made_ms is not None and found["made_ms"] not in made_ms:
                continue
            row = await self.database.fetchrow(
                "SELECT * FROM audit_statement WHERE object_key = $1", found["object_key"]
            )
            if row is not None:
                yield _statement(row)

    async def note_done(self, statement: Statement) -> None:
        """Write down that all is done that a stored document says: it is not looked at again."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE audit_statement SET state = 'done' WHERE object_key = $1"
                " AND state = 'stored'",
                statement.key,
            )

    async def newest_place(self) -> Place:
        """Return where the archive is written, or was last."""
        row = await self.database.fetchrow(
            "SELECT id, destination, endpoint_url, stopped_ms FROM audit_stream"
            " ORDER BY started_ms DESC, id DESC LIMIT 1"
        )
        if row is None:
            raise UserError("There is no archive yet: nothing was ever exported.")
        open_one = row["id"] if row["stopped_ms"] is None else None
        return Place(row["destination"], row["endpoint_url"], open_one)

    @asynccontextmanager
    async def store(self, place: Place) -> AsyncIterator[ArchiveStore]:
        """Open the store of a place."""
        s3 = msgspec.structs.replace(self.config.auditbot.s3, endpoint_url=place.endpoint_url)
        opened = open_store(place.destination, s3)
        try:
            yield opened
        finally:
            await opened.close()

    def new_id(self) -> str:
        """Return a name that sorts by time."""
        moment = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        return f"{moment:%Y%m%dT%H%M%S}Z-{secrets.token_hex(4)}"


@asynccontextmanager
async def desk(config: Config) -> AsyncIterator[Desk]:
    """Open Steward's own database for one act; the program may run meanwhile."""
    database = Database(config.database.url.reveal(), upgrade_table(), max_connections=2)
    await database.start()
    try:
        yield Desk(config, database)
    finally:
        await database.stop()


async def as_listed(connection: Connection, place: Place, stream: str) -> Place:
    """Return a place with the open stream if that is there: its manifests list the document."""
    row = await connection.fetchrow(
        "SELECT destination, endpoint_url FROM audit_stream WHERE id = $1", stream
    )
    if row is not None and (row["destination"], row["endpoint_url"]) == (
        place.destination,
        place.endpoint_url,
    ):
        return Place(place.destination, place.endpoint_url, stream)
    return place


def _statement(row: Row) -> tuple[Place, Statement]:
    return (
        Place(row["destination"], row["endpoint_url"], row["stream"]),
        Statement(
            row["object_key"],
            bytes(row["body"]),
            bytes(row["signature"]),
            None if row["page"] is None else bytes(row["page"]),
            is_stored=row["state"] != "made",
        ),
    )


def page_key(key: str) -> str:
    """Return where the page for people of a document is."""
    return f"{key.removesuffix('.json')}.html"


def day_text(day: int) -> str:
    """Return the date of a day that is counted since the epoch."""
    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"


def moment_text(moment_ms: int | None, otherwise: str = "") -> str:
    """Return a moment for people."""
    if moment_ms is None:
        return otherwise
    return f"{datetime.fromtimestamp(moment_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def dumps(value: object) -> str:
    """Return JSON for a column of the database."""
    return json.dumps(value, ensure_ascii=False)


__all__ = [
    "Desk",
    "Place",
    "Statement",
    "as_listed",
    "canonical_json",
    "day_text",
    "desk",
    "dumps",
    "moment_text",
]
