"""A tree head a day is stamped by a real authority, and the reader checks what it says."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.run import verify
from auditbot.reader.verify.stamps import read_roots
from auditbot.stamping import Stamping, ask
from auditbot.storage.reading import DirectoryPlace
from common.alarms import untold
from common.clock import SystemClock
from common.database.pool import Database
from common.errors import ConfigError, TransientError
from tests.support.databases import open_database, sqlite_url
from tests.support.postgres import Postgres
from tests.support.tsa import Authority, authority
from tests.unit.auditbot.builders import message, new_room
from tests.unit.auditbot.test_operations import Office


@dataclass
class Session:
    """What of a Matrix client is needed: its HTTP session."""

    session: aiohttp.ClientSession


@dataclass
class Stamped:
    """An archive, an authority, and what asks it."""

    office: Office
    tsa: Authority
    stamping: Stamping

    async def store(self) -> None:
        """Store what there is; the second manifest lists what the first had stored."""
        for _ in range(2):
            await self.office.say(message(f"${secrets.token_hex(8)}"))
            await self.office.store()

    def stamps(self) -> list[str]:
        return [key for key in self.office.objects() if key.endswith(".tsr")]

    async def verified(self, roots: Path | None = None) -> Verified:
        root = self.office.world.directory / "archive"
        options = Options(
            now_ms=self.office.world.clock.now_ms(),
            destination=f"file:{root}",
            tsa_roots=read_roots(roots) if roots else (),
        )
        (result,) = await verify(DirectoryPlace(root), options)
        return result


def wrong(result: Verified) -> list[str]:
    return [one.sentence for one in result.findings.of(Severity.WRONG)]


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Database]:
    url = sqlite_url(tmp_path)
    if getattr(request, "param", None) == "postgres":
        url = (await postgres.create_database()).url
    async with open_database(url) as opened:
        yield opened


@pytest.fixture
async def stamped(database: Database, tmp_path: Path) -> AsyncIterator[Stamped]:
    """An archive of today: the authority's clock is the real one."""
    office = Office(database, tmp_path)
    office.at(SystemClock().now_ms())
    await office.say(*new_room("@bob:example.org"), message("$1"))
    await office.store()
    async with authority(tmp_path / "tsa") as tsa, aiohttp.ClientSession() as session:
        post = partial(ask, cast(Any, Session(session)), tsa.url)
        yield Stamped(office, tsa, Stamping(post, database, office.world.clock))


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
async def test_one_tree_head_a_day_is_stamped_listed_and_verified(stamped: Stamped) -> None:
    office = stamped.office
    assert await stamped.stamping.look()
    assert not await stamped.stamping.look(), "one a day"
    await stamped.store()
    (key,) = stamped.stamps()
    note = f"{key.removesuffix('.tsr')}.note"
    assert note in office.objects()
    listed = [
        item["key"]
        for manifests in office.check().manifests.values()
        for manifest in manifests
        for item in manifest["stamps"]
    ]
    assert listed == [key]

    known = await stamped.verified(stamped.tsa.roots)
    unknown = await stamped.verified()

    assert wrong(known) == wrong(unknown) == []
    assert (known.stamps, known.stamps_known) == (1, True)
    assert (unknown.stamps, unknown.stamps_known) == (1, False)
    assert abs((known.stamped_ms or 0) - SystemClock().now_ms()) < 600_000
    assert [one.code for one in known.findings.found if one.code.startswith("stamp")] == []
    # Anybody can check it with OpenSSL.
    root = office.world.directory / "archive"
    words = ("ts", "-verify", "-data", str(root / note), "-in", str(root / key))
    checking = await asyncio.create_subprocess_exec(
        "openssl", *words, "-CAfile", str(stamped.tsa.roots), stdout=asyncio.subprocess.DEVNULL
    )
    assert await checking.wait() == 0
    office.at(office.world.clock.now_ms() + DAY_MS)
    await stamped.store()
    assert await stamped.stamping.look()
    await stamped.store()
    assert len(stamped.stamps()) == 2


async def test_a_head_that_was_stamped_is_not_stamped_again(stamped: Stamped) -> None:
    await stamped.stamping.look()
    await stamped.office.store()
    stamped.office.at(stamped.office.world.clock.now_ms() + DAY_MS)

    assert not await stamped.stamping.look()
    assert len(stamped.tsa.asked) == 1


@pytest.mark.parametrize("damage", ["bit", "gone", "another's", "foreign"])
async def test_a_stamp_that_is_not_the_right_one_is_found(
    stamped: Stamped, damage: str, tmp_path: Path
) -> None:
    await stamped.stamping.look()
    await stamped.store()
    (key,) = stamped.stamps()
    path = stamped.office.world.directory / "archive" / key
    body = path.read_bytes()

    match damage:
        case "bit":
            path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
            (sentence,) = wrong(await stamped.verified())
            assert sentence == "It is not the time stamp that its manifest lists."
        case "gone":
            path.unlink()
            (sentence,) = wrong(await stamped.verified())
            assert "cannot be checked" in sentence
        case "foreign":
            strange = path.with_name(f"{path.name.rpartition('-')[0]}-000000000777.tsr")
            strange.write_bytes(body)
            os.utime(strange, (1, 1))
            (sentence,) = wrong(await stamped.verified())
            assert "no manifest that was made since lists it" in sentence
        case _:
            async with authority(tmp_path / "other") as other:
                (sentence,) = wrong(await stamped.verified(other.roots))
            assert "no trusted authority made it" in sentence


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("away", "cannot be reached"),
        ("failing", "answered 503"),
        ("nonsense", "is no time stamp"),
        ("replay", "stamped something else"),
        ("endless", "is too long"),
        ("refusal", "refuses"),
    ],
)
async def test_what_is_no_stamp_is_told_once_and_tried_again(
    stamped: Stamped, trouble: str, sentence: str
) -> None:
    tsa, post = stamped.tsa, stamped.stamping.post
    match trouble:
        case "away":
            stamped.stamping.post = partial(post.func, post.args[0], "http://127.0.0.1:9/")  # type: ignore[attr-defined]  # its static type is a wider one
        case "failing":
            tsa.status = 503
        case "nonsense":
            tsa.answer = b"<html>"
        case "endless":
            tsa.answer = bytes(100_000)
        case "replay":
            tsa.answer = await asyncio.to_thread(tsa.stamp_of, "ab" * 32, "sha256")
        case _:
            tsa.answer = await asyncio.to_thread(tsa.stamp_of, "ab" * 20, "sha1")

    assert not await stamped.stamping.look()
    assert not await stamped.stamping.look()

    told = [one.sentence for one in await untold(stamped.office.world.database)]
    assert sum(sentence in one for one in told) == 1
    tsa.status, tsa.answer = 200, None
    stamped.stamping.post = post
    assert await stamped.stamping.look()


async def test_a_trouble_names_the_authority_without_what_opens_it() -> None:
    url = "http://name:pa55word@127.0.0.1:1/tsa?key=pa55word"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(
            TransientError, match=r"authority http://127\.0\.0\.1:1 cannot"
        ) as caught:
            await ask(cast(Any, Session(session)), url, b"")

    assert "pa55word" not in str(caught.value)


async def test_a_past_that_was_written_today_is_told(database: Database, tmp_path: Path) -> None:
    """As whoever stole the signing key would: a tree head of last month, stamped today."""
    office = Office(database, tmp_path)
    office.at(SystemClock().now_ms() - 30 * DAY_MS)
    await office.say(*new_room("@bob:example.org"), message("$1"))
    await office.store()
    async with authority(tmp_path / "tsa") as tsa, aiohttp.ClientSession() as session:
        post = partial(ask, cast(Any, Session(session)), tsa.url)
        stamped = Stamped(office, tsa, Stamping(post, database, office.world.clock))
        assert await stamped.stamping.look()
        await stamped.store()

        found = await stamped.verified(tsa.roots)

    assert wrong(found) == []
    assert "stamp_late" in {one.code for one in found.findings.found}


async def test_the_officer_gives_the_authoritys_certificate(
    stamped: Stamped, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await stamped.stamping.look()
    await stamped.store()
    words = [
        "verify",
        f"--destination=file:{tmp_path / 'archive'}",
        f"--home={tmp_path / 'home'}",
    ]

    assert await asyncio.to_thread(main, [*words, f"--tsa-roots={stamped.tsa.roots}"]) == 0
    assert "by a trusted authority" in capsys.readouterr().out
    assert await asyncio.to_thread(main, [*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["time_stamps"], found["time_stamps_checked"]) == (1, False)
    with pytest.raises(ConfigError, match="no certificates"):
        read_roots(stamped.tsa.folder / "ts.cnf")
