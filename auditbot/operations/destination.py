"""``steward audit destination``: where the archive goes, changed while Steward runs."""

from auditbot.ledger import Destinations, choose
from auditbot.operations.desk import Desk, Place, moment_text
from auditbot.probing import probe_stream


async def show(desk: Desk) -> str:
    """Return where the archive goes and how it stands there."""
    head = await desk.database.fetchrow("SELECT * FROM audit_head WHERE id = 1")
    configured = Destinations(desk.config).configured
    lines = []
    if head is not None and head["chosen"] and head["configured"] == configured:
        where = head["destination"] or "nowhere: the export is stopped"
        lines.append(f"Destination: {where}")
        lines.append(f"  chosen by {head['chosen_by']} at {moment_text(head['chosen_ms'])}")
        lines.append(f"  the configuration says: {configured or 'nowhere'}")
    else:
        lines.append(f"Destination: {configured or 'nowhere'} (as configured)")
    stream = head["stream"] if head is not None else None
    if stream is None:
        lines.append("No export is open.")
    for row in await desk.database.fetch(
        "SELECT * FROM audit_stream WHERE closed = 0 ORDER BY started_ms, id"
    ):
        lines.extend(await _stream(desk, row["id"], row["id"] == stream))
    return "\n".join(lines)


async def _stream(desk: Desk, stream: str, is_open: bool) -> list[str]:  # noqa: FBT001  # a column of one table
    row = await desk.database.fetchrow("SELECT * FROM audit_stream WHERE id = $1", stream)
    waiting = await desk.database.fetchrow(
        "SELECT count(*) AS segments, coalesce(sum(raw_bytes), 0) AS size FROM audit_segment"
        " WHERE stream = $1 AND state <> 'uploaded'",
        stream,
    )
    manifest = await desk.database.fetchrow(
        "SELECT number, created_ms FROM audit_manifest WHERE stream = $1 AND state = 'stored'"
        " ORDER BY number DESC LIMIT 1",
        stream,
    )
    if row is None or waiting is None:
        return []
    lines = [
        f"Stream {stream} ({'open' if is_open else 'ending'}) in {row['destination']}",
        f"  begun {moment_text(row['started_ms'])}, {row['next_seq']:,} records",
        (
            f"  waiting: {row['next_seq'] - row['cut_seq']:,} records in no segment yet, "
            f"{waiting['segments']:,} segments ({waiting['size'] / 2**20:.1f} MiB) to be stored"
        ),
    ]
    if manifest is not None:
        lines.append(
            f"  last manifest: number {manifest['number']}, {moment_text(manifest['created_ms'])}"
        )
    if row["outage_ms"] is not None:
        lines.append(f"  CANNOT BE STORED since {moment_text(row['outage_ms'])}")
    return lines


async def change(desk: Desk, destination: str, endpoint_url: str | None, *, check: bool) -> str:
    """Send the archive to another place from now on; return what to tell."""
    if check:
        export = Destinations(desk.config).to(destination, endpoint_url)
        place = Place(destination, export.endpoint_url if export is not None else None, None)
        async with desk.store(place) as store:
            probed = await probe_stream(store, now_ms=desk.clock.now_ms())
        weak = not probed.conditional_create
    else:
        weak = False
    await _choose(desk, destination, endpoint_url)
    told = f"From now on the archive goes to {destination}. A running Steward follows in seconds."
    if weak:
        told += (
            "\nCareful: this store lets objects be overwritten (it ignores If-None-Match). Steward "
            "holds a lease there so that no second one writes, which is a weaker fence; make sure "
            "that only one Steward writes there."
        )
    return told


async def clear(desk: Desk) -> str:
    """Stop the export; return what to tell."""
    await _choose(desk, None, None)
    told = (
        "The export is stopped: what was recorded is stored, nothing more is recorded. What is "
        "said from now on cannot be archived later."
    )
    was_waiting = await desk.database.fetchval(
        "SELECT 1 FROM audit_gap WHERE name = 'not_recorded:' || (SELECT id FROM audit_stream"
        " ORDER BY started_ms DESC, id DESC LIMIT 1)"
    )
    if was_waiting:
        told += (
            " Nor is what had been received and not been recorded yet; the archive says how many "
            "events that were, and since when."
        )
    return told


async def _choose(desk: Desk, destination: str | None, endpoint_url: str | None) -> None:
    async with desk.database.transaction() as connection:
        await choose(
            connection,
            Destinations(desk.config),
            destination=destination,
            endpoint_url=endpoint_url,
            actor=desk.actor,
            now_ms=desk.clock.now_ms(),
        )
        # Here too, not only in the program that runs: it may be down for days.
        writing = await desk.writing(connection)
        if writing is not None:
            await writing.write(connection)
