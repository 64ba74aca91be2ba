"""The door to the outside: connections to wherever customers say, and nowhere else (no SSRF).

Webhooks, Slack, OIDC discovery: `request("POST", url, headers=..., body=...)`. Other protocols (libpq,
SMTP): `checked_address(host, port, ports=...)`, then connect to the address and verify the name.
The rules are OWASP's (Server-Side Request Forgery Prevention Cheat Sheet, case 2), with the lists of
addresses.py; the operator opens his own networks with DEVGUARD_OUTBOUND_ALLOW. It may take seconds: call
it from a task, or before the request's first statement, so that no transaction waits for it.
"""

from __future__ import annotations

from app.kit.outbound.client import Limits, OutboundResponse, request
from app.kit.outbound.errors import OutboundFailed, OutboundRefused
from app.kit.outbound.resolving import (
    ANY_PORT,
    CheckedHost,
    OutboundPolicy,
    checked_address,
    policy_of_application,
)
from app.kit.outbound.targets import parse_url

__all__ = [
    "ANY_PORT",
    "CheckedHost",
    "Limits",
    "OutboundFailed",
    "OutboundPolicy",
    "OutboundRefused",
    "OutboundResponse",
    "checked_address",
    "parse_url",
    "policy_of_application",
    "request",
]
