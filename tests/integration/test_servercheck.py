"""The check against real servers with TLS, and that it cannot be led into private networks."""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from common.clock import SystemClock
from common.demo.servers import Synapse, SynapseSpec
from common.servercheck.check import ServerCheck
from common.servercheck.findings import Contact, Level, Report
from common.servercheck.internet import LARGEST_BODY, MOST_HOPS, SafeInternet, SystemNames
from common.servercheck.names import ServerName
from common.servercheck.port import Certificate, Refused, Srv, Trouble
from tests.support.web import Authority, FakeNames, Handler, WebServer, web_server

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
CORS = {"Access-Control-Allow-Origin": "*"}


class Here:
    """A web server under two names, and the way to it."""

    def __init__(self, authority: Authority, server: WebServer, names: FakeNames) -> None:
        self.authority = authority
        self.server = server
        self.names = names
        self.internet = SafeInternet(
            names, exceptions=LOOPBACK, tls=authority.client(), patience_seconds=30
        )

    def serve(self, host: str, *ports: int) -> None:
        for port in ports:
            self.names.hosts[(host, port)] = [self.server.endpoint]


class Site:
    """What the server answers; a test sets it."""

    def __init__(self) -> None:
        self.handler: Handler = self._nothing

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, headers=CORS)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return await self.handler(request)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def here(authority: Authority, site: Site, tmp_path: Path) -> AsyncIterator[Here]:
    tls = authority.server(tmp_path, "example.org", "m.example.org")
    async with web_server(tls, site.answer) as server:
        found = Here(authority, server, FakeNames())
        found.serve("example.org", 443, 8448)
        found.serve("m.example.org", 443, 8448)
        yield found


async def test_an_answer_and_its_certificate(here: Here, site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert "Cookie" not in request.headers
        assert "Authorization" not in request.headers
        return web.json_response({"a": 1}, headers=CORS)

    site.handler = handler

    fetched = await here.internet.get("https://example.org/x")
    certificate = await here.internet.certificate("example.org", 443)

    assert fetched.json == {"a": 1}
    assert fetched.header("access-control-allow-origin") == "*"
    assert here.server.seen == [("example.org", "/x")]
    assert isinstance(certificate, Certificate)
    left = certificate.expires - SystemClock().now()
    assert timedelta(days=89) < left <= timedelta(days=90)


async def test_redirects_are_followed_and_remembered(here: Here, site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/a":
            return web.Response(status=302, headers={"Location": "https://m.example.org/b"})
        if request.path == "/b":
            return web.Response(status=308, headers={"Location": "../c", **CORS})
        return web.json_response({"end": True})

    site.handler = handler

    fetched = await here.internet.get("https://example.org/a")

    assert fetched.json == {"end": True}
    assert [(hop.url, hop.status) for hop in fetched.hops] == [
        ("https://example.org/a", 302),
        ("https://m.example.org/b", 308),
        ("https://m.example.org/c", 200),
    ]
    assert [host for host, _ in here.server.seen] == [
        "example.org",
        "m.example.org",
        "m.example.org",
    ]


async def test_an_srv_record_is_followed_with_the_right_name(
    here: Here, authority: Authority, tmp_path: Path
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    tls = authority.server(tmp_path, "example.org")
    async with web_server(tls, handler) as other:
        here.names.hosts[("box.example.net", 8449)] = [other.endpoint]
        via = Srv("box.example.net", 8449)
        url = "https://example.org:8449/_matrix/federation/v1/version"

        fetched = await here.internet.get(url, via=via, host="example.org")
        certificate = await here.internet.certificate("example.org", 8449, via=via)
        wrong = await here.internet.certificate("m.example.org", 8449, via=via)

        assert fetched.good
        assert other.seen[0] == ("example.org", "/_matrix/federation/v1/version")
        assert isinstance(certificate, Certificate)
        assert isinstance(wrong, Refused)
        assert wrong.trouble is Trouble.TLS
        assert "m.example.org" in wrong.detail


async def test_certificates_that_are_not_good(
    here: Here, authority: Authority, tmp_path: Path, site: Site
) -> None:
    expired = authority.server(tmp_path, "old.example.org", lifetime=timedelta(days=-1))
    async with web_server(expired, site.answer) as old, web_server(None, site.answer) as plain:
        here.names.hosts[("old.example.org", 443)] = [old.endpoint]
        here.names.hosts[("plain.example.org", 443)] = [plain.endpoint]
        here.serve("other.example.org", 443)
        said = {
            host: await here.internet.get(f"https://{host}/")
            for host in ("old.example.org", "plain.example.org", "other.example.org")
        }
    strangers = replace(here.internet, tls=Authority().client())
    said["example.org"] = await strangers.get("https://example.org/")

    assert {one.trouble for one in said.values()} == {Trouble.TLS}
    assert "expired" in said["old.example.org"].detail
    assert "other.example.org" in said["other.example.org"].detail
    assert "local issuer" in said["example.org"].detail
    refused = await strangers.certificate("example.org", 443)
    assert isinstance(refused, Refused)
    assert refused.trouble is Trouble.TLS


async def test_what_does_not_answer(here: Here, site: Site) -> None:
    over = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    site.handler = hang
    impatient = replace(here.internet, patience_seconds=0.3)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        here.names.hosts[("down.example.org", 443)] = [("127.0.0.1", closed.getsockname()[1])]
        down = await here.internet.get("https://down.example.org/")
        refused = await here.internet.certificate("down.example.org", 443)

    assert (await impatient.get("https://example.org/")).trouble is Trouble.SLOW
    over.set()
    assert down.trouble is Trouble.UNREACHABLE
    assert refused == Refused(Trouble.UNREACHABLE)
    nowhere = await here.internet.get("https://nowhere.example.org/")
    assert (nowhere.trouble, nowhere.detail) == (Trouble.UNRESOLVED, "nowhere.example.org")


async def test_bodies_without_end_are_left(here: Here, site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/bomb":
            bomb = gzip.compress(b" " * 100_000_000)[: LARGEST_BODY - 1]
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
        if request.path == "/gzip":
            body = gzip.compress(msgspec.json.encode({"packed": True}))
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    site.handler = handler

    assert (await here.internet.get("https://example.org/endless")).trouble is Trouble.LARGE
    assert (await here.internet.get("https://example.org/bomb")).trouble is Trouble.LARGE
    assert (await here.internet.get("https://example.org/gzip")).json == {"packed": True}


async def test_redirects_have_an_end(here: Here, site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": request.path + "x"})

    site.handler = handler

    fetched = await here.internet.get("https://example.org/")

    assert fetched.trouble is Trouble.REDIRECTS
    assert len(fetched.hops) == MOST_HOPS + 1


@pytest.mark.parametrize(
    ("location", "trouble"),
    [
        ("http://example.org/", Trouble.INSECURE),
        ("file:///etc/passwd", Trouble.INSECURE),
        ("ftp://example.org/", Trouble.INSECURE),
        ("gopher://example.org/", Trouble.INSECURE),
        ("https://user:pass@example.org/", Trouble.BROKEN),
        ("https://example.org:22/", Trouble.PORT),
        ("https://example.org:6379x/", Trouble.BROKEN),
        ("https://inside.example.org/", Trouble.FORBIDDEN),
        ("https://2130706433/", Trouble.BROKEN),
        ("https://0177.0.0.1/", Trouble.BROKEN),
        ("https://127.1/", Trouble.BROKEN),
        ("//inside.example.org/", Trouble.FORBIDDEN),
    ],
)
async def test_a_redirect_cannot_lead_astray(
    here: Here, site: Site, location: str, trouble: Trouble
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    site.handler = handler
    here.names.hosts[("inside.example.org", 443)] = [("10.0.0.1", 443)]
    here.serve("example.org", 22)

    fetched = await here.internet.get("https://example.org/")

    assert fetched.trouble is trouble
    assert len(here.server.seen) == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
    ],
)
async def test_nothing_private_is_connected_to_without_an_exception(
    authority: Authority, tmp_path: Path, site: Site, host: str
) -> None:
    async with web_server(authority.server(tmp_path, "localhost"), site.answer) as server:
        internet = SafeInternet(SystemNames(), tls=authority.client(), patience_seconds=30)
        url = f"https://{host}:{server.port}"

        fetched = await internet.get(url)
        certificate = await internet.certificate(host.strip("[]"), server.port)
        via = await internet.get("https://example.org", via=Srv(host.strip("[]"), server.port))

        assert fetched.trouble in {Trouble.FORBIDDEN, Trouble.UNRESOLVED}
        assert isinstance(certificate, Refused)
        assert via.trouble in {Trouble.FORBIDDEN, Trouble.UNRESOLVED}
        assert server.seen == []


class Rebinding(FakeNames):
    """Says one thing when it is looked at and another afterwards."""

    async def endpoints(self, host: str, port: int) -> list[tuple[str, int]]:
        found = list(await super().endpoints(host, port))
        self.hosts[(host, port)] = [("10.0.0.1", port)]
        return found


async def test_what_was_looked_at_is_what_is_connected_to(here: Here, site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    site.handler = handler
    names = Rebinding({("example.org", 443): [here.server.endpoint, ("10.0.0.1", 443)]})
    internet = replace(here.internet, names=names)

    assert (await internet.get("https://example.org/")).good
    assert names.asked == [("example.org", 443)]
    again = await internet.get("https://example.org/")
    assert (again.trouble, again.detail) == (Trouble.FORBIDDEN, "10.0.0.1")


async def test_no_proxy_is_used(here: Here, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web_server(None, site.answer) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await here.internet.get("https://example.org/")
        assert proxy.seen == []
    assert len(here.server.seen) == 1


@pytest.fixture
async def federating(tmp_path: Path) -> AsyncIterator[Synapse]:
    """A homeserver of the right name that answers others."""
    spec = SynapseSpec(directory=tmp_path / "synapse", server_name="example.org")
    listener = {
        "port": spec.port,
        "bind_addresses": ["127.0.0.1"],
        "type": "http",
        "tls": False,
        "resources": [{"names": ["client", "federation"]}],
    }
    async with Synapse(replace(spec, extra={"listeners": [listener]})) as server:
        yield server


async def test_a_real_homeserver_is_checked(here: Here, site: Site, federating: Synapse) -> None:
    """Synapse behind a proxy with TLS, as people run it."""
    proxied = {"/_matrix/client", "/_matrix/federation", "/_matrix/key"}

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/.well-known/matrix/client":
            content = {"m.homeserver": {"base_url": "https://m.example.org"}}
            return web.json_response(content, headers=CORS)
        if request.path == "/.well-known/matrix/server":
            return web.json_response({"m.server": "m.example.org:443"})
        if request.path == "/.well-known/matrix/support":
            contacts = [{"role": "m.role.admin", "email_address": "admin@example.org"}]
            return web.json_response({"contacts": contacts}, headers=CORS)
        if not any(request.path.startswith(each) for each in proxied):
            return web.Response(status=404)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{federating.url}{request.path}") as behind,
        ):
            passed = {
                name: value
                for name, value in behind.headers.items()
                if name in {"Content-Type", "Access-Control-Allow-Origin"}
            }
            return web.Response(status=behind.status, body=await behind.read(), headers=passed)

    site.handler = handler
    check = ServerCheck(here.internet, SystemClock())

    report = await check.check(ServerName("example.org"))
    support = await check.support(ServerName("example.org"))

    said = told(report)
    assert said["Client file"] == (Level.GOOD, "It leads to https://m.example.org.")
    assert said["Client API"][0] is Level.GOOD
    assert said["Sliding sync"][0] is Level.GOOD
    assert "m.login.password" in said["Signing in"][1]
    assert said["Calls"][0] is Level.NOTE
    assert said["Server file"] == (Level.GOOD, "It leads to m.example.org:443.")
    assert said["Federation"][0] is Level.GOOD
    assert said["Federation"][1].startswith("It answers: Synapse 1.163")
    assert said["Keys"] == (Level.GOOD, "They are valid and signed.")
    assert report.worst is Level.NOTE
    assert said["Support file"][0] is Level.GOOD
    assert support is not None
    assert support.contacts == (Contact("m.role.admin", None, "admin@example.org"),)

    proxied.remove("/_matrix/federation")
    proxied.remove("/_matrix/key")
    broken = told(await check.check(ServerName("example.org")))
    assert broken["Federation"][0] is Level.PROBLEM
    assert broken["Keys"][0] is Level.PROBLEM
    assert broken["Client API"][0] is Level.GOOD


def told(report: Report) -> dict[str, tuple[Level, str]]:
    return {str(one.about): (one.level, str(one.said)) for one in report.findings}


async def test_the_name_service_of_this_machine() -> None:
    names = SystemNames()

    assert ("127.0.0.1", 443) in await names.endpoints("localhost", 443)
    assert await names.endpoints("no.such.name.invalid", 443) == []
    assert await names.endpoints("a" * 300 + ".org", 443) == []
    assert await names.srv("_matrix-fed._tcp.no.such.name.invalid") == []
    assert await names.srv("_matrix._tcp." + "a" * 300) == []
