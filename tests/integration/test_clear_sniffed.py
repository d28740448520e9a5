"""Promise 8: once the destination is cleared, no plaintext leaves after one flush, and it says so."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import zstandard

from auditbot.operations import destination
from common.config.schema import S3
from common.config.secret import Secret
from common.database.pool import Database
from common.demo.servers import SeaweedFS
from tests.support.archive_check import Checked, check_archive
from tests.support.databases import open_database, sqlite_url
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.s3 import s3_objects
from tests.unit.auditbot.builders import encrypted, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

BEFORE, WAITING, AFTER = (
    b"said before it was cleared",
    b"said before and still waiting",
    b"said after it was cleared",
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


def clear_text(sent: Iterable[tuple[Request, bytes]]) -> bytes:
    """Return all that was sent, unpacked where it was packed."""
    found = []
    for _, body in sent:
        found.append(body)
        if body.startswith(zstandard.FRAME_HEADER):
            found.append(
                zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
            )
    return b"\n".join(found)


async def checked(server: SeaweedFS, prefix: str) -> Checked:
    objects = await s3_objects(server, prefix)
    return check_archive({key.removeprefix(f"{prefix}/"): body for key, body in objects.items()})


async def test_nothing_of_what_is_said_leaves_after_the_flush(
    database: Database, tmp_path: Path, seaweedfs: SeaweedFS
) -> None:
    async with FaultProxy(seaweedfs.endpoint_url) as proxy:
        office = Office(database, tmp_path)
        office.world.destination = f"s3://{seaweedfs.bucket}/{proxy.name}"
        office.world.s3 = S3(
            endpoint_url=proxy.url,
            access_key_id=Secret(seaweedfs.access_key_id),
            secret_access_key=seaweedfs.secret_access_key,
            path_style=True,
        )
        office.files.held["mxc://example.org/a"] = PNG
        office.start()
        await office.say(*new_room("@bob:example.org"), message("$before", BEFORE.decode()))
        await office.store()
        assert BEFORE in clear_text(proxy.bodies), "the sniffer sees what is sent"
        await office.say(message("$waiting", WAITING.decode()), encrypted("$late", "session"))
        proxy.bodies.clear()

        await destination.clear(office.desk)
        await office.say(message("$after", AFTER.decode()), image("$image"))
        await office.store()
        flush = clear_text(proxy.bodies)
        proxy.bodies.clear()
        proxy.requests.clear()

        # What is said, sent, or becomes readable from now on stays here, restart or not.
        office.world.crypto.sessions.add("session")
        for number in range(3):
            office.at(office.world.clock.now_ms() + 3_600_000)
            await office.say(message(f"$later{number}", AFTER.decode()), image(f"$image{number}"))
            if office.bot.late_keys is not None:
                await office.bot.late_keys.retry_all()
            await office.store()
            office.start()

    assert WAITING in flush
    assert AFTER not in flush
    assert PNG not in flush
    assert proxy.bodies == []
    assert [one for one in proxy.requests if one.method in {"PUT", "POST"}] == []
    found = await checked(seaweedfs, proxy.name)
    (manifests,) = found.manifests.values()
    assert manifests[-1]["closed"]["reason"] == "destination cleared"
    (stopped,) = [one for one in found.of_kind("control") if one["action"] == "export_stopped"]
    assert "command line" in stopped["actor"]
    for table in ("audit_lines", "audit_body"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0
