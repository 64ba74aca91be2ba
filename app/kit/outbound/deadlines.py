"""A moment after which nobody waits any longer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.kit.outbound.errors import OutboundFailed


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock; every single wait is cut to what is left until then."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment in so many seconds."""
        return cls(time.monotonic() + seconds)

    def sooner(self, seconds: float) -> Deadline:
        """Return this moment, or the one in so many seconds if that is sooner."""
        return Deadline(min(self.at_s, time.monotonic() + seconds))

    def remaining_s(self) -> float:
        """Return how long one may still wait. Raises OutboundFailed when it is over."""
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise OutboundFailed("the other side took too long", code="outbound_timeout")
        return left
