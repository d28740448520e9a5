"""The real servers that tests share: one of each for a session, started when first asked for.

With pytest-xdist, a session is one worker's. Tests that stop or kill something make a world of
their own with ``make_world``; all others use their own rooms and people in the shared one.
"""

import signal
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

from common.demo.servers import SeaweedFS, SeaweedFSSpec, Synapse
from common.demo.steward import StewardProcess
from tests.support.postgres import Postgres
from tests.support.world import MakeWorld, Wish, World, prepare_world

# How long an example takes says something of the machine. Always the same examples: what a new one
# finds has nothing to do with the change that is looked at; --hypothesis-profile=default looks for it.
settings.register_profile(
    "steward", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steward")


def _interrupted(number: int, frame: FrameType | None) -> None:
    signal.default_int_handler(number, frame)


# With Python's own handler there, asyncio would put one of its own in its place for each fixture and
# test and take it back, for which Python writes out what the fixture has returned: a tenth of a
# second for a bot with all its commands.
signal.signal(signal.SIGINT, _interrupted)

_WORLDS = pytest.StashKey[list[World]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switches by which files are written instead of compared."""
    parser.addoption("--write-golden", action="store_true", help="write tests/golden anew")
    parser.addoption("--write-pictures", action="store_true", help="take pictures for the docs")


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    """A PostgreSQL cluster; make a database of your own in it."""
    async with Postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
async def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    """An S3 server with a bucket; use a prefix of your own in it."""
    spec = SeaweedFSSpec(directory=tmp_path_factory.mktemp("seaweedfs"))
    async with SeaweedFS(spec) as store:
        yield store


@pytest.fixture(scope="session")
async def prepared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The shared world before anything runs in it."""
    return await prepare_world(tmp_path_factory.mktemp("world"), Wish())


@pytest.fixture(scope="session")
async def synapse(prepared_world: World) -> AsyncIterator[Synapse]:
    """A homeserver on SQLite that knows Steward and has its module; Steward may not run."""
    async with prepared_world.synapse as server:
        yield server


@pytest.fixture(scope="session")
async def world(prepared_world: World, synapse: Synapse) -> AsyncIterator[World]:
    """The shared homeserver with Steward running beside it."""
    async with prepared_world.steward:
        yield prepared_world


@pytest.fixture(scope="session")
async def steward(world: World) -> StewardProcess:
    """The Steward of the shared world."""
    return world.steward


@pytest.fixture
async def make_world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """Make worlds that the test may stop, kill and start again: ``await make_world(Wish(…))``.

    With ``start=False`` nothing runs yet. Everything is stopped after the test.
    """
    worlds = request.node.stash.setdefault(_WORLDS, [])
    async with AsyncExitStack() as stack:

        async def make(wish: Wish | None = None, *, start: bool = True) -> World:
            directory = tmp_path / f"world-{len(worlds)}"
            made = await prepare_world(directory, wish or Wish())
            worlds.append(made)
            stack.push_async_callback(made.synapse.stop)
            stack.push_async_callback(made.steward.stop)
            if start:
                await made.synapse.start()
                await made.steward.start()
            return made

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the servers that a failed test used, then let go of these servers.

    A session keeps all its tests to the end, and each server that is kept keeps its ports.
    """
    report = yield
    if report.failed:
        shared = getattr(item, "funcargs", {}).get("prepared_world")
        used = [*item.stash.get(_WORLDS, []), *([shared] if shared is not None else [])]
        for each in used:
            for name, text in each.logs().items():
                report.sections.append((f"end of the log of {name}", text))
    if call.when == "teardown" and _WORLDS in item.stash:
        del item.stash[_WORLDS]
    return report
