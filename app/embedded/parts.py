"""The parts of the product: the command line of each, how it is stopped, what to do before it starts again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded import postgres, redis_server
from app.embedded.accounts import Account
from config import Config

ROOT = Path(__file__).resolve().parents[2]
QUEUES = "ingest,default,webhooks,scans,maintenance"
# graceful_timeout in gunicorn_settings.py.
DRAIN_S = 30
# A web worker's pool may open all of these; PostgreSQL keeps the rest for the others.
OTHER_CONNECTIONS = 30

# A web server that outlived its supervisor drains its requests by itself; the next start does not wait for that.
LEFTOVER_STEPS = ((signal.SIGTERM, 5.0),)

StopSteps = tuple[tuple[signal.Signals, float], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One child of the supervisor."""

    name: str
    command: tuple[str | Path, ...]
    stop_steps: StopSteps
    """Signals to the main process, each with the seconds to wait for its end; kill -9 follows the last."""
    is_told_again: bool = False
    """Whether the whole session gets the signal again each second until it has ended."""
    leftover_steps: StopSteps = ()
    """The stop steps for its helpers when the main process was killed."""
    death_signal: signal.Signals = signal.SIGTERM
    account: Account | None = None
    environment: Mapping[str, str] | None = None
    folder: Path = Path("/")
    descriptors: tuple[int, ...] = ()
    before_restart: Callable[[], None] = field(default=lambda: None)


def postgres_part(config: Config) -> Part:
    """Return the embedded PostgreSQL, its data folder made. Raises StartFault."""
    account = postgres.prepare(config.home)
    pooled = config.web_workers * (config.pool_size + config.pool_max_overflow)
    connections = max(100, pooled + config.worker_concurrency + OTHER_CONNECTIONS)
    return Part(
        name="postgres",
        command=tuple(postgres.command(config.home, connections=connections)),
        stop_steps=postgres.STOP_STEPS,
        death_signal=signal.SIGINT,
        account=account,
        before_restart=lambda: postgres.end_leftovers(config.home),
    )


def redis_part(config: Config) -> Part:
    """Return the embedded Redis, its data folder made. Raises StartFault."""
    return Part(
        name="redis",
        account=redis_server.prepare(config.home),
        command=tuple(redis_server.command(config.home)),
        stop_steps=redis_server.STOP_STEPS,
        before_restart=lambda: redis_server.end_leftovers(config.home),
    )


def migrate_part(config: Config) -> Part:
    """Return the one-shot that brings the database to the newest revision."""
    return _python_part(config, "migrate", (ROOT / "migrate.py", "upgrade"), drain_s=30)


def web_part(config: Config, *, listener: int) -> Part:
    """Return the web server on a socket that listens already.

    So the address is ours before anything starts, and no connection is refused while the server is started again.
    """
    words = (
        "-m", "gunicorn", "--config", "python:app.embedded.gunicorn_settings",
        "--workers", str(config.web_workers), "--bind", f"fd://{listener}",
    )  # fmt: skip
    return _python_part(
        config,
        "web",
        words,
        drain_s=DRAIN_S + 5,
        # gunicorn loses what it is told while one of its workers is still starting, and waits out its whole patience.
        is_told_again=True,
        leftover_steps=LEFTOVER_STEPS,
        descriptors=(listener,),
    )


def worker_part(config: Config) -> Part:
    """Return the Celery worker of all queues."""
    words = (
        "-m", "celery", "--quiet", "-A", "app.tasks", "worker", "-Q", QUEUES, "-n", "worker@%h", "-O", "fair",
        "--pool", "prefork", "--concurrency", str(config.worker_concurrency),
        "--without-gossip", "--without-mingle", "--loglevel", "WARNING",
    )  # fmt: skip
    return _python_part(config, "worker", words, drain_s=DRAIN_S)


def beat_part(config: Config) -> Part:
    """Return Celery's clock; what it remembers lies in PostgreSQL (kit/jobs/schedule.py)."""
    words = ("-m", "celery", "--quiet", "-A", "app.tasks", "beat", "--loglevel", "WARNING")
    return _python_part(config, "beat", words, drain_s=5)


def _python_part(
    config: Config,
    name: str,
    words: tuple[str | Path, ...],
    *,
    drain_s: float,
    is_told_again: bool = False,
    leftover_steps: StopSteps = (),
    descriptors: tuple[int, ...] = (),
) -> Part:
    marks = {
        "DEVGUARD_HOME": str(config.home),
        "DEVGUARD_PART": name,
        "PYTHONUNBUFFERED": "1",
        # Celery's twelve lines about root; the supervisor says it in one.
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
    }
    return Part(
        name=name,
        command=(sys.executable, *words),
        # Celery: TERM finishes the tasks under way, QUIT gives them back to the queue within 10 s.
        stop_steps=((signal.SIGTERM, drain_s), (signal.SIGQUIT, 15.0)),
        is_told_again=is_told_again,
        leftover_steps=leftover_steps,
        environment={**os.environ, **marks},
        folder=ROOT,
        descriptors=descriptors,
    )
