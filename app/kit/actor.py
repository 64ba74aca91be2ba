"""Who asks: what an authenticated credential says about its bearer. No flask here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class ActorKind(StrEnum):
    USER = "user"
    API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class Actor:
    """The bearer of a credential, evaluated for this request: never kept across requests.

    `scopes` is what the credential may do now: the scopes of the role, cut by those of the key.
    `project_id` is set for a key that is bound to one project, and for no other.
    """

    kind: ActorKind
    organization_id: UUID
    user_id: UUID | None
    api_key_id: UUID | None
    session_id: UUID | None
    role: str
    scopes: frozenset[str]
    project_id: UUID | None
    label: str

    def may(self, scope: str) -> bool:
        """Return whether this actor holds the scope."""
        return scope in self.scopes


# How a bearer token becomes an actor; `auth` registers it, because kit knows no feature.
# It must call kit.tenancy.enter_organization() before it reads tenant rows. Raises Unauthorized.
Authenticator = Callable[[str], Actor]
