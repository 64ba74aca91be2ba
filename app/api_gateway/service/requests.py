"""What can be said of a stored call beyond its row."""

from __future__ import annotations

from app.api_gateway.models.requests import ApiRequest
from app.api_gateway.pricing import BreakdownRow
from app.api_gateway.schemas.request_views import usage_of
from app.api_gateway.service.prices import compiled_card


def cost_parts(row: ApiRequest) -> list[BreakdownRow]:
    """Return the units of a call's computed cost; empty where no rate card priced it.

    Computed from the immutable card when read, so that no rates are copied into rows.
    """
    # A call that nobody bills costs 0 whatever its card says; one billed by the call needs no usage.
    if row.rate_card_id is None or not row.computed_cost:
        return []
    card = compiled_card(row.rate_card_id)
    return card.breakdown(usage_of(row) or {}) if card else []
