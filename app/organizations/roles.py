"""Roles as sets of scopes: what each role may do, and what a key may ever hold. Pure."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The roles of an organization, the lowest first; each holds all that the lower ones hold."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


# One's own account: profile, password, sessions, own API keys. Every person holds both.
ACCOUNT_READ = "account:read"
ACCOUNT_WRITE = "account:write"

_VIEWER = frozenset(
    {
        ACCOUNT_READ,
        ACCOUNT_WRITE,
        "organization:read",
        "members:read",
        "projects:read",
        "providers:read",
        "api_requests:read",
        "analytics:read",
    }
)
# Who builds: makes projects and the ingest keys that write into them, and logs calls.
_MEMBER = _VIEWER | {"projects:write", "api_requests:write"}
# Who runs: may end what others depend on, and sees every credential of the organization.
_ADMIN = _MEMBER | {
    "projects:delete",
    "members:write",
    "api_keys:read",
    "api_keys:write",
    "providers:write",
    "audit:read",
}
_OWNER = _ADMIN | {"organization:write"}

_SCOPES: dict[Role, frozenset[str]] = {
    Role.VIEWER: _VIEWER,
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _OWNER,
}
ALL_SCOPES = _OWNER

# A key never speaks for the account itself, so a stolen key cannot make itself a second key.
KEY_SCOPES = ALL_SCOPES - {ACCOUNT_WRITE}
# A service key belongs to the organization, not to a person: it may be an admin, never an owner.
SERVICE_SCOPES = _ADMIN - {ACCOUNT_READ, ACCOUNT_WRITE}
INGEST_SCOPES = frozenset({"api_requests:write"})


def scopes_of_role(role: str) -> frozenset[str]:
    """Return what the role may do. Raises ValueError for a role that does not exist."""
    return _SCOPES[Role(role)]
