"""What turns a process into a worker or beat: Celery's settings, the relay, logs, and the fork."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import psycopg
from celery import Celery, bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning

from app.extensions import celery, db
from app.kit.jobs import relay_sql
from app.kit.jobs.relay import Relay, system_connection
from app.kit.jobs.schedule import Every
from app.kit.jobs.transport import survive_lost_connections
from app.kit.logging import logger

log = logger(__name__)

TIME_LIMIT_S = 600
VISIBILITY_TIMEOUT_S = 3600

SETTINGS: dict[str, Any] = {
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "result_backend": None,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # A task that is cut off by the limit is gone before the broker would deliver it a second time.
    "task_time_limit": TIME_LIMIT_S,
    "task_soft_time_limit": TIME_LIMIT_S - 30,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # A paused broker must not hang us; the waiting of a consumer is not bounded by these.
        "socket_timeout": 2.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
    },
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # A task whose connection broke goes on: its run is in PostgreSQL, its second delivery is skipped.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_prefetch_multiplier": 1,
    "worker_soft_shutdown_timeout": 10.0,
    "worker_max_memory_per_child": 500_000,
    "worker_hijack_root_logger": False,
    "worker_send_task_events": False,
    "task_default_queue": "default",
    "task_store_errors_even_if_ignored": False,
    "beat_scheduler": "app.kit.jobs.schedule:SlotScheduler",
    "timezone": "UTC",
}
# They call every message received and succeeded; our own lines say what really happened.
QUIET_LOGGERS = ("celery.worker.strategy", "celery.app.trace")


class RelayStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """The relay's thread in the worker's main process, started after the pool has forked."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        self.thread: threading.Thread | None = None
        self.relay: Relay | None = None
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        """Start the thread."""
        self.relay = Relay(database_url=worker.app.database_url, celery=worker.app)
        self.thread = threading.Thread(target=self.relay.run, name="relay", daemon=True)
        self.thread.start()

    def stop(self, _worker: Any) -> None:
        """End the thread; what it had in hand is sent, or sent again by the next relay."""
        if self.relay is not None and self.thread is not None:
            self.relay.stopped.set()
            self.thread.join(timeout=5)

    terminate = stop


def prepare(*, create_app: Callable[[], Any], schedule: Mapping[str, Every]) -> Celery:
    """Return the Celery application with everything a worker or beat needs, ready to start."""
    if hasattr(celery, "flask_app"):
        return celery
    flask_app = create_app()
    config = flask_app.extensions["devguard"]
    celery.flask_app = flask_app
    celery.database_url = config.database_url
    celery.job_schedule = dict(schedule)
    celery.conf.update(SETTINGS)
    celery.conf.update(
        broker_url=config.celery_broker_url, worker_concurrency=config.worker_concurrency
    )
    logging.captureWarnings(capture=True)
    # Of a default that Celery wants to change: we set it above, and it warns all the same.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    survive_lost_connections()
    celery.steps["worker"].add(RelayStep)
    signals.setup_logging.connect(_keep_our_logging)
    signals.task_unknown.connect(_send_unknown_again)
    signals.worker_process_init.connect(_forget_parents_connections)
    return celery


def _keep_our_logging(**_fields: Any) -> None:
    # That somebody listens is what keeps Celery from installing its own handlers.
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _send_unknown_again(**fields: Any) -> None:
    """Send what this worker does not know again soon: during a deployment another one may."""
    log.error("task_unknown", task=fields.get("name"), task_id=fields.get("id"))
    try:
        with system_connection(celery.database_url, name="devguard-worker") as connection:
            connection.execute(relay_sql.NOTE_UNKNOWN, {"id": UUID(fields["id"])})
    except (psycopg.Error, ValueError) as error:
        log.warning("task_unknown_waits", error=str(error).strip())


def _forget_parents_connections(**_fields: Any) -> None:
    """Start a forked process with pools of its own: a socket is never shared with the parent."""
    with celery.flask_app.app_context():
        for engine in db.engines.values():
            engine.dispose(close=False)
