"""Questions about second factors; a secret is read by dg_system alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select

from app.auth.models import RecoveryCode, UserSession, UserTotp
from app.extensions import db
from app.kit.tenancy import system_session
from app.organizations.models import Organization


@dataclass(frozen=True, slots=True)
class FactorOverview:
    """What a person has beside his password."""

    enabled_at: datetime | None
    recovery_codes_left: int


def has_confirmed_totp(*, user_id: UUID) -> bool:
    """Return whether a member of the current organization signs in with a second factor."""
    return factor_overview(user_id=user_id).enabled_at is not None


def factor_overview(*, user_id: UUID) -> FactorOverview:
    """Return what a member of the current organization has beside his password."""
    codes = select(func.count(RecoveryCode.id)).where(
        RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None)
    )
    confirmed_at = select(UserTotp.confirmed_at).where(UserTotp.user_id == user_id)
    return FactorOverview(db.session.scalar(confirmed_at), db.session.scalar(codes) or 0)


def find_totp_secret(*, user_id: UUID, is_confirmed: bool) -> str | None:
    """Return the sealed secret of a person's app, the confirmed or the only offered one; as dg_system."""
    state = UserTotp.confirmed_at.is_not(None) if is_confirmed else UserTotp.confirmed_at.is_(None)
    with system_session() as session:
        return session.scalar(select(UserTotp.secret).where(UserTotp.user_id == user_id, state))


def find_proven_at(*, organization_id: UUID, session_id: UUID) -> datetime | None:
    """Return when the person of a session last showed that he is who he says."""
    return db.session.scalar(
        select(UserSession.proven_at).where(
            UserSession.organization_id == organization_id, UserSession.id == session_id
        )
    )


def is_mfa_required(*, organization_id: UUID) -> bool:
    """Return whether the current organization wants a second factor of its members."""
    statement = select(Organization.mfa_required).where(Organization.id == organization_id)
    return bool(db.session.scalar(statement))
