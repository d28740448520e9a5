"""Commands about other servers, typed by a real client to a running Steward."""

from tests.integration.test_admin_commands import direct_chat, people_of
from tests.support.world import MakeWorld, Wish

UNREACHABLE = "127.0.0.1:1025"


async def test_an_admin_looks_after_federation(make_world: MakeWorld) -> None:
    # The check may look here; the homeserver tries, in vain, to reach another one here.
    settings = {"adminbot": {"check_networks": ["127.0.0.0/8"]}}
    extra = {"federation_domain_whitelist": None}
    world = await make_world(Wish(settings=settings, extra=extra))
    async with people_of(world) as people:
        chat = await direct_chat(people, people.admin, encrypted=False)

        async def ask(text: str) -> str:
            return (await people.ask(people.admin, chat, text)).body

        assert "0 servers in all" in await ask("fed list")
        await people.admin.request(
            "POST",
            "/_matrix/client/v3/keys/query",
            {"device_keys": {f"@somebody:{UNREACHABLE}": []}},
        )
        listed = ""
        while UNREACHABLE not in listed:  # noted in the background
            listed = await ask("fed list --failing")
        shown = await ask(f"fed show {UNREACHABLE}")
        assert "Failing since" in shown
        assert "0 rooms in all" in await ask(f"fed rooms {UNREACHABLE}")
        assert "Tried again" in await ask(f"fed retry {UNREACHABLE}")
        assert "not waited for" in await ask(f"fed retry {UNREACHABLE}")
        assert "never had to do" in await ask("fed show nowhere.example")

        room = await people.alice.create_room("Here")
        await people.alice.wait_for_members(room, people.adminbot)
        assert "is in 1 room of this server" in await ask(f"fed user {people.alice.user_id}")

        checked = await ask(f"fed check {UNREACHABLE}")
        assert "❌ Federation: Nothing can be connected to at" in checked
        assert "firewall" in checked
        own = await ask("wellknown check")
        assert "❌ Client file" in own
        assert "does not say whom to write to" in await ask("contact")
