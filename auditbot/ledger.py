"""Export periods: where records go, when one ends and the next begins.

The promise kept: no event falls between two of them, and each begins and ends with a record.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from auditbot.content_keys import BY_PERSON, SEAL_CONTENT
from auditbot.gaps import READER, open_awaited, open_not_recorded
from auditbot.pipeline.retention import NO_CLASSES, Policy, Rule
from auditbot.spool import Spool, spool_of
from auditbot.writing import Writing, audiences_seen, seen
from common.config.schema import Auditbot, Config
from common.database.pool import Connection, Row
from common.errors import PermanentError
from common.inbox.backlog import Backlog, backlog

__all__ = [
    "Destinations",
    "Export",
    "Writing",
    "audiences_seen",
    "choose",
    "lock",
    "open_stream",
    "seen",
]

_ENCRYPTION = "encryption changed"


@dataclass(frozen=True, slots=True)
class Export:
    """Where records go and who can read them there. Anything else is another stream."""

    destination: str
    endpoint_url: str | None
    config_hash: str
    recipients: tuple[str, ...] = ()
    erasable: int = 0
    """Whether what is encrypted has keys that can be destroyed: 0, by day 1, by person 2."""
    seal: str = "segments"
    """What is encrypted: whole segments, or each record's ``content``."""
    policy: Policy = NO_CLASSES
    """How long what is recorded is kept."""
    settings: str = "{}"
    """What ``config_hash`` is of, as JSON; no secrets."""

    @property
    def erasable_by(self) -> bool | str:
        """Return the same in words; ``True`` is by day."""
        return "person" if self.erasable == BY_PERSON else bool(self.erasable)


@dataclass(frozen=True)
class Destinations:
    """The configuration's word on where records go, and what it says of any other place."""

    config: Config

    @cached_property
    def spool(self) -> Spool:
        """Return what seals the lines of an encrypted archive."""
        return spool_of(self.config.encryption.pickle_key)

    @cached_property
    def policy(self) -> Policy:
        """Return which retention class records belong to."""
        settings = self.config.auditbot
        rules = (
            Rule(one.name, one.keep_days, one.rooms, one.room_types, one.direct, one.encrypted)
            for one in settings.retention_classes
        )
        return Policy(settings.keep_days, tuple(rules))

    @property
    def configured(self) -> str:
        """Return the configured destination, ``""`` for none."""
        return self.config.auditbot.destination or ""

    def to(self, destination: str | None, endpoint_url: str | None = None) -> Export | None:
        """Return the export to a destination; ``None`` stays none."""
        if not destination:
            return None
        settings = self.config.auditbot
        # The address of the store only matters to a bucket.
        endpoint = (
            endpoint_url or settings.s3.endpoint_url if destination.startswith("s3:") else None
        )
        meaningful: dict[str, Any] = {
            "destination": destination,
            "endpoint_url": endpoint,
            "region": settings.s3.region,
            "path_style": bool(settings.s3.path_style),
            "object_lock": settings.s3.object_lock,
            "retention_days": settings.s3.retention_days,
            "sse": settings.s3.sse,
            "recipients": sorted(settings.age_recipients),
            "receipts": settings.receipts,
            "media_max_bytes": settings.media_max_bytes,
            "segment_max_bytes": settings.segment_max_bytes,
            "segment_max_age_seconds": settings.segment_max_age_seconds,
            "manifest_interval_seconds": settings.manifest_interval_seconds,
            "server_name": self.config.homeserver.server_name,
        }
        meaningful |= _other_than_usual(settings)
        if self.policy != NO_CLASSES:
            meaningful["retention"] = self.policy.entry()
        text = json.dumps(meaningful, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        recipients = tuple(sorted(settings.age_recipients))
        erasable = BY_PERSON if settings.erasable == "person" else int(bool(settings.erasable))
        return Export(
            destination, endpoint, digest, recipients, erasable, settings.seal, self.policy, text
        )


def _other_than_usual(settings: Auditbot) -> dict[str, Any]:
    """Return what is said of settings that came later only where they are not as before."""
    before = {
        "compression": "zstd",
        "session_keys": False,
        "media": True,
        "ciphertext": True,
        "recover_redacted": False,
        "media_scanner": None,
        "keep_infected": True,
        "approvals_needed": 0,
        "approvers": (),
    }
    found: dict[str, Any] = {
        name: now for name, then in before.items() if (now := getattr(settings, name)) != then
    }
    if settings.erasable:
        # The word that a file of before has means the same.
        found["erasable"] = "person" if settings.erasable == "person" else True
    if settings.seal == SEAL_CONTENT:
        found["seal"] = SEAL_CONTENT
    return found


_POSITION = "SELECT position FROM inbox_cursor WHERE reader = 'auditbot'"
"""Up to where the inbox was dealt with; nothing if nothing ever was."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be exported now, and who says so."""

    export: Export | None
    actor: str
    destinations: Destinations | None

    @property
    def spool(self) -> Spool | None:
        """Return what seals the lines of an encrypted archive."""
        return None if self.destinations is None else self.destinations.spool


async def lock(connection: Connection) -> str | None:
    """Make every other writer of the ledger wait; return the open stream.

    In PostgreSQL this also orders room keys and messages: whoever holds the lock sees all
    pending events that were committed, so a key and its message cannot miss each other.
    """
    stream = (await _locked(connection))["stream"]
    return None if stream is None else str(stream)


async def _locked(connection: Connection) -> Row:
    row = await connection.fetchrow(
        "UPDATE audit_head SET stream = stream WHERE id = 1"
        " RETURNING stream, chosen, destination, endpoint_url, chosen_by, configured"
    )
    if row is None:
        raise PermanentError("The table audit_head is empty: restore the database.")
    return row


async def open_stream(
    connection: Connection,
    wanted: Destinations | Export | None,
    *,
    server_name: str,
    now_ms: int,
) -> Writing | None:
    """Lock the ledger and return the stream that records go to, ``None`` if there is none.

    Where another place is wanted than before, the old stream gets its last record and a new one
    its first, in the same transaction: no event falls between.
    """
    head = await _locked(connection)
    want = await _resolved(connection, head, wanted)
    row = None
    if head["stream"] is not None:
        row = await connection.fetchrow("SELECT * FROM audit_stream WHERE id = $1", head["stream"])
    if row is not None and want.export is not None and _same_place(row, want.export):
        return await _on(connection, row, want, server_name, now_ms)
    next_stream = None if want.export is None else _new_stream_id(now_ms)
    if row is not None:
        await _stop(connection, _writing(row, want, server_name, now_ms), row, want, next_stream)
    if want.export is None or next_stream is None:
        return None
    return await _start(connection, next_stream, want, row, server_name=server_name, now_ms=now_ms)


async def choose(
    connection: Connection,
    destinations: Destinations,
    *,
    destination: str | None,
    endpoint_url: str | None,
    actor: str,
    now_ms: int,
) -> None:
    """Write down where records go from now on, whatever the configuration says.

    The word stands until the configuration is changed. ``destination`` ``None`` is nowhere.
    """
    await connection.execute(
        "UPDATE audit_head SET chosen = 1, destination = $1, endpoint_url = $2, chosen_by = $3,"
        " chosen_ms = $4, configured = $5 WHERE id = 1",
        destination,
        endpoint_url,
        actor,
        now_ms,
        destinations.configured,
    )


async def _resolved(
    connection: Connection, head: Row, wanted: Destinations | Export | None
) -> _Wanted:
    if not isinstance(wanted, Destinations):
        return _Wanted(wanted, "config", None)
    if head["chosen"]:
        if head["configured"] == wanted.configured:
            export = wanted.to(head["destination"], head["endpoint_url"])
            return _Wanted(export, str(head["chosen_by"]), wanted)
        # Somebody has edited the configuration since: that is the newer word.
        await connection.execute("UPDATE audit_head SET chosen = 0 WHERE id = 1")
    return _Wanted(wanted.to(wanted.configured), "config", wanted)


def _same_place(row: Row, wanted: Export) -> bool:
    columns = ("destination", "endpoint_url", "recipients", "erasable", "seal")
    return tuple(row[column] for column in columns) == (
        wanted.destination,
        wanted.endpoint_url,
        "\n".join(wanted.recipients),
        wanted.erasable,
        wanted.seal,
    )


def _why_stopped(row: Row, wanted: Export | None) -> str:
    if wanted is None:
        return "destination cleared"
    if row["destination"] == wanted.destination and row["endpoint_url"] == wanted.endpoint_url:
        return _ENCRYPTION
    return "destination changed"


async def _unrecorded(connection: Connection, wanted: _Wanted) -> Backlog | None:
    """Return which events were acknowledged and will not be recorded if the export stops now."""
    if wanted.export is not None or wanted.destinations is None:
        return None
    config = wanted.destinations.config
    account = f"@{config.auditbot.localpart}:{config.homeserver.server_name}"
    return await backlog(connection, config.database.url.reveal(), READER, account)


def _writing(row: Row, want: _Wanted, server_name: str, now_ms: int) -> Writing:
    return Writing(
        stream=row["id"],
        server_name=server_name,
        now_ms=now_ms,
        next_seq=row["next_seq"],
        open_bytes=row["open_bytes"],
        open_since_ms=row["open_since_ms"],
        spool=want.spool if row["recipients"] else None,
        seals_content=row["seal"] == SEAL_CONTENT,
        policy=want.export.policy if want.export is not None else NO_CLASSES,
    )


async def _on(
    connection: Connection, row: Row, want: _Wanted, server_name: str, now_ms: int
) -> Writing:
    """Return the stream that goes on, with a record of settings that are not as before."""
    writing, export = _writing(row, want, server_name, now_ms), want.export
    if export is not None and row["config_hash"] != export.config_hash:
        writing.control(
            actor="config",
            action="settings_changed",
            detail={
                "config_sha256": export.config_hash,
                "before": row["config_hash"],
                **_changed(row["settings"], export.settings),
                "retention": export.policy.entry(),
            },
        )
        await writing.write(connection)
        await connection.execute(
            "UPDATE audit_stream SET config_hash = $2, settings = $3 WHERE id = $1",
            writing.stream,
            export.config_hash,
            export.settings,
        )
        writing = _writing_on(writing)
        writing.began = True
    elif export is not None and row["settings"] is None:
        # An older version began it: the next change is to be named all the same.
        await connection.execute(
            "UPDATE audit_stream SET settings = $2 WHERE id = $1", writing.stream, export.settings
        )
    return writing


def _changed(before: str | None, now: str) -> dict[str, Any]:
    """Return which settings changed and how; nothing where nobody wrote down the old ones."""
    if before is None:
        return {}
    old, new = json.loads(before), json.loads(now)
    return {
        "changed": {
            name: {"before": old.get(name), "now": new.get(name)}
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        }
    }


async def _stop(
    connection: Connection,
    writing: Writing,
    row: Row,
    wanted: _Wanted,
    next_stream: str | None,
) -> None:
    reason = _why_stopped(row, wanted.export)
    destination = None if wanted.export is None else wanted.export.destination
    detail: dict[str, object] = {
        "reason": reason,
        "next_stream": next_stream,
        "next_destination": destination,
    }
    stopped_ms = writing.now_ms
    if reason != _ENCRYPTION:
        # Where the same place goes on, so does the wait for what is missing.
        await open_awaited(connection, writing)
    waiting = await _unrecorded(connection, wanted)
    if waiting is not None:
        await open_not_recorded(connection, writing, waiting)
        # Clearing stops at once what leaves, so these are not recorded: nothing is from then on.
        stopped_ms = min(stopped_ms, waiting.first_ms)
        detail["not_exported_since_ms"] = stopped_ms
    writing.control(actor=wanted.actor, action="export_stopped", detail=detail)
    await writing.write(connection)
    await connection.execute(
        "UPDATE audit_stream SET stopped_ms = $2, stop_reason = $3, next_stream = $4,"
        " next_destination = $5 WHERE id = $1",
        writing.stream,
        stopped_ms,
        reason,
        next_stream,
        destination,
    )
    await connection.execute("UPDATE audit_head SET stream = NULL WHERE id = 1")


async def _start(
    connection: Connection,
    stream: str,
    wanted: _Wanted,
    replaced: Row | None,
    *,
    server_name: str,
    now_ms: int,
) -> Writing:
    export = wanted.export
    if export is None:
        raise AssertionError
    previous = await connection.fetchrow(
        "SELECT id, destination, stopped_ms FROM audit_stream ORDER BY started_ms DESC, id DESC"
        " LIMIT 1"
    )
    if replaced is None:
        # A hold on a person also keeps what they could read before, whenever it is made.
        await connection.execute(
            "INSERT INTO audit_member_before (room_id, user_id)"
            " SELECT room_id, user_id FROM audit_member WHERE 1 = 1"
            " ON CONFLICT (user_id, room_id) DO NOTHING"
        )
        # Nobody followed the rooms while nothing was exported: what is remembered is stale.
        await connection.execute("DELETE FROM audit_member")
        await connection.execute("DELETE FROM audit_room")
        await connection.execute("DELETE FROM audit_floor")
        await connection.execute("DELETE FROM audit_missing")
        # Nor does what admins did then belong into what begins now.
        await connection.execute("UPDATE admin_action SET recorded = 1 WHERE recorded = 0")
    await connection.execute(
        "INSERT INTO audit_stream (id, destination, endpoint_url, config_hash, started_ms,"
        " next_seq, cut_seq, open_bytes, previous_stream, recipients, erasable, seal, settings)"
        " VALUES ($1, $2, $3, $4, $5, 0, 0, 0, $6, $7, $8, $9, $10)",
        stream,
        export.destination,
        export.endpoint_url,
        export.config_hash,
        now_ms,
        previous["id"] if previous is not None else None,
        "\n".join(export.recipients),
        export.erasable,
        export.seal,
        export.settings,
    )
    await connection.execute("UPDATE audit_head SET stream = $1 WHERE id = 1", stream)
    writing = Writing(stream, server_name, now_ms, next_seq=0, open_bytes=0, open_since_ms=None)
    writing.spool = wanted.spool if export.recipients else None
    writing.seals_content = export.seal == SEAL_CONTENT
    writing.policy = export.policy
    writing.control(
        actor=wanted.actor,
        action="export_started",
        detail={
            "config_sha256": export.config_hash,
            "destination": export.destination,
            "encrypted_to": list(export.recipients),
            "erasable": export.erasable_by,
            "seal": export.seal,
            "retention": export.policy.entry(),
            "previous_stream": previous["id"] if previous is not None else None,
            "previous_stopped_ms": previous["stopped_ms"] if previous is not None else None,
            "inbox_position": await connection.fetchval(_POSITION),
        },
    )
    await writing.write(connection)
    return _writing_on(writing)


def _writing_on(writing: Writing) -> Writing:
    """Return the same place in the stream with nothing left to write."""
    return Writing(
        writing.stream,
        writing.server_name,
        writing.now_ms,
        writing.next_seq,
        writing.open_bytes,
        writing.open_since_ms,
        spool=writing.spool,
        seals_content=writing.seals_content,
        policy=writing.policy,
    )


def _new_stream_id(now_ms: int) -> str:
    """Return a name that sorts by time, so that objects of a day are read in order."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now_ms)
    return f"{moment:%Y%m%dT%H%M%S}Z{secrets.token_hex(3)}"
