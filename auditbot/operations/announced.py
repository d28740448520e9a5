"""What signed documents announced and is carried out: to the end, whatever interrupts it.

The promise kept: what a document says is done by itself after a crash or a refusal, and the
document is never made a second time for that.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from auditbot.operations.desk import Desk, Place, Statement
from common.database.pool import Connection, Database
from common.errors import PermanentError, StewardError, TransientError


@dataclass
class Outcome:
    """What one pass over the documents did."""

    what: str
    """What was done, as in “3 keys were destroyed.”"""
    done: int = 0
    refused: list[str] = field(default_factory=list)
    """What the store refused, and why: it has to be allowed."""
    away: list[str] = field(default_factory=list)
    """What was not done because the store is away, and why: it has to come back."""
    waiting: list[str] = field(default_factory=list)
    """A sentence for each thing that waits because it is held."""
    failed: list[tuple[Statement, StewardError]] = field(default_factory=list)
    """The documents of which nothing could be done, and why: their store is away or refuses them."""

    @property
    def troubles(self) -> int:
        """Return how many things could not be done."""
        return len(self.refused) + len(self.away)

    def could_not(self, what: str, error: PermanentError | TransientError) -> None:
        """Note that something could not be done."""
        kind = self.away if isinstance(error, TransientError) else self.refused
        kind.append(f"{what}: {error}")

    @property
    def text(self) -> str:
        """Return it for people."""
        lines = [f"{self.done:,} {self.what}."]
        if self.refused:
            lines.append(
                f"{len(self.refused):,} were not, because the store refused; Steward tries them "
                f"again by itself once a day. The first: {self.refused[0]}"
            )
        if self.away:
            lines.append(
                f"{len(self.away):,} were not, because the store cannot be reached or used now; "
                f"Steward tries them again by itself. The first: {self.away[0]}"
            )
        if self.failed:
            lines.append(
                f"{len(self.failed):,} signed documents could not be carried out; Steward tries them "
                f"again by itself. The first: {self.failed[0][1]}"
            )
        return "\n".join([*lines, *self.waiting])

    def check(self, keys: Collection[str] | None = None) -> None:
        """See that nothing failed; with keys, nothing that names any of these objects.

        Raises:
            TransientError: a store is away; what was written down is tried again at the next call.
            PermanentError: a store refuses a document.
        """
        for statement, error in self.failed:
            if keys is None or any(item["key"] in keys for item in named(statement.content)):
                raise error


async def finish(
    desk: Desk,
    prefix: str,
    act: Callable[[Place, Statement], Awaitable[bool]],
    outcome: Outcome,
    *,
    made_ms: range | None,
) -> None:
    """Carry out each document that is not done; one that fails keeps no other from it.

    Args:
        desk: the tools
        prefix: of which kind
        act: carries one out; returns whether all is done that it says
        outcome: is told which failed
        made_ms: only those that were made in these moments
    """
    async for place, statement in desk.unfinished(prefix, made_ms=made_ms):
        try:
            if await act(place, statement):
                await desk.note_done(statement)
        except (PermanentError, TransientError) as error:
            outcome.failed.append((statement, error))


_LISTS = ("day_keys", "content_keys", "objects", "media", "sessions")


def named(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that an erasure or a removal names."""
    return [item for name in _LISTS for item in content.get(name, ())]


@dataclass
class Announced:
    """What documents of a kind name of which not all is done; each of them is read once."""

    desk: Desk
    prefix: str
    _named: dict[str, frozenset[str]] = field(default_factory=dict)

    async def names(self, reader: Connection | Database) -> set[str]:
        """Return the keys of the objects, also of what was looked up before and is done since.

        Args:
            reader: where it is looked up; where the ledger is locked nobody else announces anything
                until that is over
        """
        rows = await reader.fetch(
            "SELECT object_key FROM audit_statement WHERE state <> 'done' AND object_key LIKE $1",
            f"{self.desk.root}{self.prefix}%",
        )
        for document in {str(row["object_key"]) for row in rows} - self._named.keys():
            body = await reader.fetchval(
                "SELECT body FROM audit_statement WHERE object_key = $1", document
            )
            content = msgspec.json.decode(bytes(body))
            self._named[document] = frozenset(item["key"] for item in named(content))
        return set[str]().union(*self._named.values())
