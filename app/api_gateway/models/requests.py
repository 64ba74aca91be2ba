"""Calls to paid APIs as the application sees them: through the guard view of the time series."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Numeric, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Model
from app.kit.timeseries import Series

API_REQUESTS = Series("api_requests", "started_at")


class ApiRequest(Model):
    """One call as its caller logged it, with its price. Never holds a prompt or a completion."""

    __tablename__ = "api_requests"
    # A view over the series: the revisions make it, autogenerate leaves it alone.
    __table_args__ = {"info": {"is_guard_view": True}}

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    organization_id: Mapped[UUID]
    group_id: Mapped[int] = mapped_column(BigInteger)
    payload_hash: Mapped[int] = mapped_column(BigInteger)
    # As the price list names them; the caller's own spelling stands in request_/response_model.
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    operation: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    environment: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    request_model: Mapped[str | None] = mapped_column(Text)
    response_model: Mapped[str | None] = mapped_column(Text)
    response_id: Mapped[str | None] = mapped_column(Text)
    endpoint: Mapped[str | None] = mapped_column(Text)
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    error_type: Mapped[str | None] = mapped_column(Text)
    stream: Mapped[bool]
    cache_hit: Mapped[bool]
    # Attempts of one operation share its id; each attempt is a row, because each may be billed.
    operation_id: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(SmallInteger)
    trace_id: Mapped[str | None] = mapped_column(Text)
    span_id: Mapped[str | None] = mapped_column(Text)
    reservation_id: Mapped[UUID | None]
    duration_us: Mapped[int | None] = mapped_column(BigInteger)
    time_to_first_chunk_us: Mapped[int | None] = mapped_column(BigInteger)
    duration_bin: Mapped[int | None] = mapped_column(SmallInteger)
    first_chunk_bin: Mapped[int | None] = mapped_column(SmallInteger)
    # provider | estimated | missing: an explicit 0 is a value, missing is not 0.
    usage_source: Mapped[str] = mapped_column(Text)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_read_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_write_1h_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    other_usage: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    pricing_context: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    team: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[str | None] = mapped_column(Text)
    customer_id: Mapped[str | None] = mapped_column(Text)
    api_key_id: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    pricing_status: Mapped[str] = mapped_column(Text)
    pricing_reason: Mapped[str | None] = mapped_column(Text)
    pricing_notes: Mapped[str | None] = mapped_column(Text)
    # NULL is "not known", which is not 0: unmetered and unpriced calls have no cost.
    cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 12))
    computed_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 12))
    stated_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 12))
    currency: Mapped[str] = mapped_column(Text)
    rate_card_id: Mapped[UUID | None]
    ingested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
