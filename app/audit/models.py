"""Who did what."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import INET, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model

MOMENT = TIMESTAMP(timezone=True)


class AuditLog(Model):
    """One deed: written with its effect, never changed; labels outlive who and what they name."""

    __tablename__ = "audit_logs"
    __table_args__ = (
        CheckConstraint(
            "actor_kind IN ('user', 'api_key', 'system', 'operator')", name="actor_kind_is_known"
        ),
        Index(None, "organization_id", "occurred_at", "id"),
        Index(None, "organization_id", "target_kind", "target_id"),
        Index(None, "organization_id", "actor_id", "occurred_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    occurred_at: Mapped[datetime] = mapped_column(MOMENT)
    event: Mapped[str] = mapped_column(Text)
    actor_kind: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[UUID | None]
    actor_label: Mapped[str] = mapped_column(Text)
    target_kind: Mapped[str] = mapped_column(Text)
    target_id: Mapped[str] = mapped_column(Text)
    target_label: Mapped[str] = mapped_column(Text)
    ip: Mapped[str | None] = mapped_column(INET)
    request_id: Mapped[str | None] = mapped_column(Text)
    # Canonical JSON as text, not jsonb: the bytes that were written can be hashed later.
    before: Mapped[str | None] = mapped_column(Text)
    after: Mapped[str | None] = mapped_column(Text)


class AuditSeal(Model):
    """The place of one row in the chain of its organization, proven with a key outside the database."""

    __tablename__ = "audit_seals"
    __table_args__ = (
        # No key to audit_logs: the seal of a row that was deleted is what tells of it.
        UniqueConstraint("organization_id", "audit_log_id"),
        CheckConstraint("position >= 1", name="position_is_counted"),
        CheckConstraint("octet_length(seal) = 32", name="is_sha256"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    audit_log_id: Mapped[UUID]
    seal: Mapped[bytes]
    key_id: Mapped[str] = mapped_column(Text)
    sealed_at: Mapped[datetime] = mapped_column(MOMENT)


class AuditUnsealed(Model):
    """A row that waits for its seal: noted by a trigger, so that no writer can forget it."""

    __tablename__ = "audit_unsealed"

    audit_log_id: Mapped[UUID] = mapped_column(primary_key=True)
