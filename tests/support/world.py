"""A homeserver and a Steward that belong together, for one test or for many."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.demo.servers import SeaweedFS, Synapse, SynapseSpec, free_port
from common.demo.steward import Record, StewardProcess, read_records, s3_settings
from common.ids import RoomId
from tests.support.clients import RawClient
from tests.support.forking import start_by_fork
from tests.support.postgres import Postgres
from tests.support.s3 import s3_objects

SERVER_NAME = "steward.localhost"


@dataclass(frozen=True)
class World:
    """One homeserver and the Steward registered with it.

    ``s3`` is where the archive goes, below ``prefix``, if it does not go to a directory.
    """

    directory: Path
    synapse: Synapse
    steward: StewardProcess
    s3: SeaweedFS | None = None
    prefix: str = ""

    async def person(self, localpart: str = "", *, admin: bool = False) -> RawClient:
        """Return a new person; close the client, or use it with ``async with``."""
        return await RawClient.register(self.synapse, localpart, admin=admin)

    async def records(self, room_id: RoomId | None = None) -> list[Record]:
        """Return the archive's records, wherever it is."""
        if self.s3 is None:
            return self.steward.records(room_id)
        objects = await s3_objects(self.s3, self.prefix)
        segments = (
            body
            for key, body in objects.items()
            if "/events/" in key and key.endswith(".jsonl.zst")
        )
        return read_records(segments, room_id)

    def logs(self) -> dict[str, str]:
        """Return the end of each log, by name."""
        programs = (self.synapse.child.program, self.steward.child.program)
        return {program.name: program.tail(80) for program in programs}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What kind of world.

    Args:
        postgres: both keep their databases there; None means SQLite
        s3: where the archive goes; None means a directory
        module: whether Synapse runs Steward's module
        module_options: options of the module that join the usual ones
        settings: options of Steward that replace or join the usual ones
        extra: settings of Synapse that replace the usual ones
        port: where Synapse listens, if others have to know it beforehand
        registrations: of other application services
        server_name: of the homeserver
        log_level: of the homeserver's own log
        forked: whether both are forked from what has imported them, which saves most of a start's
            CPU, rather than started as people start them
    """

    postgres: Postgres | None = None
    s3: SeaweedFS | None = None
    module: bool = True
    module_options: Mapping[str, object] | None = None
    settings: Mapping[str, Mapping[str, object]] | None = None
    extra: Mapping[str, object] | None = None
    port: int | None = None
    registrations: Sequence[Path] = ()
    server_name: str = SERVER_NAME
    log_level: str = "WARNING"
    forked: bool = True


class MakeWorld(Protocol):
    """What the fixture ``make_world`` is."""

    async def __call__(self, wish: Wish | None = None, *, start: bool = True) -> World: ...


async def prepare_world(directory: Path, wish: Wish) -> World:
    """Return a world in which nothing runs yet."""
    postgres, s3 = wish.postgres, wish.s3
    for_synapse = await postgres.create_database() if postgres else None
    for_steward = await postgres.create_database() if postgres else None
    prefix = f"world-{secrets.token_hex(4)}"
    settings = dict(wish.settings or {})
    if s3 is not None:
        settings["auditbot"] = {"s3": s3_settings(s3), **settings.get("auditbot", {})}
    home = directory / "steward"
    module = {
        "module": "common.synapse_module.StewardModule",
        "config": {
            "bots": [f"@{bot}:{wish.server_name}" for bot in ("adminbot", "auditbot")],
            "direct_chats": True,
            **(wish.module_options or {}),
        },
    }
    synapse = Synapse(
        SynapseSpec(
            directory=directory / "synapse",
            server_name=wish.server_name,
            registrations=[home / "registration.yaml", *wish.registrations],
            port=wish.port or free_port(),
            postgres=for_synapse.psycopg2 if for_synapse else None,
            modules=[module] if wish.module else [],
            extra=wish.extra or {},
            log_level=wish.log_level,
        )
    )
    steward = StewardProcess(
        home,
        synapse,
        database_url=for_steward.url if for_steward else None,
        destination=f"s3://{s3.bucket}/{prefix}" if s3 else None,
        settings=settings,
    )
    if wish.forked:
        start_by_fork(synapse.child)
        start_by_fork(steward.child)
    return World(directory, synapse, steward, s3, prefix)
