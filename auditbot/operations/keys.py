"""``steward audit key``: the fingerprint people write down, and a new key."""

import base64

from auditbot.operations.desk import Desk, Statement, canonical_json, moment_text
from auditbot.signing import SigningKey


async def show(desk: Desk) -> str:
    """Return the fingerprints of all keys; the first call ever makes one."""
    async with desk.database.transaction() as connection:
        current = await desk.keys.current(connection, now_ms=desk.clock.now_ms())
        rows = await connection.fetch(
            "SELECT key_id, created_ms, retired_ms FROM audit_signing_key ORDER BY created_ms"
        )
    lines = [
        f"Key {current.key_id} signs the archive. Write its fingerprint down, apart from it:",
        "",
        f"  {current.grouped}",
    ]
    lines += [
        f"\nKey {row['key_id']} signed from {moment_text(row['created_ms'])} to "
        f"{moment_text(row['retired_ms'])}."
        for row in rows
        if row["retired_ms"] is not None
    ]
    return "\n".join(lines)


async def rotate(desk: Desk) -> str:
    """Make a new key that the old one vouches for."""
    place = await desk.newest_place()
    async with desk.database.transaction() as connection:
        writing = await desk.writing(connection)
        now_ms = desk.clock.now_ms()
        old = await desk.keys.current(connection, now_ms=now_ms)
        new = await desk.keys.make(connection, now_ms=now_ms)
        statement = _rotation(desk, old, new, now_ms)
        await desk.keep(connection, place, statement)
        if writing is not None:
            signature = base64.b64encode(statement.signature).decode()
            writing.control(
                actor=desk.actor,
                action="signing_key_rotated",
                detail={**statement.content, "signature": signature},
            )
            await writing.write(connection)
    await publish(desk)
    return (
        f"Key {new.key_id} signs the archive from now on. Write its fingerprint down:\n\n"
        f"  {new.grouped}"
    )


async def publish(desk: Desk) -> None:
    """Store the statements of rotations, also of one that was interrupted."""
    for place, statement in await desk.unpublished("keys/"):
        async with desk.store(place) as store:
            await desk.publish(store, statement)


def _rotation(desk: Desk, old: SigningKey, new: SigningKey, now_ms: int) -> Statement:
    body = canonical_json(
        {
            "v": 1,
            "type": "steward.key_rotation",
            "server_name": desk.server_name,
            "created_ms": now_ms,
            "old_key_id": old.key_id,
            "new_key_id": new.key_id,
            "new_public_key": base64.b64encode(new.public_key).decode(),
        }
    )
    return Statement(f"{desk.root}keys/rotation-{new.key_id}.json", body, old.sign(body))
