"""Tasks: an id comes in, one deed follows in one transaction, running it twice does no harm.

Delivery is at least once, the effect exactly once: the transaction of the effect also marks the run
done, and a run that is done is skipped. Two deliveries at once meet at an advisory lock, which dies
with its connection; even without it the second mark would fail and undo its effect.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy.exc
from celery import Task
from celery.exceptions import Reject
from sqlalchemy.orm import Session

from app.extensions import celery, db
from app.kit.jobs import runs
from app.kit.jobs.outbox import check_fit
from app.kit.jobs.runs import DeathReason, Delivery, Run, RunState, error_text
from app.kit.logging import bind_context, clear_context, logger
from app.kit.tenancy import organization_scope

log = logger(__name__)

MOST_DELIVERIES = 3
BUSY_DELAY = timedelta(seconds=30)
DATABASE_PAUSE_S = 3.0
# What our own records meet when the database is down, read-only or not migrated yet; a body's errors
# do not come this far.
DATABASE_UNREADY = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.InternalError,
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.TimeoutError,
)

Body = Callable[..., None]


class RetryLater(Exception):
    """Raised by a task that wants its next attempt not before `after`; it counts as a failure."""

    def __init__(self, detail: str, *, after: timedelta) -> None:
        super().__init__(detail)
        self.after = after


class PoisonPayload(Exception):
    """Raised by a task whose arguments can never work: straight to the dead letters."""


class TransactionalTask(Task):  # type: ignore[misc]
    """A task whose run is claimed in PostgreSQL; declare it with tenant_task() or platform_task().

    Called directly (`scan_lockfile(scan_id=...)`) it is its body and nothing more: it then works in
    the session, organization and transaction of the caller.
    """

    abstract = True
    acks_late = True
    acks_on_failure_or_timeout = True
    reject_on_worker_lost = True
    ignore_result = True
    serializer = "json"
    queue_name = "default"
    is_platform = False
    max_retries: int = 5
    retry_backoff_s: float = 10.0
    retry_cap_s: float = 3600.0

    def __call__(self, *args: Any, **ids: Any) -> None:
        """Run the body, as what a worker received or as a plain call."""
        if self.request.called_directly:
            self.run(*args, **ids)
            return
        # The worker's Flask application: kit/jobs/process.py put it there.
        with self.app.flask_app.app_context():
            deliver(self, _delivery_of(self.request, ids), args=args)

    def retry_delay(self, failures: int) -> timedelta:
        """Return the pause after that many failures: doubled each time, with jitter, up to the cap."""
        longest = min(self.retry_cap_s, self.retry_backoff_s * 2 ** min(failures, 30))
        return timedelta(seconds=longest * (0.5 + secrets.SystemRandom().random() / 2))


def tenant_task(
    name: str, *, queue: str = "default", **options: Any
) -> Callable[[Body], TransactionalTask]:
    """Declare a task of one organization: it runs as role dg_app behind the tenant wall.

    `name` is `feature.verb_object`; the arguments are ids as text, by keyword. Options:
    `max_retries` (5), `retry_backoff_s` (10), `retry_cap_s` (3600), `soft_time_limit` and
    `time_limit` in seconds (at most the worker's own 600).
    """
    return _declared(name, queue=queue, is_platform=False, **options)


def platform_task(
    name: str, *, queue: str = "maintenance", **options: Any
) -> Callable[[Body], TransactionalTask]:
    """Declare a task of no organization: it runs as role dg_system, over all tenants. Options as above."""
    return _declared(name, queue=queue, is_platform=True, **options)


def deliver(task: TransactionalTask, delivery: Delivery, *, args: tuple[Any, ...] = ()) -> None:
    """Run the task for this message unless its run has ended, and record how it ended.

    Needs an application context. Raises celery's Reject, which puts the message back, when the
    database is not ready.
    """
    clear_context()
    bind_context(**delivery.headers, task=task.name, task_id=str(delivery.message_id))
    if delivery.organization_id is not None:
        bind_context(organization_id=str(delivery.organization_id))
    try:
        if _fits(task, delivery, args):
            with _scope(task, delivery):
                _attempt(task, delivery)
    except DATABASE_UNREADY as error:
        log.warning("task_put_back", error=error_text(error))
        time.sleep(DATABASE_PAUSE_S)
        raise Reject("the database is not ready", requeue=True) from None
    finally:
        clear_context()


def _declared(
    name: str, *, queue: str, is_platform: bool, **options: Any
) -> Callable[[Body], TransactionalTask]:
    def declare(body: Body) -> TransactionalTask:
        task: TransactionalTask = celery.task(
            name=name, base=TransactionalTask, queue_name=queue, is_platform=is_platform, **options
        )(body)
        return task

    return declare


def _delivery_of(request: Any, ids: dict[str, Any]) -> Delivery:
    headers = {
        key: str(value)
        for key in ("request_id", "traceparent", "scheduled")
        if (value := request.get(key)) is not None
    }
    organization_id = request.get("organization_id")
    return Delivery(
        message_id=UUID(request.id),
        organization_id=UUID(organization_id) if organization_id else None,
        task=request.task,
        queue=(request.delivery_info or {}).get("routing_key") or "default",
        dedup_key=request.get("dedup_key") or request.id,
        payload=ids,
        headers=headers,
    )


def _fits(task: TransactionalTask, delivery: Delivery, args: tuple[Any, ...]) -> bool:
    try:
        if args:
            raise TypeError(f"{task.name} takes its ids by keyword")
        if delivery.organization_id is None and not task.is_platform:
            raise TypeError(f"{task.name} is a tenant task and came without an organization")
        check_fit(task, dict(delivery.payload))
    except TypeError as error:
        _give_up(delivery, DeathReason.POISON, error=error_text(error))
        return False
    return True


@contextmanager
def _platform_scope() -> Iterator[None]:
    db.session.remove()
    db.session().info["role"] = "dg_system"
    try:
        yield
    finally:
        db.session.remove()


def _scope(task: TransactionalTask, delivery: Delivery) -> AbstractContextManager[None]:
    if task.is_platform or delivery.organization_id is None:
        return _platform_scope()
    return organization_scope(delivery.organization_id)


def _attempt(task: TransactionalTask, delivery: Delivery) -> None:
    session = db.session()
    if not runs.try_lock(session, delivery):
        log.info("task_busy", detail="another worker runs it; looking again later")
        runs.send_later(delivery, delay=BUSY_DELAY)
        return
    run = runs.begin(delivery)
    if run.state is not RunState.RUNNING:
        log.info("task_skipped", detail=f"its run is {run.state} already")
    elif run.deliveries > MOST_DELIVERIES:
        _give_up(delivery, DeathReason.KILLED, error="its worker was killed each time", run=run)
    else:
        _run(task, delivery, run, session)


def _run(task: TransactionalTask, delivery: Delivery, run: Run, session: Session) -> None:
    began = time.monotonic()
    try:
        task.run(**delivery.payload)
        if db.session() is not session or not session.in_transaction():
            raise RuntimeError("a task never commits, rolls back or leaves its session")
        runs.finish(session, run, delivery)
        session.commit()
    # Whatever went wrong is recorded, and retried or given up: nothing of it was kept.
    except Exception as error:  # noqa: BLE001
        session.rollback()
        _failed(task, delivery, run, error)
    else:
        log.info("task_done", duration_ms=round((time.monotonic() - began) * 1000, 1))


def _failed(task: TransactionalTask, delivery: Delivery, run: Run, error: Exception) -> None:
    if isinstance(error, PoisonPayload):
        _give_up(delivery, DeathReason.POISON, error=error_text(error), run=run)
        return
    delay = task.retry_delay(run.failures)
    if isinstance(error, RetryLater):
        delay = max(delay, error.after)
    lives = runs.fail(
        run, delivery, error=error_text(error), delay=delay, max_retries=task.max_retries
    )
    failures = run.failures + 1
    if lives:
        retry_in_s = round(delay.total_seconds(), 1)
        log.warning("task_failed", failures=failures, retry_in_s=retry_in_s, exc_info=error)
    else:
        log.error("task_died", failures=failures, exc_info=error)


def _give_up(
    delivery: Delivery, reason: DeathReason, *, error: str, run: Run | None = None
) -> None:
    runs.bury(delivery, reason, error=error, run=run)
    log.error("task_died", reason=str(reason), error=error)
