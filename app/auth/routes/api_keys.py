"""API keys: making one, seeing what there is, ending one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from flask import Response

from app.auth.key_format import KeyKind
from app.auth.models import ApiKey
from app.auth.routes.answers import recently_proven, unstored
from app.auth.routes.blueprint import api_keys as blueprint
from app.auth.schemas.api_keys import (
    ApiKeyArguments,
    ApiKeyCreate,
    ApiKeyCreatedView,
    ApiKeyPage,
    ApiKeyRotation,
    ApiKeyUpdate,
    ApiKeyView,
    SecretView,
)
from app.auth.service import api_keys, key_changes
from app.auth.service.api_keys import WantedKey
from app.kit.endpoint import (
    actor,
    body,
    created,
    endpoint,
    listed,
    no_content,
    ok,
    query,
    secret_key,
)
from app.kit.pagination import CursorSigner, Page, filters_of, page_of
from app.kit.rate_limits import RateClass
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE

KEY = "/<uuid:api_key_id>"


@endpoint(
    blueprint,
    "POST",
    "",
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    body=ApiKeyCreate,
    answers={201: ApiKeyCreatedView},
    errors=(404,),
    audit="api_key.created",
    unreplayed="the secret of a key is shown once",
    examples={
        "ingest": {
            "kind": "ingest",
            "name": "checkout service",
            "project_id": "01931b7e-5f00-7cc4-8b3a-0d6b2f9e1a77",
        },
        "service": {"kind": "service", "name": "reports", "scopes": ["analytics:read"]},
    },
)
def create_api_key() -> Response:
    """Make an API key; `key` is its secret text and is shown this once.

    `personal`: acts as oneself, with the named scopes or all that one holds. `ingest`: logs calls into
    one project and does nothing else; needs `projects:write`. `service`: acts for the organization
    with the named scopes, of which one may give only what one holds; needs `api_keys:write` and
    a fresh proof of who one is (403 `step_up_required`).
    """
    wanted = body(ApiKeyCreate)
    _want_proof(wanted.kind)
    key, secret = api_keys.create_api_key(
        actor=actor(),
        wanted=WantedKey(
            kind=wanted.kind,
            name=wanted.name,
            project_id=wanted.project_id,
            scopes=None if wanted.scopes is None else frozenset(wanted.scopes),
            expires_at=wanted.expires_at,
            allowed_ips=tuple(wanted.allowed_ips),
        ),
        now=datetime.now(UTC),
    )
    view = ApiKeyCreatedView(**_view(key).model_dump(), key=secret)
    return created(view, location=f"/api/v1/api-keys/{key.id}")


@endpoint(
    blueprint,
    "GET",
    "",
    scope=ACCOUNT_READ,
    rate=RateClass.READ,
    query=ApiKeyArguments,
    answers={200: ApiKeyPage},
    errors=(404,),
)
def list_api_keys() -> Response:
    """List the keys that one may see, the newest first.

    One's own; with `projects:write` also every ingest key; with `api_keys:read` every key.
    """
    arguments = query(ApiKeyArguments)
    signer = CursorSigner(key=secret_key(), name="api_keys", filters=filters_of(arguments))
    before = None if arguments.cursor is None else signer.position_of(arguments.cursor)
    rows = api_keys.visible_api_keys(
        actor=actor(),
        kind=arguments.kind,
        project_id=arguments.project_id,
        is_revoked=arguments.revoked,
        before_id=UUID(before[0]) if before else None,
        limit=arguments.limit + 1,
    )
    page = page_of(rows, limit=arguments.limit, position=lambda key: [str(key.id)], signer=signer)
    return listed(Page([_view(key) for key in page.items], page.next_cursor), ApiKeyView)


@endpoint(
    blueprint,
    "GET",
    KEY,
    scope=ACCOUNT_READ,
    rate=RateClass.READ,
    answers={200: ApiKeyView},
)
def show_api_key(api_key_id: UUID) -> Response:
    """Show a key without its secret, a revoked one too; who may see it in the list may see it here."""
    return ok(_view(api_keys.get_visible_key(actor=actor(), api_key_id=api_key_id)))


@endpoint(
    blueprint,
    "PATCH",
    KEY,
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    body=ApiKeyUpdate,
    answers={200: ApiKeyView},
    audit="api_key.updated",
)
def update_api_key(api_key_id: UUID) -> Response:
    """Change a key's name or the networks from which it is taken; known everywhere in two seconds.

    For whom may revoke it; that of a service key needs a fresh proof (403 `step_up_required`).
    """
    wanted = body(ApiKeyUpdate)
    _want_proof(_kind_of(api_key_id))
    networks = None if wanted.allowed_ips is None else tuple(wanted.allowed_ips)
    key = key_changes.update_api_key(
        actor=actor(), api_key_id=api_key_id, name=wanted.name, allowed_ips=networks
    )
    return ok(_view(key))


@endpoint(
    blueprint,
    "POST",
    f"{KEY}/rotate",
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    body=ApiKeyRotation,
    answers={201: ApiKeyCreatedView},
    errors=(404, 409),
    audit="api_key.rotated",
    unreplayed="the secret of a key is shown once",
)
def rotate_api_key(api_key_id: UUID) -> Response:
    """Make a new key like this one; the old one goes on for `overlap_hours` and ends then.

    `key` is the new secret text and is shown this once. A personal key is rotated by its person only,
    a service key with a fresh proof (403 `step_up_required`). 409 `already_rotated`, `api_key_expired`.
    """
    wanted, now = body(ApiKeyRotation), datetime.now(UTC)
    _want_proof(_kind_of(api_key_id))
    key, secret = key_changes.rotate_api_key(
        actor=actor(),
        api_key_id=api_key_id,
        overlap=timedelta(hours=wanted.overlap_hours),
        expires_at=wanted.expires_at,
        now=now,
    )
    view = ApiKeyCreatedView(**_view(key).model_dump(), key=secret)
    return unstored(created(view, location=f"/api/v1/api-keys/{key.id}"))


@endpoint(
    blueprint,
    "DELETE",
    KEY,
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    answers={204: None},
    audit="api_key.revoked",
)
def delete_api_key(api_key_id: UUID) -> Response:
    """Revoke a key for good; every process refuses it within two seconds.

    One's own; with `projects:write` also ingest keys; with `api_keys:write` every key.
    """
    api_keys.revoke_api_key(actor=actor(), api_key_id=api_key_id, now=datetime.now(UTC))
    return no_content()


def _kind_of(api_key_id: UUID) -> KeyKind:
    return KeyKind(api_keys.get_visible_key(actor=actor(), api_key_id=api_key_id).kind)


def _want_proof(kind: KeyKind) -> None:
    if kind is KeyKind.SERVICE and actor().session_id is not None:
        recently_proven(now=datetime.now(UTC))


def _view(key: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=key.id,
        kind=KeyKind(key.kind),
        name=key.name,
        secret=SecretView(has_value=True, prefix=key.prefix, last4=key.last4),
        scopes=list(key.scopes),
        user_id=key.user_id,
        project_id=key.project_id,
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        allowed_ips=list(key.allowed_ips),
        rotated_to=key.rotated_to,
    )
