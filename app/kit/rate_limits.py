"""Rate classes: how often a caller may do what; by user or key, else by address."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from flask import Response, current_app, g, request

from app.extensions import limiter


class RateClass(StrEnum):
    """What a route costs the caller's allowance; the figures are settings (`RATELIMIT_*`)."""

    ANONYMOUS = "anonymous"
    AUTH = "auth"
    READ = "read"
    WRITE = "write"
    INGEST = "ingest"
    UNLIMITED = "unlimited"


def limited(
    handler: Callable[..., Response], rate: RateClass, *, name: str
) -> Callable[..., Response]:
    """Return the handler behind its rate class, counted after authentication and before the work."""
    if rate is RateClass.UNLIMITED:
        return handler

    def counted(**arguments: Any) -> Response:
        return handler(**arguments)

    # Flask-Limiter finds a decorated function by its qualified name.
    counted.__qualname__ = counted.__name__ = f"limited_{name.replace('.', '_')}"
    return limiter.shared_limit(
        lambda: str(current_app.config["RATE_CLASSES"][rate]), scope=str(rate), key_func=_caller
    )(counted)


def _caller() -> str:
    who = g.get("actor")
    if who is None:
        return f"ip:{request.remote_addr}"
    return f"{who.kind}:{who.api_key_id or who.user_id}"
