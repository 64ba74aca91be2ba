"""The database for a command that a person runs: the one that runs already, or one of its own for the duration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.embedded import postgres
from app.embedded.exits import ExitCode, StartFault
from app.embedded.homes import HomeLock, prepare_home
from config import Config

# Who holds the lock is perhaps still starting, with a first start's initdb before it.
WAIT_S = 60.0


@contextmanager
def database(config: Config) -> Iterator[None]:
    """Keep the database of these settings running inside the block. Raises StartFault."""
    if not config.embedded:
        yield
        return
    prepare_home(config.home, embedded=True)
    lock = HomeLock(config.home)
    if not lock.take():
        _wait_until_ready(config)
        yield
        return
    with lock:
        server = postgres.start_postgres(config.home)
        try:
            yield
        finally:
            server.stop()


def _wait_until_ready(config: Config) -> None:
    deadline = time.monotonic() + WAIT_S
    while not postgres.is_ready(config.home):
        if time.monotonic() > deadline:
            raise StartFault(
                ExitCode.SERVER_FAILED,
                f"A DevGuard runs on {config.home}, but its PostgreSQL does not answer.",
            )
        time.sleep(0.1)
