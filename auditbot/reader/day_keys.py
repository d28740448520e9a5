"""The wrapped keys: small objects that the officers' keys open, and that open all else."""

from collections import OrderedDict
from typing import Protocol

from auditbot.reader.layout import wrapped_key_of
from common.errors import PermanentError

LARGEST_BYTES = 2**16
"""What lies there may have been put there by anybody; a key for many officers is much smaller."""
_REMEMBERED = 256


class Readable(Protocol):
    """Where objects are."""

    async def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        ...


class DayKeys:
    """Fetches the wrapped keys that objects are encrypted to, each once for many objects."""

    def __init__(self, place: Readable) -> None:
        self._place = place
        self._known: OrderedDict[str, bytes | None] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """Return the wrapped key that opens an object, ``None`` if there is none.

        There is none where the day has no key of its own, and none any more where the day was
        erased.

        Raises:
            TransientError: the place is away.
        """
        name = wrapped_key_of(key)
        return None if name is None else await self.wrapped(name)

    async def wrapped(self, name: str) -> bytes | None:
        """Return a wrapped key by its own name, ``None`` if there is none.

        Raises:
            TransientError: the place is away.
        """
        if name not in self._known:
            try:
                wrapped = await self._place.get(name)
                self._known[name] = wrapped if len(wrapped) <= LARGEST_BYTES else None
            except PermanentError:
                self._known[name] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[name]
