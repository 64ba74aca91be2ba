"""From a host name to addresses that were checked, all of them, at the one time they were asked for.

Under gevent the lookup runs in gevent's own resolver threads (its socket.getaddrinfo is patched), so
the loop goes on; without gevent it runs in a thread of ours, because getaddrinfo(3) knows no timeout.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from flask import current_app

from app.kit.logging import logger
from app.kit.outbound.addresses import Address, Network, may_reach
from app.kit.outbound.deadlines import Deadline
from app.kit.outbound.errors import OutboundFailed, OutboundRefused
from app.kit.outbound.targets import Host, parse_host
from config import Config

log = logger(__name__)

PortRanges = tuple[tuple[int, int], ...]
Resolver = Callable[[str], Sequence[str]]

ANY_PORT: PortRanges = ((1, 65535),)
LOOKUP_S = 5.0


@dataclass(frozen=True, slots=True)
class CheckedHost:
    """A host whose every address may be reached: connect to one of these, never to the name again."""

    host: Host
    port: int
    addresses: tuple[str, ...]

    @property
    def address(self) -> str:
        """The first address: libpq's `hostaddr`, beside `host` for the certificate's name."""
        return self.addresses[0]


def system_resolver(name: str) -> list[str]:
    """Return the addresses of a name as this machine finds them (RFC 6724 order)."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """Where customers may make us connect to. `ca_file` replaces the system's authorities."""

    allowed: tuple[Network, ...] = ()
    ports: PortRanges = ((80, 80), (443, 443))
    resolver: Resolver | None = None
    ca_file: str | None = None


def policy_of_application() -> OutboundPolicy:
    """Return what the operator set: DEVGUARD_OUTBOUND_ALLOW and DEVGUARD_OUTBOUND_PORTS."""
    config: Config = current_app.extensions["devguard"]
    return OutboundPolicy(allowed=config.outbound_allow, ports=config.outbound_ports)


def checked_address(
    host: str,
    port: int,
    *,
    ports: PortRanges,
    policy: OutboundPolicy | None = None,
    timeout_s: float = LOOKUP_S,
) -> CheckedHost:
    """Return the checked addresses of a host, for protocols other than HTTP.

    `ports` are those that the protocol may use (ANY_PORT for databases). Give the connection the
    address, not the name: a name can mean something else the next time it is asked for. With libpq:
    `host=<name> hostaddr=<address>`. Raises OutboundRefused, OutboundFailed.
    """
    deadline = Deadline.after(timeout_s)
    chosen = policy or policy_of_application()
    return check_host(parse_host(host), port, ports=ports, policy=chosen, deadline=deadline)


def check_host(
    host: Host, port: int, *, ports: PortRanges, policy: OutboundPolicy, deadline: Deadline
) -> CheckedHost:
    """Return the host with its addresses, each of which may be reached. Raises as checked_address()."""
    if not any(least <= port <= most for least, most in ports):
        raise OutboundRefused("this port is not open for connections", code="outbound_port")
    if host.address is not None:
        addresses: list[Address] = [host.address]
    else:
        addresses = _lookup(host.name, policy.resolver or system_resolver, deadline)
    closed = [address for address in addresses if not may_reach(address, allowed=policy.allowed)]
    if closed:
        # One bad answer among good ones is an attack or a mistake, and never tells which to take.
        log.warning("outbound_refused", host=host.name, addresses=[str(item) for item in closed])
        raise OutboundRefused(
            "the host is not on the public internet; the operator may open its network with "
            "DEVGUARD_OUTBOUND_ALLOW",
            code="outbound_address",
        )
    return CheckedHost(host, port, tuple(str(address) for address in addresses))


def _lookup(name: str, resolver: Resolver, deadline: Deadline) -> list[Address]:
    found: list[Sequence[str]] = []
    faults: list[Exception] = []

    def ask() -> None:
        try:
            found.append(resolver(name))
        # Told to the thread that waits, whatever it is.
        except Exception as error:  # noqa: BLE001
            faults.append(error)

    thread = threading.Thread(target=ask, name="outbound-lookup", daemon=True)
    thread.start()
    thread.join(deadline.remaining_s())
    if faults:
        if isinstance(faults[0], (OSError, UnicodeError)):
            raise OutboundFailed("the host name was not found", code="outbound_dns") from None
        raise faults[0]
    if not found:
        raise OutboundFailed("the name server took too long", code="outbound_timeout")
    if not found[0]:
        raise OutboundFailed("the host name was not found", code="outbound_dns")
    return [ip_address(text) for text in found[0]]
