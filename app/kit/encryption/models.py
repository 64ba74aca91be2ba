"""The wrapped data keys, and the salt of a passphrase above them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model


class DataKey(Model):
    """A key of one organization; its fields are encrypted by the newest, the older ones only open theirs."""

    __tablename__ = "data_keys"
    __table_args__ = (
        UniqueConstraint("organization_id", "id", name="uq_data_keys_organization_id_id"),
        CheckConstraint(
            "(shredded_at IS NULL) = (wrapped_key IS NOT NULL)"
            " AND (wrapped_key IS NULL) = (kek_id IS NULL)",
            name="shredded_has_no_key",
        ),
        CheckConstraint("octet_length(wrapped_key) = 60", name="is_wrapped"),
        Index(
            "uq_data_keys_organization_id_active",
            "organization_id",
            unique=True,
            postgresql_where=text("retired_at IS NULL AND shredded_at IS NULL"),
        ),
    )

    # The kid in each text that it encrypted.
    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    wrapped_key: Mapped[bytes | None]
    # Which key-encryption key wraps it.
    kek_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )
    retired_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    shredded_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class PassphraseSalt(Model):
    """What keeps two installations with one passphrase from having one key."""

    __tablename__ = "passphrase_salts"
    __table_args__ = (
        CheckConstraint("id = 1", name="is_the_only_one"),
        CheckConstraint("octet_length(salt) = 32 AND iterations >= 600000", name="is_strong"),
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    salt: Mapped[bytes]
    iterations: Mapped[int]
