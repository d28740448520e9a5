"""The admin API as the registration's sender, for calls that must carry no ``user_id``."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.homeserver.port import Json
from common.homeserver.synapse.users import SetUserAdmin
from common.ids import UserId
from common.matrix.client import MatrixClient, MatrixError
from common.telemetry.log import Log

log = Log("homeserver")


@dataclass(frozen=True)
class SenderRequests:
    """Requests with the as_token and no ``user_id``: Synapse takes them for the sender's.

    The admin API asks whether the account that a request is taken for is a server admin, so the
    sender must be one too. That widens nothing: whoever has the as_token can act as adminbot.
    adminbot grants it when it is first missed, so that the order in which rights are given does
    not matter.
    """

    adminbot: MatrixClient
    sender: UserId

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Send one request; raise ``MatrixError`` or ``TransientError``."""
        try:
            return await self.adminbot.request_as_sender(method, path, body, query=query)
        except MatrixError as error:
            if error.errcode != "M_FORBIDDEN":
                raise
        grant = SetUserAdmin(self.sender, admin=True).to_http()
        await self.adminbot.request(grant.method, grant.path, dict(grant.body))
        log.info("the silent sender was made a server admin, for lists", account=self.sender)
        return await self.adminbot.request_as_sender(method, path, body, query=query)
