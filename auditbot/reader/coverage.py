"""How much of what was said could be read: counted from the archive and from nothing else.

An event counts in the period in which it was received; that it was read later may be written
down after the period's end.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, TypeVar

from auditbot.reader.layout import day_of
from auditbot.reader.read import ALWAYS, Period, Readable, read
from auditbot.reader.render.words import why
from auditbot.reader.show import visible
from auditbot.reader.times import moment

_SOON_MS = 60_000
_DAY_MS = 24 * 3600 * 1000
FINAL_MS = 3 * _DAY_MS
"""After so long what could not be read counts as final; it is read all the same if a key comes."""
FINAL_CAUSES = ("malformed", "replay", "room_mismatch")
"""Causes that no key mends."""
_MOST_ROOMS = 1000

Record = Mapping[str, Any]
Name = TypeVar("Name")


@dataclass
class Tally:
    """Encrypted events by what became of them; ``why`` counts those not read, by reason."""

    at_once: int = 0
    later: int = 0
    why: Counter[str] = field(default_factory=Counter)

    @property
    def unread(self) -> int:
        """How many could not be read to this day."""
        return self.why.total()

    @property
    def all(self) -> int:
        """How many there are."""
        return self.at_once + self.later + self.unread

    def as_json(self) -> dict[str, Any]:
        """Return the counts for programs."""
        return {
            "decrypted": self.at_once,
            "late_decrypted": self.later,
            "undecryptable": dict(sorted(self.why.items())),
        }

    def text(self) -> str:
        """Return the counts for people."""
        reasons = "; ".join(
            f"{count}: {why(reason)} [{visible(reason)}]"
            for reason, count in self.why.most_common()
        )
        words = f"{self.at_once} read, {self.later} read later, {self.unread} not read"
        return f"{words} ({reasons})" if reasons else words


@dataclass(frozen=True, slots=True)
class _Unread:
    room: str
    device: tuple[str, str]
    why: str
    received_ms: int
    day: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Events of one room, device and day that have the same outcome, counted by the index."""

    room: str
    device: tuple[str, str]
    day: str
    status: str
    why: str
    count: int
    late: int = 0
    soon: int = 0
    within_a_day: int = 0
    final: int = 0


@dataclass(frozen=True)
class WithoutBot:
    """The rooms that are not archived, as the signed manifests of a moment say."""

    rooms: Sequence[Mapping[str, Any]] = ()
    """By name, each with its reason; a manifest names 1,000."""
    count: int = 0
    as_of_ms: int | None = None
    compared_ms: int | None = None
    """When all rooms of the homeserver were gone through last; ``None`` if that is not known."""

    def joined(
        self,
        rooms: Sequence[Mapping[str, Any]],
        count: int,
        as_of_ms: int,
        compared_ms: int | None,
    ) -> "WithoutBot":
        """Return these together with what the manifest of one more homeserver says."""
        if self.as_of_ms is None:
            return WithoutBot(rooms, max(count, len(rooms)), as_of_ms, compared_ms)
        known = None not in {self.compared_ms, compared_ms}
        return WithoutBot(
            (*self.rooms, *rooms),
            self.count + max(count, len(rooms)),
            min(self.as_of_ms, as_of_ms),
            min(self.compared_ms or 0, compared_ms or 0) if known else None,
        )

    def basis(self, zone: tzinfo = UTC) -> str:
        """Return as of when this is, and on what it rests, in a sentence."""
        if self.as_of_ms is None:
            return "No manifest says which rooms there are."
        compared = (
            "when all rooms of the homeserver were gone through last, it does not say"
            if self.compared_ms is None
            else "all rooms of the homeserver were gone through last on "
            f"{moment(self.compared_ms, zone)}"
        )
        return f"As of the manifest of {moment(self.as_of_ms, zone)}; {compared}."

    def lines(self, most: int, zone: tzinfo = UTC) -> Iterable[str]:
        """Yield the rooms and how many more there are, then on what this rests."""
        for room in self.rooms[:most]:
            yield f"{visible(room['room_id'])}: {visible(room['reason'])}"
        more = self.count - min(most, len(self.rooms))
        if more:
            yield f"… and {more:,} more"
        yield self.basis(zone)


@dataclass
class Coverage:
    """The counts of a period."""

    clear: int = 0
    soon: int = 0
    """Of what was read later, how much within 60 s of its receipt."""
    within_a_day: int = 0
    final: int = 0
    """Of what is not read, how much was not for 72 hours, or for a cause that no key mends."""
    total: Tally = field(default_factory=Tally)
    rooms: dict[str, Tally] = field(default_factory=dict)
    devices: dict[tuple[str, str], Tally] = field(default_factory=dict)
    days: dict[str, Tally] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    without_bot: WithoutBot = WithoutBot()
    _unread: dict[tuple[str, int], _Unread] = field(default_factory=dict)

    def add_event(self, record: Record) -> None:
        """Count an event's first record."""
        status = record.get("enc_status")
        if status not in {"decrypted", "undecryptable"}:
            self.clear += 1
            return
        room = str(record.get("room_id"))
        device = (str(record.get("sender")), str(record.get("enc_device_id")))
        if record.get("room_name"):
            self.names[room] = str(record["room_name"])
        received_ms = int(record.get("ts_received") or 0)
        day = str(day_of(received_ms))
        if status == "decrypted":
            for tally in self._tallies(room, device, day):
                tally.at_once += 1
            return
        why = str(record.get("enc_error"))
        for tally in self._tallies(room, device, day):
            tally.why[why] += 1
        place = (str(record.get("stream")), int(record.get("seq") or 0))
        self._unread[place] = _Unread(room, device, why, received_ms, day)

    def add_decryption(self, record: Record) -> None:
        """Count that an event was read after all; of several keys only the first matters."""
        first = self._unread.pop(_place_of_first(record), None)
        if first is None:
            return
        for tally in self._tallies(first.room, first.device, first.day):
            tally.later += 1
            tally.why -= Counter([first.why])
        waited_ms = int(record.get("ts_received") or 0) - first.received_ms
        self.soon += waited_ms <= _SOON_MS
        self.within_a_day += waited_ms <= _DAY_MS

    @property
    def waiting(self) -> int:
        """How much is not read and not final yet."""
        return self.total.unread - self.final

    def share(self, later: int) -> str:
        """Return which share was read at once or is among these that were read later.

        In per cent, rounded down: all but one of many is not all.
        """
        if not self.total.all:
            return "none"
        return f"{(self.total.at_once + later) * 1000 // self.total.all / 10:.1f} %"

    def settle(self, as_of_ms: int) -> None:
        """Count what is final at a moment; for events that were counted one by one."""
        self.final = sum(
            one.why in FINAL_CAUSES or one.received_ms <= as_of_ms - FINAL_MS
            for one in self._unread.values()
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything for programs."""
        return {
            "clear": self.clear,
            **self.total.as_json(),
            "late_within_60_s": self.soon,
            "late_within_24_h": self.within_a_day,
            "within_60_s": self.total.at_once + self.soon,
            "within_24_h": self.total.at_once + self.within_a_day,
            "final": self.final,
            "waiting": self.waiting,
            "rooms": [
                {"room_id": room, "room_name": self.names.get(room), **tally.as_json()}
                for room, tally in _worst_first(self.rooms)
            ],
            "days": [{"day": day, **tally.as_json()} for day, tally in sorted(self.days.items())],
            "rooms_without_bot": list(self.without_bot.rooms),
            "rooms_without_bot_count": self.without_bot.count,
            "rooms_without_bot_as_of_ms": self.without_bot.as_of_ms,
            "rooms_compared_ms": self.without_bot.compared_ms,
            "devices": [
                {"sender": sender, "device_id": device, **tally.as_json()}
                for (sender, device), tally in _worst_first(self.devices)
            ],
        }

    def text(self) -> str:
        """Return everything for people."""
        lines = list(self._whole())
        if self.rooms:
            lines.append("By room:")
        for room, tally in _worst_first(self.rooms):
            name = f" [{visible(self.names[room])}]" if room in self.names else ""
            lines.append(f"    {visible(room)}{name}: {tally.text()}")
        if self.days:
            lines.append("By day (UTC):")
        lines.extend(f"    {day}: {tally.text()}" for day, tally in sorted(self.days.items()))
        if self.devices:
            lines.append("By sending device:")
        for (sender, device), tally in _worst_first(self.devices):
            never = " — never readable" if tally.unread == tally.all else ""
            lines.append(f"    {visible(sender)} {visible(device)}: {tally.text()}{never}")
        lines.append(f"Rooms without the bot: {self.without_bot.count or 'none known'}")
        lines.extend(f"    {line}" for line in self.without_bot.lines(_MOST_ROOMS))
        return "\n".join(map(visible, lines))

    def _whole(self) -> Iterator[str]:
        yield f"In clear: {self.clear}"
        yield f"Encrypted: {self.total.text()}"
        if self.total.later:
            yield (
                f"Read later: {self.soon} within 60 s, {self.within_a_day} within 24 h, "
                f"{self.total.later} altogether"
            )
        if self.total.all:
            yield (
                f"Of all encrypted: {self.share(self.soon)} read within 60 s, "
                f"{self.share(self.within_a_day)} within 24 h"
            )
        if self.total.unread:
            yield (
                f"Not read: {self.final} final (not within 72 h, or no key helps), {self.waiting} "
                "still waited for"
            )

    def add_many(self, counted: Counted) -> None:
        """Count events of one room, device and day that have the same outcome."""
        if counted.status not in {"decrypted", "undecryptable"}:
            self.clear += counted.count
            return
        for tally in self._tallies(counted.room, counted.device, counted.day):
            if counted.status == "decrypted":
                tally.at_once += counted.count
            else:
                tally.later += counted.late
                tally.why += Counter({counted.why: counted.count - counted.late})
        self.soon += counted.soon
        self.within_a_day += counted.within_a_day
        self.final += counted.final

    def _tallies(self, room: str, device: tuple[str, str], day: str) -> Iterable[Tally]:
        return (
            self.total,
            self.rooms.setdefault(room, Tally()),
            self.devices.setdefault(device, Tally()),
            self.days.setdefault(day, Tally()),
        )


async def cover(
    store: Readable,
    period: Period = ALWAYS,
    *,
    missing: list[str] | None = None,
    identities: Sequence[str] = (),
) -> Coverage:
    """Count the events received in a period; ``missing`` and ``identities`` are those of ``read``.

    Raises:
        DamagedArchiveError: an object cannot be read.
    """
    coverage = Coverage()
    newest_ms = 0
    async for found in read(
        store, Period(period.start_ms, None), missing=missing, identities=identities
    ):
        newest_ms = max(newest_ms, int(found.record.get("ts_received") or 0))
        match found.record.get("kind"):
            case "event" if period.holds(found.record.get("ts_received")):
                coverage.add_event(found.record)
            case "decryption":
                coverage.add_decryption(found.record)
            case _:
                pass
    coverage.settle(newest_ms)
    return coverage


def _place_of_first(record: Record) -> tuple[str, int]:
    """Return stream and number of the record that a ``decryption`` record speaks of."""
    try:
        detail = json.loads(record.get("detail_json") or "{}")
    except (ValueError, TypeError):
        detail = {}
    stream = detail.get("of_stream") if isinstance(detail, dict) else None
    return str(stream or record.get("stream")), int(record.get("of_seq") or 0)


def _worst_first(tallies: Mapping[Name, Tally]) -> list[tuple[Name, Tally]]:
    return sorted(tallies.items(), key=lambda item: (-item[1].unread, -item[1].all, str(item[0])))
