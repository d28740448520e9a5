"""How long messages are kept, as far as the homeserver says by which limits."""

from dataclasses import dataclass
from typing import Any

import pytest

from adminbot.commands.access import retention_show
from adminbot.engine.answer import Answer
from adminbot.engine.render import render
from common.errors import StewardError
from common.homeserver.client_server.server import GetRetention, Retention
from common.homeserver.errors import NotFoundError, UnsupportedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import GetRoomState
from tests.unit.adminbot.world import SHARED


@dataclass
class Reader:
    """A room without a rule of its own, and what its homeserver says of its rules."""

    server: Retention | StewardError

    async def read(self, request: object) -> Any:
        if isinstance(request, GetRoomState):
            return ()
        assert isinstance(request, GetRetention)
        if isinstance(self.server, StewardError):
            raise self.server
        return self.server


async def shown(server: Retention | StewardError) -> str:
    said = await retention_show.run({AdminReader: Reader(server)}, {"room": SHARED})
    assert isinstance(said, Answer)
    return str(render(said).body)


async def test_what_holds_on_the_server_is_shown_where_it_says_so() -> None:
    day = 86_400_000
    rules = GetRetention().read_response(
        {"policies": {"*": {"max_lifetime": 90 * day}}, "limits": {"max_lifetime": {"min": day}}}
    )

    said = await shown(rules)

    assert "no rule of its own" in said
    assert "90 days" in said
    assert "1 day" in said


@pytest.mark.parametrize("kind", [NotFoundError, UnsupportedError])
async def test_a_server_that_does_not_say_is_no_trouble(
    kind: type[NotFoundError | UnsupportedError],
) -> None:
    said = await shown(kind(404, "M_UNRECOGNIZED", "Unrecognized request"))

    assert said.startswith("This room has no rule of its own")
