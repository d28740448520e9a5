"""A part of the Synapse module: reports about rooms, which Synapse keeps but shows nobody.

Source: ``POST /_matrix/client/v3/rooms/{roomId}/report`` (Matrix 1.13) fills Synapse's table
``room_reports``, for which its administration API has no endpoint. Server admins only.
"""

import logging
from typing import Any

from synapse.api.errors import AuthError, SynapseError
from synapse.module_api import DirectServeJsonResource, ModuleApi

logger = logging.getLogger(__name__)  # noqa: TID251  # runs in Synapse, which collects its logs

PATH = "/_synapse/client/steward/v1/room_reports"
MOST = 100
_FORBIDDEN, _BAD_REQUEST, _OK = 403, 400, 200


class RoomReports(DirectServeJsonResource):
    """``GET …/room_reports?after=<id>&since=<ms>``: with a higher number, received after that."""

    def __init__(self, api: ModuleApi) -> None:
        super().__init__()
        self._api = api

    async def _async_render_GET(self, request: Any) -> tuple[int, dict[str, Any]]:  # noqa: N802  # Synapse's name
        requester = await self._api.get_user_by_req(request)
        if not await self._api.is_user_admin(requester.user.to_string()):
            raise AuthError(_FORBIDDEN, "You are not a server admin")
        after, since = _number(request, b"after"), _number(request, b"since")
        rows = await self._api.run_db_interaction("steward_room_reports", _rows, after, since)
        names = ("id", "received_ts", "room_id", "user_id", "reason")
        reports = [dict(zip(names, row, strict=True)) for row in rows]
        return _OK, {"room_reports": reports}


def _number(request: Any, name: bytes) -> int:
    given = request.args.get(name, [b"0"])[0]
    if not given.isdigit() or len(given) > 15:  # noqa: PLR2004  # below 2**53
        raise SynapseError(_BAD_REQUEST, f"{name.decode()} must be a number")
    return int(given)


def _rows(transaction: Any, after: int, since: int) -> list[Any]:
    transaction.execute(
        "SELECT id, received_ts, room_id, user_id, reason FROM room_reports"
        " WHERE id > ? AND received_ts > ? ORDER BY id LIMIT ?",
        (after, since, MOST),
    )
    return list(transaction.fetchall())


def offer(api: ModuleApi) -> None:
    """Offer the reports at their path; whatever goes wrong, Synapse starts all the same."""
    try:
        api.register_web_resource(PATH, RoomReports(api))
    except Exception:
        logger.exception("Steward cannot offer the reports about rooms")
