"""What the page works with: the archive, its index, and what the last verification found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, TypeVar

from auditbot.reader.access_log import AccessLog
from auditbot.reader.commands.library import bring_up_to_date, known_keys
from auditbot.reader.commands.options import Archive
from auditbot.reader.handover.cases import Cases
from auditbot.reader.index.database import usable
from auditbot.reader.index.library import Library
from auditbot.reader.index.sync import Synced, complete_parts
from auditbot.reader.index.turns import own_turn
from auditbot.reader.read import ALWAYS
from auditbot.reader.times import moment
from auditbot.reader.transcript.build import Request
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import overall, verdicts
from auditbot.reader.verify.run import verify
from common.clock import Clock
from common.errors import StewardError

T = TypeVar("T")
Json = dict[str, Any]

_WORDS = {
    "wrong": "WRONG",
    "partly": "Verified in part",
    "right": "Verified",
    "unknown": "Not verified",
}


@dataclass
class Desk:
    """One officer's work on one archive."""

    archive: Archive
    library: Library
    log: AccessLog
    clock: Clock
    zone: tzinfo
    zone_name: str
    user: str
    fingerprints: tuple[str, ...] = ()
    synced: Synced | None = None
    verified: list[Verified] = field(default_factory=list)
    verified_ms: int | None = None
    trouble: str = ""
    is_verifying: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def cases(self) -> Cases:
        """Return the cases of this archive."""
        return Cases(self.archive.cache / "cases")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Have the index to oneself, for work that also waits for the archive's store."""
        async with self._lock:
            yield

    async def work(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what uses the index, one at a time and beside the server."""
        async with self._lock:
            return await asyncio.to_thread(work, *arguments)

    async def add_missing_parts(self) -> None:
        """Add the parts of words that the index lacks, from what is on this machine."""
        folder = self.library.folder
        try:
            with usable(folder):
                async with own_turn(folder, self._tell_waiting):
                    await self.work(complete_parts, self.library)
                    self.trouble = ""
        except StewardError as error:
            self.trouble = str(error)

    async def sync(self) -> None:
        """Index what is new; a store that is away leaves things as they are.

        While another process does it the pages show the index as it is.
        """
        folder = self.library.folder
        try:
            with usable(folder):
                async with own_turn(folder, self._tell_waiting), self._lock:
                    self.synced = await bring_up_to_date(
                        self.archive, self.library, self.fingerprints
                    )
                    self.trouble = ""
        except StewardError as error:
            self.trouble = str(error)
        except ExceptionGroup as group:
            if group.split(StewardError)[1] is not None:
                raise
            self.trouble = "The archive cannot be reached now."

    def _tell_waiting(self) -> None:
        self.trouble = (
            "Another “steward audit” is bringing the index up to date. Until it has ended this page "
            "shows the index as it is."
        )

    async def verify(self, *, everything: bool = False) -> None:
        """Verify the archive: what is new, or everything."""
        if self.is_verifying:
            return
        self.is_verifying = True
        options = Options(
            now_ms=self.clock.now_ms(),
            destination=self.archive.destination,
            since_last=not everything,
            fingerprints=self.fingerprints,
            identities=self.archive.identities,
        )
        try:
            self.verified = await verify(self.archive.place, options, self.archive.memory)
            self.verified_ms = self.clock.now_ms()
            self.trouble = ""
        except StewardError as error:
            self.trouble = str(error)
        except ExceptionGroup as group:
            foreseen, bugs = group.split(StewardError)
            if foreseen is None or bugs is not None:
                raise
            self.trouble = "The archive cannot be reached now."
        finally:
            self.is_verifying = False

    def badge(self) -> Json:
        """Return the state of the archive in a word and a sentence."""
        if self.is_verifying:
            return {
                "state": "unknown",
                "word": "Verifying …",
                "words": "Being verified now.",
                "old": [],
            }
        if self.verified_ms is None:
            return {"state": "unknown", "word": "Not verified", "words": self.trouble, "old": []}
        state = overall(self.verified)
        words = verdicts(self.verified) or "There is no archive here."
        return {
            "state": state,
            "word": _WORDS[state],
            "words": f"{words} Verified {moment(self.verified_ms)} UTC.",
            "old": [
                finding.sentence
                for result in self.verified
                for finding in result.findings.of(Severity.NOTICE)
                if finding.code == "old"
            ],
        }

    def request(self, case: str = "") -> Request:
        """Return who makes an export, and how the archive was found."""
        known = self.badge()
        fingerprints = (
            tuple(key for item in self.verified for key in item.fingerprints)
            if self.verified
            else known_keys(self.archive, self.fingerprints)
        )
        return Request(
            archive=self.archive.destination,
            subject=None,
            period=ALWAYS,
            zone=self.zone,
            zone_name=self.zone_name,
            made_ms=self.clock.now_ms(),
            made_by=self.user,
            verdict=str(known["words"]) if self.verified else "Not verified as a whole.",
            standing=str(known["state"]) if self.verified else "unknown",
            fingerprints=fingerprints,
            faults=tuple(self.synced.faults) if self.synced else (),
            case=case or "Selected messages",
        )
