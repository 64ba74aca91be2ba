"""What the list of one's sessions answers."""

from __future__ import annotations

from uuid import UUID

from app.kit.pagination import PageArguments
from app.kit.payload import Moment, View


class SessionArguments(PageArguments):
    """Which page of one's sessions."""


class SessionView(View):
    """One sign-in that is alive: since when, from where, until when at the latest."""

    id: UUID
    is_current: bool
    device: str
    user_agent: str | None
    ip: str | None
    created_at: Moment
    refreshed_at: Moment
    idle_expires_at: Moment
    expires_at: Moment


class SessionPage(View):
    """One page of sessions."""

    items: list[SessionView]
    next_cursor: str | None
