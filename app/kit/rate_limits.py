"""Rate classes: how often a caller may do what; by user or key, else by address."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from flask import Response, current_app, g, request
from flask_limiter import RequestLimit
from limits import parse_many
from limits.storage import MemoryStorage, RedisStorage

from app.extensions import limiter
from app.kit.errors import TooManyRequests
from app.kit.logging import logger

log = logger(__name__)

SCHEME = "patient"
# While Redis does not answer, one request in this time asks it and waits; the others do not.
ASK_AGAIN_AFTER_S = 5.0


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


def limits_url(redis_url: str) -> str:
    """Return where limits are counted: in Redis, and in this process while Redis does not answer."""
    return f"{SCHEME}+{redis_url}"


def count_stranger() -> None:
    """Count a request without a valid credential as one of an anonymous caller of this address.

    Whoever is refused is not told more often than that whether a guess was wrong; valid credentials
    from the same address go on. Raises TooManyRequests when the allowance is used up.
    """
    if not limiter.enabled:
        return
    counted = g.stranger_limits = []
    for item in sorted(parse_many(str(current_app.config["RATE_CLASSES"][RateClass.ANONYMOUS]))):
        # Spelled as Flask-Limiter does, so that public routes and refusals share one allowance.
        arguments = [_address(), str(RateClass.ANONYMOUS)]
        is_allowed = limiter.limiter.hit(item, *arguments)
        counted.append(RequestLimit(limiter, item, arguments, not is_allowed, shared=True))
        if not is_allowed:
            raise TooManyRequests(f"{item} without a valid credential from one address")


def counted_limits() -> list[RequestLimit]:
    """Return the limits that this request was counted against."""
    strangers: list[RequestLimit] | None = g.get("stranger_limits")
    if strangers is not None:
        return strangers
    return limiter.current_limits if limiter.enabled else []


class PatientStorage(RedisStorage):
    """Counts in Redis, and in memory while Redis does not answer.

    Flask-Limiter's own way back to memory answers 500 to all but the first of the requests that find
    Redis silent at the same time.
    """

    STORAGE_SCHEME = [f"{SCHEME}+{kind}" for kind in ("redis", "rediss", "unix")]

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri.removeprefix(f"{SCHEME}+"), **options)
        self._memory = MemoryStorage()
        self._silent_until = 0.0

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Return whether the caller may go on."""
        return bool(self._counted("acquire_entry", key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the window began and how many entries it has."""
        window: tuple[float, int] = self._counted("get_moving_window", key, limit, expiry)
        return window

    def _counted(self, deed: str, *arguments: Any) -> Any:
        now = time.monotonic()
        if now < self._silent_until:
            return getattr(self._memory, deed)(*arguments)
        if self._silent_until:
            self._silent_until = now + ASK_AGAIN_AFTER_S
        try:
            result = getattr(super(), deed)(*arguments)
        except self.base_exceptions as error:
            self._silent_until = time.monotonic() + ASK_AGAIN_AFTER_S
            log.warning("limits_in_memory", error=str(error))
            return getattr(self._memory, deed)(*arguments)
        self._silent_until = 0.0
        return result


def _caller() -> str:
    who = g.get("actor")
    if who is None:
        return _address()
    return f"{who.kind}:{who.api_key_id or who.user_id}"


def _address() -> str:
    return f"ip:{request.remote_addr}"
