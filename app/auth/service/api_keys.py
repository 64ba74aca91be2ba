"""API keys: making, listing and revoking them, and who may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.audit.service import record
from app.auth.key_cache import KEYS
from app.auth.key_format import KeyKind, digest_of, new_key
from app.auth.models import ApiKey
from app.auth.queries.api_keys import api_keys_page, find_api_key, project_exists
from app.extensions import db
from app.kit.actor import Actor
from app.kit.errors import Fault, Forbidden, InvalidPayload, NotFound
from app.kit.ids import new_id
from app.organizations.roles import ALL_SCOPES, INGEST_SCOPES, KEY_SCOPES, SERVICE_SCOPES

DEFAULT_LIFETIME = timedelta(days=90)
LONGEST_LIFETIME = timedelta(days=5 * 366)
SHOWN_PREFIX = 8
SHOWN_LAST = 4

# Beside `account:write`, which makes personal keys. Who may write into a project may also make
# the key with which its services do; what acts for the whole organization is for admins.
SCOPE_TO_WRITE = {
    KeyKind.PERSONAL: None,
    KeyKind.INGEST: "projects:write",
    KeyKind.SERVICE: "api_keys:write",
}


@dataclass(frozen=True, slots=True)
class WantedKey:
    """The key that somebody asks for; None where he leaves it to us."""

    kind: KeyKind
    name: str
    project_id: UUID | None
    scopes: frozenset[str] | None
    expires_at: datetime | None
    allowed_ips: tuple[str, ...] = ()


def create_api_key(*, actor: Actor, wanted: WantedKey, now: datetime) -> tuple[ApiKey, str]:
    """Return the new key and its secret text, which nobody can read again.

    Raises InvalidPayload for what does not fit together, Forbidden for a kind or scope that the
    actor may not give, NotFound for a project that is not the organization's.
    """
    faults = [*_shape_faults(wanted), *_scope_faults(wanted), *_expiry_faults(wanted, now)]
    if faults:
        raise InvalidPayload("the key breaks the rules", faults=faults)
    require_scope(actor=actor, scope=SCOPE_TO_WRITE[wanted.kind])
    scopes = _granted_scopes(actor, wanted)
    if wanted.project_id is not None and not project_exists(
        organization_id=actor.organization_id, project_id=wanted.project_id
    ):
        raise NotFound("no such project")
    secret = new_key(wanted.kind)
    key = new_key_row(actor=actor, wanted=wanted, scopes=scopes, secret=secret, now=now)
    db.session.add(key)
    db.session.flush()
    record_key(event="api_key.created", key=key, after=audited_fields(key))
    return key, secret


def visible_api_keys(
    *,
    actor: Actor,
    kind: KeyKind | None,
    project_id: UUID | None,
    is_revoked: bool,
    before_id: UUID | None,
    limit: int,
) -> Sequence[ApiKey]:
    """Return up to `limit` keys that the actor may see, the newest first.

    Everybody sees his own; who writes projects also the ingest keys; `api_keys:read` shows all.
    Raises NotFound for a project that is not the organization's.
    """
    if project_id is not None and not project_exists(
        organization_id=actor.organization_id, project_id=project_id
    ):
        raise NotFound("no such project")
    return api_keys_page(
        organization_id=actor.organization_id,
        visible_kinds=_visible_kinds(actor),
        own_user_id=actor.user_id,
        kind=kind,
        project_id=project_id,
        is_revoked=is_revoked,
        before_id=before_id,
        limit=limit,
    )


def revoke_api_key(*, actor: Actor, api_key_id: UUID, now: datetime) -> None:
    """End a key for good: at once in this process, within two seconds in the others.

    Raises NotFound, and Forbidden for a colleague's key without `api_keys:write`.
    """
    key = manageable_key(actor=actor, api_key_id=api_key_id)
    key.revoked_at = now
    KEYS.forget(key.id)
    record_key(event="api_key.revoked", key=key, before=audited_fields(key))


def get_visible_key(*, actor: Actor, api_key_id: UUID) -> ApiKey:
    """Return a key that the actor may see, a revoked one too.

    Raises NotFound, and Forbidden for a colleague's key without `api_keys:read`.
    """
    key = find_api_key(
        organization_id=actor.organization_id, api_key_id=api_key_id, is_living=False
    )
    if key is None:
        raise NotFound("no such API key")
    is_own = key.user_id is not None and key.user_id == actor.user_id
    if not is_own and KeyKind(key.kind) not in _visible_kinds(actor):
        raise Forbidden("this needs the scope api_keys:read", code="missing_scope")
    return key


def manageable_key(*, actor: Actor, api_key_id: UUID) -> ApiKey:
    """Return a living key that the actor may change or end, locked.

    Raises NotFound, and Forbidden for a colleague's key without `api_keys:write`.
    """
    key = find_api_key(organization_id=actor.organization_id, api_key_id=api_key_id)
    if key is None:
        raise NotFound("no such API key")
    is_own = key.user_id is not None and key.user_id == actor.user_id
    is_ingest = key.kind == KeyKind.INGEST and actor.may("projects:write")
    if not is_own and not is_ingest:
        require_scope(actor=actor, scope="api_keys:write")
    return key


def _visible_kinds(actor: Actor) -> frozenset[KeyKind]:
    if actor.may("api_keys:read"):
        return frozenset(KeyKind)
    return frozenset({KeyKind.INGEST} if actor.may("projects:write") else ())


def require_scope(*, actor: Actor, scope: str | None) -> None:
    """Raise Forbidden `missing_scope` for an actor without it."""
    if scope is not None and not actor.may(scope):
        raise Forbidden(f"this needs the scope {scope}", code="missing_scope")


def _shape_faults(wanted: WantedKey) -> list[Fault]:
    is_ingest = wanted.kind is KeyKind.INGEST
    if is_ingest and wanted.project_id is None:
        return [Fault("/project_id", "missing", "an ingest key is bound to a project")]
    if not is_ingest and wanted.project_id is not None:
        return [Fault("/project_id", "not_allowed", "only an ingest key is bound to a project")]
    return []


def _scope_faults(wanted: WantedKey) -> list[Fault]:
    if wanted.kind is KeyKind.INGEST:
        if wanted.scopes not in {None, INGEST_SCOPES}:
            return [Fault("/scopes", "not_allowed", "an ingest key may only log API requests")]
        return []
    if wanted.kind is KeyKind.SERVICE and not wanted.scopes:
        return [Fault("/scopes", "missing", "say what the service may do")]
    possible = SERVICE_SCOPES if wanted.kind is KeyKind.SERVICE else KEY_SCOPES
    unknown = sorted((wanted.scopes or frozenset()) - possible)
    return [Fault("/scopes", _scope_code(scope), f"no such key holds {scope}") for scope in unknown]


def _scope_code(scope: str) -> str:
    return "not_allowed" if scope in ALL_SCOPES else "unknown_scope"


def _expiry_faults(wanted: WantedKey, now: datetime) -> list[Fault]:
    if wanted.expires_at is None or now < wanted.expires_at <= now + LONGEST_LIFETIME:
        return []
    return [Fault("/expires_at", "out_of_range", "must lie ahead, at most five years")]


def _granted_scopes(actor: Actor, wanted: WantedKey) -> frozenset[str]:
    if wanted.kind is KeyKind.INGEST:
        return INGEST_SCOPES
    if wanted.scopes is None:
        return actor.scopes & KEY_SCOPES
    for scope in sorted(wanted.scopes):
        require_scope(actor=actor, scope=scope)
    return wanted.scopes


def new_key_row(
    *, actor: Actor, wanted: WantedKey, scopes: frozenset[str], secret: str, now: datetime
) -> ApiKey:
    """Return the row of a new key, whose secret it keeps as a digest only."""
    return ApiKey(
        id=new_id(),
        organization_id=actor.organization_id,
        kind=str(wanted.kind),
        name=wanted.name,
        user_id=actor.user_id if wanted.kind is KeyKind.PERSONAL else None,
        project_id=wanted.project_id,
        created_by=actor.user_id,
        scopes=sorted(scopes),
        secret_sha256=digest_of(secret),
        prefix=secret[:SHOWN_PREFIX],
        last4=secret[-SHOWN_LAST:],
        allowed_ips=list(wanted.allowed_ips),
        rotated_to=None,
        created_at=now,
        expires_at=wanted.expires_at or now + DEFAULT_LIFETIME,
        last_used_at=None,
        revoked_at=None,
    )


def record_key(
    *,
    event: str,
    key: ApiKey,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Write down what was done to a key."""
    record(
        event=event,
        target_kind="api_key",
        target_id=key.id,
        target_label=key.name,
        before=before,
        after=after,
    )


def audited_fields(key: ApiKey) -> dict[str, object]:
    """Return what of a key is written into the audit log: never its secret."""
    return {
        "kind": key.kind,
        "name": key.name,
        "project_id": key.project_id,
        "scopes": list(key.scopes),
        "allowed_ips": list(key.allowed_ips),
        "expires_at": key.expires_at,
        "key_prefix": key.prefix,
    }
