"""One line of the audit log as it is read back, and the bytes of it that a seal covers. Pure."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

# A row that is sealed must always give the same bytes: another form gets another number.
FORM = "devguard audit row 1"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What one row of `audit_logs` says; `ip` in PostgreSQL's own spelling."""

    id: UUID
    organization_id: UUID
    occurred_at: datetime
    event: str
    actor_kind: str
    actor_id: UUID | None
    actor_label: str
    target_kind: str
    target_id: str
    target_label: str
    ip: str | None
    request_id: str | None
    before: str | None
    after: str | None


def canonical_bytes(entry: AuditEntry) -> bytes:
    """Return the bytes that the seal of this row covers: every column, each unmistakably apart."""
    in_utc = replace(entry, occurred_at=entry.occurred_at.astimezone(UTC))
    values = [FORM, *(None if value is None else _text(value) for value in astuple(in_utc))]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
