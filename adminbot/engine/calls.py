"""What performed steps call: they are no single call themselves, so each names them, in ``calls``.

An endpoint is named by its class; here is what Steward calls besides, in the same spelling.
"""

from typing import Final

from common.homeserver.client_server.membership import InviteUser, JoinRoom, KickUser, LeaveRoom
from common.homeserver.client_server.messages import SendEvent
from common.homeserver.client_server.state import SetPowerLevels
from common.homeserver.synapse.rooms import ListRoomMembers, MakeRoomAdmin
from common.homeserver.synapse.user_rights import LogInAs
from common.homeserver.synapse.users import ListUserRooms

Calls = tuple[type | str, ...]

OWN: Final = "own"
"""Steward's own tables, changed on the way."""
HOOK: Final = "the operator's hook"
PROVISIONING: Final = "the bridge's provisioning API"
STATE: Final = "PUT /_matrix/client/v3/rooms/<room>/state/<type>/<key>"
UPLOAD: Final = "POST /_matrix/media/v3/upload"
PING: Final = "POST /_matrix/client/v1/appservice/<id>/ping"
CREATE: Final = "POST /_matrix/client/v3/createRoom"

SAY: Final[Calls] = (SendEvent,)
TELL: Final[Calls] = (ListUserRooms, CREATE, *SAY)
"""To one person, in their direct chat, which is looked for and made."""
SEND_FILE: Final[Calls] = (*TELL, UPLOAD)
CHAT_WITH_BOT: Final[Calls] = (
    *TELL,
    ListRoomMembers,
    "GET /_matrix/client/v3/user/<me>/account_data/<type>",
    "PUT /_matrix/client/v3/user/<me>/account_data/<type>",
)
"""With a bridge's bot, in a room of ours that is looked for and made."""
IN_THEIR_NAME: Final[Calls] = (LogInAs, "POST /_matrix/client/v3/logout")
ENTER: Final[Calls] = (JoinRoom, InviteUser, MakeRoomAdmin)
LEAVE: Final[Calls] = (LeaveRoom,)
KICK: Final[Calls] = (KickUser,)
PREPARE: Final[Calls] = (ListRoomMembers, InviteUser, SetPowerLevels)
"""A room for a bot that is to work there."""
