"""What facts mean: each thing that can be wrong is said, with what mends it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto.canonical import sign_json, unpadded
from common.servercheck.check import ServerCheck
from common.servercheck.facts import By, ClientFacts, Delegation, Facts, ServerFacts
from common.servercheck.findings import Contact, Finding, Level, Report, Support
from common.servercheck.names import ServerName
from common.servercheck.port import Certificate, Fetched, Hop, Refused, Srv, Trouble
from common.servercheck.support import support_of
from tests.unit.servercheck.test_gather import FakeInternet

NOW = datetime(2026, 6, 1, tzinfo=UTC)
JSON_HEADERS = {"content-type": "application/json", "access-control-allow-origin": "*"}
GOOD = Certificate(NOW + timedelta(days=60))
NAME = ServerName("example.org")


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def now_ms(self) -> int:
        return int(NOW.timestamp() * 1000)

    def monotonic(self) -> float:
        return 0.0


def page(path: str, content: object, headers: dict[str, str] | None = None) -> Fetched:
    url = f"https://example.org{path}"
    return Fetched(
        url, (Hop(url, 200, JSON_HEADERS if headers is None else headers),), encoded(content)
    )


def encoded(content: object) -> bytes:
    return content if isinstance(content, bytes) else msgspec.json.encode(content)


def missing(path: str, status: int = 404) -> Fetched:
    url = f"https://example.org{path}"
    return Fetched(url, (Hop(url, status),))


def keys(**changes: Any) -> dict[str, Any]:
    secret = Ed25519PrivateKey.generate()
    body = {
        "server_name": "example.org",
        "valid_until_ts": int((NOW + timedelta(days=1)).timestamp() * 1000),
        "verify_keys": {"ed25519:a": {"key": unpadded(secret.public_key().public_bytes_raw())}},
        "old_verify_keys": {},
    } | changes
    return sign_json(
        body,
        user_id="example.org",
        key_id="ed25519:a",
        sign=lambda data: unpadded(secret.sign(data)),
    )


CLIENT = ClientFacts(
    file=page(
        "/.well-known/matrix/client",
        {
            "m.homeserver": {"base_url": "https://m.example.org"},
            "org.matrix.msc4143.rtc_foci": [
                {"type": "livekit", "livekit_service_url": "https://rtc.example.org"}
            ],
        },
    ),
    base_url="https://m.example.org",
    versions=page(
        "/versions",
        {
            "versions": ["v1.1", "v1.12"],
            "unstable_features": {"org.matrix.simplified_msc3575": True},
        },
    ),
    login=page("/login", {"flows": [{"type": "m.login.password"}, {"type": "m.login.sso"}]}),
    auth_metadata=missing("/auth_metadata"),
    certificate=GOOD,
)
SERVER = ServerFacts(
    file=page("/.well-known/matrix/server", {"m.server": "m.example.org:443"}),
    delegation=Delegation(ServerName("m.example.org", 443), By.FILE, 443, named_by_file=True),
    version=page("/version", {"server": {"name": "Synapse", "version": "1.163.2"}}),
    keys=page("/keys", keys()),
    certificate=GOOD,
)
SUPPORT = page(
    "/.well-known/matrix/support",
    {"contacts": [{"role": "m.role.admin", "matrix_id": "@admin:example.org"}]},
)
FACTS = Facts(NAME, CLIENT, SERVER, SUPPORT)


def judged(facts: Facts) -> Report:
    return ServerCheck(FakeInternet(), FixedClock()).judge(facts)


def client(**changes: Any) -> list[Finding]:
    return bad(judged(replace(FACTS, client=replace(CLIENT, **changes))))


def server(**changes: Any) -> list[Finding]:
    return bad(judged(replace(FACTS, server=replace(SERVER, **changes))))


def bad(report: Report) -> list[Finding]:
    return [one for one in report.findings if one.level is not Level.GOOD]


def test_all_is_well_with_a_server_as_it_should_be() -> None:
    report = judged(FACTS)

    assert report.worst is Level.GOOD
    assert [str(one.said) for one in report.findings] == [
        "It leads to https://m.example.org.",
        "The certificate is good, for 60 days still.",
        "The newest version it speaks is v1.12.",
        "It works, as Element X needs it.",
        "The homeserver signs people in by itself: m.login.password, m.login.sso.",
        "Element Call meets at https://rtc.example.org.",
        "It leads to m.example.org:443.",
        "Others connect to m.example.org:443, as the server file says.",
        "The certificate is good, for 60 days still.",
        "It answers: Synapse 1.163.2.",
        "They are valid and signed.",
        "It says whom to write to.",
    ]


FILE = CLIENT.file.json or {}


@pytest.mark.parametrize(
    ("changes", "level", "said", "mend"),
    [
        (
            {"file": missing("/c"), "versions": missing("/v", 502)},
            Level.PROBLEM,
            "must type",
            "m.homeserver",
        ),
        ({"file": missing("/c")}, Level.NOTE, "it is found", "m.homeserver"),
        ({"file": missing("/c", 500)}, Level.PROBLEM, "status 500", "m.homeserver"),
        ({"file": page("/c", b"{")}, Level.PROBLEM, "no JSON object", "m.homeserver"),
        ({"file": page("/c", b"[" * 50_000)}, Level.PROBLEM, "no JSON object", "m.homeserver"),
        ({"file": page("/c", [])}, Level.PROBLEM, "no JSON object", "m.homeserver"),
        (
            {"file": page("/c", {**FILE, "m.homeserver": {"base_url": "http://x"}})},
            Level.PROBLEM,
            "no “base_url”",
            "m.homeserver",
        ),
        (
            {"file": page("/c", FILE, {"content-type": "application/json"})},
            Level.PROBLEM,
            "Access-Control-Allow-Origin",
            "redirects",
        ),
        (
            {"file": page("/c", FILE, {**JSON_HEADERS, "content-type": "text/html; charset=x"})},
            Level.WARNING,
            "text/html",
            "application/json",
        ),
        (
            {"versions": page("/v", {"versions": ["v1.1"]}, {})},
            Level.PROBLEM,
            "Access-Control-Allow-Origin",
            "header",
        ),
        ({"versions": missing("/v", 502)}, Level.PROBLEM, "status 502", "proxy"),
        ({"versions": page("/v", {"versions": 7})}, Level.PROBLEM, "no version", "else"),
        ({"versions": page("/v", {"versions": ["v1.1"]})}, Level.WARNING, "Element X", "Update"),
        (
            {"file": page("/c", {**FILE, "org.matrix.msc3575.proxy": {}})},
            Level.NOTE,
            "former days",
            "Remove",
        ),
        (
            {"file": page("/c", {**FILE, "org.matrix.msc2965.authentication": {}})},
            Level.WARNING,
            "the homeserver does not",
            "remove",
        ),
        ({"login": missing("/l", 502)}, Level.WARNING, "status 502", ""),
        (
            {"file": page("/c", {**FILE, "org.matrix.msc4143.rtc_foci": [{"type": "x"}]})},
            Level.NOTE,
            "Element Call",
            "LiveKit",
        ),
        (
            {"certificate": Certificate(NOW + timedelta(days=3))},
            Level.WARNING,
            "3 days",
            "Renew",
        ),
        (
            {"certificate": Refused(Trouble.TLS, "certificate has expired")},
            Level.PROBLEM,
            "certificate has expired",
            "Install",
        ),
    ],
)
def test_what_is_wrong_for_clients(
    changes: dict[str, Any], level: Level, said: str, mend: str
) -> None:
    findings = client(**changes)

    assert any(
        one.level is level and said in one.said and mend in (one.mend or "") for one in findings
    ), findings


@pytest.mark.parametrize("trouble", list(Trouble))
def test_every_trouble_is_told_with_what_to_do(trouble: Trouble) -> None:
    findings = client(file=Fetched("https://example.org/c", trouble=trouble, detail="10.0.0.1"))

    (finding,) = [one for one in findings if one.about == "Client file"]
    assert finding.level is Level.PROBLEM
    assert finding.mend


def test_each_redirect_must_let_browsers_pass() -> None:
    file = page("/c", FILE)
    hop = Hop("https://example.org/old", 301, {"location": "/c"})

    (finding,) = client(file=replace(file, hops=(hop, *file.hops)))

    assert "https://example.org/old" in finding.said


def test_authentication_that_is_delegated_is_told() -> None:
    metadata = page("/auth_metadata", {"issuer": "https://auth.example.org/"})

    report = judged(replace(FACTS, client=replace(CLIENT, auth_metadata=metadata)))

    assert report.worst is Level.GOOD
    assert "People sign in at https://auth.example.org/." in [one.said for one in report.findings]


@pytest.mark.parametrize(
    ("changes", "level", "said", "mend"),
    [
        (
            {"file": missing("/s"), "version": missing("/v", 502)},
            Level.PROBLEM,
            "There is none",
            "m.server",
        ),
        ({"file": page("/s", b"{"), "version": missing("/v")}, Level.PROBLEM, "JSON", "m.server"),
        ({"file": page("/s", b"{")}, Level.WARNING, "no JSON object", "m.server"),
        ({"file": page("/s", {"m.server": "x/y"})}, Level.PROBLEM, "no “m.server”", "m.server"),
        (
            {"file": page("/s", {"m.server": "x"}, {"content-type": ""})},
            Level.WARNING,
            "served as",
            "application/json",
        ),
        (
            {"delegation": Delegation(NAME, By.OLD_SRV, 443, via=Srv("box.example.net", 443))},
            Level.WARNING,
            "box.example.net:443",
            "_matrix-fed._tcp",
        ),
        ({"version": missing("/v", 404)}, Level.PROBLEM, "status 404", "/_matrix/federation"),
        ({"certificate": Refused(Trouble.SLOW)}, Level.PROBLEM, "in time", "firewall"),
        ({"keys": missing("/k")}, Level.PROBLEM, "status 404", "/_matrix/key"),
        (
            {"keys": page("/k", keys(server_name="other.org"))},
            Level.PROBLEM,
            "other.org",
            "of this name",
        ),
        ({"keys": page("/k", keys(valid_until_ts=1))}, Level.PROBLEM, "no longer", "clock"),
        ({"keys": page("/k", keys(valid_until_ts="x"))}, Level.PROBLEM, "no longer", "clock"),
        (
            {"keys": page("/k", keys() | {"old_verify_keys": {"changed": 1}})},
            Level.PROBLEM,
            "not signed",
            "changes them",
        ),
        ({"keys": page("/k", keys(verify_keys={}))}, Level.PROBLEM, "not signed", "changes"),
        ({"keys": page("/k", keys(verify_keys=[1]))}, Level.PROBLEM, "not signed", "changes"),
    ],
)
def test_what_is_wrong_for_other_servers(
    changes: dict[str, Any], level: Level, said: str, mend: str
) -> None:
    findings = server(**changes)

    assert any(
        one.level is level and said in one.said and mend in (one.mend or "") for one in findings
    ), findings


def test_a_server_file_may_be_missing_where_the_port_is_the_usual_one() -> None:
    delegation = Delegation(NAME, By.DEFAULT, 8448)

    assert server(file=missing("/s"), delegation=delegation) == []
    assert server(file=None, delegation=Delegation(ServerName("x", 1), By.NAME, 1)) == []


@pytest.mark.parametrize(
    ("content", "support"),
    [
        ({"support_page": "https://x"}, Support((), "https://x")),
        (
            {"contacts": [{"role": "m.role.security", "email_address": "a@b"}]},
            Support((Contact("m.role.security", None, "a@b"),)),
        ),
        ({"contacts": [{"role": "m.role.admin"}]}, None),
        ({"contacts": [{"matrix_id": "@a:b"}, 7, None]}, None),
        ({"contacts": "x"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_whom_to_write_to(content: object, support: Support | None) -> None:
    found = support_of(page("/s", content))

    assert found == support


def test_a_support_file_that_says_nothing_or_is_missing() -> None:
    for file, level in ((page("/s", {}), Level.WARNING), (missing("/s"), Level.NOTE)):
        (finding,) = bad(judged(replace(FACTS, support=file)))
        assert finding.level is level
        assert finding.mend is not None
