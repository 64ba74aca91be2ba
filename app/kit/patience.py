"""How long a request waits for the database: one that hangs must not hang its callers with it.

PostgreSQL itself ends a statement of a request after 5 s. When not even that happens (the server or its
host has stopped, the network is gone) the connection is given up after 7 s of silence, and a new one is
tried for 5 s (`connect_timeout`). Tasks and commands may take their time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg.errors import _WaitTimeout as WaitTimeout
from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

STATEMENT_S = 5.0
SILENCE_S = 7.0
TRUSTED_IDLE_S = 1.0

_longest_silence_s: ContextVar[float | None] = ContextVar("longest_silence_s", default=None)


class DatabaseSilent(psycopg.OperationalError):
    """The server did not answer in time; the connection is closed, what it was doing is unknown."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server is silent for longer than the request may wait."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Return what the server answers. Raises DatabaseSilent."""
        longest_s = _longest_silence_s.get()
        if longest_s is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, longest_s)
        except WaitTimeout:
            # Else the rollback that follows would wait for the same silence.
            self.close()
            raise DatabaseSilent(f"the database said nothing for {longest_s:g} s") from None


def begin_hurry() -> None:
    """Bound how long the current request waits for the database."""
    _longest_silence_s.set(SILENCE_S)


def end_hurry() -> None:
    """Wait for as long as it takes again."""
    _longest_silence_s.set(None)


@contextmanager
def silent_at_most(seconds: float) -> Iterator[None]:
    """Bound each wait for the database inside the block."""
    token = _longest_silence_s.set(seconds)
    try:
        yield
    finally:
        _longest_silence_s.reset(token)


def statement_timeout() -> str | None:
    """Return after how long PostgreSQL is to end a statement, None when it may take its time."""
    return None if _longest_silence_s.get() is None else f"{STATEMENT_S:g}s"


def bind_patience(engine: Engine) -> None:
    """Make every connection of the engine a bounded one."""
    event.listen(engine, "do_connect", _connect)


def bind_ping(engine: Engine) -> None:
    """Ask a connection that idled for a second or longer whether it still lives, before it is used.

    The pool's own `pool_pre_ping` asks at every check-out, a round trip of every request, for what a
    busy connection's last answer has just told. A dead one is replaced unseen by the caller.
    """

    def note_return(_connection: Any, record: Any) -> None:
        record.info["returned_at"] = time.monotonic()

    def ping_idle(connection: Any, record: Any, _fairy: Any) -> None:
        returned_at = record.info.get("returned_at")
        # One that is new has just answered; its failing ping would be the pool's second, and that answers 500.
        if returned_at is None or time.monotonic() - returned_at < TRUSTED_IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            # All of the pool, as its own ping would: the others must not be waited for one by one.
            raise InvalidatePoolError("the idle connection is dead") from error

    event.listen(engine, "checkin", note_return)
    event.listen(engine, "checkout", ping_idle)


def _connect(_dialect: Any, _record: Any, arguments: Any, settings: Any) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **settings)
