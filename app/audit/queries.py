"""Questions to the audit log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, func, or_, select, tuple_

from app.audit.entries import AuditEntry
from app.audit.models import AuditLog, AuditSeal
from app.audit.seals import Head, beginning
from app.extensions import db

# In the order of AuditEntry; the address as text, because a seal covers text.
ENTRY_COLUMNS: tuple[ColumnElement[Any], ...] = (
    *(
        AuditLog.__table__.c[name]
        for name in ("id", "organization_id", "occurred_at", "event", "actor_kind", "actor_id")
    ),
    *(
        AuditLog.__table__.c[name]
        for name in ("actor_label", "target_kind", "target_id", "target_label")
    ),
    cast(AuditLog.ip, Text).label("ip"),
    *(AuditLog.__table__.c[name] for name in ("request_id", "before", "after")),
)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events to list; None and empty do not filter."""

    events: Sequence[str] = ()
    actor_kind: str | None = None
    actor_id: UUID | None = None
    target_kind: str | None = None
    target_id: str | None = None
    request_id: str | None = None
    label_prefix: str | None = None
    start: dt.datetime | None = None
    end: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A row and its place in the chain, None while it waits for its seal."""

    entry: AuditEntry
    position: int | None
    seal: bytes | None


@dataclass(frozen=True, slots=True)
class ChainHead:
    """How far the chain goes, since when, and under which key; nothing sealed yet is position 0."""

    head: Head
    key_id: str | None
    sealed_at: dt.datetime | None


def events_page(
    *,
    organization_id: UUID,
    wanted: AuditFilter,
    after: tuple[dt.datetime, UUID] | None,
    limit: int,
) -> list[SealedEntry]:
    """Return up to `limit` events, newest first, behind the event of time and id `after`."""
    statement = _sealed_entries().where(
        AuditLog.organization_id == organization_id, *_conditions(wanted)
    )
    if after is not None:
        statement = statement.where(tuple_(AuditLog.occurred_at, AuditLog.id) < tuple_(*after))
    statement = statement.order_by(AuditLog.occurred_at.desc(), AuditLog.id.desc()).limit(limit)
    return [
        SealedEntry(AuditEntry(*row[:-2]), row.position, row.seal)
        for row in db.session.execute(statement)
    ]


def chain_head(*, organization_id: UUID) -> ChainHead:
    """Return how far the chain of the organization goes."""
    statement = (
        select(AuditSeal)
        .where(AuditSeal.organization_id == organization_id)
        .order_by(AuditSeal.position.desc())
        .limit(1)
    )
    last = db.session.scalar(statement)
    if last is None:
        return ChainHead(Head(organization_id, 0, beginning(organization_id)), None, None)
    return ChainHead(Head(organization_id, last.position, last.seal), last.key_id, last.sealed_at)


def _sealed_entries() -> Select[Any]:
    return select(*ENTRY_COLUMNS, AuditSeal.position, AuditSeal.seal).outerjoin(
        AuditSeal,
        (AuditSeal.organization_id == AuditLog.organization_id)
        & (AuditSeal.audit_log_id == AuditLog.id),
    )


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    exact: dict[Any, object] = {
        AuditLog.actor_kind: wanted.actor_kind,
        AuditLog.actor_id: wanted.actor_id,
        AuditLog.target_kind: wanted.target_kind,
        AuditLog.target_id: wanted.target_id,
        AuditLog.request_id: wanted.request_id,
    }
    conditions = [column == value for column, value in exact.items() if value is not None]
    if wanted.events:
        conditions.append(AuditLog.event.in_(wanted.events))
    if wanted.start is not None:
        conditions.append(AuditLog.occurred_at >= wanted.start)
    if wanted.end is not None:
        conditions.append(AuditLog.occurred_at < wanted.end)
    if wanted.label_prefix is not None:
        prefix = func.lower(wanted.label_prefix)
        labels = (AuditLog.actor_label, AuditLog.target_label)
        conditions.append(or_(*(func.starts_with(func.lower(label), prefix) for label in labels)))
    return conditions
