"""What lies in an archive, by what its keys say it is."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from auditbot.reader import layout
from auditbot.storage.reading import Item, Place
from common.errors import PermanentError

_NEWER = ("v2/", "v3/")
STATED = ("erasures", "holds", "keys", "removals", "reports")
"""Where the signed documents are that are no manifests, and what they need."""


@dataclass
class Inventory:
    """What lies below one server's folder."""

    server: str
    items: dict[str, Item] = field(default_factory=dict)
    manifests: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """By stream, in the order of their numbers."""

    def add(self, item: Item) -> None:
        """Add what the listing told."""
        self.items[item.key] = item
        named = layout.manifest_key(item.key)
        if named is not None and not item.deleted:
            self.manifests[named.stream].append((named.number, item.key))

    async def look_again(self, place: Place, folders: Iterable[str]) -> bool:
        """Add what came into folders that hold no manifests; return whether anything did."""
        known = len(self.items)
        for folder in folders:
            async for item in place.list(f"v1/{self.server}/{folder}/"):
                self.items[item.key] = item
        return len(self.items) > known

    def sort(self) -> None:
        """Put the manifests in order."""
        for numbered in self.manifests.values():
            numbered.sort()

    @property
    def streams(self) -> list[str]:
        """Return the streams that have manifests; their ids sort by their start."""
        return sorted(self.manifests)

    def there(self, key: str) -> bool:
        """Return whether an object is there and not hidden."""
        item = self.items.get(key)
        return item is not None and not item.deleted

    def keys(self, wanted: Iterable[str]) -> list[str]:
        """Return which of these folders' keys are there, in order."""
        prefixes = tuple(f"v1/{self.server}/{folder}/" for folder in wanted)
        return sorted(key for key in self.items if key.startswith(prefixes))


async def newer_version(place: Place) -> str | None:
    """Return what to do if a newer version of Steward writes here, in a format not known here."""
    for prefix in _NEWER:
        try:
            async for _ in place.list(prefix):
                return layout.NEWER.format(what="This archive")
        except PermanentError:
            # Whoever may see only what is below v1/ is told nothing of it.
            return None
    return None


async def take_inventory(place: Place) -> tuple[dict[str, Inventory], list[Item]]:
    """List an archive; return what lies below each server, and what is below none."""
    found: dict[str, Inventory] = {}
    strange: list[Item] = []
    async for item in place.list("v1/"):
        server = layout.server_of(item.key)
        if server is None:
            if not layout.PROBE.fullmatch(item.key):
                strange.append(item)
            continue
        found.setdefault(server, Inventory(server)).add(item)
    for inventory in found.values():
        inventory.sort()
        # A manifest that came while this was listed may name what had been passed by then.
        await inventory.look_again(place, STATED)
    return found, strange
