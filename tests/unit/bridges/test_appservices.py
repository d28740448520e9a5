"""What is told of a registration holds none of its secrets, wherever they stand."""

import pytest

from adminbot.bridges.appservices import appservice

SERVER = "example.org"


def registration(url: object) -> dict[str, object]:
    return {
        "id": "irc",
        "as_token": "as-s3cret",
        "hs_token": "hs-s3cret",
        "sender_localpart": "irc",
        "url": url,
        "namespaces": {"users": [{"regex": "@_irc_.*", "exclusive": True}]},
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, None),
        ("", None),
        ("http://localhost:9999", "http://localhost:9999"),
        ("http://bridge/at/a/path", "http://bridge/at/a/path"),
        ("http://[::1]:9999", "http://[::1]:9999"),
        ("http://name:pa55word@bridge:9999", "http://••••@bridge:9999"),
        ("http://pa55word@bridge", "http://••••@bridge"),
        ("http://na@me:pa55word@bridge", "http://••••@bridge"),
        ("http://bridge/?key=pa55word#pa55word", "http://bridge/?••••"),
        ("http://[pa55word", "••••"),
    ],
)
def test_an_address_is_told_without_what_opens_it(url: object, told: str | None) -> None:
    found = appservice(registration(url), "a file", SERVER)

    assert found.url == told
    assert "pa55word" not in repr(found)
    assert "s3cret" not in repr(found)
