"""A Synapse module: both bots are in every new local room before its first message.

It edits the createRoom request itself, so that clients share the first room key with the bots,
and gives them power that nobody in the room can take away: as additional creators where the
room version knows them (room version 12, MSC4289), by power levels elsewhere.

This file needs nothing but Synapse and can be copied by itself. In ``homeserver.yaml``::

    modules:
      - module: common.synapse_module.StewardModule
        config:
          bots: ["@adminbot:example.org", "@auditbot:example.org"]
          direct_chats: true
"""

import copy
import logging
from dataclasses import dataclass
from typing import Any

from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.module_api import ModuleApi

logger = logging.getLogger(__name__)  # noqa: TID251  # runs in Synapse, which collects its logs


@dataclass(frozen=True)
class ModuleConfig:
    """Which accounts to add, and whether to direct chats too."""

    bots: tuple[str, ...]
    direct_chats: bool = True


class StewardModule:
    """Registered by Synapse at start."""

    def __init__(self, config: ModuleConfig, api: ModuleApi) -> None:
        self._config = config
        # No public accessor tells the server's default room version.
        self._default_version = api._hs.config.server.default_room_version.identifier  # noqa: SLF001
        api.register_third_party_rules_callbacks(on_create_room=self.on_create_room)

    @staticmethod
    def parse_config(config: dict[str, Any]) -> ModuleConfig:
        """Read the module's section of homeserver.yaml; an error here stops Synapse's start."""
        bots = config.get("bots")
        if not isinstance(bots, list) or not all(
            isinstance(bot, str) and bot.startswith("@") and ":" in bot for bot in bots
        ):
            raise ValueError('Steward: "bots" must list user IDs such as "@auditbot:example.org".')
        return ModuleConfig(bots=tuple(bots), direct_chats=bool(config.get("direct_chats", True)))

    async def on_create_room(
        self,
        requester: Any,
        request_content: dict[str, Any],
        _is_requester_admin: bool,  # noqa: FBT001  # Synapse's signature
    ) -> None:
        """Add the bots to one createRoom request."""
        try:
            changed = self._with_bots(copy.deepcopy(request_content), requester.user.to_string())
        except Exception:
            # Any exception from here would refuse the room to its creator. The live keeper
            # brings the bots in afterwards; a request this odd Synapse refuses by itself.
            logger.exception("Steward could not add its bots to a new room")
            return
        request_content.update(changed)

    def _with_bots(self, request: dict[str, Any], creator: str) -> dict[str, Any]:
        bots = [bot for bot in self._config.bots if bot != creator]
        if request.get("is_direct") and not self._config.direct_chats:
            return {}
        invited = list(request.get("invite", []))
        version = KNOWN_ROOM_VERSIONS.get(request.get("room_version", self._default_version))
        changed: dict[str, Any] = {
            "invite": [*invited, *(bot for bot in bots if bot not in invited)]
        }
        if version is None:
            return {}
        if version.msc4289_creator_power_enabled:
            content = request.get("creation_content", {})
            creators = content.get("additional_creators", [])
            content["additional_creators"] = [
                *creators,
                *(bot for bot in bots if bot not in creators),
            ]
            changed["creation_content"] = content
        else:
            changed |= _with_power(request, creator, bots, invited)
        if request.get("is_direct") and not set(invited) & set(self._config.bots):
            changed["initial_state"] = [
                *request.get("initial_state", []),
                _functional_members(self._config.bots),
            ]
        return changed


def _with_power(
    request: dict[str, Any], creator: str, bots: list[str], invited: list[str]
) -> dict[str, Any]:
    """Return the power levels with the bots at 100, as the request would have had them."""
    for event in request.get("initial_state", []):
        if event.get("type") == "m.room.power_levels":
            # This wins over any override (Synapse, handlers/room.py).
            event["content"].setdefault("users", {}).update(dict.fromkeys(bots, 100))
            return {"initial_state": request["initial_state"]}
    override = request.get("power_level_content_override") or {}
    users = override.get("users")
    if users is None:
        # The override replaces the whole map: what the preset would have put there goes along.
        users = {creator: 100}
        if request.get("preset") == "trusted_private_chat":
            users |= dict.fromkeys(invited, 100)
    override["users"] = users | dict.fromkeys(bots, 100)
    return {"power_level_content_override": override}


def _functional_members(bots: tuple[str, ...]) -> dict[str, Any]:
    """Return the state by which clients leave the bots out of a direct chat's name (MSC4171)."""
    return {
        "type": "io.element.functional_members",
        "state_key": "",
        "content": {"service_members": list(bots)},
    }
