"""A part of the Synapse module: invitations from certain people and servers are refused.

The list is account data of one of the bots, written by “invite-block”: Synapse keeps it, caches
it and tells its workers when it changes, so that it holds from one invitation to the next, after
restarts, and while Steward is away. Whatever goes wrong in here, an invitation passes.
"""

import fnmatch
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from synapse.api.errors import AuthError
from synapse.module_api import NOT_SPAM, DirectServeJsonResource, ModuleApi
from synapse.module_api.errors import Codes

logger = logging.getLogger(__name__)  # noqa: TID251  # runs in Synapse, which collects its logs

DATA_TYPE = "org.matrix-steward.invite_blocks"
PATH = "/_synapse/client/steward/v1/invite_blocks"
MOST = 2000
_LONGEST = 255
_OK, _FORBIDDEN = 200, 403


class Blocks:
    """Some entries, made ready once: user IDs and server names, in which * and ? may stand."""

    def __init__(self, entries: Iterable[object]) -> None:
        known = [
            entry.lower()
            for entry in entries
            if isinstance(entry, str) and 0 < len(entry) <= _LONGEST
        ][:MOST]
        self.entries = frozenset(known)
        patterns = [entry for entry in known if "*" in entry or "?" in entry]
        self._exact = self.entries - set(patterns)
        # The expressions that fnmatch makes never try a * a second time, so that no name takes
        # long. Its sets of characters are switched off: an IPv6 address stands in brackets.
        self._patterns = [
            re.compile(fnmatch.translate(each.replace("[", "[[]"))) for each in patterns
        ]

    def refuse(self, inviter: str) -> bool:
        """Whether invitations from somebody are refused."""
        user = inviter.lower()
        localpart, _, server = user.partition(":")
        host = _host(server)
        names = (user, server, f"{localpart}:{host}", host)
        return any(name in self._exact for name in names) or any(
            pattern.match(name) for pattern in self._patterns for name in names
        )


class InviteBlocks(DirectServeJsonResource):
    """``GET …/invite_blocks``: what is refused at this moment. Server admins only."""

    def __init__(self, api: ModuleApi, bots: tuple[str, ...]) -> None:
        super().__init__()
        self._api = api
        self._bots = bots
        self._held: tuple[frozenset[object], Blocks] = (frozenset(), Blocks(()))

    async def user_may_invite(self, inviter: str, invitee: str, room_id: str) -> Any:
        """Answer Synapse; the bots are invited by anybody, and invite whom they like."""
        del room_id
        try:
            if invitee in self._bots or inviter in self._bots:
                return NOT_SPAM
            if (await self._blocks()).refuse(inviter):
                return Codes.FORBIDDEN
        except Exception:
            logger.exception("Steward could not look at an invitation")
        return NOT_SPAM

    async def _blocks(self) -> Blocks:
        entries: frozenset[object] = frozenset()
        for bot in self._bots:
            # From Synapse's cache, except after a change.
            data = await self._api.account_data_manager.get_global(bot, DATA_TYPE)
            blocks = data.get("blocks") if isinstance(data, Mapping) else None
            if isinstance(blocks, Mapping):
                entries |= frozenset(blocks)
        if entries != self._held[0]:
            self._held = (entries, Blocks(entries))
        return self._held[1]

    async def _async_render_GET(self, request: Any) -> tuple[int, dict[str, Any]]:  # noqa: N802  # Synapse's name
        requester = await self._api.get_user_by_req(request)
        if not await self._api.is_user_admin(requester.user.to_string()):
            raise AuthError(_FORBIDDEN, "You are not a server admin")
        return _OK, {"blocks": sorted((await self._blocks()).entries)}


def _host(server: str) -> str:
    """Return a server's name without its port: with another one it would be another name."""
    host, colon, port = server.rpartition(":")
    return host if colon and port.isascii() and port.isdecimal() else server


def offer(api: ModuleApi, bots: tuple[str, ...]) -> None:
    """Look at invitations from now on; whatever goes wrong, Synapse starts all the same."""
    try:
        blocks = InviteBlocks(api, bots)
        api.register_spam_checker_callbacks(user_may_invite=blocks.user_may_invite)
        api.register_web_resource(PATH, blocks)
    except Exception:
        logger.exception("Steward cannot look at invitations")
