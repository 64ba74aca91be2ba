"""Questions about sessions and their refresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from app.auth.models import RefreshToken, UserSession, UserTotp
from app.extensions import db
from app.kit.tenancy import system_session
from app.organizations.models import Membership, Organization, User


@dataclass(frozen=True, slots=True)
class SessionStanding:
    """What a living session says of its bearer now."""

    role: str
    email: str
    epoch: int
    # The organization wants a second factor and the bearer has none.
    lacks_factor: bool


def find_session_standing(
    *, organization_id: UUID, user_id: UUID, session_id: UUID, now: datetime
) -> SessionStanding | None:
    """Return who the bearer is now, or None when the session, person or membership lives no longer.

    One query: membership, user, session and organization are read fresh for each request.
    """
    statement = (
        select(
            Membership.role,
            User.email,
            UserSession.epoch,
            Organization.mfa_required & UserTotp.confirmed_at.is_(None),
        )
        .select_from(UserSession)
        .join(Membership, Membership.user_id == UserSession.user_id)
        .join(User, User.id == Membership.user_id)
        .join(Organization, Organization.id == Membership.organization_id)
        .outerjoin(UserTotp, UserTotp.user_id == UserSession.user_id)
        .where(
            UserSession.id == session_id,
            UserSession.organization_id == organization_id,
            UserSession.user_id == user_id,
            UserSession.revoked_at.is_(None),
            UserSession.idle_expires_at > now,
            UserSession.epoch == User.epoch,
            Membership.organization_id == organization_id,
            User.disabled_at.is_(None),
            Organization.deleted_at.is_(None),
        )
    )
    row = db.session.execute(statement).first()
    return None if row is None else SessionStanding(*row)


def find_refresh_token_organization(*, digest: bytes) -> UUID | None:
    """Return whose refresh token this is: the look-up before the tenant is known, as dg_system."""
    with system_session() as session:
        return session.scalar(
            select(RefreshToken.organization_id).where(RefreshToken.token_sha256 == digest)
        )


def find_session_of_token(*, organization_id: UUID, digest: bytes) -> UserSession | None:
    """Return the session whose family this refresh token is of."""
    return db.session.scalar(
        select(UserSession)
        .join(RefreshToken, RefreshToken.session_id == UserSession.id)
        .where(
            UserSession.organization_id == organization_id,
            RefreshToken.organization_id == organization_id,
            RefreshToken.token_sha256 == digest,
        )
    )


def living_sessions(
    *, organization_id: UUID, user_id: UUID, before_id: UUID | None, limit: int, now: datetime
) -> Sequence[UserSession]:
    """Return up to `limit` sessions of a person that are alive, the newest first."""
    conditions = [
        UserSession.organization_id == organization_id,
        UserSession.user_id == user_id,
        UserSession.revoked_at.is_(None),
        UserSession.idle_expires_at > now,
        # After a new password in another organization these are dead and not yet marked so.
        UserSession.epoch == User.epoch,
    ]
    if before_id is not None:
        conditions.append(UserSession.id < before_id)
    statement = select(UserSession).join(User, User.id == UserSession.user_id).where(*conditions)
    return db.session.scalars(statement.order_by(UserSession.id.desc()).limit(limit)).all()
