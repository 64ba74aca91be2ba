"""The door to work outside of requests: ask for it, declare it, schedule it."""

from __future__ import annotations

from app.kit.jobs.outbox import enqueue, enqueue_for
from app.kit.jobs.schedule import Every
from app.kit.jobs.tasks import (
    PoisonPayload,
    RetryLater,
    TransactionalTask,
    platform_task,
    tenant_task,
)

__all__ = [
    "Every",
    "PoisonPayload",
    "RetryLater",
    "TransactionalTask",
    "enqueue",
    "enqueue_for",
    "platform_task",
    "tenant_task",
]
