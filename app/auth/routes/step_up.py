"""Showing again who one is, before one's credentials may be changed."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response

from app.auth.passwords import PasswordHasher
from app.auth.routes.bearer import session_of, user_of
from app.auth.routes.blueprint import auth as blueprint
from app.auth.routes.guards import password_guard, settings
from app.auth.schemas.factors import StepUpCreate
from app.auth.service import step_up
from app.kit.endpoint import actor, body, endpoint, no_content
from app.kit.rate_limits import RateClass
from app.organizations.roles import ACCOUNT_WRITE


@endpoint(
    blueprint,
    "POST",
    "/step-up",
    scope=ACCOUNT_WRITE,
    rate=RateClass.AUTH,
    body=StepUpCreate,
    answers={204: None},
    audit="session.proven",
)
def create_step_up() -> Response:
    """Prove this session anew by `password` or `code`: for 15 minutes it may change credentials.

    Signing in counts as a proof. 403 `wrong_password` or `wrong_code`; 429 after too many of them.
    """
    who, typed, now = actor(), body(StepUpCreate), datetime.now(UTC)
    guard = password_guard(session_id=session_of(who))
    if typed.password is not None:
        hasher = PasswordHasher.of(settings())
        step_up.step_up_by_password(
            user_id=user_of(who), password=typed.password, hasher=hasher, guard=guard, now=now
        )
    elif typed.code is not None:
        step_up.step_up_by_code(
            user_id=user_of(who),
            email=who.label,
            code=typed.code,
            key=settings().secret_key,
            guard=guard,
            now=now,
        )
    return no_content()
