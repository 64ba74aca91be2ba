"""Celery edges of the feature: forgetting what has ended."""

from __future__ import annotations

from datetime import UTC, datetime

from app.auth.service.sessions import forget_ended_sessions as forget
from app.auth.service.throttle import forget_failures
from app.kit.jobs import platform_task


@platform_task("auth.forget_ended_sessions")
def forget_ended_sessions() -> None:
    """Delete sessions that expired a week ago, with their refresh tokens."""
    forget(now=datetime.now(UTC))


@platform_task("auth.forget_failures")
def forget_auth_failures() -> None:
    """Delete failed attempts that nobody counts any more."""
    forget_failures(now=datetime.now(UTC))
