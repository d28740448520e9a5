"""How much the server holds at this moment, as far as its administration API tells."""

from dataclasses import dataclass

from common.homeserver.port import AdminReader
from common.homeserver.synapse.media import ListMediaByUser, all_media_by_user
from common.homeserver.synapse.rooms import ListRooms
from common.homeserver.synapse.users import ListUsers

PAGE = 500


@dataclass(frozen=True)
class Held:
    """What the server held: uploaded files and their bytes, rooms, accounts."""

    files: int
    bytes: int
    rooms: int
    accounts: int


async def held_now(admin: AdminReader) -> Held:
    """Ask how much the server holds."""
    files = in_bytes = 0
    async for one in all_media_by_user(admin, ListMediaByUser(limit=PAGE)):
        files += one.media_count
        in_bytes += one.media_length or 0
    rooms = await admin.read(ListRooms(limit=1))
    people = await admin.read(ListUsers(limit=1))
    return Held(files, in_bytes, rooms.total_rooms, people.total)
