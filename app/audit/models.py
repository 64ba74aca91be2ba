"""Who did what."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text
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
