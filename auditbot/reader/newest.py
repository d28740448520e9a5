"""What the newest manifest says of the whole: the rooms that are not archived."""

import msgspec

from auditbot.reader.coverage import WithoutBot
from auditbot.reader.documents import LARGEST_DOCUMENT_BYTES, Manifest
from auditbot.reader.layout import manifest_key
from auditbot.reader.parse import parse
from auditbot.storage.reading import Place


async def rooms_without_bot(place: Place) -> WithoutBot:
    """Return the rooms that each server's newest manifest lists as not covered."""
    newest: dict[str, tuple[tuple[str, int], str]] = {}
    async for item in place.list("v1/"):
        named = manifest_key(item.key)
        if named is not None and not item.deleted:
            place_in = (named.stream, named.number)
            newest[named.server] = max(
                newest.get(named.server, (place_in, item.key)), (place_in, item.key)
            )
    found = WithoutBot()
    for _, key in newest.values():
        try:
            body = await place.get(key, most_bytes=LARGEST_DOCUMENT_BYTES)
            manifest = parse(body, type=Manifest)
        except ValueError:
            continue
        rooms = manifest.rooms
        found = found.joined(
            [msgspec.to_builtins(room) for room in rooms.not_covered],
            rooms.not_covered_count,
            manifest.created_ms,
            rooms.compared_ms,
        )
    return found
