"""Single lines out of cached objects: only the frame that holds a line is unpacked."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from auditbot.reader.unpack import LONGEST_LINE_BYTES, DamagedArchiveError, unpacked

_KEPT_BYTES = 64 * 2**20

Fetch = Callable[[str], bytes]
"""Returns the compressed bytes of an object by its key."""


class Frames:
    """Unpacks frames, and keeps those used last."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: OrderedDict[tuple[str, int], Sequence[bytes]] = OrderedDict()
        self._bytes = 0

    def line(self, key: str, frame: int, place: int) -> bytes:
        """Return a line by the start of its frame and its number within it.

        Raises:
            DamagedArchiveError: the object is not what was indexed.
        """
        lines = self._lines(key, frame)
        if not 0 <= place < len(lines):
            raise DamagedArchiveError(f"“{key}” is not what was indexed: run sync again.")
        return lines[place]

    def _lines(self, key: str, frame: int) -> Sequence[bytes]:
        name = (key, frame)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        lines = _unpack(key, self._fetch(key), frame)
        self._kept[name] = lines
        self._bytes += sum(map(len, lines))
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= sum(map(len, old))
        return lines


def _unpack(key: str, body: bytes, start: int) -> list[bytes]:
    """Return the lines that begin in a frame; the last one may end in the next."""
    pieces: list[bytes] = []
    size = 0
    for frame, piece in unpacked(key, body[start:]):
        if frame and (not pieces or pieces[-1].endswith(b"\n")):
            break
        if frame and b"\n" in piece:
            pieces.append(piece.partition(b"\n")[0])
            break
        if piece:
            pieces.append(piece)
            size += len(piece)
        if size > 2 * LONGEST_LINE_BYTES:
            raise DamagedArchiveError(f"“{key}” holds a frame that is too large.")
    return b"".join(pieces).removesuffix(b"\n").split(b"\n")
