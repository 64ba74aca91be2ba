"""From bearer token to Actor: an access token or an API key, evaluated anew for each request."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from flask import g, request

from app.audit.context import act_as, doer_of
from app.auth.key_cache import KEYS, KeyIdentity
from app.auth.key_format import digest_of, is_well_formed, looks_like_a_key
from app.auth.queries.api_keys import find_key_identity
from app.auth.queries.sessions import find_session_standing
from app.auth.tokens import read_access_token
from app.kit.actor import Actor, ActorKind
from app.kit.endpoint import Endpoint
from app.kit.errors import Forbidden, Unauthorized
from app.kit.logging import logger
from app.kit.tenancy import enter_organization
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE, scopes_of_role

log = logger(__name__)

MAY_ENROL = frozenset({ACCOUNT_READ, ACCOUNT_WRITE})


def authenticate(token: str) -> Actor:
    """Return the bearer of this token and enter his organization. Raises Unauthorized."""
    actor = _actor_of_key(token) if looks_like_a_key(token) else _actor_of_session(token)
    act_as(doer_of(actor, ip=request.remote_addr))
    return actor


def _actor_of_session(token: str) -> Actor:
    claims = read_access_token(token)
    enter_organization(claims.organization_id)
    standing = find_session_standing(
        organization_id=claims.organization_id,
        user_id=claims.user_id,
        session_id=claims.session_id,
        now=datetime.now(UTC),
    )
    if standing is None or standing.epoch != claims.epoch:
        raise Unauthorized("the session has ended; sign in again", code="session_ended")
    if standing.lacks_factor:
        _refuse_all_but_enrolment()
    return Actor(
        kind=ActorKind.USER,
        organization_id=claims.organization_id,
        user_id=claims.user_id,
        api_key_id=None,
        session_id=claims.session_id,
        role=standing.role,
        scopes=MAY_ENROL if standing.lacks_factor else scopes_of_role(standing.role),
        project_id=None,
        label=standing.email,
    )


def _refuse_all_but_enrolment() -> None:
    spec: Endpoint | None = g.get("endpoint")
    if spec is not None and spec.scope not in MAY_ENROL:
        raise Forbidden(
            "this organization wants a second factor: enrol one at /api/v1/auth/mfa/totp",
            code="mfa_enrolment_required",
        )


def _actor_of_key(token: str) -> Actor:
    identity = _key_identity(token)
    enter_organization(identity.organization_id)
    g.bound_project = identity.project
    return Actor(
        kind=ActorKind.API_KEY,
        organization_id=identity.organization_id,
        user_id=identity.user_id,
        api_key_id=identity.key_id,
        session_id=None,
        role=identity.role,
        scopes=identity.scopes,
        project_id=identity.project.id if identity.project else None,
        label=identity.label,
    )


def _key_identity(token: str) -> KeyIdentity:
    if not is_well_formed(token):
        raise _unknown_key()
    digest = digest_of(token)
    clock_s = time.monotonic()
    now = datetime.now(UTC)
    identity = KEYS.find(digest, clock_s=clock_s)
    if identity is None:
        identity = find_key_identity(digest=digest, now=now)
        if identity is None:
            KEYS.drop(digest)
            raise _unknown_key()
        KEYS.keep(digest, identity, clock_s=clock_s)
    if identity.expires_at <= now:
        raise _unknown_key()
    if not identity.is_taken_from(request.remote_addr):
        log.warning("api_key_from_elsewhere", key_id=str(identity.key_id), ip=request.remote_addr)
        raise Forbidden("the API key is not taken from this address", code="ip_not_allowed")
    return identity


def _unknown_key() -> Unauthorized:
    return Unauthorized("the API key is unknown, revoked or expired", code="invalid_api_key")
