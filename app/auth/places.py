"""From where somebody signs in, as far as it tells people apart. Pure.

Who has one IPv6 address has the other 2^64 of its network too, so a /64 counts as one address;
neighbours of an IPv4 address are often the same attacker, or the same office.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

V4_NETWORK_BITS = 24
V6_NETWORK_BITS = 64


def address_of(ip: str | None) -> str:
    """Return what counts as one address: an IPv4 address, an IPv6 /64, or "nowhere"."""
    return _network(ip, v4_bits=32)


def network_of(ip: str | None) -> str:
    """Return what counts as one place of an account: an IPv4 /24, an IPv6 /64, or "nowhere"."""
    return _network(ip, v4_bits=V4_NETWORK_BITS)


def _network(ip: str | None, *, v4_bits: int) -> str:
    try:
        address = ip_address(ip or "")
    except ValueError:
        return "nowhere"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = v4_bits if address.version == 4 else V6_NETWORK_BITS
    return str(ip_network((address, bits), strict=False))
