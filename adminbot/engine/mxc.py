"""Addresses of files, and the files that a message shares.

Source: Matrix specification v1.18, client-server API, "Matrix Content (mxc://) URIs", "Sharing
encrypted attachments".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MXC = re.compile(r"mxc://([A-Za-z0-9.\-:\[\]]{1,255})/([A-Za-z0-9_.~\-]{1,255})")


@dataclass(frozen=True)
class Mxc:
    """A file: at which server, and its name there."""

    server: str
    media_id: str

    def __str__(self) -> str:
        return f"mxc://{self.server}/{self.media_id}"


def parse_mxc(text: object) -> Mxc | None:
    """Return the file an untrusted value names, ``None`` if it names none."""
    found = _MXC.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else Mxc(found[1], found[2])


def shared_files(content: Mapping[str, Any]) -> tuple[Mxc, ...]:
    """Return the files of a message's content, the shared one before its thumbnails."""
    info = content.get("info")
    places: list[Mapping[str, Any]] = [content]
    if isinstance(info, Mapping):
        places.append(info)
    found = [parse_mxc(value) for place in places for value in _addresses(place)]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _addresses(place: Mapping[str, Any]) -> Iterator[object]:
    for plain, encrypted in (("url", "file"), ("thumbnail_url", "thumbnail_file")):
        yield place.get(plain)
        nested = place.get(encrypted)
        if isinstance(nested, Mapping):
            yield nested.get("url")
