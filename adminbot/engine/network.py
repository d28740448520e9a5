"""Addresses of the internet, and networks of them, in an order that a database can search."""

from dataclasses import dataclass
from ipaddress import (
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_MAPPED = IPv6Network("::ffff:0:0/96")
LONGEST = 64


@dataclass(frozen=True)
class Place:
    """An address as it is written shortest, and as what it is found by."""

    address: str
    key: str


def place_of(text: str) -> Place | None:
    """Return an address; ``None`` if this is none. An IPv4 address within IPv6 is that one."""
    try:
        found = ip_address(text[:LONGEST])
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        # Without the name of an interface: it says nothing to anybody else.
        found = found.ipv4_mapped or IPv6Address(found.packed)
    return Place(str(found), _key(found.version, found.packed))


def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """Return a network, which may be one address; ``None`` if this is none."""
    if len(text) > LONGEST or "%" in text or text.isdecimal():
        return None
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        mapped = found.network_address.ipv4_mapped
        return IPv4Network((str(mapped), found.prefixlen - _MAPPED.prefixlen))
    return found


def keys_of(network: IPv4Network | IPv6Network) -> tuple[str, str]:
    """Return the keys of a network's first and last address."""
    version = network.version
    return (
        _key(version, network.network_address.packed),
        _key(version, network.broadcast_address.packed),
    )


def _key(version: int, packed: bytes) -> str:
    # Digits and small letters of one length: every collation puts them into the same order.
    return f"{version}{packed.hex()}"
