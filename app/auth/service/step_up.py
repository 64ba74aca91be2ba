"""Step-up: what changes credentials needs a person who showed a moment ago that he is who he says."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import update

from app.audit.service import record
from app.auth.models import UserSession
from app.auth.passwords import PasswordHasher
from app.auth.queries.factors import find_proven_at
from app.auth.service.accounts import confirmed_user
from app.auth.service.factors import is_right_code
from app.auth.service.throttle import Guard
from app.extensions import db
from app.kit.errors import Forbidden
from app.kit.tenancy import current_organization_id

SUDO = timedelta(minutes=15)


def require_recent_proof(*, session_id: UUID, now: datetime) -> None:
    """Raise Forbidden `step_up_required` unless the session was proven within 15 minutes."""
    proven_at = find_proven_at(organization_id=current_organization_id(), session_id=session_id)
    if proven_at is None or proven_at <= now - SUDO:
        raise Forbidden(
            "show again who you are: POST /api/v1/auth/step-up", code="step_up_required"
        )


def step_up_by_password(
    *, user_id: UUID, password: str, hasher: PasswordHasher, guard: Guard, now: datetime
) -> None:
    """Prove the session anew by the password. Raises Forbidden `wrong_password`, TooManyRequests."""
    known = confirmed_user(user_id=user_id, password=password, hasher=hasher, guard=guard, now=now)
    _prove(guard, label=known.email, now=now)


def step_up_by_code(
    *, user_id: UUID, email: str, code: str, key: str, guard: Guard, now: datetime
) -> None:
    """Prove the session anew by a code of the second factor.

    Raises Forbidden `wrong_code`, TooManyRequests.
    """
    if not is_right_code(user_id=user_id, email=email, code=code, key=key, guard=guard, now=now):
        raise Forbidden("the code is wrong, or was used before", code="wrong_code")
    _prove(guard, label=email, now=now)


def _prove(guard: Guard, *, label: str, now: datetime) -> None:
    if guard.session_id is None:
        raise ValueError("only a session is proven anew")
    db.session.execute(
        update(UserSession)
        .where(
            UserSession.organization_id == current_organization_id(),
            UserSession.id == guard.session_id,
        )
        .values(proven_at=now)
    )
    record(
        event="session.proven",
        target_kind="session",
        target_id=guard.session_id,
        target_label=label,
    )
