"""Verification: whether the audit log is still what was sealed, and the first row that is not.

What it finds: a sealed row that was changed or deleted, a seal that was changed, taken out or put in,
a tail that was cut off behind a published head, a row that never reached the sealer. What it cannot
find: a change before the seal (seconds), and a cut tail of which no published head is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Text, cast, func, select
from sqlalchemy.orm import Session

from app.audit.entries import AuditEntry
from app.audit.models import AuditLog, AuditSeal, AuditUnsealed
from app.audit.queries import ENTRY_COLUMNS
from app.audit.seals import SealKeys, beginning
from app.audit.service.heads import PublishedSeals
from app.kit.tenancy import system_session

CHUNK_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is wrong with the chain of one organization."""

    organization_id: UUID | None
    position: int | None
    audit_log_id: UUID | None
    fault: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, what still waits for its seal, and what is wrong."""

    organizations: int
    rows: int
    waiting: int
    findings: list[Finding]


def verify_log(
    *, keys: SealKeys, published: PublishedSeals, organization_id: UUID | None = None
) -> Verification:
    """Walk every chain (or that of one organization) and return the first fault of each."""
    findings: list[Finding] = []
    rows, seen = 0, set()
    with system_session() as session:
        for owner, sealed in groupby(
            _sealed_rows(session, organization_id), key=lambda row: row.of
        ):
            walk = _Walk(owner, keys, published.get(owner, {}))
            findings += walk.findings(sealed)
            rows += walk.rows
            seen.add(owner)
        findings += _lost_chains(published, seen=seen, organization_id=organization_id)
        findings += _never_noted(session, organization_id)
        if organization_id is None:
            findings += _gone_before_sealed(session)
        waiting = session.scalar(select(func.count()).select_from(AuditUnsealed)) or 0
    return Verification(len(seen), rows, waiting, findings)


class _Walk:
    """One walk along the chain of one organization, up to the first fault."""

    def __init__(self, owner: UUID, keys: SealKeys, published: dict[int, bytes]) -> None:
        self._owner = owner
        self._keys = keys
        self._published = published
        self._previous = beginning(owner)
        self.rows = 0

    def findings(self, sealed: Iterator[Row[Any]]) -> list[Finding]:
        for row in sealed:
            fault = self._fault(row)
            if fault is not None:
                for _ in sealed:  # behind the first fault nothing can be said
                    pass
                return [Finding(self._owner, row.position, row.sealed_id, fault)]
            self._previous = row.seal
            self.rows += 1
        return self._cut_tail()

    def _fault(self, row: Row[Any]) -> str | None:
        if row.position != self.rows + 1:
            return f"the seal of position {self.rows + 1} is gone"
        if row.id is None:
            return "the row was deleted"
        key = self._keys.by_id.get(row.key_id)
        if key is None:
            return f"sealed with the key {row.key_id}, which AUDIT_KEYS does not hold"
        if key.seal(self._previous, AuditEntry(*row[: len(ENTRY_COLUMNS)])) != row.seal:
            return "the row or its seal was changed"
        if self._published.get(row.position, row.seal) != row.seal:
            return "another seal was published for this position: the chain was cut and grew again"
        return None

    def _cut_tail(self) -> list[Finding]:
        furthest = max(self._published, default=0)
        if furthest <= self.rows:
            return []
        fault = f"the end was cut off: the chain was published up to position {furthest}"
        return [Finding(self._owner, self.rows + 1, None, fault)]


def _sealed_rows(session: Session, organization_id: UUID | None) -> Iterator[Row[Any]]:
    statement = (
        select(
            *ENTRY_COLUMNS,
            AuditSeal.organization_id.label("of"),
            AuditSeal.position,
            AuditSeal.audit_log_id.label("sealed_id"),
            AuditSeal.seal,
            AuditSeal.key_id,
        )
        .select_from(AuditSeal)
        .outerjoin(AuditLog, AuditLog.id == AuditSeal.audit_log_id)
        .order_by(AuditSeal.organization_id, AuditSeal.position)
        .execution_options(yield_per=CHUNK_ROWS)
    )
    if organization_id is not None:
        statement = statement.where(AuditSeal.organization_id == organization_id)
    rows: Iterator[Row[Any]] = iter(session.execute(statement))
    return rows


def _lost_chains(
    published: PublishedSeals, *, seen: set[UUID], organization_id: UUID | None
) -> list[Finding]:
    lost = [owner for owner in published if owner not in seen and organization_id in {None, owner}]
    return [Finding(owner, 1, None, "the whole chain is gone") for owner in lost]


def _never_noted(session: Session, organization_id: UUID | None) -> list[Finding]:
    statement = (
        select(AuditLog.organization_id, func.min(cast(AuditLog.id, Text)))
        .where(
            ~select(AuditSeal.position)
            .where(
                AuditSeal.organization_id == AuditLog.organization_id,
                AuditSeal.audit_log_id == AuditLog.id,
            )
            .exists(),
            ~select(AuditUnsealed.audit_log_id)
            .where(AuditUnsealed.audit_log_id == AuditLog.id)
            .exists(),
        )
        .group_by(AuditLog.organization_id)
    )
    if organization_id is not None:
        statement = statement.where(AuditLog.organization_id == organization_id)
    fault = "the row has no seal and waits for none"
    return [
        Finding(owner, None, UUID(row_id), fault) for owner, row_id in session.execute(statement)
    ]


def _gone_before_sealed(session: Session) -> list[Finding]:
    statement = (
        select(AuditUnsealed.audit_log_id)
        .where(~select(AuditLog.id).where(AuditLog.id == AuditUnsealed.audit_log_id).exists())
        .order_by(AuditUnsealed.audit_log_id)
        .limit(1)
    )
    fault = "the row was deleted before it was sealed"
    return [Finding(None, None, row_id, fault) for row_id in session.scalars(statement)]
