"""The cosignatures of one party, read from the place where they are kept."""

import asyncio
from collections.abc import AsyncIterator

from auditbot.reader.cosigning.notes import FOLDER, Cosigned, cosignature_in
from auditbot.reader.verify.fetching import ahead, tasks
from auditbot.storage.reading import Item, Place
from common.errors import PermanentError
from common.officers import OfficerKey

_LARGEST = 2**16
_MOST = 200_000


async def read_cosigned(place: Place, party: OfficerKey) -> Cosigned:
    """Read all that a party cosigned, whatever archives it is of.

    Raises:
        TransientError: the place is away.
        PermanentError: it cannot be read, or holds more than anybody cosigns.
    """
    cosigned = Cosigned(party)
    items = [item async for item in _items(place, party)]
    async with tasks() as group:
        async for item, body in ahead(group, items, lambda item: _body(place, item)):
            if isinstance(body, PermanentError):
                cosigned.faults.append((item.key, str(body)))
                continue
            try:
                cosigned.found.append(
                    await asyncio.to_thread(cosignature_in, item.key, body, party)
                )
            except ValueError as error:
                cosigned.faults.append((item.key, f"This cosignature proves nothing: {error}."))
    for item in items:
        if item.deleted:
            cosigned.faults.append(
                (item.key, "This cosignature was deleted; the store still keeps a version of it.")
            )
        elif len(item.versions) > 1:
            cosigned.faults.append((item.key, "Something was written over this cosignature."))
    return cosigned


async def _items(place: Place, party: OfficerKey) -> AsyncIterator[Item]:
    number = 0
    async for item in place.list(f"{FOLDER}{party.hint.hex()}/"):
        number += 1
        if number > _MOST:
            raise PermanentError(f"There are more than {_MOST:,} cosignatures of “{party.name}”.")
        yield item


async def _body(place: Place, item: Item) -> bytes:
    # The first one that was written, whatever was put over it.
    version = item.versions[-1] if item.versions else None
    return await place.get(item.key, version, most_bytes=_LARGEST)
