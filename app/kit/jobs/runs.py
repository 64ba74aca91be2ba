"""The record of runs in PostgreSQL: who began what how often, what ended, and what is dead.

`begin` counts in a transaction of its own, so that a killed worker leaves a trace; `finish` is part
of the task's transaction, so that effect and mark are one; `fail` and `bury` follow its rollback.
All of it is work of role dg_system: a tenant's transaction has no right on these tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.kit.ids import new_id
from app.kit.tenancy import system_session

LONGEST_ERROR = 2000


class RunState(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


class DeathReason(StrEnum):
    """Why a task was given up."""

    EXHAUSTED = "exhausted"
    """It failed once more than it may be retried."""
    KILLED = "killed"
    """Its worker was killed each time it ran: it may well be the reason."""
    POISON = "poison"
    """Its arguments do not fit, now or ever."""
    UNDELIVERABLE = "undeliverable"
    """It was sent again and again, and no worker ever took it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message in the hands of a worker; `dedup_key` is the message's id where none was given."""

    message_id: UUID
    organization_id: UUID | None
    task: str
    queue: str
    dedup_key: str
    payload: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def lock_key(self) -> int:
        """Return the advisory lock of this run, a signed 64-bit number."""
        name = f"{self.organization_id}|{self.task}|{self.dedup_key}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a run after it began (or was found ended)."""

    id: UUID
    state: RunState
    deliveries: int
    failures: int


_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock_key)")
# Not flushed by itself: the commit of the effect comes later in the log and flushes this one too, and
# a count that a crash of the machine forgets does no harm.
_BEGIN = text("""
INSERT INTO task_runs AS run
    (id, organization_id, task, dedup_key, message_id, lock_key, state, deliveries)
VALUES (:id, CAST(:organization_id AS uuid), :task, :dedup_key, :message_id, :lock_key, 'running', 1)
ON CONFLICT (organization_id, task, dedup_key) DO UPDATE SET
    message_id = CASE WHEN run.state IN ('done', 'dead') THEN run.message_id ELSE :message_id END,
    deliveries = run.deliveries + 1,
    started_at = CASE WHEN run.state IN ('done', 'dead') THEN run.started_at ELSE now() END,
    state = CASE WHEN run.state IN ('done', 'dead') THEN run.state ELSE 'running' END
RETURNING run.id, run.state, run.deliveries, run.failures,
    set_config('synchronous_commit', 'off', true) AS commit_mode
""")
_FINISH = text("""
WITH sent AS (DELETE FROM outbox WHERE id = :message_id)
UPDATE task_runs SET state = 'done', finished_at = now(), last_error = NULL
WHERE id = :id AND state IN ('running', 'waiting')
""")
_FAIL = text("""
UPDATE task_runs SET state = 'waiting', deliveries = 0, failures = failures + 1, last_error = :error
WHERE id = :id AND state IN ('running', 'waiting') RETURNING failures
""")
# The row is there, except for a message that did not come from the outbox.
_SEND_LATER = text("""
INSERT INTO outbox AS message
    (id, organization_id, topic, queue, dedup_key, payload, headers, not_before, last_error)
VALUES (:message_id, CAST(:organization_id AS uuid), :task, :queue, :dedup_key,
        CAST(:payload AS jsonb), CAST(:headers AS jsonb), now() + :delay, CAST(:error AS text))
ON CONFLICT (id) DO UPDATE SET
    not_before = now() + :delay, sends = 0, sent_to = NULL,
    last_error = coalesce(CAST(:error AS text), message.last_error)
""")
_DROP = text("DELETE FROM outbox WHERE id = :message_id")
# Of a job that dies slot after slot only the last death is kept.
_BURY = text("""
WITH sent AS (DELETE FROM outbox WHERE id = :message_id),
ended AS (
    UPDATE task_runs SET state = 'dead', finished_at = now(), last_error = :error
    WHERE organization_id IS NOT DISTINCT FROM CAST(:organization_id AS uuid)
      AND task = :task AND dedup_key = :dedup_key
),
replaced AS (
    DELETE FROM dead_tasks
    WHERE task = :task AND headers ? 'scheduled' AND CAST(:headers AS jsonb) ? 'scheduled'
)
INSERT INTO dead_tasks
    (id, organization_id, task, queue, dedup_key, message_id, payload, headers,
     reason, last_error, deliveries, failures)
VALUES (:id, CAST(:organization_id AS uuid), :task, :queue, :dedup_key, :message_id,
        CAST(:payload AS jsonb), CAST(:headers AS jsonb), :reason, :error, :deliveries, :failures)
""")


def try_lock(session: Session, delivery: Delivery) -> bool:
    """Return whether this transaction now holds the run; the lock dies with the connection."""
    return bool(session.scalar(_LOCK, {"lock_key": delivery.lock_key}))


def begin(delivery: Delivery) -> Run:
    """Count one more delivery and return the run; one that has ended also loses its message."""
    with system_session() as session:
        row = session.execute(_BEGIN, {**_fields(delivery), "id": new_id()}).one()
        run = Run(row.id, RunState(row.state), row.deliveries, row.failures)
        if run.state is not RunState.RUNNING:
            session.execute(_DROP, {"message_id": delivery.message_id})
    return run


def finish(session: Session, run: Run, delivery: Delivery) -> None:
    """Mark the run done in the transaction of its effect, and delete the message.

    Raises RuntimeError when somebody else finished it: this transaction must not commit.
    """
    # What the task changed is written with the task's own rights, before the role changes.
    session.flush()
    session.execute(text("SELECT set_config('role', 'dg_system', true)"))
    ended: Any = session.execute(_FINISH, {"id": run.id, "message_id": delivery.message_id})
    if ended.rowcount != 1:
        raise RuntimeError(f"{delivery.task}: the run was finished by another worker")


def fail(run: Run, delivery: Delivery, *, error: str, delay: timedelta, max_retries: int) -> bool:
    """Record an orderly failure and send the message again after the delay.

    Returns False when the run was retried often enough: the message went to the dead letters.
    """
    with system_session() as session:
        failures = session.scalar(_FAIL, {"id": run.id, "error": error})
        if failures is None:
            # Ended by another worker meanwhile: there is nothing left to retry.
            session.execute(_DROP, {"message_id": delivery.message_id})
            return True
        if failures > max_retries:
            _bury(session, delivery, DeathReason.EXHAUSTED, error=error, failures=failures)
            return False
        session.execute(_SEND_LATER, {**_fields(delivery), "delay": delay, "error": error})
    return True


def send_later(delivery: Delivery, *, delay: timedelta) -> None:
    """Send the message again after the delay, because another worker holds its run now."""
    with system_session() as session:
        session.execute(_SEND_LATER, {**_fields(delivery), "delay": delay, "error": None})


def bury(delivery: Delivery, reason: DeathReason, *, error: str, run: Run | None = None) -> None:
    """Move the message to the dead letters."""
    with system_session() as session:
        _bury(
            session,
            delivery,
            reason,
            error=error,
            deliveries=run.deliveries if run else 0,
            failures=run.failures if run else 0,
        )


def error_text(error: BaseException) -> str:
    """Return the error in one storable line: of a database error without the statement's values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}".replace("\x00", "")[:LONGEST_ERROR]


def _bury(
    session: Session,
    delivery: Delivery,
    reason: DeathReason,
    *,
    error: str,
    deliveries: int = 0,
    failures: int = 0,
) -> None:
    outcome = {
        "id": new_id(),
        "reason": str(reason),
        "error": error,
        "deliveries": deliveries,
        "failures": failures,
    }
    session.execute(_BURY, {**_fields(delivery), **outcome})


def _fields(delivery: Delivery) -> dict[str, Any]:
    return {
        "message_id": delivery.message_id,
        "organization_id": delivery.organization_id,
        "task": delivery.task,
        "queue": delivery.queue,
        "dedup_key": delivery.dedup_key,
        "lock_key": delivery.lock_key,
        "payload": json.dumps(dict(delivery.payload)),
        "headers": json.dumps(dict(delivery.headers)),
    }
