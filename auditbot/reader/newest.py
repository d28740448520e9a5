"""What the newest manifest says of the whole: the rooms that are not archived."""

from typing import Any

import msgspec

from auditbot.reader.documents import LARGEST_DOCUMENT_BYTES, Manifest
from auditbot.reader.layout import manifest_key
from auditbot.storage.reading import Place


async def rooms_without_bot(place: Place) -> list[dict[str, Any]]:
    """Return the rooms that each server's newest manifest lists as not covered."""
    newest: dict[str, tuple[tuple[str, int], str]] = {}
    async for item in place.list("v1/"):
        named = manifest_key(item.key)
        if named is not None and not item.deleted:
            place_in = (named.stream, named.number)
            newest[named.server] = max(
                newest.get(named.server, (place_in, item.key)), (place_in, item.key)
            )
    found: list[dict[str, Any]] = []
    for _, key in newest.values():
        try:
            body = await place.get(key, most_bytes=LARGEST_DOCUMENT_BYTES)
            manifest = msgspec.json.decode(body, type=Manifest)
        except ValueError:
            continue
        found.extend(
            {"room_id": room.room_id, "reason": room.reason, "since_ms": room.since_ms}
            for room in manifest.rooms.not_covered
        )
    return found
