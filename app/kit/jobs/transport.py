"""A lost broker is a connection error: kombu 5.7.0 makes a fault of ours of it, which ends the worker.

When the connection breaks while a task runs, Celery closes the transport twice. The second time, and
when the task is acknowledged later, the channel asks its transport for an address that is gone:
`AttributeError: 'NoneType' object has no attribute 'hostname'`, "Unrecoverable error", and the worker
exits. As a connection error it is what Celery expects there: it connects again and goes on.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError


class LostChannel(kombu_redis.Channel):
    """A channel that says so when its connection was closed."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise RedisConnectionError("the connection was closed")
        return super()._connparams(asynchronous)  # type: ignore[no-untyped-call]


def survive_lost_connections() -> None:
    """Make every connection of this process that is opened later use these channels."""
    kombu_redis.Transport.Channel = LostChannel
