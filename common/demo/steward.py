"""Steward as it runs in production: a process of its own beside a real homeserver."""

import io
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from common.config.load import load_text
from common.config.registration import render_registration, user_ids
from common.config.schema import Config
from common.demo.process import LOOPBACK, Child, Program
from common.demo.servers import SeaweedFS, Synapse, answers, free_port
from common.demo.waiting import wait_for
from common.ids import EventId, RoomId, UserId

Record = dict[str, Any]

_DEADLINE_SECONDS = 60.0


class StewardProcess:
    """``steward run`` with a configuration, a database and an archive in a directory.

    The registration file is there from the start, so that a homeserver can be given it.

    Args:
        directory: where everything is kept
        synapse: the homeserver that it serves
        database_url: None means SQLite in the directory
        destination: auditbot's destination; None means the directory's ``archive``
        settings: options that replace or join those made here, section by section
    """

    def __init__(
        self,
        directory: Path,
        synapse: Synapse,
        *,
        database_url: str | None = None,
        destination: str | None = None,
        settings: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.directory = directory
        self.synapse = synapse
        self.archive = directory / "archive"
        self._segments: dict[Path, tuple[tuple[int, int, int], list[Record]]] = {}
        self.config_path = directory / "config.yaml"
        self.registration_path = directory / "registration.yaml"
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.as_token = secrets.token_urlsafe(32)
        self.hs_token = secrets.token_urlsafe(32)
        directory.mkdir(parents=True, exist_ok=True)
        usual = self._settings(
            database_url or f"sqlite:///{directory / 'steward.db'}",
            destination or f"file://{self.archive}",
        )
        config = self._write_files(_merged(usual, settings or {}))
        _, adminbot, auditbot = user_ids(config)
        self.adminbot = UserId(adminbot)
        self.auditbot = UserId(auditbot)
        self.child = Child(
            Program(
                name="Steward",
                command=[
                    sys.executable,
                    "-m",
                    "common.cli",
                    "run",
                    "--config",
                    str(self.config_path),
                ],
                log=directory / "steward.log",
                directory=directory,
                ports=[self.port],
            )
        )

    async def start(self, *, deadline_seconds: float = 120) -> None:
        """Start and wait until both bots are up."""
        await self.launch()
        await self.wait_until_ready(deadline_seconds=deadline_seconds)

    async def launch(self) -> None:
        """Start without waiting."""
        await self.child.start()

    async def wait_until_ready(self, *, deadline_seconds: float = 120) -> None:
        """Wait until its health check says so."""
        await self.child.wait_until_ready(lambda: answers(f"{self.url}/health"), deadline_seconds)

    async def stop(self) -> None:
        """Stop in good order."""
        await self.child.stop(grace_seconds=30)

    async def kill(self) -> None:
        """Stop with SIGKILL."""
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

    def log(self) -> str:
        """Return all that it has logged."""
        path = self.child.program.log
        return path.read_text(errors="replace") if path.exists() else ""

    def records(self, room_id: RoomId | None = None) -> list[Record]:
        """Return the records in the archive directory, in order of object key and line."""
        found = [
            self._segment(path) for path in sorted(self.archive.rglob("events/**/*.jsonl.zst"))
        ]
        return [
            record
            for records in found
            for record in records
            if room_id is None or record.get("room_id") == room_id
        ]

    def _segment(self, path: Path) -> list[Record]:
        """Read an object, once: whoever waits for a record asks ten times a second for all."""
        status = path.stat()
        kind = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._segments.get(path)
        if known is None or known[0] != kind:
            known = self._segments[path] = (kind, read_records([path.read_bytes()]))
        return known[1]

    async def wait_for_records(
        self,
        wanted: Callable[[Record], bool],
        what: str,
        *,
        count: int = 1,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> list[Record]:
        """Wait until that many records like this are in the archive directory."""

        def found() -> list[Record] | None:
            records = [record for record in self.records() if wanted(record)]
            return records if len(records) >= count else None

        records = await wait_for(found, deadline_seconds, f"{what} in the archive")
        return records or []

    async def wait_for_event(
        self, event_id: EventId, *, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> Record:
        """Wait for an event's record and return it."""
        records = await self.wait_for_records(
            lambda record: record.get("kind") == "event" and record.get("event_id") == event_id,
            f"the event {event_id}",
            deadline_seconds=deadline_seconds,
        )
        return records[0]

    def _settings(self, database_url: str, destination: str) -> dict[str, dict[str, object]]:
        return {
            "homeserver": {
                "url": self.synapse.url,
                "server_name": self.synapse.server_name,
                "registration_shared_secret": self.synapse.registration_shared_secret.reveal(),
            },
            "appservice": {
                "as_token": self.as_token,
                "hs_token": self.hs_token,
                "listen_port": self.port,
            },
            "encryption": {"pickle_key": secrets.token_urlsafe(32), "one_time_keys": 100},
            "database": {"url": database_url},
            "auditbot": {"destination": destination, "segment_max_age_seconds": 0.5},
            "feeds": {"reconcile_interval_seconds": 2},
            "logging": {"level": "DEBUG"},
        }

    def _write_files(self, settings: Mapping[str, Mapping[str, object]]) -> Config:
        text = json.dumps(settings, indent=2)  # JSON is YAML
        config = load_text(text, str(self.config_path))
        for path, content in (
            (self.config_path, text),
            (self.registration_path, render_registration(config)),
        ):
            path.touch(mode=0o600)
            path.write_text(content)
        return config


def read_records(objects: Iterable[bytes], room_id: RoomId | None = None) -> list[Record]:
    """Return the records in these compressed objects, of one room if one is given."""
    records: list[Record] = []
    for compressed in objects:
        reader = zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(compressed), read_across_frames=True
        )
        for line in reader.read().splitlines():
            record = json.loads(line)
            if room_id is None or record.get("room_id") == room_id:
                records.append(record)
    return records


def s3_settings(store: SeaweedFS) -> dict[str, object]:
    """Return the option ``auditbot.s3`` for this object store."""
    return {
        "endpoint_url": store.endpoint_url,
        "region": store.region,
        "access_key_id": store.access_key_id,
        "secret_access_key": store.secret_access_key.reveal(),
        "path_style": True,
    }


def _merged(
    ours: Mapping[str, Mapping[str, object]], theirs: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    sections = [*ours, *(name for name in theirs if name not in ours)]
    return {name: {**ours.get(name, {}), **theirs.get(name, {})} for name in sections}
