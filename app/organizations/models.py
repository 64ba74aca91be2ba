"""The tenant and the people in it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model

MOMENT = TIMESTAMP(timezone=True)


class Organization(Model):
    """One tenant: everything else belongs to exactly one of them."""

    __tablename__ = "organizations"
    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    # Members without a second factor may do nothing here but enrol one.
    mfa_required: Mapped[bool] = mapped_column(server_default=text("false"))
    deleted_at: Mapped[datetime | None] = mapped_column(MOMENT)


class User(Model):
    """One person, known by e-mail; a request sees only the members of its organization."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("email = lower(email)", name="email_is_normalised"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    # dg_app may write but never read it: a hole in a tenant's query shows no hash.
    password_hash: Mapped[str | None] = mapped_column(Text, deferred=True, deferred_raiseload=True)
    password_changed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    # Sessions of an older epoch are dead, in every organization at once.
    epoch: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    updated_at: Mapped[datetime] = mapped_column(MOMENT)
    disabled_at: Mapped[datetime | None] = mapped_column(MOMENT)


class Membership(Model):
    """One person's role in one organization."""

    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'member', 'admin', 'owner')", name="role_is_known"),
        Index(None, "user_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
