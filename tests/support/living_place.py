"""An archive that is written while somebody reads it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from auditbot.storage.reading import MOST_BYTES, DirectoryPlace, Item

FOLDERS = (
    "checkpoints",
    "events",
    "holds",
    "keys",
    "manifests",
    "media",
    "removals",
    "reports",
    "state",
)


@dataclass
class LivingPlace:
    """Lists folder after folder; ``after`` says what happens once one was listed."""

    root: Path
    base: str
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    async def list(self, prefix: str) -> AsyncIterator[Item]:
        if prefix != "v1/":
            async for item in DirectoryPlace(self.root).list(prefix):
                yield item
            return
        for folder in FOLDERS:
            async for item in DirectoryPlace(self.root).list(f"{self.base}/{folder}/"):
                yield item
            self.after.pop(folder, lambda: None)()

    async def get(
        self, key: str, version: str | None = None, *, most_bytes: int = MOST_BYTES
    ) -> bytes:
        return await DirectoryPlace(self.root).get(key, version, most_bytes=most_bytes)

    async def pieces(self, key: str, version: str | None = None) -> AsyncIterator[bytes]:
        async for piece in DirectoryPlace(self.root).pieces(key, version):
            yield piece

    async def close(self) -> None:
        pass
