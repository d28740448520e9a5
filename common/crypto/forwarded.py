"""Room keys that another device passes on: taken from our own verified devices only.

Source: Matrix specification v1.18, client-server API, "m.forwarded_room_key". Such a key says of
itself who made it, so no message that it opens counts as authenticated, and it never displaces a
key that came from its owner.
"""

import vodozemac

from common.crypto.account import MEGOLM
from common.crypto.canonical import Json, text_of
from common.crypto.port import KeySource, SessionRef
from common.crypto.room_keys import RoomKey
from common.database.pool import Connection
from common.ids import UserId

FORWARDED = "m.forwarded_room_key"
_LONGEST_KEY = 1000


def parse_forwarded(content: Json) -> RoomKey | None:
    """Return the room key of an untrusted ``m.forwarded_room_key``, or ``None`` if it is none."""
    room_id, session_id = text_of(content, "room_id"), text_of(content, "session_id")
    sender_key = text_of(content, "sender_key")
    claimed = text_of(content, "sender_claimed_ed25519_key")
    session_key = text_of(content, "session_key", longest=_LONGEST_KEY)
    if content.get("algorithm") != MEGOLM or not (room_id and session_id and session_key):
        return None
    if not (sender_key and claimed):
        return None
    try:
        session = vodozemac.InboundGroupSession.import_session(
            vodozemac.ExportedSessionKey(session_key)
        )
    except ValueError:
        return None
    if session.session_id != session_id:
        return None
    ref = SessionRef(room_id, session_id)
    return RoomKey(ref, "", sender_key, claimed, KeySource.FORWARDED, session)


async def is_own_verified_device(
    conn: Connection, bot: UserId, *, curve25519: str, ed25519: str, master: str
) -> bool:
    """Whether these are the keys of a present device of the bot that its identity has signed."""
    if not master:
        return False
    found = await conn.fetchval(
        "SELECT 1 FROM crypto_device WHERE bot_id = $1 AND user_id = $2 AND curve25519 = $3"
        " AND ed25519 = $4 AND signed_by = $5 AND present = 1 AND refused = 0",
        bot,
        bot,
        curve25519,
        ed25519,
        master,
    )
    return found is not None
