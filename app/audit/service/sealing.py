"""Sealing: what requests wrote gets its place in the chain of its organization, in batches.

Not in the request itself: requests of one organization would then wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from app.audit.entries import AuditEntry
from app.audit.models import AuditLog, AuditSeal, AuditUnsealed
from app.audit.queries import ENTRY_COLUMNS
from app.audit.seals import Head, SealKey, beginning
from app.audit.service.heads import publish_heads
from app.kit.logging import logger
from app.kit.tenancy import system_session

log = logger(__name__)

BATCH_ROWS = 1000
MOST_BATCHES = 50

# Two sealers would give one place twice; the lock ends with its transaction.
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('devguard.audit_sealer', 0))")
_LAST_SEALS = text("""
SELECT wanted.id AS organization_id, last.position, last.seal
FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT position, seal FROM audit_seals WHERE organization_id = wanted.id
    ORDER BY position DESC LIMIT 1
) AS last
""")


def seal_waiting_rows(*, key: SealKey, folder: Path, now: datetime) -> int:
    """Seal what waits, publish the new heads in `folder` and in the log; return how many were sealed.

    Each batch is a transaction of its own, and a head is published behind its commit: never one of
    a chain that was rolled back.
    """
    sealed = 0
    for _ in range(MOST_BATCHES):
        heads, count = _seal_batch(key=key, now=now)
        publish_heads(heads, key=key, folder=folder)
        sealed += count
        if count < BATCH_ROWS:
            break
    return sealed


def _seal_batch(*, key: SealKey, now: datetime) -> tuple[list[Head], int]:
    with system_session() as session:
        if not session.scalar(_TRY_LOCK):
            log.info("audit_sealer_busy", detail="another one seals")
            return [], 0
        entries = sorted(
            (AuditEntry(*row) for row in _waiting(session)),
            key=lambda entry: (entry.occurred_at, entry.id),
        )
        if not entries:
            return [], 0
        heads = _last_heads(session, {entry.organization_id for entry in entries})
        seals = []
        for entry in entries:
            head = _next_head(heads[entry.organization_id], entry, key)
            heads[entry.organization_id] = head
            seals.append(_seal_row(head, entry, key=key, now=now))
        session.execute(insert(AuditSeal), seals)
        ids = [entry.id for entry in entries]
        session.execute(delete(AuditUnsealed).where(AuditUnsealed.audit_log_id.in_(ids)))
    return list(heads.values()), len(entries)


def _waiting(session: Session) -> Sequence[Any]:
    # A row that vanished before its seal stays noted: verification tells of it.
    statement = (
        select(*ENTRY_COLUMNS)
        .join(AuditUnsealed, AuditUnsealed.audit_log_id == AuditLog.id)
        .order_by(AuditLog.id)
        .limit(BATCH_ROWS)
    )
    rows: Sequence[Any] = session.execute(statement).all()
    return rows


def _last_heads(session: Session, organization_ids: set[UUID]) -> dict[UUID, Head]:
    heads = {id_: Head(id_, 0, beginning(id_)) for id_ in organization_ids}
    rows = session.execute(_LAST_SEALS, {"ids": list(organization_ids)})
    return heads | {row.organization_id: Head(*row) for row in rows}


def _next_head(last: Head, entry: AuditEntry, key: SealKey) -> Head:
    return Head(entry.organization_id, last.position + 1, key.seal(last.seal, entry))


def _seal_row(head: Head, entry: AuditEntry, *, key: SealKey, now: datetime) -> dict[str, Any]:
    return {
        "organization_id": head.organization_id,
        "position": head.position,
        "audit_log_id": entry.id,
        "seal": head.seal,
        "key_id": key.id,
        "sealed_at": now,
    }
