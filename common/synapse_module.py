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
          creators:
            allow: ["@*:example.org"]
            deny: ["@_irc_*:example.org"]
          bridge_bots: ["@whatsappbot:example.org"]

``docs/synapse-module.md`` explains the options.
"""

import copy
import fnmatch
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.module_api import ModuleApi
from synapse.module_api.errors import ConfigError

try:
    from common.synapse_room_reports import offer as offer_room_reports
except ImportError:  # this file was copied by itself

    def offer_room_reports(api: ModuleApi) -> None:
        """Reports about rooms need the other file too."""


try:
    from common.synapse_registrations import offer as offer_registrations
except ImportError:  # this file was copied by itself

    def offer_registrations(api: ModuleApi) -> None:
        """Who came with which registration token needs the other file too."""


try:
    from common.synapse_invite_blocks import offer as offer_invite_blocks
except ImportError:  # likewise

    def offer_invite_blocks(api: ModuleApi, bots: tuple[str, ...]) -> None:
        """Refusing invitations needs the other file too."""


logger = logging.getLogger(__name__)  # noqa: TID251  # runs in Synapse, which collects its logs

_LONGEST_USER_ID = 255
_FULL, _HALF = 100, 50
"""Power levels: an admin's, and what inviting needs at most unless the request says more."""
_LEVELS = "m.room.power_levels"
_FUNCTIONAL_MEMBERS = "io.element.functional_members"

Matches = Callable[[str], bool]


@dataclass(frozen=True)
class ModuleConfig:
    """Which accounts to add, to whose rooms, and whether to direct chats too."""

    bots: tuple[str, ...]
    direct_chats: bool
    allowed: Matches
    denied: Matches
    bridge_bots: Matches = field(default=lambda _user_id: False)

    def is_bridge_chat(self, creator: str, request: dict[str, Any]) -> bool:
        """Whether a room is going to be somebody's own chat with a bridge's bot, or the bot's.

        Codes to log in are shown there, and several bridges take a chat for theirs only as long
        as two are in it.
        """
        invited = request.get("invite", [])
        if self.bridge_bots(creator):
            return len(invited) <= 1
        return bool(invited) and all(self.bridge_bots(user) for user in invited)

    def concerns(self, creator: str, *, direct: bool) -> bool:
        """Whether the bots are to be in a new room of this creator."""
        return (
            (self.direct_chats or not direct)
            and self.allowed(creator)
            and not self.denied(creator)
        )


class StewardModule:
    """Registered by Synapse at start."""

    def __init__(self, config: ModuleConfig, api: ModuleApi) -> None:
        self._config = config
        # No public accessor tells these settings of the server.
        server = api._hs.config  # noqa: SLF001  # no public accessor
        self._default_version = server.server.default_room_version.identifier
        self._most_invites = server.ratelimiting.rc_invites_per_room.burst_count
        self._only_admins_invite = server.server.block_non_admin_invites
        api.register_third_party_rules_callbacks(on_create_room=self.on_create_room)
        offer_room_reports(api)
        offer_registrations(api)
        offer_invite_blocks(api, config.bots)

    @staticmethod
    def parse_config(config: dict[str, Any]) -> ModuleConfig:
        """Read the module's section of homeserver.yaml; an error here stops Synapse's start."""
        _only_options(config, "bots", "direct_chats", "creators", "bridge_bots")
        creators = config.get("creators") or {}
        if not isinstance(creators, dict):
            raise ConfigError('Steward: "creators" must hold "allow" and "deny".')
        _only_options(creators, "allow", "deny")
        direct_chats = config.get("direct_chats", True)
        if not isinstance(direct_chats, bool):
            raise ConfigError('Steward: "direct_chats" must be true or false.')
        return ModuleConfig(
            bots=_bots(config.get("bots")),
            direct_chats=direct_chats,
            allowed=_matcher(_patterns(creators, "allow", ["*"])),
            denied=_matcher(_patterns(creators, "deny", [])),
            bridge_bots=_matcher(_patterns(config, "bridge_bots", [], name="bridge_bots")),
        )

    async def on_create_room(
        self,
        requester: Any,
        request_content: dict[str, Any],
        is_requester_admin: bool,  # noqa: FBT001  # Synapse's signature
    ) -> None:
        """Add the bots to one createRoom request."""
        try:
            creator = requester.user.to_string()
            if not self._config.concerns(creator, direct=bool(request_content.get("is_direct"))):
                return
            if self._config.is_bridge_chat(creator, request_content):
                return
            may_invite = is_requester_admin or not self._only_admins_invite
            changed = self._with_bots(
                copy.deepcopy(request_content), creator, may_invite=may_invite
            )
        except Exception:
            # Any exception from here would refuse the room to its creator. The live keeper
            # brings the bots in afterwards; a request this odd Synapse refuses by itself.
            logger.exception("Steward could not add its bots to a new room")
            return
        request_content.update(changed)

    def _with_bots(
        self, request: dict[str, Any], creator: str, *, may_invite: bool
    ) -> dict[str, Any]:
        """Return those parts of the request that become different."""
        bots = [bot for bot in self._config.bots if bot != creator]
        version = KNOWN_ROOM_VERSIONS.get(request.get("room_version", self._default_version))
        if version is None or not bots:
            return {}
        invited = list(request.get("invite", []))
        changed: dict[str, Any] = {}
        if version.msc4289_creator_power_enabled:
            changed |= _as_creators(request, bots)
        else:
            changed |= _with_power(request, creator, bots, invited)
            may_invite = may_invite and _has_power_to_invite(creator, {**request, **changed})
        inviting = [*invited, *(bot for bot in bots if bot not in invited)]
        # What follows makes Synapse refuse the whole room; then the keeper invites the bots.
        others = len(request.get("invite_3pid", []))
        if may_invite and (inviting == invited or len(inviting) + others <= self._most_invites):
            changed["invite"] = inviting
        if request.get("is_direct") and not set(invited) & set(self._config.bots):
            state = changed.get("initial_state", request.get("initial_state", []))
            if not any(event.get("type") == _FUNCTIONAL_MEMBERS for event in state):
                changed["initial_state"] = [*state, _functional_members(self._config.bots)]
        return changed


def _as_creators(request: dict[str, Any], bots: list[str]) -> dict[str, Any]:
    """Return what makes the bots creators of a room whose version knows several (MSC4289)."""
    content = request.get("creation_content", {})
    creators = content.get("additional_creators", [])
    content["additional_creators"] = [*creators, *(bot for bot in bots if bot not in creators)]
    changed = {"creation_content": content}
    # Who is a creator must not have a level too: the room would be refused.
    for levels in _levels(request):
        users = levels.get("users", {})
        if set(bots) & users.keys():
            levels["users"] = {user: level for user, level in users.items() if user not in bots}
            changed |= {
                part: request[part]
                for part in ("initial_state", "power_level_content_override")
                if part in request
            }
    return changed


def _levels(request: dict[str, Any]) -> list[dict[str, Any]]:
    override = request.get("power_level_content_override")
    return [
        *(event["content"] for event in _level_events(request)),
        *([override] if override else []),
    ]


def _level_events(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in request.get("initial_state", []) if event.get("type") == _LEVELS]


def _with_power(
    request: dict[str, Any], creator: str, bots: list[str], invited: list[str]
) -> dict[str, Any]:
    """Return the power levels with the bots at 100, as the request would have had them."""
    events = _level_events(request)
    for event in events:
        # This wins over any override (Synapse, handlers/room.py).
        event["content"].setdefault("users", {}).update(dict.fromkeys(bots, _FULL))
    if events:
        return {"initial_state": request["initial_state"]}
    override = request.get("power_level_content_override") or {}
    users = override.get("users")
    if users is None:
        # The override replaces the whole map: what the preset would have put there goes along.
        users = {creator: _FULL}
        if request.get("preset") == "trusted_private_chat":
            users |= dict.fromkeys(invited, _FULL)
    override["users"] = users | dict.fromkeys(bots, _FULL)
    return {"power_level_content_override": override}


def _has_power_to_invite(creator: str, request: dict[str, Any]) -> bool:
    """Whether the levels of a request let the creator invite, once they are in force."""
    return all(
        levels.get("users", {}).get(creator, levels.get("users_default", 0))
        >= levels.get("invite", _HALF)
        for levels in _levels(request)
    )


def _functional_members(bots: tuple[str, ...]) -> dict[str, Any]:
    """Return the state by which clients leave the bots out of a direct chat's name (MSC4171)."""
    return {
        "type": _FUNCTIONAL_MEMBERS,
        "state_key": "",
        "content": {"service_members": list(bots)},
    }


def _bots(value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(bot, str) and bot.startswith("@") and ":" in bot for bot in value)
    ):
        raise ConfigError('Steward: "bots" must list user IDs such as "@auditbot:example.org".')
    return tuple(dict.fromkeys(value))


def _only_options(section: dict[str, Any], *known: str) -> None:
    unknown = [option for option in section if option not in known]
    if unknown:
        raise ConfigError(
            f'Steward: there is no option "{unknown[0]}"; there are {", ".join(known)}.'
        )


def _patterns(
    section: dict[str, Any], option: str, default: list[str], *, name: str = ""
) -> list[str]:
    patterns = section.get(option)
    if patterns is None:
        return default
    if not isinstance(patterns, list) or not all(
        isinstance(pattern, str) and 0 < len(pattern) <= _LONGEST_USER_ID for pattern in patterns
    ):
        raise ConfigError(
            f'Steward: "{name or f"creators.{option}"}" must list user IDs, in which * stands for any '
            'characters and ? for one, such as "@*:example.org".'
        )
    return patterns


def _matcher(patterns: list[str]) -> Matches:
    """Return whether a whole user ID matches one of the patterns.

    The expressions that ``fnmatch`` makes never try a ``*`` a second time, so that no user ID
    takes long. Its sets of characters are switched off: an IPv6 address stands in brackets.
    """
    compiled = [re.compile(fnmatch.translate(each.replace("[", "[[]"))) for each in patterns]
    return lambda user_id: any(pattern.match(user_id) for pattern in compiled)
