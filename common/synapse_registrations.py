"""A part of the Synapse module: who made their account with which registration token.

Synapse counts the accounts that were made with a token but does not say whose they are. It does
know for two days, since the session in which somebody registered is kept that long
(``ui_auth_sessions``). Server admins only; of the token itself only a digest is told.

A token that ends in ``~for~NAME`` makes the account of that name and no other.
"""

import hashlib
import json
import logging
from typing import Any

from synapse.api.errors import AuthError, SynapseError
from synapse.module_api import DirectServeJsonResource, ModuleApi

logger = logging.getLogger(__name__)  # noqa: TID251  # runs in Synapse, which collects its logs

PATH = "/_synapse/client/steward/v1/came_with"
STAGE = "m.login.registration_token"
FOR = "~for~"
_FORBIDDEN, _BAD_REQUEST, _OK = 403, 400, 200
_LONGEST_USER_ID = 255
_SHORTEST_SECRET = 16


class CameWith(DirectServeJsonResource):
    """``GET …/came_with?user=<user_id>``: the SHA-256 of the token, ``null`` without one."""

    def __init__(self, api: ModuleApi) -> None:
        super().__init__()
        self._api = api

    async def _async_render_GET(self, request: Any) -> tuple[int, dict[str, Any]]:  # noqa: N802  # Synapse's name
        requester = await self._api.get_user_by_req(request)
        if not await self._api.is_user_admin(requester.user.to_string()):
            raise AuthError(_FORBIDDEN, "You are not a server admin")
        user = request.args.get(b"user", [b""])[0].decode("utf-8", "replace")
        if len(user) > _LONGEST_USER_ID:
            raise SynapseError(_BAD_REQUEST, "user is too long")
        if not user:
            return _OK, {"digest": None}
        kept = await self._api.run_db_interaction("steward_came_with", _sessions, user)
        return _OK, {"digest": next((each for each in map(_digest(user), kept) if each), None)}


def _sessions(transaction: Any, user: str) -> list[str]:
    """Return what is kept of the sessions that name somebody, and of a few that seem to."""
    named = json.dumps(user)
    for sign in ("\\", "%", "_"):
        named = named.replace(sign, f"\\{sign}")
    transaction.execute(
        "SELECT serverdict FROM ui_auth_sessions WHERE serverdict LIKE ? ESCAPE '\\'",
        (f"%{named}%",),
    )
    return [row[0] for row in transaction.fetchall()]


def _digest(user: str) -> Any:
    def digest(kept: str) -> str | None:
        session = json.loads(kept)
        token = session.get(STAGE)
        if session.get("registered_user_id") != user or not isinstance(token, str):
            return None
        return hashlib.sha256(token.encode()).hexdigest()

    return digest


async def name_of_token(results: dict[str, Any], _params: dict[str, Any]) -> str | None:
    """Return the name that a token is for, ``None`` where it is for any."""
    token = results.get(STAGE)
    if not isinstance(token, str):
        return None
    secret, mark, name = token.partition(FOR)
    return name if mark and name and len(secret) >= _SHORTEST_SECRET else None


def offer(api: ModuleApi) -> None:
    """Offer both; whatever goes wrong, Synapse starts all the same."""
    try:
        api.register_web_resource(PATH, CameWith(api))
        api.register_password_auth_provider_callbacks(get_username_for_registration=name_of_token)
    except Exception:  # under MAS there are no such registrations
        logger.exception("Steward cannot tell who came with which registration token")
