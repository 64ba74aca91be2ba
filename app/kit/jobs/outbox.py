"""Ask for work: a row in the caller's transaction, sent by the relay after the commit.

What is rolled back was never asked for, and what is committed is never lost: the row stays until
its task has ended, however often Redis, a worker or the whole machine goes down in between.
"""

from __future__ import annotations

import inspect
import json
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import text

from app.extensions import db
from app.kit.ids import new_id
from app.kit.logging import bound_request_id
from app.kit.tenancy import NoOrganization, current_organization_id

CHANNEL = "devguard_outbox"

# The notification leaves with the commit, and wakes the relay only when there is something to send.
_ADD = text(f"""
WITH added AS (
    INSERT INTO outbox
        (id, organization_id, topic, queue, dedup_key, payload, headers, not_before)
    VALUES
        (:id, CAST(:organization_id AS uuid), :topic, :queue, CAST(:dedup_key AS text),
         CAST(:payload AS jsonb), CAST(:headers AS jsonb),
         coalesce(CAST(:not_before AS timestamptz), now()))
)
SELECT pg_notify('{CHANNEL}', '')
WHERE coalesce(CAST(:not_before AS timestamptz), now()) <= now()
""")


class Enqueueable(Protocol):
    """What enqueue() must know of a task."""

    name: str
    queue_name: str
    is_platform: bool
    run: Any


def enqueue(
    task: Enqueueable,
    *,
    dedup_key: str | None = None,
    not_before: datetime | None = None,
    **ids: str,
) -> UUID:
    """Ask for the task in this transaction, for the organization of this request; return the message's id.

    `dedup_key` makes it happen once: of all messages of the organization with this task and key the
    first that succeeds is the only one that has an effect (kept for a week). `not_before` is aware.
    Raises TypeError when the ids do not fit the task, NoOrganization for a tenant task without one.
    """
    return _add(
        task,
        ids,
        organization_id=_organization_or_none(),
        dedup_key=dedup_key,
        not_before=not_before,
    )


def enqueue_for(
    organization_id: UUID,
    task: Enqueueable,
    *,
    dedup_key: str | None = None,
    not_before: datetime | None = None,
    **ids: str,
) -> UUID:
    """Ask for a tenant task from a platform task: how one job fans out to every organization.

    Returns the message's id. The database refuses it to a request (role dg_app).
    """
    return _add(
        task, ids, organization_id=organization_id, dedup_key=dedup_key, not_before=not_before
    )


def check_fit(task: Enqueueable, ids: dict[str, Any]) -> None:
    """Raise TypeError when these are not the task's arguments, all of them text."""
    inspect.signature(task.run).bind(**ids)
    wrong = sorted(name for name, value in ids.items() if not isinstance(value, str))
    if wrong:
        raise TypeError(f"{task.name}: {', '.join(wrong)} must be text")


def _add(
    task: Enqueueable,
    ids: dict[str, str],
    *,
    organization_id: UUID | None,
    dedup_key: str | None,
    not_before: datetime | None,
) -> UUID:
    if organization_id is None and not task.is_platform:
        raise NoOrganization(f"{task.name} is a tenant task, and no organization is set")
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError("not_before must be an aware moment")
    check_fit(task, ids)
    message_id = new_id()
    db.session.execute(
        _ADD,
        {
            "id": message_id,
            "organization_id": organization_id,
            "topic": task.name,
            "queue": task.queue_name,
            "dedup_key": dedup_key,
            "payload": json.dumps(ids),
            "headers": json.dumps(_headers()),
            "not_before": not_before,
        },
    )
    return message_id


def _organization_or_none() -> UUID | None:
    try:
        return current_organization_id()
    except NoOrganization:
        return None


def _headers() -> dict[str, str]:
    """Return what the log lines of the task share with those of its cause."""
    known = structlog.contextvars.get_contextvars()
    headers = {"request_id": bound_request_id(), "traceparent": known.get("traceparent")}
    return {name: str(value) for name, value in headers.items() if value is not None}
