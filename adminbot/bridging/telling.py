"""Who is told that a bridge nears its limit, stopped or goes on: admins, and the rooms concerned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from adminbot.bridges.instance import Bridge
from adminbot.bridges.limit import Means, Standing
from adminbot.engine.answer import Answer, answer, lasting
from adminbot.own.bridges import BridgeRow
from adminbot.telling import Telling
from common.database.pool import Database
from common.errors import StartOverError, StewardError
from common.i18n import Msg, t
from common.ids import RoomId
from common.telemetry.log import Log

MOST_ROOMS = 500

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Heralds:
    """The way to those who have to know; the same thing is told once."""

    telling: Telling
    database: Database

    async def warn(self, bridge: Bridge, active: int, limit: int, at_ms: int) -> None:
        """Say to admins that a limit is near."""
        said = t(
            "The bridge {bridge} ({network}) has {active} active remote users of {limit} this "
            "month. Above the limit it is paused. To raise it: bridge limit {name} NUMBER",
            bridge=bridge.name,
            network=bridge.kind.network,
            active=active,
            limit=limit,
            name=bridge.name,
        )
        await self._admins(answer(said), f"bridge-warn-{bridge.name}-{at_ms}")

    async def changed(
        self,
        bridge: Bridge,
        row: BridgeRow,
        standing: Standing,
        means: Sequence[Means],
        trouble: str | None,
    ) -> None:
        """Say that a bridge was paused or goes on; ``trouble``: what is wrong with its hook."""
        key = f"bridge-{bridge.name}-{row.changed_ms}"
        await self._admins(answer(*_for_admins(bridge, standing, means, trouble)), key)
        if standing.paused and not _holding(means, trouble):
            return  # messages go through as before
        said = answer(_for_rooms(bridge, standing))
        rooms = await self.database.fetch(
            "SELECT room_id FROM bridge_room WHERE bridge = $1 ORDER BY room_id LIMIT $2",
            bridge.name,
            MOST_ROOMS,
        )
        for each in rooms:
            await self._room(RoomId(each["room_id"]), said, key)

    async def hook(self, bridge: Bridge, trouble: str | None, at_ms: int, *, stop: bool) -> None:
        """Say that a bridge's hook fails since now, or does not any more."""
        if trouble is not None:
            said = _hook_fails(bridge, trouble)
        elif stop:
            said = t("The hook of the bridge {bridge} has stopped it now.", bridge=bridge.name)
        else:
            said = t("The hook of the bridge {bridge} has started it now.", bridge=bridge.name)
        await self._admins(answer(said), f"bridge-hook-{bridge.name}-{at_ms}")

    async def away(self, bridge: Bridge, trouble: str | None, since_ms: int) -> None:
        """Say that a bridge does not answer."""
        said = t(
            "The bridge {bridge} ({network}) does not answer: {why}. Messages to and from there "
            "wait until it does. I go on asking, and say when it is back.",
            bridge=bridge.name,
            network=bridge.kind.network,
            why=trouble or "?",
        )
        await self._admins(answer(said), f"bridge-away-{bridge.name}-{since_ms}")

    async def back(self, bridge: Bridge, since_ms: int, at_ms: int) -> None:
        """Say that a bridge answers again."""
        said = t(
            "The bridge {bridge} ({network}) answers again, after {time}.",
            bridge=bridge.name,
            network=bridge.kind.network,
            time=lasting(timedelta(milliseconds=at_ms - since_ms)),
        )
        await self._admins(answer(said), f"bridge-back-{bridge.name}-{since_ms}")

    async def blocked(self, bridge: Bridge, at_ms: int, *, now: bool) -> None:
        """Say that a bridge's own limit is in force, or no longer."""
        if now:
            said = t(
                "The bridge {bridge} ({network}) blocks itself: more people are active than its "
                "own limit allows ({option}). It drops messages in both directions until fewer "
                "are, or the limit is raised there.",
                bridge=bridge.name,
                network=bridge.kind.network,
                option=bridge.kind.limits.own or "?",
            )
        else:
            said = t(
                "The bridge {bridge} ({network}) does not block itself any more.",
                bridge=bridge.name,
                network=bridge.kind.network,
            )
        await self._admins(answer(said), f"bridge-blocked-{bridge.name}-{at_ms}")

    async def _admins(self, said: Answer, key: str) -> None:
        try:
            await self.telling.to_admins(said, key=key)
        except StartOverError:
            raise
        except StewardError as error:
            log.warning("the admins could not be told of a bridge", reason=error)

    async def _room(self, room: RoomId, said: Answer, key: str) -> None:
        try:
            language = await self.telling.language_of(None)
            await self.telling.to_room(room, said, key=f"{key}-{room}", language=language)
        except StartOverError:
            raise
        except StewardError as error:
            log.warning("a room could not be told of its bridge", room=room, reason=error)


def _for_admins(
    bridge: Bridge, standing: Standing, means: Sequence[Means], trouble: str | None
) -> list[Msg]:
    failing = [] if trouble is None else [_hook_fails(bridge, trouble)]
    if not standing.paused:
        goes_on = t(
            "The bridge {bridge} ({network}) goes on.",
            bridge=bridge.name,
            network=bridge.kind.network,
        )
        return failing or [goes_on]
    if standing.by_hand:
        why = t(
            "The bridge {bridge} ({network}) is paused until somebody resumes it: bridge resume {name}",
            bridge=bridge.name,
            network=bridge.kind.network,
            name=bridge.name,
        )
    else:
        why = t(
            "The bridge {bridge} ({network}) is paused: {active} active remote users this month, "
            "{limit} are allowed. To raise the limit: bridge limit {name} NUMBER",
            bridge=bridge.name,
            network=bridge.kind.network,
            active=len(standing.active),
            limit=standing.limit,
            name=bridge.name,
        )
    holding = _holding(means, trouble)
    return [why, *([] if failing and not holding else [_how(holding)]), *failing]


def _holding(means: Sequence[Means], trouble: str | None) -> list[Means]:
    """Return what really keeps a bridge from sending."""
    return [each for each in means if trouble is None or each is not Means.HOOK]


def _hook_fails(bridge: Bridge, trouble: str) -> Msg:
    return t(
        "The hook of the bridge {bridge} did not do its work: {why}. I try it again every few "
        "minutes; its own log says more.",
        bridge=bridge.name,
        why=trouble,
    )


def _how(means: Sequence[Means]) -> Msg:
    """Say honestly which directions are stopped."""
    if Means.OWN in means:
        return t("The bridge’s own limit drops messages in both directions.")
    if Means.HOOK in means:
        return t("Your hook has stopped it: nothing goes through in either direction.")
    if Means.SUSPEND in means:
        return t(
            "Remote people beyond the limit cannot send into rooms here. What is written here "
            "still goes out: only a hook of yours (on_pause) or the bridge itself can stop that."
        )
    return t("Nothing keeps it from sending: neither its accounts are known nor is there a hook.")


def _for_rooms(bridge: Bridge, standing: Standing) -> Msg:
    network = bridge.kind.network
    if not standing.paused:
        return t("The bridge to {network} goes on; messages come through again.", network=network)
    if standing.by_hand:
        return t(
            "The bridge to {network} is paused by the admins of this server: messages from there "
            "do not come through.",
            network=network,
        )
    return t(
        "The bridge to {network} has more active people than this server allows, so messages of "
        "some of them do not come through for now. The admins of this server know of it.",
        network=network,
    )
