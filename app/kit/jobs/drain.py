"""Run what waits here and now, without broker and worker: for an operator whose Redis is gone, and for tests."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.extensions import celery
from app.kit.jobs.runs import Delivery
from app.kit.jobs.tasks import deliver
from app.kit.logging import logger
from app.kit.tenancy import system_session

log = logger(__name__)

_NEXT = text("""
SELECT id, organization_id, topic, queue, dedup_key, payload, headers FROM outbox
WHERE not_before <= now() AND id <> ALL(:seen)
  AND (CAST(:organization_id AS uuid) IS NULL OR organization_id = :organization_id)
ORDER BY not_before, id LIMIT 1
""")


def run_waiting(*, organization_id: UUID | None = None, limit: int = 1000) -> int:
    """Run the due tasks of the organization (default: of everybody) one after the other; return how many.

    Also what they ask for in turn. One that fails is retried by a later call, when it is due. Needs
    an application context and no current organization; what the caller did not commit is not seen.
    """
    seen: list[UUID] = []
    while len(seen) < limit:
        with system_session() as session:
            row = session.execute(
                _NEXT, {"seen": seen, "organization_id": organization_id}
            ).one_or_none()
        if row is None:
            break
        seen.append(row.id)
        task = celery.tasks.get(row.topic)
        if task is None:
            log.error("task_unknown", task=row.topic, task_id=str(row.id))
        else:
            deliver(task, _delivery_of(row))
    return len(seen)


def _delivery_of(row: Any) -> Delivery:
    return Delivery(
        message_id=row.id,
        organization_id=row.organization_id,
        task=row.topic,
        queue=row.queue,
        dedup_key=row.dedup_key or str(row.id),
        payload=row.payload,
        headers=row.headers,
    )
