"""The answers that several routes share: a session opened, and its tokens."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Response, request

from app.auth.known_devices import account_key, new_device_token
from app.auth.routes.bearer import session_of
from app.auth.routes.guards import settings
from app.auth.schemas.accounts import OrganizationView, SignedInView, TokensView, UserView
from app.auth.service import sessions, step_up
from app.auth.service.accounts import ProvenUser
from app.auth.service.sessions import Lifetimes, Origin, SessionGrant
from app.auth.tokens import AccessClaims, access_token_lifetime_s, issue_access_token
from app.kit.endpoint import actor
from app.organizations.queries import get_member


def recently_proven(*, now: datetime) -> None:
    """Refuse unless the person of this session showed who he is within 15 minutes."""
    step_up.require_recent_proof(session_id=session_of(actor()), now=now)


def unstored(response: Response) -> Response:
    # An answer that holds tokens is cached by nobody (RFC 6749 section 5.1).
    response.headers["Cache-Control"] = "no-store"
    return response


def lifetimes() -> Lifetimes:
    return Lifetimes(
        absolute=timedelta(days=settings().refresh_token_days),
        # Only renewal counts as use, and nobody renews before his access token ends.
        idle=timedelta(
            minutes=max(settings().session_idle_minutes, 2 * settings().access_token_minutes)
        ),
    )


def session_opened(proven: ProvenUser, *, now: datetime) -> SessionGrant:
    return sessions.open_session(
        user_id=proven.user_id,
        label=proven.email,
        epoch=proven.epoch,
        lifetimes=lifetimes(),
        origin=Origin(ip=request.remote_addr, user_agent=request.headers.get("User-Agent")),
        now=now,
    )


def signed_in(proven: ProvenUser, grant: SessionGrant, *, now: datetime) -> SignedInView:
    member = get_member(organization_id=proven.organization_id, user_id=proven.user_id)
    return SignedInView(
        **tokens(grant).model_dump(),
        user=UserView(id=member.user_id, email=member.email, name=member.name),
        organization=OrganizationView(id=member.organization_id, name=member.organization_name),
        role=member.role,
        device_token=new_device_token(
            account_key(proven.email, secret=settings().secret_key),
            secret=settings().secret_key,
            now=now,
        ),
    )


def tokens(grant: SessionGrant) -> TokensView:
    claims = AccessClaims(
        user_id=grant.user_id,
        organization_id=grant.organization_id,
        session_id=grant.session_id,
        epoch=grant.epoch,
    )
    return TokensView(
        access_token=issue_access_token(claims),
        token_type="Bearer",  # noqa: S106 - the kind of token, not one
        expires_in_s=access_token_lifetime_s(),
        refresh_token=grant.refresh_token,
        refresh_expires_at=grant.expires_at,
    )
