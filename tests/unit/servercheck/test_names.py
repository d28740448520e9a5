"""Names of servers, and addresses that may be connected to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.servercheck.addresses import may_connect
from common.servercheck.names import ServerName, parse_server_name, server_name_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.org", ServerName("example.org")),
        ("Example.ORG:8448", ServerName("example.org", 8448)),
        ("1.2.3.4", ServerName("1.2.3.4")),
        ("[2001:db8::1]:443", ServerName("2001:db8::1", 443)),
        ("localhost", ServerName("localhost")),
    ],
)
def test_a_name_is_taken_apart(text: str, name: ServerName) -> None:
    assert parse_server_name(text) == name
    assert str(name) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org",
        "example.org/x",
        "user@example.org",
        "example.org:0",
        "example.org:65536",
        "exa mple.org",
        "example..org",
        "[::1",
        "[12345]",
        "ä.example",
        "a" * 64 + ".org",
        "example.org\n",
        7,
        None,
    ],
)
def test_what_is_no_name_is_refused(text: object) -> None:
    assert server_name_of(text) is None
    if isinstance(text, str):
        with pytest.raises(UserError):
            parse_server_name(text)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "example.org",
        "",
    ],
)
def test_private_addresses_are_refused(address: str) -> None:
    assert not may_connect(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "9.9.9.9", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert may_connect(address)


def test_an_exception_opens_a_network_and_no_other() -> None:
    open_ = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))

    assert may_connect("10.1.2.3", open_)
    assert may_connect("::ffff:10.1.2.3", open_)
    assert may_connect("fd00::1", open_)
    assert not may_connect("192.168.0.1", open_)
    assert not may_connect("fd00::1%eth0", open_)


@given(st.ip_addresses())
def test_nothing_is_allowed_that_python_calls_private(address: ipaddress.IPv4Address) -> None:
    if may_connect(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private
