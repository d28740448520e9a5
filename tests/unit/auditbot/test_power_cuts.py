"""Promise 3: whatever crashes when, the same events are in the archive, once each, and proven.

auditbot's recorder, sealing, signing and directory store run on a disk that forgets at a power cut
what was not synced to it (``tests.support.losing_disk``). The database is a real SQLite whose own
syncing is trusted, as promise 1's tests with ``kill -9`` do; a cut rolls its transaction back.
"""

import asyncio
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options
from auditbot.reader.verify.run import verify
from auditbot.storage.directory import DirectoryStore
from auditbot.storage.reading import DirectoryPlace
from tests.support.databases import open_database, sqlite_url
from tests.support.losing_disk import LosingDisk, PowerCutError
from tests.unit.auditbot.builders import NOON, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import Office

T = TypeVar("T")

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no need for a disk
"""What the real disk does counts for nothing here, so none is waited for."""
EXAMPLES, STEPS = 10, 14
CUTS = st.integers(0, 60)
SEEDS = st.integers(0, 2**16)


class Crashes(RuleBasedStateMachine):
    """A Steward that is killed, and a machine that loses its power, at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        self.archive = self.folder / "archive"
        self.archive.mkdir()
        self.disk = LosingDisk(self.archive)
        self.stack.callback(self.disk.close)
        self.stack.enter_context(self.disk.watched())
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.said: Counter[tuple[str, str]] = Counter()
        self.bodies: list[bytes] = []
        self.moment_ms = NOON

    @initialize()
    def begin(self) -> None:
        """Start, with a room."""
        self._start()
        self._say(new_room("@bob:example.org"))

    @rule(count=st.integers(1, 4))
    def people_write(self, count: int) -> None:
        """Take in messages; what is taken in is in the database."""
        begin = len(self.said)
        self._say([message(f"${begin + number}", "text " * 20) for number in range(count)])

    @rule()
    def somebody_sends_a_picture(self) -> None:
        """Take in a message with an attachment, and store that as a running Steward does."""
        event_id = f"${len(self.said)}"
        self._say([image(event_id)])
        self.said[event_id, "media"] += 1
        self._run(self.office.media.step())

    @rule()
    def the_homeserver_sends_it_all_again(self) -> None:
        """Take in what was taken in before."""
        self._run(self.office.say(*self.bodies))

    @rule()
    def it_is_stored(self) -> None:
        """Seal, store and sign."""
        self._run(self.office.store())

    @rule(days=st.integers(0, 1), minutes=st.integers(1, 30))
    def time_passes(self, days: int, minutes: int) -> None:
        """Let the clock go on, to the next day too."""
        self.moment_ms += days * DAY_MS + minutes * 60_000
        self.office.at(self.moment_ms)

    @rule(after=CUTS, seed=SEEDS)
    def the_power_fails_meanwhile(self, after: int, seed: int) -> None:
        """Lose the power while it is stored."""
        self._crash_in(after)
        self.disk.lose(Random(seed))  # the same crash every time
        self._start()

    @rule(after=CUTS)
    def it_is_killed_meanwhile(self, after: int) -> None:
        """Kill Steward alone: the kernel still has what was not synced."""
        self._crash_in(after)
        self._start()

    @precondition(lambda self: self.said)
    @rule(seed=SEEDS)
    def the_power_fails(self, seed: int) -> None:
        """Lose the power between two acts."""
        self._stop()
        self.disk.lose(Random(seed))  # the same crash every time
        self._start()

    def teardown(self) -> None:
        """Store the rest; then the worst power cut of all must not matter any more."""
        try:
            if self.said:
                self._run(self.office.media.step())
                self._run(self.office.store())
                self._stop()
                self._check()
                self.disk.lose()
                self._check()
        finally:
            self.stack.close()

    def _check(self) -> None:
        options = Options(now_ms=self.moment_ms, destination=f"file:{self.archive}")
        (result,) = self._run(verify(DirectoryPlace(self.archive), options))
        assert not result.findings.of(Severity.WRONG)
        found = self.office.check()
        assert found.unlisted == []
        assert self.said == Counter(
            (record["event_id"], record["kind"])
            for record in found.records
            if record["kind"] in {"event", "media"}
        )

    def _say(self, bodies: list[bytes]) -> None:
        self._run(self.office.say(*bodies))
        self.bodies.extend(bodies)
        for body in bodies:
            event_id = body.partition(b'"event_id": "')[2].partition(b'", "room_id"')[0]
            self.said[event_id.decode().replace('\\"', '"'), "event"] += 1

    def _crash_in(self, acts: int) -> None:
        self.disk.cut_in(acts)
        try:
            self._run(self.office.store())
        except* PowerCutError:
            pass
        finally:
            self.disk.cut_in(None)
        self._stop()

    def _start(self) -> None:
        self.opened = AsyncExitStack()
        database = self._run(
            self.opened.enter_async_context(open_database(sqlite_url(self.folder)))
        )
        self.office = Office(database, self.folder)
        self.office.files.held["mxc://example.org/a"] = PNG
        self.office.at(self.moment_ms)

    def _stop(self) -> None:
        self._run(self.opened.aclose())

    def _run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())


BOUNDED = settings(max_examples=EXAMPLES, stateful_step_count=STEPS)


def test_no_crash_loses_or_doubles_anything() -> None:
    run_state_machine_as_test(Crashes, settings=BOUNDED)


KEY = "v1/example.org/events/dt=2025-11-24/stream-000000000000.jsonl.zst"
BODY = b"lines"
DIGEST = hashlib.sha256(BODY).hexdigest()


def _disk(folder: Path) -> LosingDisk:
    folder.mkdir()
    return LosingDisk(folder)


async def _acts_of_a_put(folder: Path) -> int:
    disk = _disk(folder)
    with disk.watched():
        await DirectoryStore(folder).put(KEY, BODY, DIGEST)
    disk.close()
    return disk.acts


async def test_what_was_put_survives_whatever_killed_an_earlier_attempt(tmp_path: Path) -> None:
    """Kill a put at each of its acts, put again, and lose the power after that."""
    acts = await _acts_of_a_put(tmp_path / "whole")
    assert acts > 20
    for kill_at in range(acts):
        folder = tmp_path / f"killed-{kill_at}"
        disk = _disk(folder)
        with disk.watched():
            disk.cut_in(kill_at)
            with pytest.raises(PowerCutError):
                await DirectoryStore(folder).put(KEY, BODY, DIGEST)
            disk.cut_in(None)
            await DirectoryStore(folder).put(KEY, BODY, DIGEST)
        disk.lose()
        assert (folder / KEY).read_bytes() == BODY, kill_at
        disk.close()


@pytest.mark.parametrize("seed", range(6))
async def test_a_power_cut_leaves_a_put_whole_or_absent(tmp_path: Path, seed: int) -> None:
    """Lose the power at each act of a put: no reader sees half of an object."""
    acts = await _acts_of_a_put(tmp_path / "whole")
    for cut_at in range(acts):
        folder = tmp_path / f"cut-{cut_at}"
        disk = _disk(folder)
        with disk.watched():
            disk.cut_in(cut_at)
            with pytest.raises(PowerCutError):
                await DirectoryStore(folder).put(KEY, BODY, DIGEST)
            disk.cut_in(None)
        disk.lose(Random(seed))
        there = folder / KEY
        assert not there.exists() or there.read_bytes() == BODY, cut_at
        with disk.watched():
            await DirectoryStore(folder).put(KEY, BODY, DIGEST)
        disk.close()
