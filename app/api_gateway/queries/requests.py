"""Questions to the calls themselves: a filtered page, one call by its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, select, tuple_

from app.api_gateway.models.requests import ApiRequest
from app.extensions import db
from app.kit.time_window import TimeWindow

# Columns that may be filtered by a list of values; all text, whose `=` is leakproof and so indexable.
LIST_FILTERS = (
    "provider", "model", "operation", "outcome", "environment", "source", "team", "user_id",
    "customer_id", "pricing_status", "status_code",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RequestFilters:
    """What a list of calls is narrowed to; durations in milliseconds, costs in their currency."""

    values: dict[str, Sequence[str | int]] = field(default_factory=dict)
    least_cost: Decimal | None = None
    most_cost: Decimal | None = None
    least_duration_ms: float | None = None
    most_duration_ms: float | None = None


def api_requests(
    *,
    project_id: UUID,
    window: TimeWindow,
    filters: RequestFilters,
    limit: int,
    after: tuple[datetime, str] | None = None,
    newest_first: bool = True,
) -> list[ApiRequest]:
    """Return up to `limit` calls of the window in order of (started_at, id), beyond `after`."""
    order = (ApiRequest.started_at, ApiRequest.id)
    statement = select(ApiRequest).where(
        ApiRequest.project_id == project_id,
        ApiRequest.started_at >= window.start,
        ApiRequest.started_at < window.end,
        *_conditions(filters),
    )
    if after is not None:
        beyond = tuple_(*order) < after if newest_first else tuple_(*order) > after
        statement = statement.where(beyond)
    sorting = [column.desc() if newest_first else column.asc() for column in order]
    return list(db.session.scalars(statement.order_by(*sorting).limit(limit)))


def find_api_request(
    *, project_id: UUID | None, id_: str, started_at: datetime | None, window: TimeWindow
) -> ApiRequest | None:
    """Return the newest call with this id within the window, or the one that started then."""
    statement = select(ApiRequest).where(
        ApiRequest.id == id_,
        ApiRequest.started_at >= window.start,
        ApiRequest.started_at < window.end,
    )
    if project_id is not None:
        statement = statement.where(ApiRequest.project_id == project_id)
    if started_at is not None:
        statement = statement.where(ApiRequest.started_at == started_at)
    return db.session.scalar(statement.order_by(ApiRequest.started_at.desc()).limit(1))


def _conditions(filters: RequestFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        getattr(ApiRequest, name).in_(values) for name, values in filters.values.items()
    ]
    if filters.least_cost is not None:
        conditions.append(ApiRequest.cost >= filters.least_cost)
    if filters.most_cost is not None:
        conditions.append(ApiRequest.cost <= filters.most_cost)
    if filters.least_duration_ms is not None:
        conditions.append(ApiRequest.duration_us >= round(filters.least_duration_ms * 1000))
    if filters.most_duration_ms is not None:
        conditions.append(ApiRequest.duration_us <= round(filters.most_duration_ms * 1000))
    return conditions
