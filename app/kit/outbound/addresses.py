"""Which addresses a customer may make us connect to. Pure.

Public ones, and those that the operator listed. `ipaddress.is_global` is not enough: it is True for
multicast, for ways to write an IPv4 address into an IPv6 one (NAT64 64:ff9b::7f00:1, 6to4
2002:7f00:1::), and for fec0::/10. Source of the lists: the IANA IPv4 and IPv6 Special-Purpose Address
Registries (RFC 6890), and of IPv6 only 2000::/3 at all, the space that IANA gives out (RFC 4291
section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


SPECIAL = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
    "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    # Protocol assignments, with Teredo, ORCHID and benchmarks; documentation; 6to4; AS112.
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)  # fmt: skip
IPV6_IN_USE = IPv6Network("2000::/3")

# Nobody's list opens these: they are no single host, or mean this one, or lead who knows where
# (local-use NAT64, RFC 8215: how it writes the IPv4 address is each network's own choice).
NEVER = _networks(
    "0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8", "64:ff9b:1::/48"
)

# Where clouds hand their credentials to whoever asks. A listed network around one does not open it:
# it has to be listed by itself. 168.63.129.16 (Azure) is a public address.
METADATA = _networks(
    "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "100.100.100.200/32",
    "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd00:ec2::23/128",
    "fd20:ce::254/128", "fe80::a9fe:a9fe/128",
)  # fmt: skip

# The last 32 bits are an IPv4 address: compatible and mapped (RFC 4291 section 2.5.5), translated
# (RFC 2765), NAT64 (RFC 6052).
_ENDS_WITH_IPV4 = _networks("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
# The interface identifier of ISATAP (RFC 5214 section 6.1): 0000:5efe or 0200:5efe, then the address.
_ISATAP = {0x00005EFE, 0x02005EFE}


def may_reach(address: Address, *, allowed: Sequence[Network]) -> bool:
    """Return whether a customer may make us connect there; `allowed` is the operator's list.

    An IPv6 address that stands for an IPv4 one is judged as both.
    """
    return all(_is_open(face, allowed) for face in _faces(address))


def _is_open(address: Address, allowed: Sequence[Network]) -> bool:
    if _is_in(address, NEVER) or _has_zone(address):
        return False
    for network in METADATA:
        if address in network:
            return network in allowed
    return _is_in(address, allowed) or _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in IPV6_IN_USE:
        return False
    # The library's own view besides: a newer one may know of a newer registry.
    return address.is_global and not _is_in(address, SPECIAL)


def _faces(address: Address) -> Iterator[Address]:
    """Yield the address and every IPv4 address that is written into it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if _is_in(address, _ENDS_WITH_IPV4) and bits > 1:
        yield IPv4Address(bits & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(bits & 0xFFFFFFFF)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    # An address of the other family is in no network.
    return any(address in network for network in networks)


def _has_zone(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.scope_id is not None
