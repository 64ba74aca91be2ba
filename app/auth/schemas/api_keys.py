"""What API keys take and answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.auth.key_format import KeyKind
from app.kit.pagination import PageArguments
from app.kit.payload import Moment, Name, Payload, Text, View

MOST_SCOPES = 50


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


class ApiKeyCreatedView(ApiKeyView):
    """A new key with its secret text, shown this once."""

    key: str


class ApiKeyPage(View):
    """One page of keys."""

    items: list[ApiKeyView]
    next_cursor: str | None
