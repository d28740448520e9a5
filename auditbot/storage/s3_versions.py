"""The versions of one object in a bucket, as far as it keeps them."""

from typing import Any, Protocol

BEFORE_VERSIONS = "null"
"""What a bucket that keeps versions calls what was stored before it did, or while it did not."""


class _Client(Protocol):
    """The operation we use; the library itself has no types at run time."""

    async def list_object_versions(self, **arguments: Any) -> dict[str, Any]: ...


async def versions_of(client: _Client, bucket: str, key: str) -> list[str]:
    """Return the names of all versions of a key, those that only say it was deleted last.

    In this order they can be deleted without what such a one hides being seen in between.
    """
    found, markers, after = list[str](), list[str](), dict[str, str]()
    while True:
        page = await client.list_object_versions(Bucket=bucket, Prefix=key, **after)
        found += _named(page.get("Versions", []), key)
        markers += _named(page.get("DeleteMarkers", []), key)
        if not page.get("IsTruncated"):
            return [*found, *markers]
        after = {"KeyMarker": str(page["NextKeyMarker"])}
        if page.get("NextVersionIdMarker"):
            after["VersionIdMarker"] = str(page["NextVersionIdMarker"])


def _named(entries: list[dict[str, Any]], key: str) -> list[str]:
    # The listing is of all keys that begin like this one.
    return [str(one.get("VersionId") or BEFORE_VERSIONS) for one in entries if one["Key"] == key]
