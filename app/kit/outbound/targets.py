"""Reading what customers write as an address: strictly, so that nobody reads it differently after us. Pure.

What several programs read in several ways (`127.1`, `0x7f000001`, a trailing dot, `user@host`, a
backslash) is refused, never repaired: WHATWG URL section 3.5 has some, inet_aton(3) others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from app.kit.outbound.addresses import Address
from app.kit.outbound.errors import OutboundRefused

LONGEST_URL = 4096
LONGEST_NAME = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^#]*)(#.*)?"
)
# RFC 3986 section 2: what a path or query may consist of.
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# What inet_aton or WHATWG would read as (a part of) an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Host:
    """A name in lower case, or an address in its canonical spelling."""

    name: str
    address: Address | None = None

    def __str__(self) -> str:
        return f"[{self.name}]" if isinstance(self.address, IPv6Address) else self.name


@dataclass(frozen=True, slots=True)
class Target:
    """Where an HTTP request goes: `path` has the query, and never a fragment."""

    scheme: str
    host: Host
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header (RFC 9110 section 7.2)."""
        is_default = self.port == DEFAULT_PORTS[self.scheme]
        return str(self.host) if is_default else f"{self.host}:{self.port}"


def parse_url(url: str) -> Target:
    """Return where the URL leads. Raises OutboundRefused naming the rule that it breaks."""
    parts = _URL.fullmatch(url) if len(url) <= LONGEST_URL else None
    if parts is None:
        raise OutboundRefused("this is no http or https URL", code="outbound_url")
    scheme = parts["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise OutboundRefused("the URL must begin with https:// or http://", code="outbound_scheme")
    if "@" in parts["authority"]:
        raise OutboundRefused(
            "the URL must not hold a user name or password", code="outbound_userinfo"
        )
    host, port = _host_and_port(parts["authority"])
    if not _CHARACTERS.fullmatch(parts["path"]):
        raise OutboundRefused(
            "the URL has a character that must be percent-encoded", code="outbound_url"
        )
    path = parts["path"] if parts["path"].startswith("/") else f"/{parts['path']}"
    return Target(scheme, host, DEFAULT_PORTS[scheme] if port is None else port, path)


def parse_host(text: str) -> Host:
    """Return a host name or address, IPv6 with or without brackets. Raises OutboundRefused."""
    lowered = text.lower()
    if ":" in lowered:
        return _ipv6(
            lowered[1:-1] if lowered.startswith("[") and lowered.endswith("]") else lowered
        )
    labels = lowered.split(".")
    if not text.isascii():
        raise _odd_host("the host must be in ASCII; write an international name as xn--...")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(lowered)
    if len(lowered) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise _odd_host("the host is not a plain name or address")
    return Host(lowered)


def _host_and_port(authority: str) -> tuple[Host, int | None]:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _odd_host("the host is not a plain name or address")
    port = int(parts["port"]) if parts["port"] else None
    return parse_host(parts["host"]), port


def _ipv4(text: str) -> Host:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise _odd_host("an IPv4 address is written as four decimal numbers") from None
    return Host(str(address), address)


def _ipv6(text: str) -> Host:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise _odd_host("the host is not a plain name or address") from None
    if address.scope_id is not None:
        raise _odd_host("an IPv6 address must have no zone")
    return Host(str(address), address)


def _odd_host(detail: str) -> OutboundRefused:
    return OutboundRefused(detail, code="outbound_host")
