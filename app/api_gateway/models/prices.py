"""Providers and what they ask: the built-in catalogue (no organization) and each tenant's own."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model

MOMENT = TIMESTAMP(timezone=True)
NAME = Text(collation="C")


class ApiProvider(Model):
    """A paid API: one of the built-in catalogue, or any HTTP API that a tenant has prices for."""

    __tablename__ = "api_providers"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("organization_id", "name", postgresql_nulls_not_distinct=True),
        CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="name_is_plain"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_is_a_code"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(NAME)
    display_name: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str | None] = mapped_column(Text)
    # A regular expression for the URLs of a built-in provider.
    api_pattern: Mapped[str | None] = mapped_column(Text)
    pricing_urls: Mapped[list[str]] = mapped_column(ARRAY(Text))
    currency: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    updated_at: Mapped[datetime] = mapped_column(MOMENT)


class ApiModel(Model):
    """A model of a provider; `withdrawn_at` when a later release of the catalogue left it out."""

    __tablename__ = "api_models"
    __table_args__ = (
        UniqueConstraint("provider_id", "name"),
        ForeignKeyConstraint(
            ["organization_id", "provider_id"],
            ["api_providers.organization_id", "api_providers.id"],
            ondelete="CASCADE",
        ),
        Index(None, "name"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None]
    provider_id: Mapped[UUID] = mapped_column(ForeignKey("api_providers.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(NAME)
    display_name: Mapped[str | None] = mapped_column(Text)
    context_window: Mapped[int | None] = mapped_column(BigInteger)
    is_deprecated: Mapped[bool]
    recorded_at: Mapped[datetime] = mapped_column(MOMENT)
    withdrawn_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ApiPrice(Model):
    """One entry of a model's price list (see price_rows.py); never edited, only superseded."""

    __tablename__ = "api_prices"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "project_id"], ["projects.organization_id", "projects.id"]
        ),
        CheckConstraint(
            "organization_id IS NOT NULL OR (project_id IS NULL AND configuration_id IS NULL)",
            name="scope_has_an_organization",
        ),
        CheckConstraint("effective_from < effective_to", name="ends_after_it_begins"),
        CheckConstraint("(daily_from IS NULL) = (daily_to IS NULL)", name="daily_has_both_ends"),
        CheckConstraint("multiplier BETWEEN 0 AND 100", name="multiplier_is_a_factor"),
        CheckConstraint("jsonb_typeof(context) = 'object'", name="context_is_an_object"),
        CheckConstraint("jsonb_typeof(rates) = 'object'", name="rates_are_an_object"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_is_a_code"),
        Index(
            "uq_api_prices_current",
            "organization_id",
            "provider",
            "model",
            "position",
            "project_id",
            "configuration_id",
            unique=True,
            postgresql_where="superseded_at IS NULL",
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    project_id: Mapped[UUID | None]
    configuration_id: Mapped[UUID | None]
    # By name, not by id: a tenant's price may be for a model of a built-in provider.
    provider: Mapped[str] = mapped_column(NAME)
    model: Mapped[str] = mapped_column(NAME)
    position: Mapped[int]
    effective_from: Mapped[date | None]
    effective_to: Mapped[date | None]
    daily_from: Mapped[time | None]
    daily_to: Mapped[time | None]
    context: Mapped[dict[str, str]] = mapped_column(JSONB)
    # {unit: {price, per, tiers?: [{over, price}], minimum?}}, prices as decimal text.
    rates: Mapped[dict[str, Any]] = mapped_column(JSONB)
    multiplier: Mapped[Decimal | None] = mapped_column(Numeric)
    is_free: Mapped[bool]
    currency: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(MOMENT)
    superseded_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ApiRateCard(Model):
    """The rates that priced calls, by content: the database lets nobody change or delete one."""

    __tablename__ = "api_rate_cards"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(rates) = 'object'", name="rates_are_an_object"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    provider: Mapped[str] = mapped_column(NAME)
    model: Mapped[str] = mapped_column(NAME)
    currency: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    rates: Mapped[dict[str, Any]] = mapped_column(JSONB)
    recorded_at: Mapped[datetime] = mapped_column(MOMENT)


class ApiModelAlias(Model):
    """What a raw model name means: an Azure deployment, a tenant's correction of the matcher."""

    __tablename__ = "api_model_aliases"
    __table_args__ = (
        UniqueConstraint(
            "organization_id", "provider", "raw_name", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint("raw_name = lower(raw_name)", name="raw_name_is_lower_case"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    provider: Mapped[str] = mapped_column(NAME)
    raw_name: Mapped[str] = mapped_column(NAME)
    # The provider whose price list has the model: openai for a deployment on azure.
    price_list: Mapped[str] = mapped_column(NAME)
    model: Mapped[str] = mapped_column(NAME)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class ApiPriceVersion(Model):
    """How often prices changed, so that processes know when theirs are old; written by triggers."""

    __tablename__ = "api_price_versions"
    __table_args__ = (UniqueConstraint("organization_id", postgresql_nulls_not_distinct=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    version: Mapped[int] = mapped_column(BigInteger)
