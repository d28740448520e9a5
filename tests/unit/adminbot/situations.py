"""A room with its power levels, and what Synapse's own authorisation rules say about it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from synapse.api.errors import AuthError, SynapseError
from synapse.api.room_versions import RoomVersion, RoomVersions
from synapse.event_auth import check_state_dependent_auth_rules
from synapse.events import EventBase, make_event_from_dict

from adminbot.engine.actor import Actor, Caller, Place, PlaceKind, Target
from adminbot.engine.lend import POWER_LEVELS
from common.ids import UserId
from common.matrix.power import RoomPowers
from tests.unit.adminbot.world import ALICE, BOB, ME, NOW, SHARED

CREATOR = UserId("@creator:example.org")
CO_CREATOR = UserId("@cocreator:example.org")
CAROL = UserId("@carol:example.org")
PEOPLE = [ALICE, BOB, CAROL, CREATOR, CO_CREATOR]
VERSIONS = [RoomVersions.V9, RoomVersions.V10, RoomVersions.V11, RoomVersions.V12]
TYPES = ["m.room.name", "m.room.tombstone", POWER_LEVELS, "m.room.message"]

numbers = st.sampled_from([0, 1, 49, 50, 51, 100, 101])
ACTS = ["ban", "kick", "redact", "invite", "events_default", "state_default", "users_default"]


@dataclass(frozen=True)
class Situation:
    """A room, and what Synapse's own rules are asked with."""

    version: RoomVersion
    levels: Mapping[str, Any]

    @property
    def create(self) -> dict[str, Any]:
        content: dict[str, Any] = {"room_version": self.version.identifier}
        if self.version.msc4289_creator_power_enabled:
            content["additional_creators"] = [CO_CREATOR]
        return content

    @property
    def powers(self) -> RoomPowers:
        return RoomPowers(self.levels, CREATOR, self.create)

    def caller(self, user: UserId, *, place: Place | None = None, admin: bool = False) -> Caller:
        target = Target(SHARED, self.powers.of(user))
        where = place or Place(SHARED, PlaceKind.SHARED)
        return Caller(Actor(user, server_admin=admin), where, target, None, NOW)

    def allows(
        self,
        sender: UserId,
        type_: str,
        state_key: str | None,
        content: Mapping[str, Any],
        *,
        members: Mapping[UserId, str] | None = None,
    ) -> bool:
        """Ask Synapse's authorisation rules about an event of somebody's own client."""
        joined = {**dict.fromkeys(PEOPLE, "join"), **(members or {})}
        state = [
            self._event(CREATOR, "m.room.create", "", self.create),
            self._event(CREATOR, POWER_LEVELS, "", self.levels),
            self._event(CREATOR, "m.room.join_rules", "", {"join_rule": "invite"}),
            *(
                self._event(user, "m.room.member", user, {"membership": membership})
                for user, membership in joined.items()
            ),
        ]
        try:
            asked = self._event(sender, type_, state_key, content)
            check_state_dependent_auth_rules(asked, state)
        except (AuthError, SynapseError):
            return False
        return True

    def _event(
        self, sender: str, type_: str, state_key: str | None, content: Mapping[str, Any]
    ) -> EventBase:
        event: dict[str, Any] = {
            "type": type_,
            "sender": sender,
            "room_id": SHARED,
            "content": dict(content),
            "auth_events": [],
            "prev_events": [],
            "origin_server_ts": next(_counter),
            "depth": 1,
            "hashes": {"sha256": "x"},
            "signatures": {},
        }
        if type_ == "m.room.create" and self.version.msc4291_room_ids_as_hashes:
            del event["room_id"]
        if state_key is not None:
            event["state_key"] = state_key
        return make_event_from_dict(event, self.version)


_counter = itertools.count(1)


@st.composite
def levels_of(draw: st.DrawFn) -> dict[str, Any]:
    content: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(ACTS), numbers, max_size=len(ACTS))
    )
    users = {name: draw(numbers) for name in (ALICE, BOB, CAROL) if draw(st.integers(0, 3))}
    # adminbot itself is an admin, as it is in every room.
    content["users"] = {str(name): level for name, level in {**users, ME: 100}.items()}
    events = draw(st.dictionaries(st.sampled_from(TYPES), numbers, max_size=3))
    content["events"] = events
    if draw(st.booleans()):
        content["notifications"] = {"room": draw(numbers)}
    return content


situations = st.builds(Situation, st.sampled_from(VERSIONS), levels_of())
people = st.sampled_from(PEOPLE)
