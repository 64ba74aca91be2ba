"""Credentials: sessions with their refresh tokens, and API keys. Secrets only as SHA-256."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INET, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model

MOMENT = TIMESTAMP(timezone=True)
MEMBERSHIP = ["memberships.organization_id", "memberships.user_id"]


class UserSession(Model):
    """One sign-in of a person to an organization: the family of the refresh tokens that followed."""

    __tablename__ = "sessions"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(["organization_id", "user_id"], MEMBERSHIP, ondelete="CASCADE"),
        CheckConstraint(
            "revoked_because IN"
            " ('logout', 'password_changed', 'factor_changed', 'reuse', 'revoked')",
            name="revoked_because_is_known",
        ),
        CheckConstraint("idle_expires_at <= expires_at", name="idle_ends_first"),
        Index(None, "organization_id", "user_id"),
        Index(None, "user_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    user_id: Mapped[UUID]
    # That of its user when it began; an older one than his is dead.
    epoch: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    refreshed_at: Mapped[datetime] = mapped_column(MOMENT)
    # When it ends unless it is renewed before; never after expires_at, which nothing moves.
    idle_expires_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    # When its person last showed that he is who he says; changes to credentials need it fresh.
    proven_at: Mapped[datetime] = mapped_column(MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(MOMENT)
    revoked_because: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    ip: Mapped[str | None] = mapped_column(INET)


class RefreshToken(Model):
    """One opaque token that renews its session once; used ones stay, to tell reuse from nonsense."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        UniqueConstraint("token_sha256"),
        ForeignKeyConstraint(
            ["organization_id", "session_id"],
            ["sessions.organization_id", "sessions.id"],
            ondelete="CASCADE",
        ),
        CheckConstraint("octet_length(token_sha256) = 32", name="is_sha256"),
        Index(None, "organization_id", "session_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    session_id: Mapped[UUID]
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    used_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ApiKey(Model):
    """One key of a person, of the organization (service), or of a project's logging (ingest)."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("secret_sha256"),
        ForeignKeyConstraint(["organization_id", "user_id"], MEMBERSHIP, ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["organization_id", "created_by"], MEMBERSHIP, ondelete="SET NULL (created_by)"
        ),
        ForeignKeyConstraint(
            ["organization_id", "project_id"], ["projects.organization_id", "projects.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "rotated_to"], ["api_keys.organization_id", "api_keys.id"]
        ),
        CheckConstraint("kind IN ('personal', 'service', 'ingest')", name="kind_is_known"),
        CheckConstraint("(kind = 'personal') = (user_id IS NOT NULL)", name="personal_has_user"),
        CheckConstraint("(kind = 'ingest') = (project_id IS NOT NULL)", name="ingest_has_project"),
        CheckConstraint("octet_length(secret_sha256) = 32", name="is_sha256"),
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        Index(None, "organization_id", "user_id"),
        Index(None, "organization_id", "project_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    # Whose rights it uses: a personal key's person; the others belong to the organization.
    user_id: Mapped[UUID | None]
    project_id: Mapped[UUID | None]
    created_by: Mapped[UUID | None]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    prefix: Mapped[str] = mapped_column(Text)
    last4: Mapped[str] = mapped_column(Text)
    # Networks (CIDR) from which it is taken; none means from anywhere.
    allowed_ips: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    # The key that took its place; this one goes on until it expires.
    rotated_to: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    last_used_at: Mapped[datetime | None] = mapped_column(MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(MOMENT)


class UserTotp(Model):
    """The authenticator app of one person, in every organization that he is in."""

    __tablename__ = "user_totp"

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    # Sealed; dg_app may write but never read it.
    secret: Mapped[str] = mapped_column(Text, deferred=True, deferred_raiseload=True)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    # None while it is only offered and no code of it was seen yet.
    confirmed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    # The newest time step whose code was taken: that one and those before are used up.
    last_step: Mapped[int | None] = mapped_column(BigInteger)


class RecoveryCode(Model):
    """One code that stands in once for a lost authenticator app."""

    __tablename__ = "recovery_codes"
    __table_args__ = (
        UniqueConstraint("user_id", "code_sha256"),
        CheckConstraint("octet_length(code_sha256) = 32", name="is_sha256"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    used_at: Mapped[datetime | None] = mapped_column(MOMENT)


class AuthFailure(Model):
    """One attempt to prove who one is that was wrong, or is being judged; of no organization yet."""

    __tablename__ = "auth_failures"
    __table_args__ = (
        CheckConstraint("kind IN ('password', 'mfa', 'recovery')", name="kind_is_known"),
        CheckConstraint("octet_length(account) = 32", name="account_is_hashed"),
        Index(None, "account", "failed_at"),
        Index(None, "address", "failed_at"),
        Index(None, "failed_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    # A keyed hash of the address that was typed: it may be nobody's.
    account: Mapped[bytes] = mapped_column(LargeBinary)
    place: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    failed_at: Mapped[datetime] = mapped_column(MOMENT)
