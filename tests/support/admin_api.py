"""The administration API, as a person who is server admin and as a running Steward's adminbot."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from common.config.secret import Secret
from common.demo.waiting import wait_for
from common.errors import TransientError
from common.homeserver.client import AdminClient
from common.homeserver.port import FollowedChange, Json, Progress
from common.homeserver.sender import SenderRequests
from common.ids import UserId
from common.matrix.client import MatrixClient, MatrixError, connect, open_session
from tests.support.clients import RawClient, RequestFailedError
from tests.support.world import World


class Raw:
    """A person's plain client as the port that ``AdminClient`` wants."""

    def __init__(self, client: RawClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        try:
            answer: Json = await self._client.request(method, path, body, query=query)
        except RequestFailedError as error:
            if error.status >= 500:
                raise TransientError(str(error)) from error
            raise MatrixError(error.status, error.errcode, str(error)) from error
        return answer


def admin_api(client: RawClient) -> AdminClient:
    """Return the API as this person."""
    return AdminClient(Raw(client))


@asynccontextmanager
async def adminbot_api(world: World) -> AsyncIterator[AdminClient]:
    """Return the API as the running Steward's adminbot, over the way that Steward takes."""
    sender = UserId(f"@_steward:{world.synapse.server_name}")
    async with open_session() as session:
        access = connect(
            homeserver_url=world.synapse.url,
            as_token=Secret(world.steward.as_token),
            sender=sender,
            session=session,
        )
        client = MatrixClient(access, world.steward.adminbot)
        yield AdminClient(client, sender=SenderRequests(client, sender))


async def follow(
    admin: AdminClient, change: FollowedChange, deadline_seconds: float = 60
) -> Progress:
    """Make a change and wait until the homeserver's task has ended; return how."""
    request = change.follow(await admin.change(change))

    async def ended() -> Progress | None:
        progress = await admin.read(request)
        return progress if progress.finished else None

    progress = await wait_for(ended, deadline_seconds, f"the end of: {change.describe()}")
    assert progress is not None
    return progress
