"""Questions about API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, and_, column, or_, select, table, update
from sqlalchemy.orm import Session

from app.auth.key_cache import BoundProject, KeyIdentity
from app.auth.key_format import KeyKind
from app.auth.models import ApiKey, UserTotp
from app.extensions import db
from app.kit.tenancy import system_session
from app.organizations.models import Membership, Organization, User
from app.organizations.roles import INGEST_SCOPES, KEY_SCOPES, SERVICE_SCOPES, scopes_of_role

LAST_USE_GRAIN = timedelta(minutes=1)

# `projects` lies above `auth`, so its table is only named here.
projects = table(
    "projects",
    column("organization_id", Uuid()),
    column("id", Uuid()),
    column("name"),
    column("deleted_at"),
)


def find_key_identity(*, digest: bytes, now: datetime) -> KeyIdentity | None:
    """Return what a living key is and may do, and note its use at most once a minute; as dg_system.

    None for a key that is unknown, revoked or expired, whose person is no active member any more,
    or whose project or organization is deleted.
    """
    with system_session() as session:
        row = session.execute(_living_key(digest, now)).first()
        if row is None:
            return None
        if row.ApiKey.last_used_at is None or row.ApiKey.last_used_at < now - LAST_USE_GRAIN:
            _note_use(session, row.ApiKey.id, now)
        identity = _identity(row.ApiKey, project_name=row.project_name, role=row.role)
        # A person who must enrol a second factor first does not get round it by a key of his.
        return replace(identity, scopes=frozenset()) if row.lacks_factor else identity


def project_exists(*, organization_id: UUID, project_id: UUID) -> bool:
    """Return whether the organization has this project."""
    statement = select(projects.c.id).where(
        projects.c.organization_id == organization_id,
        projects.c.id == project_id,
        projects.c.deleted_at.is_(None),
    )
    return db.session.execute(statement).first() is not None


def find_api_key(
    *, organization_id: UUID, api_key_id: UUID, is_living: bool = True
) -> ApiKey | None:
    """Return the key, locked until the end of the transaction; a revoked one only by `is_living=False`."""
    statement = select(ApiKey).where(
        ApiKey.organization_id == organization_id, ApiKey.id == api_key_id
    )
    if is_living:
        statement = statement.where(ApiKey.revoked_at.is_(None)).with_for_update()
    return db.session.scalar(statement)


def find_key_organization(*, digest: bytes) -> UUID | None:
    """Return whose living key this is: the look-up before the tenant is known, as dg_system."""
    with system_session() as session:
        return session.scalar(
            select(ApiKey.organization_id).where(
                ApiKey.secret_sha256 == digest, ApiKey.revoked_at.is_(None)
            )
        )


def find_api_key_by_digest(*, organization_id: UUID, digest: bytes) -> ApiKey | None:
    """Return the living key of this digest, locked until the end of the transaction."""
    return db.session.scalar(
        select(ApiKey)
        .where(
            ApiKey.organization_id == organization_id,
            ApiKey.secret_sha256 == digest,
            ApiKey.revoked_at.is_(None),
        )
        .with_for_update()
    )


def api_keys_page(
    *,
    organization_id: UUID,
    visible_kinds: frozenset[KeyKind],
    own_user_id: UUID | None,
    kind: KeyKind | None,
    project_id: UUID | None,
    is_revoked: bool,
    before_id: UUID | None,
    limit: int,
) -> Sequence[ApiKey]:
    """Return up to `limit` keys of these kinds and this person's own, the newest first."""
    conditions = [
        ApiKey.organization_id == organization_id,
        or_(
            ApiKey.kind.in_(sorted(str(each) for each in visible_kinds)),
            ApiKey.user_id == own_user_id,
        ),
        ApiKey.revoked_at.is_not(None) if is_revoked else ApiKey.revoked_at.is_(None),
    ]
    if kind is not None:
        conditions.append(ApiKey.kind == str(kind))
    if project_id is not None:
        conditions.append(ApiKey.project_id == project_id)
    if before_id is not None:
        conditions.append(ApiKey.id < before_id)
    return db.session.scalars(
        select(ApiKey).where(*conditions).order_by(ApiKey.id.desc()).limit(limit)
    ).all()


def _living_key(digest: bytes, now: datetime) -> Select[Any]:
    return (
        select(
            ApiKey,
            Membership.role.label("role"),
            projects.c.name.label("project_name"),
            (
                Organization.mfa_required
                & ApiKey.user_id.is_not(None)
                & UserTotp.confirmed_at.is_(None)
            ).label("lacks_factor"),
        )
        .join(Organization, Organization.id == ApiKey.organization_id)
        .outerjoin(
            Membership,
            and_(
                Membership.organization_id == ApiKey.organization_id,
                Membership.user_id == ApiKey.user_id,
            ),
        )
        .outerjoin(UserTotp, UserTotp.user_id == ApiKey.user_id)
        .outerjoin(User, and_(User.id == Membership.user_id, User.disabled_at.is_(None)))
        .outerjoin(
            projects,
            and_(
                projects.c.organization_id == ApiKey.organization_id,
                projects.c.id == ApiKey.project_id,
                projects.c.deleted_at.is_(None),
            ),
        )
        .where(ApiKey.secret_sha256 == digest, *_alive(now))
    )


def _alive(now: datetime) -> list[ColumnElement[bool]]:
    return [
        ApiKey.revoked_at.is_(None),
        ApiKey.expires_at > now,
        Organization.deleted_at.is_(None),
        or_(ApiKey.kind != str(KeyKind.PERSONAL), User.id.is_not(None)),
        or_(ApiKey.kind != str(KeyKind.INGEST), projects.c.id.is_not(None)),
    ]


def _note_use(session: Session, key_id: UUID, now: datetime) -> None:
    # A key in heavy use never waits for another request that notes the same.
    free = select(ApiKey.id).where(ApiKey.id == key_id).with_for_update(skip_locked=True)
    session.execute(
        update(ApiKey)
        .where(ApiKey.id.in_(free))
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )


def _identity(key: ApiKey, *, project_name: str | None, role: str | None) -> KeyIdentity:
    project = None
    if key.project_id is not None:
        project = BoundProject(key.project_id, key.organization_id, str(project_name))
    return KeyIdentity(
        key_id=key.id,
        organization_id=key.organization_id,
        user_id=key.user_id,
        role=role or key.kind,
        scopes=frozenset(key.scopes) & _ceiling(key.kind, role),
        project=project,
        label=f"{key.name} ({key.prefix}...{key.last4})",
        expires_at=key.expires_at,
        networks=tuple(ip_network(network) for network in key.allowed_ips),
    )


def _ceiling(kind: str, role: str | None) -> frozenset[str]:
    if kind == KeyKind.INGEST:
        return INGEST_SCOPES
    if kind == KeyKind.SERVICE:
        return SERVICE_SCOPES
    return KEY_SCOPES & scopes_of_role(str(role))
