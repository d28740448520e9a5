"""From where accounts were used, and on which device; the homeserver cannot be asked so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from adminbot.engine.step import Row, Statement
from common.homeserver.port import Permission
from common.ids import UserId

MOST = 10_000

_COLUMNS = (
    "SELECT s.user_id, s.address, s.device_id, s.user_agent, s.last_ms FROM admin_seen_from s"
)
# An account's line without a device says nothing where a device's says the same.
_REST = (
    " AND NOT (s.device_id = '' AND EXISTS (SELECT 1 FROM admin_seen_from o"
    " WHERE o.user_id = s.user_id AND o.address = s.address AND o.device_id <> ''"
    " AND o.last_ms >= s.last_ms)) ORDER BY s.last_ms DESC, s.user_id, s.address, s.device_id"
    " LIMIT $3"
)


@dataclass(frozen=True)
class Sighting:
    """When an account was last seen at an address, on a device; either may be “”."""

    user: UserId
    address: str
    device: str
    user_agent: str
    last_ms: int


@dataclass(frozen=True)
class SeenAt:
    """Who was seen at the addresses between two keys, the last first; ``MOST`` at most."""

    permission: ClassVar = Permission.VIEW

    first: str
    last: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement(
            f"{_COLUMNS} WHERE s.place >= $1 AND s.place <= $2{_REST}",
            (self.first, self.last, MOST),
        )

    def read_rows(self, rows: Sequence[Row]) -> tuple[Sighting, ...]:
        """Return them."""
        return _sightings(rows)


@dataclass(frozen=True)
class SeenOn:
    """Who was seen on a device of an ID, or with some words in its name."""

    permission: ClassVar = Permission.VIEW

    device: str

    def to_sql(self) -> Statement:
        """Return the statement."""
        words = self.device.casefold()
        for special in ("!", "%", "_"):
            words = words.replace(special, f"!{special}")
        which = "(s.device_id = $1 OR s.device_name LIKE $2 ESCAPE '!') AND s.device_id <> ''"
        return Statement(f"{_COLUMNS} WHERE {which}{_REST}", (self.device, f"%{words}%", MOST))

    def read_rows(self, rows: Sequence[Row]) -> tuple[Sighting, ...]:
        """Return them."""
        return _sightings(rows)


@dataclass(frozen=True)
class SeenFromSince:
    """Since when this is written down (milliseconds); ``None`` if it is not."""

    permission: ClassVar = Permission.VIEW

    def to_sql(self) -> Statement:
        """Return the statement."""
        return Statement("SELECT since_ms FROM admin_seen_from_watch")

    def read_rows(self, rows: Sequence[Row]) -> int | None:
        """Return the moment."""
        return next((int(row["since_ms"]) for row in rows), None)


def _sightings(rows: Sequence[Row]) -> tuple[Sighting, ...]:
    return tuple(
        Sighting(
            UserId(row["user_id"]),
            str(row["address"]),
            str(row["device_id"]),
            str(row["user_agent"]),
            int(row["last_ms"]),
        )
        for row in rows
    )
