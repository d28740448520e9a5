"""An archive in a directory, seen as a bucket that keeps what was deleted or written over."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from auditbot.storage.reading import MOST_BYTES, DirectoryPlace, Item, MissingObjectError


@dataclass
class VersionedPlace:
    """Lists like a bucket with versions; ``hide`` is what a delete marker does."""

    root: Path
    hidden: dict[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def hide(self, key: str) -> None:
        path = self.root / key
        self.hidden[key] = path.read_bytes()
        path.unlink()

    async def list(self, prefix: str) -> AsyncIterator[Item]:
        there = [item async for item in DirectoryPlace(self.root).list(prefix)]
        found = [Item(item.key, item.size, item.modified_ms, ("now",)) for item in there]
        keys = {item.key for item in found}
        found += [
            Item(key, len(body), 0, ("then",), deleted=True)
            for key, body in self.hidden.items()
            if key.startswith(prefix) and key not in keys
        ]
        for item in sorted(found, key=lambda item: item.key):
            yield item

    async def get(
        self, key: str, version: str | None = None, *, most_bytes: int = MOST_BYTES
    ) -> bytes:
        if version == "then" and key in self.hidden:
            return self.hidden[key]
        if version not in {None, "now"}:
            raise MissingObjectError(f"There is no “{key}” in this version.")
        return await DirectoryPlace(self.root).get(key, most_bytes=most_bytes)

    async def pieces(self, key: str, version: str | None = None) -> AsyncIterator[bytes]:
        yield await self.get(key, version)

    async def close(self) -> None:
        pass
