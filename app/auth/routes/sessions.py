"""One's sessions: seeing where one is signed in, and ending that."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from flask import Response

from app.auth.devices import device_of
from app.auth.models import UserSession
from app.auth.queries.sessions import living_sessions
from app.auth.routes.bearer import session_of, user_of
from app.auth.routes.blueprint import auth as blueprint
from app.auth.schemas.sessions import SessionArguments, SessionPage, SessionView
from app.auth.service import sessions
from app.kit.endpoint import actor, endpoint, listed, no_content, query, secret_key
from app.kit.pagination import CursorSigner, Page, filters_of, page_of
from app.kit.rate_limits import RateClass
from app.organizations.roles import ACCOUNT_READ, ACCOUNT_WRITE


@endpoint(
    blueprint,
    "GET",
    "/sessions",
    scope=ACCOUNT_READ,
    rate=RateClass.READ,
    query=SessionArguments,
    answers={200: SessionPage},
)
def list_sessions() -> Response:
    """List where one is signed in to this organization, the newest first.

    A session ends at `expires_at` in any case, and at `idle_expires_at` when it is not renewed before.
    """
    who, arguments = actor(), query(SessionArguments)
    session_id = session_of(who)
    signer = CursorSigner(
        key=secret_key(), name=f"sessions {user_of(who)}", filters=filters_of(arguments)
    )
    before = None if arguments.cursor is None else signer.position_of(arguments.cursor)
    rows = living_sessions(
        organization_id=who.organization_id,
        user_id=user_of(who),
        before_id=UUID(before[0]) if before else None,
        limit=arguments.limit + 1,
        now=datetime.now(UTC),
    )
    page = page_of(rows, limit=arguments.limit, position=lambda row: [str(row.id)], signer=signer)
    views = [_view(row, current_id=session_id) for row in page.items]
    return listed(Page(views, page.next_cursor), SessionView)


@endpoint(
    blueprint,
    "DELETE",
    "/sessions/<uuid:session_id>",
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    answers={204: None},
    audit="session.revoked",
)
def delete_session(session_id: UUID) -> Response:
    """End one of one's sessions; its tokens are refused from now on."""
    who = actor()
    sessions.revoke_session(
        user_id=user_of(who), session_id=session_id, label=who.label, now=datetime.now(UTC)
    )
    return no_content()


@endpoint(
    blueprint,
    "DELETE",
    "/sessions",
    scope=ACCOUNT_WRITE,
    rate=RateClass.WRITE,
    answers={204: None},
    audit="session.revoked",
)
def delete_sessions() -> Response:
    """End all of one's sessions in this organization but this one."""
    who = actor()
    sessions.revoke_other_sessions(
        user_id=user_of(who), session_id=session_of(who), label=who.label, now=datetime.now(UTC)
    )
    return no_content()


def _view(row: UserSession, *, current_id: UUID) -> SessionView:
    return SessionView(
        id=row.id,
        is_current=row.id == current_id,
        device=device_of(row.user_agent),
        user_agent=row.user_agent,
        ip=None if row.ip is None else str(row.ip),
        created_at=row.created_at,
        refreshed_at=row.refreshed_at,
        idle_expires_at=row.idle_expires_at,
        expires_at=row.expires_at,
    )
