"""Two homeservers on loopback that federate over TLS, each behind a border that can be shut.

They have the same host and differ in their ports only, so that whoever cuts a name at a wrong
colon, or looks at hosts alone, takes one for the other.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from common.demo.process import LOOPBACK
from common.demo.servers import Synapse, SynapseSpec, free_ports
from common.demo.steward import Record
from common.ids import EventId, RoomId
from tests.support.clients import RawClient, RequestFailedError, wait_for
from tests.support.web import Authority
from tests.support.world import Wish, World, prepare_world

_HOST = "localhost"
_CHUNK = 65_536


@dataclass
class Border:
    """What other servers connect to: it ends TLS and passes on, unless it is shut."""

    port: int
    target: int
    tls: ssl.SSLContext
    _passing: set[asyncio.StreamWriter] = field(default_factory=set)
    _is_shut: bool = False

    @property
    def server_name(self) -> str:
        """The name of the homeserver behind it."""
        return f"{_HOST}:{self.port}"

    def shut(self) -> None:
        """Let nothing through from now on, and cut what is connected."""
        self._is_shut = True
        for writer in list(self._passing):
            writer.transport.abort()

    def open(self) -> None:
        """Let everything through again."""
        self._is_shut = False

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Listen, inside ``async with``."""
        server = await asyncio.start_server(self._meet, LOOPBACK, self.port, ssl=self.tls)
        try:
            yield
        finally:
            server.close()
            self.shut()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside, outside = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:  # the homeserver is not up
            writer.transport.abort()
            return
        if self._is_shut:
            outside.transport.abort()
            writer.transport.abort()
            return
        both = {writer, outside}
        self._passing |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, outside))
                group.create_task(_pass_on(inside, writer))
        finally:
            self._passing -= both


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end; a homeserver closes a connection as a whole."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass(frozen=True)
class Neighbours:
    """The world that has Steward, and a homeserver that knows nothing of it."""

    world: World
    there: Synapse
    border_here: Border
    border_there: Border

    async def stranger(self, localpart: str = "", *, admin: bool = False) -> RawClient:
        """Return a new person of the other homeserver."""
        return await RawClient.register(self.there, localpart, admin=admin)

    async def shared_room(self, person: RawClient, stranger: RawClient, name: str = "") -> RoomId:
        """Return a room of somebody here with both bots and somebody from there."""
        steward = self.world.steward
        room = await person.create_room(name=name)
        # What happens here while a server joins may reach it with the next event only.
        await person.wait_for_members(room, steward.adminbot, steward.auditbot)
        await person.invite(room, stranger.user_id)
        await stranger.join(room)
        await person.wait_for_members(room, stranger.user_id)
        return room

    async def join_there(self, person: RawClient, room: RoomId) -> None:
        """Have somebody from here join a room of there."""
        name = quote(self.there.server_name)
        await person.client("POST", f"/join/{quote(room)}?via={name}&server_name={name}", {})

    async def arrived(self, event: EventId) -> Record:
        """Wait until an event has gone all the way into the archive; return its record."""
        return await self.world.steward.wait_for_event(event, deadline_seconds=60)

    async def all_arrived(self, stranger: RawClient, room: RoomId, *lines: str) -> None:
        """Have somebody from there say all this, and wait until it is in the archive."""
        for event in [await stranger.send_text(room, line) for line in lines]:
            await self.arrived(event)

    def part(self) -> None:
        """Have neither server reach the other."""
        self.border_here.shut()
        self.border_there.shut()

    def meet(self) -> None:
        """Have both reach each other again; none of them knows of it yet."""
        self.border_here.open()
        self.border_there.open()


async def prepare_neighbours(directory: Path) -> Neighbours:
    """Return two homeservers of which none runs yet."""
    authority = Authority()
    trusted = directory / "authority.pem"
    trusted.write_text(authority.pem())
    tls = authority.server(directory, _HOST)
    here, there, port_here, port_there = free_ports(4)
    border_here = Border(here, port_here, tls)
    border_there = Border(there, port_there, tls)
    names = [border_here.server_name, border_there.server_name]

    def settings(port: int) -> Mapping[str, object]:
        return {
            "listeners": [
                {
                    "port": port,
                    "bind_addresses": [LOOPBACK],
                    "type": "http",
                    "tls": False,
                    "resources": [{"names": ["client", "federation"]}],
                }
            ],
            "federation_custom_ca_list": [str(trusted)],
            "federation_domain_whitelist": names,
            "ip_range_blacklist": [],
            # A request that fails counts as failed at once; the wait between two tries of a
            # server stays Synapse's own, ten minutes.
            "federation": {"max_short_retries": 0, "max_long_retries": 0},
        }

    world = await prepare_world(
        directory,
        Wish(
            server_name=border_here.server_name,
            port=port_here,
            extra=settings(port_here),
            log_level="INFO",  # which names each request
        ),
    )
    spec = SynapseSpec(
        directory=directory / "there",
        server_name=border_there.server_name,
        port=port_there,
        extra=settings(port_there),
    )
    return Neighbours(world, Synapse(spec), border_here, border_there)


async def has(person: RawClient, room: RoomId, event: EventId) -> None:
    """Wait until somebody's homeserver has an event."""
    path = f"/rooms/{quote(room)}/event/{quote(event)}"

    async def there() -> bool:
        try:
            await person.client("GET", path)
        except RequestFailedError:
            return False
        return True

    await wait_for(there, 60, f"the event {event}")
