"""Sessions: beginning, renewing with rotating refresh tokens, ending."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update

from app.audit.context import Doer, act_as
from app.audit.service import record
from app.auth.key_format import digest_of
from app.auth.models import RefreshToken, UserSession
from app.auth.queries.sessions import (
    find_refresh_token_organization,
    find_session_of_token,
    find_session_standing,
)
from app.extensions import db
from app.kit.errors import NotFound
from app.kit.ids import new_id
from app.kit.logging import logger
from app.kit.tenancy import current_organization_id, enter_organization

log = logger(__name__)

REFRESH_TOKEN_BYTES = 32
REFRESH_PREFIX = "dgr_"
# Tabs and retries that renew at the same moment are no theft.
REUSE_GRACE = timedelta(seconds=10)
LONGEST_USER_AGENT = 300
# Long enough to look up what became of a session; until it expires its used tokens tell reuse.
KEPT_AFTER_END = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Origin:
    """From where a session is used, as its owner will recognise it."""

    ip: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lives at most, and how long without being renewed."""

    absolute: timedelta
    idle: timedelta


@dataclass(frozen=True, slots=True)
class SessionGrant:
    """A living session and the only copy of its next refresh token."""

    session_id: UUID
    organization_id: UUID
    user_id: UUID
    epoch: int
    refresh_token: str
    expires_at: datetime


def open_session(
    *, user_id: UUID, label: str, epoch: int, lifetimes: Lifetimes, origin: Origin, now: datetime
) -> SessionGrant:
    """Return the new session of a person who has just proved who he is."""
    session = UserSession(
        id=new_id(),
        organization_id=current_organization_id(),
        user_id=user_id,
        epoch=epoch,
        created_at=now,
        refreshed_at=now,
        idle_expires_at=now + min(lifetimes.idle, lifetimes.absolute),
        expires_at=now + lifetimes.absolute,
        proven_at=now,
        revoked_at=None,
        revoked_because=None,
        user_agent=(origin.user_agent or "")[:LONGEST_USER_AGENT] or None,
        ip=origin.ip,
    )
    db.session.add(session)
    db.session.flush()
    record(event="session.created", target_kind="session", target_id=session.id, target_label=label)
    return _granted(session, now=now)


def renew_session(
    *, refresh_token: str, ip: str | None, idle: timedelta, now: datetime
) -> SessionGrant | None:
    """Return the session with its next refresh token, or None for a token that renews nothing.

    A token works once. None instead of an error, because the caller must commit what a reuse
    does: after the grace the whole session ends, since either of the two holders stole the token.
    """
    digest = digest_of(refresh_token)
    organization_id = find_refresh_token_organization(digest=digest)
    if organization_id is None:
        return None
    enter_organization(organization_id)
    session_id = db.session.scalar(
        update(RefreshToken)
        .where(
            RefreshToken.organization_id == organization_id,
            RefreshToken.token_sha256 == digest,
            RefreshToken.used_at.is_(None),
        )
        .values(used_at=now)
        .returning(RefreshToken.session_id)
    )
    session = find_session_of_token(organization_id=organization_id, digest=digest)
    if session is None:
        return None
    if session_id is None:
        _judge_reuse(session, digest=digest, ip=ip, now=now)
        return None
    return _renewed(session, idle=idle, now=now)


def end_session(*, session_id: UUID, label: str, now: datetime) -> None:
    """End a session of the current organization; its tokens are dead at once."""
    _revoke(UserSession.id == session_id, because="logout", now=now)
    record(event="session.ended", target_kind="session", target_id=session_id, target_label=label)


def revoke_session(*, user_id: UUID, session_id: UUID, label: str, now: datetime) -> None:
    """End one session of a person in the current organization. Raises NotFound."""
    mine = (UserSession.user_id == user_id) & (UserSession.id == session_id)
    if not _revoke(mine, because="revoked", now=now):
        raise NotFound("no such session")
    _record_revoked([session_id], label=label)


def revoke_other_sessions(*, user_id: UUID, session_id: UUID, label: str, now: datetime) -> None:
    """End every session of a person in the current organization but this one."""
    others = (UserSession.user_id == user_id) & (UserSession.id != session_id)
    _record_revoked(_revoke(others, because="revoked", now=now), label=label)


def carry_session_over(
    *, user_id: UUID, session_id: UUID, epoch: int, because: str, now: datetime
) -> SessionGrant:
    """Return the session in the user's new epoch with new tokens; his other sessions are ended.

    Its earlier refresh tokens are deleted, not used up: a second tab that still holds one is
    refused, and is no thief.
    """
    others = (UserSession.user_id == user_id) & (UserSession.id != session_id)
    _revoke(others, because=because, now=now)
    session = db.session.scalars(
        select(UserSession).where(
            UserSession.organization_id == current_organization_id(), UserSession.id == session_id
        )
    ).one()
    db.session.execute(delete(RefreshToken).where(RefreshToken.session_id == session_id))
    session.epoch = epoch
    return _granted(session, now=now)


def end_sessions_of(*, user_id: UUID, now: datetime) -> None:
    """End every session of a person in the current organization."""
    _revoke(UserSession.user_id == user_id, because="password_changed", now=now)


def forget_ended_sessions(*, now: datetime) -> None:
    """Delete the sessions of every organization that expired a while ago, as dg_system."""
    db.session.execute(delete(UserSession).where(UserSession.expires_at < now - KEPT_AFTER_END))


def _renewed(session: UserSession, *, idle: timedelta, now: datetime) -> SessionGrant | None:
    standing = find_session_standing(
        organization_id=session.organization_id,
        user_id=session.user_id,
        session_id=session.id,
        now=now,
    )
    if standing is None:
        return None
    session.refreshed_at = now
    session.idle_expires_at = min(session.expires_at, now + idle)
    return _granted(session, now=now)


def _granted(session: UserSession, *, now: datetime) -> SessionGrant:
    secret = REFRESH_PREFIX + secrets.token_urlsafe(REFRESH_TOKEN_BYTES)
    db.session.add(
        RefreshToken(
            id=new_id(),
            organization_id=session.organization_id,
            session_id=session.id,
            token_sha256=digest_of(secret),
            created_at=now,
            used_at=None,
        )
    )
    return SessionGrant(
        session_id=session.id,
        organization_id=session.organization_id,
        user_id=session.user_id,
        epoch=session.epoch,
        refresh_token=secret,
        expires_at=session.expires_at,
    )


def _judge_reuse(session: UserSession, *, digest: bytes, ip: str | None, now: datetime) -> None:
    used_at = db.session.scalar(
        select(RefreshToken.used_at).where(
            RefreshToken.organization_id == session.organization_id,
            RefreshToken.token_sha256 == digest,
        )
    )
    if used_at is None or now - used_at <= REUSE_GRACE or session.revoked_at is not None:
        return
    _revoke(UserSession.id == session.id, because="reuse", now=now)
    act_as(Doer(kind="user", id=session.user_id, label="a refresh token", ip=ip))
    record(
        event="session.reuse_detected",
        target_kind="session",
        target_id=session.id,
        target_label=f"session of user {session.user_id}",
    )
    log.warning("refresh_token_reused", session_id=str(session.id), user_id=str(session.user_id))


def _revoke(condition: ColumnElement[bool], *, because: str, now: datetime) -> Sequence[UUID]:
    return db.session.scalars(
        update(UserSession)
        .where(
            UserSession.organization_id == current_organization_id(),
            UserSession.revoked_at.is_(None),
            condition,
        )
        .values(revoked_at=now, revoked_because=because)
        .returning(UserSession.id)
    ).all()


def _record_revoked(session_ids: Sequence[UUID], *, label: str) -> None:
    for session_id in session_ids:
        record(
            event="session.revoked",
            target_kind="session",
            target_id=session_id,
            target_label=label,
        )
