"""Where other servers connect, by the specification's rules; who is asked for what."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest

from common.servercheck.facts import By
from common.servercheck.gather import base_url_of, gather
from common.servercheck.names import parse_server_name
from common.servercheck.port import Certificate, Fetched, Hop, Refused, Srv, Trouble

GOOD = Certificate(datetime(2030, 1, 1, tzinfo=UTC))


def answer(url: str, content: object, status: int = 200) -> Fetched:
    return Fetched(url, (Hop(url, status),), msgspec.json.encode(content))


@dataclass
class FakeInternet:
    """Answers from a table; everything else does not resolve."""

    pages: dict[str, object] = field(default_factory=dict)
    records: dict[str, tuple[Srv, ...]] = field(default_factory=dict)
    asked: list[tuple[str, Srv | None, str | None]] = field(default_factory=list)
    certificates: list[tuple[str, int, Srv | None]] = field(default_factory=list)

    async def get(self, url: str, *, via: Srv | None = None, host: str | None = None) -> Fetched:
        self.asked.append((url, via, host))
        if url in self.pages:
            return answer(url, self.pages[url])
        return Fetched(url, trouble=Trouble.UNRESOLVED)

    async def certificate(
        self, host: str, port: int, *, via: Srv | None = None
    ) -> Certificate | Refused:
        self.certificates.append((host, port, via))
        return GOOD

    async def srv(self, name: str) -> tuple[Srv, ...]:
        return self.records.get(name, ())


FILE = "https://example.org/.well-known/matrix/server"
BOX = Srv("box.example.net", 8449)


@pytest.mark.parametrize(
    ("name", "file", "records", "by", "url", "host", "via"),
    [
        ("1.2.3.4", None, {}, By.NAME, "https://1.2.3.4:8448", "1.2.3.4", None),
        (
            "[2001:db8::1]:99",
            None,
            {},
            By.NAME,
            "https://[2001:db8::1]:99",
            "[2001:db8::1]:99",
            None,
        ),
        ("example.org:99", "m:1", {}, By.NAME, "https://example.org:99", "example.org:99", None),
        ("example.org", "1.2.3.4", {}, By.FILE, "https://1.2.3.4:8448", "1.2.3.4", None),
        (
            "example.org",
            "m.example:443",
            {},
            By.FILE,
            "https://m.example:443",
            "m.example:443",
            None,
        ),
        (
            "example.org",
            "m.example",
            {"_matrix-fed._tcp.m.example": (BOX,), "_matrix._tcp.m.example": (Srv("no", 1),)},
            By.SRV,
            "https://m.example:8449",
            "m.example",
            BOX,
        ),
        (
            "example.org",
            "m.example",
            {"_matrix._tcp.m.example": (BOX,)},
            By.OLD_SRV,
            "https://m.example:8449",
            "m.example",
            BOX,
        ),
        ("example.org", "m.example", {}, By.FILE, "https://m.example:8448", "m.example", None),
        (
            "example.org",
            None,
            {"_matrix-fed._tcp.example.org": (BOX,)},
            By.SRV,
            "https://example.org:8449",
            "example.org",
            BOX,
        ),
        ("example.org", None, {}, By.DEFAULT, "https://example.org:8448", "example.org", None),
        (
            "example.org",
            "not a name",
            {},
            By.DEFAULT,
            "https://example.org:8448",
            "example.org",
            None,
        ),
    ],
)
async def test_where_other_servers_connect(  # noqa: PLR0917  # a table of them
    name: str,
    file: str | None,
    records: dict[str, tuple[Srv, ...]],
    by: By,
    url: str,
    host: str,
    via: Srv | None,
) -> None:
    internet = FakeInternet({} if file is None else {FILE: {"m.server": file}}, records)

    facts = await gather(parse_server_name(name), internet)

    assert facts.server.delegation.by is by
    assert (f"{url}/_matrix/federation/v1/version", via, host) in internet.asked
    assert (f"{url}/_matrix/key/v2/server", via, host) in internet.asked
    delegation = facts.server.delegation
    assert (delegation.name.host, delegation.port, via) in internet.certificates
    asked_for_file = any(asked == FILE for asked, _, _ in internet.asked)
    assert asked_for_file is (name == "example.org")


async def test_clients_are_led_by_the_file_or_by_the_name() -> None:
    page = {"m.homeserver": {"base_url": "https://m.example:444/sub/"}}
    internet = FakeInternet({"https://example.org/.well-known/matrix/client": page})

    facts = await gather(parse_server_name("example.org"), internet)
    alone = await gather(parse_server_name("other.org"), internet)

    assert facts.client.base_url == "https://m.example:444/sub"
    asked = {url for url, _, _ in internet.asked}
    assert "https://m.example:444/sub/_matrix/client/versions" in asked
    assert ("m.example", 444, None) in internet.certificates
    assert alone.client.base_url == "https://other.org"
    assert "https://other.org/_matrix/client/v1/auth_metadata" in asked
    assert "https://other.org/.well-known/matrix/support" in asked


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "http://example.org",
        "https://",
        "https://user@example.org",
        "https://example.org:99999",
        "https://example.org/?q",
        "https://example.org/#f",
        "https://exa mple.org",
        "https://[::1",
        "ftp://example.org",
        "https://example.org/" + "x" * 3000,
    ],
)
def test_what_is_no_base_url(value: object) -> None:
    assert base_url_of(answer("u", {"m.homeserver": {"base_url": value}})) is None


@pytest.mark.parametrize("content", [[], "x", {"m.homeserver": []}, {"m.homeserver": "x"}, {}])
def test_a_file_of_another_shape_has_none(content: object) -> None:
    assert base_url_of(answer("u", content)) is None
