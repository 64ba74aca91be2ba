"""The ticket between the two steps of a login: the password was right, the second factor is to come. Pure.

Signed with a key of its own and for an audience of its own, so it is never taken for an access
token, nor an access token for it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import jwt

LIFETIME = timedelta(minutes=5)
ALGORITHM = "HS256"
AUDIENCE = "devguard-mfa"
LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Challenge:
    """Whose password was right, in which epoch of his credentials."""

    user_id: UUID
    epoch: int


def new_challenge(challenge: Challenge, *, secret: str, now: datetime) -> str:
    """Return the ticket, good for five minutes."""
    claims = {
        "sub": str(challenge.user_id),
        "epoch": challenge.epoch,
        "aud": AUDIENCE,
        "exp": now + LIFETIME,
    }
    return jwt.encode(claims, _key(secret), algorithm=ALGORITHM)


def find_challenge(text: str, *, secret: str) -> Challenge | None:
    """Return what the ticket says, None when it is none of ours or over."""
    try:
        claims = jwt.decode(
            text,
            _key(secret),
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["exp", "aud", "sub"]},
        )
        return Challenge(UUID(claims["sub"]), int(claims["epoch"]))
    except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _key(secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"devguard mfa challenge", "sha256")
