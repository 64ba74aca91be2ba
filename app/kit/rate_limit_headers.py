"""What a caller is told of his allowance: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10),
the older `X-RateLimit-*`, and `Retry-After` when he has to wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from flask import Response
from flask_limiter import RequestLimit

from app.kit.rate_limits import counted_limits


def tell_limits(response: Response) -> None:
    """Add the headers to the answer of a limited route; without a limit there are none."""
    limits = counted_limits()
    if not limits:
        return
    named = dict(zip(_names(limits), limits, strict=True))
    headers = response.headers
    headers["RateLimit-Policy"] = ", ".join(
        f'"{name}";q={limit.limit.amount};w={limit.limit.get_expiry()}'
        for name, limit in named.items()
    )
    headers["RateLimit"] = ", ".join(
        f'"{name}";r={limit.remaining};t={_seconds_left(limit)}' for name, limit in named.items()
    )
    tightest = min(limits, key=lambda limit: limit.remaining)
    headers["X-RateLimit-Limit"] = str(tightest.limit.amount)
    headers["X-RateLimit-Remaining"] = str(tightest.remaining)
    headers["X-RateLimit-Reset"] = str(tightest.reset_at)
    if response.status_code == 429:
        breached = [limit for limit in limits if limit.breached] or [tightest]
        headers["Retry-After"] = str(max(_seconds_left(limit) for limit in breached))


def _names(limits: Sequence[RequestLimit]) -> list[str]:
    # The last part of a limit's arguments is its scope: the class of the route.
    scopes = [limit.request_args[-1] for limit in limits]
    if len(limits) == 1:
        return scopes
    return [
        f"{scope}-{limit.limit.get_expiry()}s" for scope, limit in zip(scopes, limits, strict=True)
    ]


def _seconds_left(limit: RequestLimit) -> int:
    return max(1, math.ceil(limit.reset_at - time.time()))
