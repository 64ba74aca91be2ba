"""The person behind a request whose credential must be a session, not a key."""

from __future__ import annotations

from uuid import UUID

from app.kit.actor import Actor
from app.kit.errors import Forbidden


def session_of(who: Actor) -> UUID:
    """Return the session of the request. Raises Forbidden for a key."""
    if who.session_id is None:
        raise _session_required()
    return who.session_id


def user_of(who: Actor) -> UUID:
    """Return the person of the request. Raises Forbidden for a key, a personal one too."""
    if who.session_id is None or who.user_id is None:
        raise _session_required()
    return who.user_id


def _session_required() -> Forbidden:
    return Forbidden("this needs a session, not a key", code="session_required")
