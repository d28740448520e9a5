"""The access log in a real bucket, with credentials that may only add to it."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from types_aiobotocore_s3 import S3Client

from auditbot.reader.cli import main
from common.demo.servers import SeaweedFS, SeaweedFSSpec
from common.demo.waiting import wait_for
from common.errors import PermanentError, StewardError, TransientError
from tests.support.archive_maker import Maker
from tests.support.archive_story import tell_story
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.s3 import s3_client, s3_objects

LOG = "access-log"
ADDS = ("adds-only", "secret-of-who-adds")
READS = ("reads-only", "secret-of-who-reads")


def identity(name: str, keys: tuple[str, str], *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    others = (
        identity("officer", ADDS, f"Write:{LOG}"),
        identity("auditor", READS, f"Read:{LOG}", f"List:{LOG}"),
    )
    spec = SeaweedFSSpec(directory=tmp_path_factory.mktemp("seaweedfs"), others=others)
    async with SeaweedFS(spec) as running:
        async with s3_client(running) as client:
            await client.create_bucket(Bucket=LOG)
            await client.put_bucket_versioning(
                Bucket=LOG, VersioningConfiguration={"Status": "Enabled"}
            )
        yield running


@pytest.fixture
async def client(server: SeaweedFS) -> AsyncIterator[S3Client]:
    async with s3_client(server) as opened:
        yield opened


@dataclass
class Desk:
    """A machine of somebody who works on an archive in a directory."""

    maker: Maker
    home: Path
    server: SeaweedFS
    prefix: str

    @property
    def place(self) -> str:
        return f"s3://{LOG}/{self.prefix}"

    def configure(self, keys: tuple[str, str] | None) -> None:
        """Write down where what is done here is added, and how; without credentials only how."""
        self.home.mkdir(parents=True, exist_ok=True)
        settings = {"endpoint_url": self.server.endpoint_url}
        if keys is not None:
            settings |= {
                "place": self.place,
                "access_key_id": keys[0],
                "secret_access_key": keys[1],
            }
        file = self.home / "access-log.yaml"
        file.write_text(json.dumps(settings))
        file.chmod(0o600)

    async def types(self, *words: str) -> int:
        options = [f"--destination=file:{self.maker.root}", f"--home={self.home}"]
        return await asyncio.to_thread(main, [*words, *options])


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return tell_story(tmp_path / "archive")


@pytest.fixture
def desk(server: SeaweedFS, tmp_path: Path, maker: Maker) -> Desk:
    made = Desk(maker, tmp_path / "officer", server, secrets.token_hex(6))
    made.configure(ADDS)
    return made


@pytest.fixture
def auditor(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Who checks the log: with credentials that read it, from the usual chain."""
    made = Desk(desk.maker, tmp_path / "auditor", desk.server, desk.prefix)
    made.configure(None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READS[1])
    return made


async def test_two_officers_add_and_a_third_person_checks(
    desk: Desk, auditor: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Desk(desk.maker, tmp_path / "other", desk.server, desk.prefix)
    other.configure(ADDS)

    async def work(one: Desk, word: str) -> None:
        for _ in range(3):
            assert await one.types("search", word) == 0

    async with asyncio.TaskGroup() as group:
        group.create_task(work(desk, "price"))
        group.create_task(work(other, "lunch"))
    capsys.readouterr()

    assert await auditor.types("access", "verify", "--log", auditor.place, "--json") == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["entries"] for one in found["keys"]] == [4, 4]
    assert await auditor.types("access", "list", "--log", auditor.place, "--json") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("price" in str(one["detail"].get("query")) for one in said) == 3


async def test_credentials_that_may_not_add_are_refused_with_what_to_do(
    desk: Desk, client: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.configure(READS)
    with pytest.raises(PermanentError) as caught:
        await desk.types("search", "price")

    told = str(caught.value)
    assert "does not let these credentials create objects" in told
    assert "Nothing is shown before the access log has it" in told
    assert f"s3:PutObject on {desk.place}/access/*" in told
    assert "access-log.yaml" in told
    assert READS[1] not in told
    assert "100" not in capsys.readouterr().out
    listing = await client.list_objects_v2(Bucket=LOG, Prefix=desk.prefix)
    assert listing.get("KeyCount") == 0
    desk.configure(("nobody", "knows"))
    with pytest.raises(StewardError, match=r"access_key_id in “.*access-log\.yaml”: correct it"):
        await desk.types("search", "price")
    assert capsys.readouterr().out == ""


async def test_who_adds_cannot_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await desk.types("rooms") == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADDS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADDS[1])

    assert await desk.types("access", "verify") == 2


async def test_a_bucket_that_is_away_shows_nothing_and_goes_on_later(
    desk: Desk, auditor: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await desk.types("search", "price") == 0
    capsys.readouterr()
    address = desk.server.endpoint_url
    try:
        desk.server.endpoint_url = "http://127.0.0.1:9"
        desk.configure(ADDS)
        for words in (("search", "price"), ("search", "price", "--no-sync")):
            with pytest.raises(TransientError, match="nothing is shown before it"):
                await desk.types(*words)
        assert capsys.readouterr().out == ""
    finally:
        desk.server.endpoint_url = address
    desk.configure(ADDS)
    assert await desk.types("search", "price") == 0
    assert "The price is 100." in capsys.readouterr().out
    assert await auditor.types("access", "verify", "--log", auditor.place) == 0


@pytest.mark.parametrize("damage", ["deleted", "removed", "overwritten"])
async def test_what_is_done_in_the_bucket_is_found(
    desk: Desk,
    auditor: Desk,
    client: S3Client,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    for _ in range(2):
        assert await desk.types("search", "price") == 0
    listing = await client.list_object_versions(
        Bucket=LOG, Prefix=f"{desk.prefix}/access/entries/"
    )
    versions = sorted(listing["Versions"], key=lambda one: str(one["Key"]))
    key, version = str(versions[1]["Key"]), str(versions[1]["VersionId"])
    match damage:
        case "deleted":
            await client.delete_object(Bucket=LOG, Key=key)
        case "removed":
            await client.delete_object(Bucket=LOG, Key=key, VersionId=version)
        case _:
            await client.put_object(Bucket=LOG, Key=key, Body=b"{}")
    capsys.readouterr()

    assert await auditor.types("access", "verify", "--log", auditor.place) == 1

    words = {
        "deleted": "it was deleted; the store still has it",
        "removed": "Entry 1 of key",
        "overwritten": "something was written over it",
    }
    said = capsys.readouterr().out
    assert words[damage] in said
    assert ("signature" in said) is False, "what was written first is read"


async def test_who_looks_at_a_log_has_it_written_down_before(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await desk.types("search", "price") == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READS[1])
    other = Desk(desk.maker, tmp_path / "other", desk.server, f"{desk.prefix}-other")
    other.configure(ADDS)
    capsys.readouterr()

    assert await other.types("access", "list", "--log", desk.place) == 0
    assert "price" in capsys.readouterr().out
    assert await other.types("access", "list") == 0
    assert f"access log listed: log: {desk.place}" in capsys.readouterr().out
    other.configure(READS)
    assert await other.types("access", "list", "--log", desk.place) == 2
    assert await other.types("access", "verify", "--log", desk.place) == 2
    said, told = capsys.readouterr()
    assert said == ""
    assert told.count("Nothing is shown before the access log has it") == 2


async def test_an_answer_that_is_lost_on_its_way_breaks_nothing(
    desk: Desk, auditor: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    address = desk.server.endpoint_url
    async with FaultProxy(address) as proxy:
        try:
            desk.server.endpoint_url = proxy.url
            desk.configure(ADDS)
            assert await desk.types("rooms") == 0
            proxy.fail_next(1, Fault(drop_answer=True))
            capsys.readouterr()
            with pytest.raises(TransientError, match="nothing is shown before it"):
                await desk.types("search", "price")
            assert capsys.readouterr().out == ""
            assert await desk.types("search", "price") == 0
            assert "The price is 100." in capsys.readouterr().out
        finally:
            desk.server.endpoint_url = address

    assert await auditor.types("access", "list", "--log", auditor.place, "--json") == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["what"], one["unconfirmed"]) for one in listed] == [
        ("key made", False),
        ("rooms listed", False),
        ("search", False),
        ("search", True),
    ]


async def test_the_page_shows_nothing_that_is_not_stored(maker: Maker, tmp_path: Path) -> None:
    spec = SeaweedFSSpec(directory=tmp_path / "store", bucket=LOG)
    async with SeaweedFS(spec) as own:
        desk = Desk(maker, tmp_path / "officer", own, "page")
        desk.configure((own.access_key_id, own.secret_access_key.reveal()))
        async with page(desk) as (session, address):

            async def finds() -> bool:
                async with session.get(f"{address}/search?text=price") as answer:
                    return "The price is" in await answer.text()

            await wait_for(finds, 60, "the index")
            await own.kill()
            for path in ("/search?text=price", "/rooms", "/", "/coverage", "/access", "/cases"):
                async with session.get(f"{address}{path}") as answer:
                    assert answer.status == 502, path
                    text = await answer.text()
                assert "cannot be reached, and nothing is shown" in text, path
                assert "The price is" not in text
            await own.start()
            async with session.get(f"{address}/rooms") as answer:
                assert answer.status == 200
        bodies = await s3_objects(own, "page/access/entries/")
        acts = [json.loads(json.loads(body)["signed"])["what"] for body in bodies.values()]
    assert acts[:3] == ["key made", "logged in", "search"]
    assert acts[-1] == "rooms listed"


async def test_an_address_is_used_up_when_the_log_in_is_stored(
    maker: Maker, tmp_path: Path
) -> None:
    spec = SeaweedFSSpec(directory=tmp_path / "store", bucket=LOG)
    async with SeaweedFS(spec) as own:
        desk = Desk(maker, tmp_path / "officer", own, "login")
        desk.configure((own.access_key_id, own.secret_access_key.reveal()))
        async with served(desk) as (session, url):

            async def status() -> int:
                async with session.get(url, allow_redirects=False) as answer:
                    return answer.status

            await own.kill()
            assert await status() == 502
            await own.start()
            async with asyncio.TaskGroup() as group:
                tries = [group.create_task(status()) for _ in range(8)]
            assert sorted(each.result() for each in tries) == [303] + 7 * [401]
        bodies = await s3_objects(own, "login/access/entries/")
        acts = [json.loads(json.loads(body)["signed"])["what"] for body in bodies.values()]
    # Of the first try nothing was stored, and who came too late is no log-in.
    assert acts == ["key made", "logged in"]


@asynccontextmanager
async def page(desk: Desk) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Start the officers' page and log in."""
    async with served(desk) as (session, url):
        async with session.get(url, allow_redirects=False) as answer:
            assert answer.status < 400
        yield session, url.partition("/login")[0]


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Start the officers' page; return the address that logs in, once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "common.cli", "audit", "serve", "--port=0"),
        *(f"--destination=file:{desk.maker.root}", f"--home={desk.home}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=desk.home,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(90):
            while b"http" not in (line := await process.stdout.readline()):
                assert line
        url = line.decode().strip()
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield session, url
    finally:
        process.terminate()
        await process.wait()
