"""How a logged call is shown: rows of api_requests become answers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from app.api_gateway import picos
from app.api_gateway.logged_calls import TOKEN_COLUMNS, LoggedCall
from app.api_gateway.models.requests import ApiRequest
from app.api_gateway.pricing import BreakdownRow, PricingReason, PricingStatus
from app.api_gateway.schemas.requests import (
    ApiRequestDetailView,
    ApiRequestView,
    CostPartView,
    CostView,
    FaultView,
    ItemResultView,
)
from app.api_gateway.usage import Usage
from app.kit.errors import Fault

US_PER_MS = 1000
# A price per hour does not terminate: its parts are shown to 18 places, six more than the cost keeps.
PART_PLACES = 18


def request_view(row: ApiRequest) -> ApiRequestView:
    """Return one call as the list shows it."""
    return ApiRequestView(**_fields(row))


def request_detail(row: ApiRequest, *, parts: Iterable[BreakdownRow]) -> ApiRequestDetailView:
    """Return one call with the breakdown of its computed cost."""
    card_id = None if row.rate_card_id is None else str(row.rate_card_id)
    views = [
        CostPartView(
            unit=part.unit,
            quantity=Decimal(part.quantity),
            rate=part.rate,
            per=part.per,
            amount=_decimal(part.amount),
        )
        for part in parts
    ]
    return ApiRequestDetailView(**_fields(row), rate_card_id=card_id, breakdown=views)


def usage_of(row: ApiRequest) -> Usage | None:
    """Return the canonical usage of a stored call; None where the call came without."""
    if row.usage_source == "missing":
        return None
    tokens = {name: getattr(row, name) for name in TOKEN_COLUMNS}
    usage = {name: count for name, count in tokens.items() if count is not None}
    for unit, count in (row.other_usage or {}).items():
        usage[unit] = count if isinstance(count, int) else Decimal(count)
    return usage


def created_view(call: LoggedCall) -> ItemResultView:
    """Return what became of a call that was stored."""
    status, cost, computed, reason = call.priced
    return ItemResultView(
        index=call.index,
        id=call.id,
        status="created",
        cost=CostView(
            amount=None if cost is None else picos.as_decimal(cost),
            currency=call.cell.currency,
            source=_source(status, reason),
            computed=None if computed is None else picos.as_decimal(computed),
        ),
        pricing_status=status,
        pricing_reason=reason,
    )


def fault_views(faults: Iterable[Fault]) -> list[FaultView]:
    """Return the faults of an item."""
    return [FaultView(**fault.as_json()) for fault in faults]


def _source(status: str, reason: str | None) -> str:
    if status == PricingStatus.reported:
        return "client" if reason == PricingReason.client_estimate else "provider"
    return "computed" if status in {PricingStatus.computed, PricingStatus.free} else "none"


def _fields(row: ApiRequest) -> dict[str, object]:
    same = {name: getattr(row, name) for name in ApiRequestView.model_fields if hasattr(row, name)}
    attribution = {
        name: value
        for name in ("team", "user_id", "customer_id", "api_key_id")
        if (value := getattr(row, name)) is not None
    }
    return same | {
        "project_id": str(row.project_id),
        "duration_ms": _ms(row.duration_us),
        "time_to_first_chunk_ms": _ms(row.time_to_first_chunk_us),
        "usage": dict(usage_of(row) or {}),
        "pricing_context": row.pricing_context or {},
        "attribution": attribution,
        "tags": row.tags or {},
        "cost": CostView(
            amount=row.cost,
            currency=row.currency,
            source=_source(row.pricing_status, row.pricing_reason),
            computed=row.computed_cost,
        ),
        "pricing_status": PricingStatus(row.pricing_status),
        "pricing_notes": row.pricing_notes.split(",") if row.pricing_notes else [],
    }


def _ms(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / US_PER_MS


def _decimal(amount: Fraction) -> Decimal:
    exact = Decimal(amount.numerator) / Decimal(amount.denominator)
    if Fraction(exact) == amount:
        return exact
    return exact.quantize(Decimal(1).scaleb(-PART_PLACES))
