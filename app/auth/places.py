"""From where somebody signs in, as far as it tells people apart. Pure.

Who has one IPv6 address has the other 2^64 of its network too, so a /64 counts as one address;
neighbours of an IPv4 address are often the same attacker, or the same office.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Network = IPv4Network | IPv6Network
V4_NETWORK_BITS = 24
V6_NETWORK_BITS = 64


def address_of(ip: str | None) -> str:
    """Return what counts as one address: an IPv4 address, an IPv6 /64, or "nowhere"."""
    return _network(ip, v4_bits=32)


def network_of(ip: str | None) -> str:
    """Return what counts as one place of an account: an IPv4 /24, an IPv6 /64, or "nowhere"."""
    return _network(ip, v4_bits=V4_NETWORK_BITS)


def is_within(ip: str | None, networks: Iterable[Network]) -> bool:
    """Return whether the address is in one of the networks; no address is in none."""
    address = _address(ip)
    return address is not None and any(address in network for network in networks)


def normalised_network(text: str) -> str:
    """Return the network as we store it: `10.1.2.3/8` is 10.0.0.0/8. Raises ValueError for none."""
    network = ip_network(text.strip(), strict=False)
    mapped = network.network_address
    if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped is not None:
        # Callers' addresses are compared as IPv4, so such a network would hold nobody.
        raise ValueError("write an IPv4 network as IPv4")
    return str(network)


def _address(ip: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(ip or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network(ip: str | None, *, v4_bits: int) -> str:
    address = _address(ip)
    if address is None:
        return "nowhere"
    bits = v4_bits if address.version == 4 else V6_NETWORK_BITS
    return str(ip_network((address, bits), strict=False))
