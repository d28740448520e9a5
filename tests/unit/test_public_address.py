"""Where a log-in as a bot is made: what the server publishes, if that is an address at all."""

import pytest

from common.keys_cli import public_address

OWN = "http://127.0.0.1:8008"


def published(base: object) -> object:
    return {"m.homeserver": {"base_url": base}}


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (published("https://matrix.example.org/"), "https://matrix.example.org"),
        (published("http://localhost:8008"), "http://localhost:8008"),
        (None, OWN),
        ([], OWN),
        ({"m.homeserver": "https://x"}, OWN),
        (published(5), OWN),
        (published("javascript:alert(1)"), OWN),
        (published('https://x") ; alert("1'), OWN),
        (published("https://x\n"), OWN),
        (published("https://ｅxample.org"), OWN),
        (published("https://" + "x" * 1000), OWN),
    ],
)
async def test_the_published_address_is_taken_or_our_own(said: object, address: str) -> None:
    asked = []

    async def fetch(url: str) -> object:
        asked.append(url)
        return said

    assert await public_address("example.org", OWN, fetch) == address
    assert asked == ["https://example.org/.well-known/matrix/client"]
