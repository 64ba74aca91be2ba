"""Table of contents: every task module and the one beat schedule; entry point of workers and beat - never a task body.

`celery -A app.tasks worker -Q ingest,default,webhooks,scans,maintenance` and `celery -A app.tasks beat`.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

from app.api_gateway import tasks as api_gateway_tasks
from app.audit import tasks as audit_tasks
from app.auth import tasks as auth_tasks
from app.kit import idempotency_keys
from app.kit.encryption import reencryption
from app.kit.jobs import Every, process, upkeep

# Imported for what they declare; each line one feature.
MODULES = (upkeep, reencryption, idempotency_keys, audit_tasks, auth_tasks, api_gateway_tasks)

SCHEDULE: dict[str, Every] = {
    "api_gateway.compact_rollups": Every(timedelta(seconds=10)),
    "api_gateway.keep_partitions": Every(timedelta(hours=1), offset=timedelta(minutes=3)),
    "audit.seal_events": Every(timedelta(seconds=5)),
    "auth.forget_ended_sessions": Every(timedelta(days=1), offset=timedelta(minutes=11)),
    "auth.forget_failures": Every(timedelta(hours=1), offset=timedelta(minutes=17)),
    "kit.forget_idempotency_keys": Every(timedelta(hours=1), offset=timedelta(minutes=17)),
    "kit.clean_job_records": Every(timedelta(hours=1), offset=timedelta(minutes=7)),
}


def __getattr__(name: str) -> Any:
    """Make this process a worker or beat when `celery -A app.tasks` asks for the application.

    Not at the import: tests and tools read the lists above without settings or a database.
    """
    if name == "celery":
        # By name: as an import it would tie this table of contents to all others (import contract).
        return process.prepare(create_app=import_module("app").create_app, schedule=SCHEDULE)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
