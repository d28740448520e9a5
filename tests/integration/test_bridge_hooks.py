"""The operator's hooks: real programs, what they are given, what becomes of those that fail."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adminbot.bridges.instance import Bridge
from adminbot.bridges.limit import Means
from adminbot.bridging.hooks import run_hook
from adminbot.bridging.limits import HOOK_AGAIN_MS
from adminbot.own.bridges import ListBridges, PauseBridge, ResumeBridge
from common.config.schema import Bridges
from common.database.pool import Database
from common.demo.waiting import wait_for
from common.ids import UserId
from tests.integration.test_bridge_records import REGISTRATION, SERVER, Bridging, put_together
from tests.support.databases import open_database, sqlite_url
from tests.unit.adminbot.world import FakeClock

BY = UserId(f"@root:{SERVER}")


def program(directory: Path, name: str, body: str) -> list[str]:
    """Write an executable of the operator's that notes how it was called; return its command."""
    path = directory / name
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys, time, subprocess\n"
        f"log = open({str(directory / 'called')!r}, 'a')\n"
        "line = {'argv': sys.argv, 'env': dict(os.environ), 'stdin': sys.stdin.read()}\n"
        "print(json.dumps(line), file=log, flush=True)\n"
        f"{body}\n"
    )
    path.chmod(0o700)
    return [str(path), "its own argument"]


def calls(directory: Path) -> list[dict[str, object]]:
    path = directory / "called"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


async def bridged(database: Database, directory: Path, **settings: object) -> Bridging:
    registration = directory / "registration.yaml"
    registration.write_text(json.dumps(REGISTRATION))
    path = directory / "bridges.yaml"
    path.write_text(json.dumps({"irc": {"registration": str(registration), **settings}}))
    return await put_together(database, Bridges(settings=str(path)), FakeClock())


def only(bridging: Bridging) -> Bridge:
    (bridge,) = bridging.registry.bridges.values()
    return bridge


async def test_what_is_handed_over_stays_what_it_is(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEWARD_SOME_SECRET", "of ours")
    bridge = only(await bridged(database, tmp_path))
    hostile = "@a;touch /tmp/x$(id)`id` | cat\n--help:example.org"

    assert await run_hook(bridge, program(tmp_path, "hook", ""), hostile) is None

    (call,) = calls(tmp_path)
    assert call["argv"] == [str(tmp_path / "hook"), "its own argument", hostile]
    assert call["stdin"] == ""
    assert isinstance(call["env"], dict)
    assert call["env"]["STEWARD_BRIDGE"] == "irc"
    assert "STEWARD_SOME_SECRET" not in call["env"]


async def test_a_hook_that_hangs_is_ended_with_what_it_started(
    database: Database, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    body = (
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(1000)"
    )
    bridge = only(await bridged(database, tmp_path))
    command = program(tmp_path, "hook", body)

    async def started() -> bool:
        return child.exists() and child.read_text() != ""

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run_hook(bridge, command, seconds=10))
        await wait_for(started, 60, "the hook's own child")

    trouble = running.result()
    assert trouble is not None
    assert "was not done after 10 seconds" in trouble
    await wait_for(lambda: is_gone(int(child.read_text())), 60, "the end of what it started")


async def is_gone(pid: int) -> bool:
    """Say whether a process has ended; one for which nobody waits is a zombie."""
    process = await asyncio.create_subprocess_exec(
        "ps", "-o", "state=", "-p", str(pid), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return said.strip() in {b"", b"Z"}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nowhere/at-all"], "could not be started: FileNotFoundError"),
        (["/etc/passwd"], "could not be started: PermissionError"),
        (["false"], "failed with status 1"),
    ],
)
async def test_what_goes_wrong_is_named(
    database: Database, tmp_path: Path, command: list[str], why: str
) -> None:
    trouble = await run_hook(only(await bridged(database, tmp_path)), command)
    assert trouble is not None
    assert why in trouble


async def test_a_pause_stops_the_bridge_once_and_starts_it_again(
    database: Database, tmp_path: Path
) -> None:
    stop, start = program(tmp_path, "stop", ""), program(tmp_path, "start", "")
    bridging = await bridged(database, tmp_path, on_pause=stop, on_resume=start)
    (row,) = await bridging.records.read(ListBridges())
    assert row.means == (Means.SUSPEND, Means.HOOK)

    await pause(bridging)
    await bridging.limits.look(only(bridging))
    await pause(bridging, resume=True)
    await bridging.limits.look(only(bridging))

    names = [Path(str(argv[0])).name for call in calls(tmp_path) if (argv := _argv(call))]
    assert names == ["stop", "start"]
    assert bridging.told.troubles == [None, None]


async def test_a_hook_that_fails_is_told_and_tried_again(
    database: Database, tmp_path: Path
) -> None:
    stop = program(tmp_path, "stop", f"sys.exit(not os.path.exists({str(tmp_path / 'well')!r}))")
    bridging = await bridged(database, tmp_path, on_pause=stop)

    await pause(bridging)
    await bridging.limits.look(only(bridging))
    assert len(calls(tmp_path)) == 1, "not at every look"
    (trouble,) = bridging.told.troubles
    assert trouble is not None
    assert "failed with status 1" in trouble
    (row,) = await bridging.records.read(ListBridges())
    assert (row.stopped, row.hook_trouble) == (False, trouble)

    (tmp_path / "well").touch()
    bridging.clock.forward(HOOK_AGAIN_MS / 1000 + 1)
    await bridging.limits.look(only(bridging))
    assert bridging.told.troubles == [trouble, None], "told that it works now"
    (row,) = await bridging.records.read(ListBridges())
    assert (row.stopped, row.hook_trouble) == (True, None)


async def pause(bridging: Bridging, *, resume: bool = False) -> None:
    change = ResumeBridge(bridge="irc") if resume else PauseBridge(bridge="irc", by=BY)
    async with bridging.database.transaction() as connection:
        await bridging.records.apply(connection, change)
    await bridging.limits.look(only(bridging))


def _argv(call: dict[str, object]) -> list[object]:
    argv = call["argv"]
    assert isinstance(argv, list)
    return argv
