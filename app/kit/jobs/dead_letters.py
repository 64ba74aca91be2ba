"""What was given up, and what still waits: for a person to list, replay or discard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.kit.errors import NotFound
from app.kit.ids import new_id
from app.kit.jobs.outbox import CHANNEL
from app.kit.tenancy import system_session


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that was given up, and why."""

    id: UUID
    organization_id: UUID | None
    task: str
    payload: dict[str, str]
    reason: str
    last_error: str | None
    failures: int
    died_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages of one task that have not ended: to be sent, sent or running, to be retried."""

    task: str
    messages: int
    oldest: timedelta
    last_error: str | None


_LIST = text("""
SELECT id, organization_id, task, payload, reason, last_error, failures, died_at
FROM dead_tasks WHERE CAST(:task AS text) IS NULL OR task = :task
ORDER BY died_at DESC, id DESC LIMIT :limit
""")
# The run is counted from the start again, under the same key: what was done stays done once.
_REPLAY = text(f"""
WITH dead AS (
    DELETE FROM dead_tasks WHERE id = :id RETURNING *
),
again AS (
    UPDATE task_runs AS run
    SET state = 'waiting', deliveries = 0, failures = 0, finished_at = NULL
    FROM dead
    WHERE run.organization_id IS NOT DISTINCT FROM dead.organization_id
      AND run.task = dead.task AND run.dedup_key = dead.dedup_key AND run.state = 'dead'
),
added AS (
    INSERT INTO outbox (id, organization_id, topic, queue, dedup_key, payload, headers)
    SELECT :message_id, organization_id, task, queue, dedup_key, payload, headers FROM dead
)
SELECT task, pg_notify('{CHANNEL}', '') FROM dead
""")
_DISCARD = text("DELETE FROM dead_tasks WHERE id = :id RETURNING task")
_WAITING = text("""
SELECT topic AS task, count(*) AS messages, now() - min(created_at) AS oldest,
       (array_agg(last_error ORDER BY created_at DESC) FILTER (WHERE last_error IS NOT NULL))[1]
           AS last_error
FROM outbox GROUP BY topic ORDER BY topic
""")


def list_dead(*, limit: int, task: str | None = None) -> list[DeadLetter]:
    """Return the newest dead tasks, newest first."""
    with system_session() as session:
        rows = session.execute(_LIST, {"limit": limit, "task": task})
        return [DeadLetter(**row) for row in rows.mappings()]


def replay_dead(dead_id: UUID) -> UUID:
    """Ask for a dead task again; return the new message's id. Raises NotFound."""
    message_id = new_id()
    _one(_REPLAY, {"id": dead_id, "message_id": message_id}, dead_id)
    return message_id


def discard_dead(dead_id: UUID) -> None:
    """Forget a dead task for good. Raises NotFound."""
    _one(_DISCARD, {"id": dead_id}, dead_id)


def list_waiting() -> list[Backlog]:
    """Return what has not ended, by task."""
    with system_session() as session:
        return [Backlog(**row) for row in session.execute(_WAITING).mappings()]


def _one(statement: Any, arguments: dict[str, Any], dead_id: UUID) -> None:
    with system_session() as session:
        if session.execute(statement, arguments).first() is None:
            raise NotFound(f"there is no dead task {dead_id}")
