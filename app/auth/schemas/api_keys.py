"""What API keys take and answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from app.auth.key_format import KeyKind
from app.auth.places import normalised_network
from app.kit.pagination import PageArguments
from app.kit.payload import Moment, Name, Payload, Text, View

MOST_SCOPES = 50
MOST_NETWORKS = 50
MOST_OVERLAP_HOURS = 7 * 24
LONGEST_LEAK = 2000


def _network(text: str) -> str:
    try:
        return normalised_network(text)
    except ValueError:
        raise ValueError("must be an address or a network, as 203.0.113.0/24") from None


AllowedIps = Annotated[
    list[Annotated[Text, Field(max_length=50), AfterValidator(_network)]],
    Field(
        max_length=MOST_NETWORKS,
        description="Networks (CIDR) from which the key is taken; none: from anywhere",
        examples=[["203.0.113.0/24", "2001:db8::/48"]],
    ),
]


class ApiKeyCreate(Payload):
    """A wanted key: what it may do, for which project, until when."""

    kind: KeyKind
    name: Name
    project_id: Annotated[
        UUID | None, Field(description="Of an ingest key, and of no other: where it writes")
    ] = None
    scopes: Annotated[
        list[Annotated[Text, Field(max_length=100)]] | None,
        Field(
            max_length=MOST_SCOPES,
            description="Default of a personal key: all that its person may do now",
        ),
    ] = None
    expires_at: Annotated[Moment | None, Field(description="Default: in 90 days")] = None
    allowed_ips: AllowedIps = []


class ApiKeyUpdate(Payload):
    """What may change of a key; what is not named stays."""

    name: Name | None = None
    allowed_ips: AllowedIps | None = None


class ApiKeyRotation(Payload):
    """How long the old key goes on, and until when the new one lives."""

    overlap_hours: Annotated[int, Field(ge=0, le=MOST_OVERLAP_HOURS)] = 24
    expires_at: Annotated[
        Moment | None, Field(description="Default: as long as the old key was given")
    ] = None


class TokenLeakCreate(Payload):
    """A token that was found where it must not be."""

    token: Annotated[
        Text,
        Field(
            max_length=LONGEST_LEAK,
            repr=False,
            description="The token, or a line that holds it: `dg[psi]_[0-9A-Za-z]{36}`",
        ),
    ]
    source: Annotated[Text | None, Field(max_length=200)] = None
    url: Annotated[Text | None, Field(max_length=2000)] = None


class TokenLeakView(View):
    """The same answer for every report."""

    status: str


class ApiKeyArguments(PageArguments):
    """Which keys to list."""

    kind: KeyKind | None = None
    project_id: UUID | None = None
    revoked: Annotated[bool, Field(description="Only the revoked keys instead of the others")] = (
        False
    )


class SecretView(View):
    """What remains visible of a secret."""

    has_value: bool
    prefix: str
    last4: str


class ApiKeyView(View):
    """A key without its secret; `user_id` is null for a key of the organization."""

    id: UUID
    kind: KeyKind
    name: str
    secret: SecretView
    scopes: list[str]
    user_id: UUID | None
    project_id: UUID | None
    created_by: UUID | None
    created_at: Moment
    expires_at: Moment
    last_used_at: Moment | None
    revoked_at: Moment | None
    allowed_ips: list[str]
    rotated_to: UUID | None


class ApiKeyCreatedView(ApiKeyView):
    """A new key with its secret text, shown this once."""

    key: str


class ApiKeyPage(View):
    """One page of keys."""

    items: list[ApiKeyView]
    next_cursor: str | None
