"""Addresses and networks: what is one, and what a database finds by their keys."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.commands.seen_from import network_meant
from adminbot.engine.network import keys_of, network_of, place_of
from common.errors import UserError

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_an_address_lies_between_the_keys_of_the_networks_it_is_in(
    address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address, length: int
) -> None:
    place, network = place_of(str(address)), network_of(f"{other}/{length}")
    assert place is not None
    assert network is not None

    first, last = keys_of(network)

    assert (first <= place.key <= last) == (ip_address(place.address) in network)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.07", None),
        ("-", None),
        ("' OR 1=1 --", None),
        ("1" * 10_000, None),
    ],
)
def test_an_address_is_written_in_one_way(text: str, address: str | None) -> None:
    place = place_of(text)

    assert (place.address if place else None) == address


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("alice", None),
        ("4711", None),
        ("a/b", None),
        ("Ann: the first", None),
        ("." * 100_000, None),
    ],
)
def test_what_is_meant_as_a_network_is_told_from_names_and_numbers(
    text: str, network: str | None
) -> None:
    found = network_meant(text)

    assert (None if found is None else str(found)) == network


@pytest.mark.parametrize(
    "text",
    ["192.0.2.300", "192.0.2.0/33", "192.0.2.1/' OR 1=1", "::1/129", "1::2::3", "fe80::1%0"],
)
def test_what_is_nearly_an_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no IP address"):
        network_meant(text)
